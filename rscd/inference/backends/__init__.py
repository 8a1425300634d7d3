"""Backends: what runs a network."""
