"""Low-rank adaptation of an encoder's body.

Two low-rank matrices are trained for each linear layer, then added to its weights.
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
    """Replace linear layers W of the body by W + (alpha / rank) B A, and freeze the body.

    `targets` is an expression for names of layers. B is zero, and A is drawn with `seed`.

    Without `alpha`, the scale alpha / rank is 1. The head is still trained. There is no dropout before A.
    """
    from peft import LoraConfig, inject_adapter_in_model

    assert not has_lora(encoder)
    # the output of the pooler is not used, so it would get no gradient
    unread = r"pooler\..*" if any(name.startswith("pooler.") for name, _ in encoder.body.named_modules()) else None
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,  # type: ignore[arg-type]  # peft accepts fractions too
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
                f"LoRA cannot be added to its body ({' '.join(str(error).split())[:200]})",
                where=encoder.folder,
                remedy="train all its weights",
            ) from None
    encoder.body.train(training)


def has_lora(encoder: Encoder) -> bool:
    """Return whether the body has LoRA that is not merged."""
    return any("lora_" in name for name, _ in encoder.body.named_parameters())


def merge_lora(encoder: Encoder) -> None:
    """Add (alpha / rank) B A to the weights. The body is then plain, and all its weights can be trained."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, layer) for name, layer in encoder.body.named_modules() if isinstance(layer, BaseTunerLayer)]
    for name, layer in adapted:
        layer.merge()
        _replace(encoder.body, name, layer.get_base_layer())
    encoder.body.requires_grad_(True)


def _replace(body: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(body.get_submodule(parent), last, layer)
