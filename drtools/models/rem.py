"""A relevance module (REM).

It adds LoRA on queries and values, and a parallel adapter at each feed-forward block, to a frozen body.

It is trained on one body and applied to others of the same family, depth and tokenizer (Zhan et al., DDR). For
inference it is folded into the weights, which gives a plain body.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from drtools.errors import InputError, param
from drtools.models.lora import add_lora, merge_lora
from drtools.models.settings import RemSettings

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from drtools.models.encoder import Encoder

# gelu(STEEP z) / STEEP is relu(z) to 0.17 / STEEP; a power of two is exact, and float16 holds STEEP z up to z = 16
STEEP = 4096.0
GELUS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast")


class Family(NamedTuple):
    """The parts of a body that a REM adapts: in each layer, the query and value projections and the feed-forward block.

    With `residual_first`, the block takes (inner states, x) and adds x itself, after dropout and before its LayerNorm.
    Otherwise it takes x, and its result is added to the residual. `inner` and `outer` are the linear layers of the
    block. `width` and `activation` are names in the configuration; a gated block, which cannot be widened, has none.
    """

    layers: str
    query: str
    value: str
    block: str
    residual_first: bool
    inner: str = ""
    outer: str = ""
    width: str = ""
    activation: str = ""


BERT = Family(
    "encoder.layer",
    "attention.self.query",
    "attention.self.value",
    "output",
    True,
    "intermediate.dense",
    "output.dense",
    "intermediate_size",
    "hidden_act",
)
FAMILIES = {  # by the configuration's model_type
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "camembert": BERT,
    "distilbert": Family(
        "transformer.layer",
        "attention.q_lin",
        "attention.v_lin",
        "ffn",
        False,
        "ffn.lin1",
        "ffn.lin2",
        "hidden_dim",
        "activation",
    ),
    "modernbert": Family("layers", "attn.Wqkv.query", "attn.Wqkv.value", "mlp", False),
}


class ParallelAdapter(nn.Module):
    """Computes scale * up(relu(down(x))). A new adapter gives 0."""

    hook: RemovableHandle  # the hook that adds the result to the block

    def __init__(self, size: int, bottleneck: int, scale: float) -> None:
        super().__init__()
        self.down, self.up, self.scale = nn.Linear(size, bottleneck), nn.Linear(bottleneck, size), scale
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, states: Tensor) -> Tensor:  # [..., D] -> [..., D]
        """Return what is added to the result of the block."""
        added: Tensor = self.up(torch.relu(self.down(states)))
        return self.scale * added


class SplitProjection(nn.Module):
    """ModernBERT's fused projection, split into three, so that queries and values can be adapted without keys."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        weights = fused.weight.data.chunk(3)
        biases = [None] * 3 if fused.bias is None else fused.bias.data.chunk(3)
        self.query, self.key, self.value = (_linear(weight, bias) for weight, bias in zip(weights, biases, strict=True))

    def forward(self, states: Tensor) -> Tensor:  # [..., D] -> [..., 3 D]
        """Return queries, keys and values, concatenated."""
        return torch.cat([self.query(states), self.key(states), self.value(states)], dim=-1)

    def fused(self) -> nn.Linear:
        """Return the fused projection."""
        parts = (self.query, self.key, self.value)
        return _linear(
            torch.cat([part.weight.data for part in parts]),
            None if self.query.bias is None else torch.cat([part.bias.data for part in parts]),
        )


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device, dtype=weight.dtype)
    layer.weight.data.copy_(weight)
    if bias is not None:
        layer.bias.data.copy_(bias)
    return layer


def _family(encoder: Encoder) -> Family:
    """Return the family of an encoder's body.

    Raises InputError, with the names of the layers, for an unknown family.
    """
    kind = encoder.body.config.model_type
    if kind not in FAMILIES:
        names = [
            name
            for name, module in encoder.body.named_modules()
            if isinstance(module, nn.Linear) and ".0." in f".{name}."
        ]
        raise InputError(
            (
                f"a REM cannot be added to a body of type {kind}, whose first layer has "
                f"{', '.join(names) or 'no linear layers'}; supported are {', '.join(FAMILIES)}"
            ),
            where=encoder.folder,
        )
    return FAMILIES[kind]


def _layers(encoder: Encoder) -> nn.ModuleList:
    layers = encoder.body.get_submodule(_family(encoder).layers)
    assert isinstance(layers, nn.ModuleList)
    return layers


