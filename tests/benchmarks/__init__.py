"""Measurements: ``python -m tests.benchmarks NAME`` prints a table and, with --json FILE, the figures."""
