"""Windowed inference: arrays to band records."""
