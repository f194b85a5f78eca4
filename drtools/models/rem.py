"""A relevance module (REM).

LoRA on queries and values, and a parallel adapter beside every feed-forward block, on a body that stays as it is.

Zhan et al., DDR. It is trained on one body and put on others of the same family, depth and tokenizer. For inference it
is folded into the weights, so that what remains is a plain body.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from drtools.errors import InputError, param
from drtools.models.lora import add_lora, merge_lora
from drtools.models.settings import OURS, RemSettings, weights_fingerprint
from drtools.models.unused import check_names
from drtools.models.weights import read_tensors
from drtools.outputs.disk import read_json
from drtools.outputs.fingerprints import digest, file_fingerprint

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedTokenizerBase

    from drtools.models.encoder import Encoder

WEIGHTS = "rem.safetensors"
# gelu(STEEP z) / STEEP is relu(z) to 0.17 / STEEP; a power of two is exact, and float16 holds STEEP z up to z = 16
STEEP = 4096.0
PROMPTS = ("query_prompt", "document_prompt")
GELUS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast")


FITTING = {  # what must be the same of two bodies, in words
    "type": "a body of type {}",
    "layers": "{} layers",
    "dimension": "{} dimensions",
    "tokenizer": "the tokenizer {}",
    "pooling": "{} pooling",
    "head": "{} head",
    "case": "texts in {} case",
}


class Family(NamedTuple):
    """Where a body has what a REM adapts.

    Its layers, in each the query and value projections and the feed-forward block.

    `residual_first`: the block takes (inner states, x) and adds x itself, after dropout and before its LayerNorm; else
    it takes x, and what it returns is added to the residual. `inner` and `outer` are the block's linear layers, `width`
    and `activation` the configuration's names; a gated block, which cannot be widened, names none.
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
    """x -> scale * up(relu(down(x))); a new one gives 0."""

    hook: RemovableHandle  # that lets the block add what this gives

    def __init__(self, size: int, bottleneck: int, scale: float) -> None:
        super().__init__()
        self.down, self.up, self.scale = nn.Linear(size, bottleneck), nn.Linear(bottleneck, size), scale
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, states: Tensor) -> Tensor:  # [..., D] -> [..., D]
        """Return what is added beside the block."""
        return self.scale * self.up(torch.relu(self.down(states)))


class SplitProjection(nn.Module):
    """ModernBERT's fused projection as three, so that queries and values can be adapted without keys."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        weights = fused.weight.data.chunk(3)
        biases = [None] * 3 if fused.bias is None else fused.bias.data.chunk(3)
        self.query, self.key, self.value = (_linear(weight, bias) for weight, bias in zip(weights, biases, strict=True))

    def forward(self, states: Tensor) -> Tensor:  # [..., D] -> [..., 3 D]
        """Return queries, keys and values side by side."""
        return torch.cat([self.query(states), self.key(states), self.value(states)], dim=-1)

    def fused(self) -> nn.Linear:
        """Return the one projection again."""
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
    """Return where the parts of an encoder's body are.

    InputError with the names of its layers for one that is not known.
    """
    kind = encoder.body.config.model_type
    if kind not in FAMILIES:
        names = [
            name
            for name, module in encoder.body.named_modules()
            if isinstance(module, nn.Linear) and ".0." in f".{name}."
        ]
        raise InputError(
            f"{encoder.folder}: a REM does not know where to go in a body of type {kind}, whose first layer has "
            f"{', '.join(names) or 'no linear layers'}; "
            f"known are {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def _layers(encoder: Encoder) -> nn.ModuleList:
    layers = encoder.body.get_submodule(_family(encoder).layers)
    assert isinstance(layers, nn.ModuleList)
    return layers


def add_rem(encoder: Encoder, settings: RemSettings, seed: int) -> None:
    """Put a new REM on an encoder's body, drawn by `seed`; it changes no vector yet."""
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
    """Return the REM's parameters, named by the layers that they stand beside."""
    return {
        name.replace(".default.", "."): parameter
        for name, parameter in encoder.body.named_parameters()
        if "lora_" in name or ".adapter." in name
    }


def train_parts(encoder: Encoder, part: str) -> None:
    """Let the REM alone (`rem`) learn, or `all` weights."""
    encoder.requires_grad_(part == "all")
    for parameter in rem_parameters(encoder).values():
        parameter.requires_grad_(True)


