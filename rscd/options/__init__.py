"""What a command can be asked for: each option declared once."""
