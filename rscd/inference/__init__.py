"""Windowed inference: arrays to strip records."""
