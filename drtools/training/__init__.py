"""The training loop of every method, with its settings, optimizers and checkpoints."""
