"""Records -> batches of tokens."""
