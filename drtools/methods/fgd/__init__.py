"""FGD: fine-grained distillation for long documents (Zhou et al.)."""