def add_rem(encoder: Encoder, settings: RemSettings, seed: int) -> None:
    """Add a new REM to an encoder's body, drawn with `seed`. It does not change vectors yet."""
    family = _family(encoder)
    if settings.lora_rank:
        if family.query.startswith("attn.Wqkv."):
            for layer in _layers(encoder):
                attention = layer.get_submodule("attn")
                assert isinstance(attention.Wqkv, nn.Linear)
                attention.Wqkv = SplitProjection(attention.Wqkv)
        add_lora(
            encoder,
            settings.lora_rank,
            seed=seed,
            targets=rf"{re.escape(family.layers)}\.\d+\.({re.escape(family.query)}|{re.escape(family.value)})",
        )
    if settings.adapter_size:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for layer in _layers(encoder):
                _put_adapter(
                    layer.get_submodule(family.block),
                    family,
                    ParallelAdapter(encoder.body.config.hidden_size, settings.adapter_size, settings.adapter_scale),
                )
    encoder.rem = settings


def _put_adapter(block: nn.Module, family: Family, adapter: ParallelAdapter) -> None:
    block.adapter = adapter.to(next(block.parameters()).device).train(block.training)
    if family.residual_first:
        adapter.hook = block.register_forward_pre_hook(
            lambda block, inputs: (inputs[0], inputs[1] + block.adapter(inputs[1]))
        )
    else:
        adapter.hook = block.register_forward_hook(lambda block, inputs, output: output + block.adapter(inputs[0]))


def rem_parameters(encoder: Encoder) -> dict[str, nn.Parameter]:
    """Return the parameters of the REM, named after the layers to which they are added."""
    return {
        name.replace(".default.", "."): parameter
        for name, parameter in encoder.body.named_parameters()
        if "lora_" in name or ".adapter." in name
    }


def train_parts(encoder: Encoder, part: str) -> None:
    """Make only the REM (`rem`) or `all` weights trainable."""
    encoder.requires_grad_(part == "all")
    for parameter in rem_parameters(encoder).values():
        parameter.requires_grad_(True)


def fold_rem(encoder: Encoder) -> None:
    """Fold the REM into the weights. The body is then plain, and vectors change by at most 1e-5.

    LoRA is added to its projections. An adapter becomes additional neurons of its block, whose gelu is made so steep
    that it equals relu. This is not possible in ModernBERT's gated block, where the adapter stays separate.
    """
    family, settings = _family(encoder), encoder.rem
    assert settings is not None, "an encoder with a REM"
    encoder.settings.folded_rem = encoder.rem_fingerprint
    if settings.lora_rank:
        merge_lora(encoder)
        for layer in _layers(encoder):
            if family.query.startswith("attn.Wqkv."):
                attention = layer.get_submodule("attn")
                assert isinstance(attention.Wqkv, SplitProjection)
                attention.Wqkv = attention.Wqkv.fused()
    encoder.rem = dataclasses.replace(settings, lora_rank=0)
    if settings.adapter_size and _widens(encoder):
        for layer in _layers(encoder):
            _widen(layer, family)
        setattr(encoder.body.config, family.width, getattr(encoder.body.config, family.width) + settings.adapter_size)
        encoder.rem.adapter_size = 0
    encoder.body.requires_grad_(True)


def _widens(encoder: Encoder) -> bool:
    family = _family(encoder)
    return bool(family.width) and getattr(encoder.body.config, family.activation) in GELUS


def check_folds(encoder: Encoder) -> None:
    """Raise InputError early if the REM of an encoder cannot be folded into a plain body."""
    if encoder.rem and encoder.rem.adapter_size and not _widens(encoder):
        raise InputError(
            (
                f"a parallel adapter cannot become part of a plain {encoder.body.config.model_type} body, whose "
                "feed-forward block is gated or has no gelu"
            ),
            where=encoder.folder,
            remedy=(
                f"use {param('body')} and {param('rem')} as they are, or train the REM with {param('adapter_size')} 0"
            ),
        )


def _widen(layer: nn.Module, family: Family) -> None:
    """Make the adapter of a block a part of its two linear layers."""
    block, inner, outer = (layer.get_submodule(name) for name in (family.block, family.inner, family.outer))
    adapter = block.adapter
    assert isinstance(inner, nn.Linear) and isinstance(outer, nn.Linear) and isinstance(adapter, ParallelAdapter)
    with torch.no_grad():
        wider = _linear(
            torch.cat([inner.weight, STEEP * adapter.down.weight]), torch.cat([inner.bias, STEEP * adapter.down.bias])
        )
        back = _linear(
            torch.cat([outer.weight, adapter.scale / STEEP * adapter.up.weight], dim=1),
            outer.bias + adapter.scale * adapter.up.bias,
        )
    for name, linear in ((family.inner, wider), (family.outer, back)):
        parent, _, last = name.rpartition(".")
        setattr(layer.get_submodule(parent), last, linear)
    adapter.hook.remove()
    del block.adapter
