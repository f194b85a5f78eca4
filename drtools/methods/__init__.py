"""One home a method: its settings, batches, loss, checks and dev measure."""
