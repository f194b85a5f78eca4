"""Kernels of our own for processors."""
