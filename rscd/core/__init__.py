"""Shared by all rooms; imports no other room."""
