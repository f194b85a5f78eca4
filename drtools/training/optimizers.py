"""Optimizers and which parameters they decay."""

import torch
from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Split the trainable parameters: matrices are decayed; biases and norms, which have one dimension, are not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def adamw(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with betas .9 and .999, eps 1e-8; the learning rate is set at each step."""
    return torch.optim.AdamW(parameter_groups(model, weight_decay), lr=0.0, betas=(0.9, 0.999), eps=1e-8)
