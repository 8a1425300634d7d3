"""One file a command: its stages in order, and no mathematics."""