def fold_rem(encoder: Encoder) -> None:
    """Fold the REM into the weights, so that the body is plain again: its vectors stay the same to 1e-5.

    LoRA is added to its projections. An adapter becomes more neurons of its block, whose gelu is made so steep that it
    is relu. ModernBERT's gated block has no room for that; there the adapter stays beside it.
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
    """Refuse an encoder whose REM cannot become part of a plain body, before work is spent on it."""
    if encoder.rem and encoder.rem.adapter_size and not _widens(encoder):
        raise InputError(
            f"{encoder.folder}: a parallel adapter cannot become part of a plain {encoder.body.config.model_type} "
            "body, whose feed-forward block is gated or no gelu; "
            f"use {param('body')} and {param('rem')} as they are, or train the REM with {param('adapter_size')} 0"
        )


def _widen(layer: nn.Module, family: Family) -> None:
    """Make a block's adapter a part of its two linear layers."""
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


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the fingerprint of a vocabulary: equal exactly if the same tokens have the same numbers."""
    return digest(sorted(tokenizer.get_vocab().items()))


def _fits(encoder: Encoder) -> dict[str, object]:
    """Return what must be the same of the body a REM was trained on and the one that it is put on."""
    config = encoder.body.config
    return {
        "type": config.model_type,
        "layers": config.num_hidden_layers,
        "dimension": config.hidden_size,
        "tokenizer": tokenizer_fingerprint(encoder.tokenizer),
        "pooling": "+".join([*encoder.settings.pooling, *["normalize"] * encoder.settings.normalized]),
        "head": "+".join(
            f"{layer['kind']} of {layer['out']}" if "out" in layer else layer["kind"] for layer in encoder.settings.head
        )
        or "no",
        "case": "lower" if encoder.settings.lower_case else "plain",
    }


def save_rem(encoder: Encoder, folder: Path) -> str:
    """Write the REM that an encoder carries, naming the body that it was trained on; return its fingerprint."""
    from safetensors.torch import save_file

    save_file(
        {name: parameter.detach().cpu().contiguous() for name, parameter in rem_parameters(encoder).items()},
        folder / WEIGHTS,
    )
    prompts = {name: getattr(encoder.settings, name) for name in PROMPTS}
    assert encoder.rem is not None and encoder.folder is not None, "a REM that was trained on a folder's body"
    record = {
        "kind": "rem",
        **dataclasses.asdict(encoder.rem),
        **prompts,
        "body": {"fingerprint": weights_fingerprint(encoder.folder), **_fits(encoder)},
    }
    (folder / OURS).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return _fingerprint(folder)


def _fingerprint(folder: Path) -> str:
    return digest([file_fingerprint(folder / name) for name in (WEIGHTS, OURS)])


def _tensors(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError

    try:
        return read_tensors(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{folder / WEIGHTS}: the REM could not be read ({' '.join(str(error).split())[:200]}); the file was "
            "damaged, train the REM again"
        ) from None


def load_rem(encoder: Encoder, folder: Path) -> None:
    """Put a REM on an encoder's body, with the prompts that it learnt behind.

    One of another family, depth, tokenizer, pooling or head is refused.
    """
    record = read_json(folder / OURS) if (folder / OURS).is_file() else {}
    if record.get("kind") != "rem":
        raise InputError(
            f"{folder}: found {record.get('kind', 'no ' + OURS)}, expected a REM; make one with `drtools train-rem`"
        )
    sizes: list[Any] = [record.get(field.name) for field in dataclasses.fields(RemSettings)]
    theirs, ours = record.get("body"), _fits(encoder)
    if not isinstance(theirs, dict) or not all(isinstance(size, int | float) for size in sizes):
        raise InputError(
            f"{folder / OURS}: the REM's sizes or its body are not there; the file was damaged, train the REM again"
        )
    for name, words in FITTING.items():
        if theirs.get(name, ours[name]) != ours[name]:  # an older REM says less
            raise InputError(
                f"{folder}: this REM was trained on {words.format(theirs[name])}, {encoder.folder} has "
                f"{words.format(ours[name])}; "
                "put it on a body adapted from the one that it was trained on"
            )
    for name in PROMPTS:
        setattr(encoder.settings, name, record.get(name, getattr(encoder.settings, name)))
    tensors = _tensors(folder)
    add_rem(encoder, RemSettings(*sizes), seed=0)
    parameters = rem_parameters(encoder)
    check_names(tensors, parameters.__contains__, folder, f"the REM that {OURS} speaks of")
    if {name: tensor.shape for name, tensor in tensors.items()} != {
        name: parameter.shape for name, parameter in parameters.items()
    }:
        raise InputError(
            f"{folder}: its tensors are not those that {OURS} speaks of; the file was damaged, train the REM again"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    encoder.rem_fingerprint = _fingerprint(folder)
    if encoder.settings.folded_rem == encoder.rem_fingerprint:
        raise InputError(
            f"{encoder.folder}: holds {folder} in its weights already, and would have it twice; say {param('model')} "
            f"{encoder.folder} alone"
        )
