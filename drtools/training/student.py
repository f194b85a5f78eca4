"""Change the layers of an encoder before it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from drtools.models.heads import DEVIATION

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder


def add_projection(encoder: Encoder, dimension: int | None = None, seed: int = 42) -> bool:
    """Append Linear(D -> `dimension`, or D) and LayerNorm, before a normalization if there is one (STAR's head).

    The weights are drawn with `seed`. An encoder with a dense layer or a LayerNorm is not changed. Returns whether the
    projection was added.
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
    """Remove all layers after the pooling, so that vectors are not normalized and are compared by inner product.

    Returns whether there were any.
    """
    had = bool(encoder.settings.head)
    encoder.head, encoder.settings.head, encoder.settings.similarity = nn.Sequential(), [], None
    return had
