"""ADAM: distillation on dark examples, self-paced (Tao et al.)."""
