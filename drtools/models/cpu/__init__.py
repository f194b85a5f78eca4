"""Our own kernels for processors."""
