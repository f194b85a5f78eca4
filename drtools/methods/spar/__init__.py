"""SPAR: a dense model that imitates a sparse one, joined by concatenation (Chen et al.)."""
