"""Scores by cross-encoders."""
