"""The one training loop, its settings, optimizers and checkpoints. Knows no method."""
