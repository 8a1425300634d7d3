"""One module per command: its stages in order, and no mathematics."""
