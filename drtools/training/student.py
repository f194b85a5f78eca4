"""What an encoder becomes before it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from drtools.models.heads import DEVIATION

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder


def add_projection(encoder: Encoder, dimension: int | None = None, seed: int = 42) -> bool:
    """Append Linear(D -> `dimension`, or D) and LayerNorm ahead of a normalization, drawn by `seed` (STAR's head).

    An encoder that has a dense layer or a LayerNorm already is left as it is; returns whether the projection was added.
    """
    settings = encoder.settings
    if any(layer["kind"] not in ("normalize", "truncate") for layer in settings.head):
        return False
    size = encoder.body.config.hidden_size * len(settings.pooling)
    out = dimension or size
    linear, norm = nn.Linear(size, out), nn.LayerNorm(out)
    with torch.no_grad():
        linear.weight.normal_(0, DEVIATION, generator=torch.Generator().manual_seed(seed))
        linear.bias.zero_()
    device = next(encoder.body.parameters()).device
    encoder.head = nn.Sequential(linear, nn.Identity(), norm, *encoder.head).to(device).train(encoder.training)
    settings.head = [
        {"kind": "dense", "in": size, "out": out, "bias": True, "activation": "Identity", "path": "2_Dense"},
        {"kind": "layer-norm", "dimension": out, "path": "3_LayerNorm"},
        *settings.head,
    ]
    return True


def drop_head(encoder: Encoder) -> bool:
    """Take away all layers behind the pooling, so that vectors have whatever length and meet by inner product.

    Return whether there were any.
    """
    had = bool(encoder.settings.head)
    encoder.head, encoder.settings.head, encoder.settings.similarity = nn.Sequential(), [], None
    return had
