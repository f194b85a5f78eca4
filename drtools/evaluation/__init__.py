"""Measures, significance and the analyses of runs."""
