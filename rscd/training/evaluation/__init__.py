"""Evaluation: maps, metrics, scores, figures."""
