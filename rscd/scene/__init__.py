"""The pair on disk, as arrays: opening, grid, windows, reading, validity."""
