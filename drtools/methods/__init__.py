"""The methods, each in a file or folder with its settings, batches, loss, checks and dev measure."""
