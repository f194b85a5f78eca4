"""Low-rank adaptation of an encoder's body.

Train two thin matrices beside every linear layer, then add them to its weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from drtools.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from drtools.models.encoder import Encoder


def add_lora(
    encoder: Encoder, rank: int, alpha: float | None = None, seed: int = 42, targets: str = "all-linear"
) -> None:
    """Put W + (alpha / rank) B A in place of linear layers W of the body (`targets`.

    An expression that names match), B zero and A random by `seed`; freeze the body.

    Without `alpha` the scale alpha / rank is 1. The head stays trained; there is no dropout on the way through A.
    """
    from peft import LoraConfig, inject_adapter_in_model

    assert not has_lora(encoder)
    # the pooler's output is read by nothing, so that it would get no gradient
    unread = r"pooler\..*" if any(name.startswith("pooler.") for name, _ in encoder.body.named_modules()) else None
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,  # type: ignore[arg-type]  # peft takes fractions too
        lora_dropout=0.0,
        bias="none",
        target_modules=targets,
        exclude_modules=unread,
    )
    encoder.body.requires_grad_(False)
    training = encoder.body.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, encoder.body)
        except ValueError as error:
            raise InputError(
                f"LoRA does not fit its body ({' '.join(str(error).split())[:200]})",
                where=encoder.folder,
                remedy="train all its weights",
            ) from None
    encoder.body.train(training)


def has_lora(encoder: Encoder) -> bool:
    """Whether the body carries LoRA that is not merged."""
    return any("lora_" in name for name, _ in encoder.body.named_parameters())


def merge_lora(encoder: Encoder) -> None:
    """Add (alpha / rank) B A to the weights, so that the body is plain again, and trained as a whole again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, layer) for name, layer in encoder.body.named_modules() if isinstance(layer, BaseTunerLayer)]
    for name, layer in adapted:
        layer.merge()
        _replace(encoder.body, name, layer.get_base_layer())
    encoder.body.requires_grad_(True)


def _replace(body: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(body.get_submodule(parent), last, layer)
