"""LoRA of peft, merged into the model that it was trained on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drtools import units
from drtools.errors import InputError
from drtools.models.encoder import Encoder
from drtools.models.json_files import optional_json
from drtools.models.loader import load_encoder
from drtools.models.pair import EncoderPair
from drtools.models.published.checkpoints import ADAPTER
from drtools.models.published.pickles import read_weights
from drtools.models.published.specs import ImportSpec
from drtools.models.unused import listed

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."  # peft's, before the names of the model's own class
# What changes the sum W + alpha / rank B A, or adds something else: setting -> the only value
ONLY = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
}


def import_lora(spec: ImportSpec, place: Path) -> Encoder:
    """Make the encoder of a folder with a LoRA of peft: the model that it names, with the LoRA in its weights."""
    config = optional_json(place / ADAPTER)
    for key, only in ONLY.items():
        if (config.get(key) or only) != only:
            raise InputError(
                f"{key} is {config[key]!r}",
                where=place / ADAPTER,
                expected=f"{only!r}; adapters of another kind are not supported",
                remedy="merge it with peft (merge_and_unload), and save the merged model",
            )
    base, rank, alpha = config.get("base_model_name_or_path"), config.get("r"), config.get("lora_alpha")
    if not isinstance(base, str) or not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise InputError(
            f"found the base model {base!r}, the rank {rank!r} and lora_alpha {alpha!r}",
            where=place / ADAPTER,
            expected="the name of a model, and numbers",
        )
    encoder = load_encoder(base, spec.pooling)
    if isinstance(encoder, EncoderPair):
        raise InputError("names a pair of encoders as its base model", where=place / ADAPTER)
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    _merge(encoder, _pairs(place, encoder, spec.checkpoint), scale, config)
    encoder.folder = None
    return encoder


def _pairs(place: Path, encoder: Encoder, where: str) -> dict[str, dict[str, Tensor]]:
    """Return A and B by their layer of the body. Raises InputError for a tensor without a layer."""
    file = next((place / name for name in WEIGHTS if (place / name).exists()), None)
    if file is None:
        raise InputError("found no weights next to it", where=place / ADAPTER, expected=" or ".join(WEIGHTS))
    layers = {name for name, layer in encoder.body.named_modules() if getattr(layer, "weight", None) is not None}
    own = f"{encoder.body.base_model_prefix}."
    found: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name, tensor in read_weights(file)[0].items():
        match = re.fullmatch(r"(.+)\.lora_([AB])(?:\.default)?\.weight", name.removeprefix(PREFIX))
        layer = match[1] if match else ""
        layer = layer if layer in layers else layer.removeprefix(own)
        if match is None or layer not in layers:
            unknown.append(name)
        else:
            found.setdefault(layer, {})[match[2]] = tensor.float()
    lacking = [f"{layer}.lora_{each}" for layer, pair in found.items() for each in "AB" if each not in pair]
    if unknown or lacking or not found:
        many = units.counted(len(unknown or lacking), "tensor")
        raise InputError(
            f"holds {many} that its base model has no place for ({listed(sorted(unknown))})"
            if unknown
            else f"lacks {many} ({listed(lacking)})",
            where=f"{where}: {file.name}",
            expected="LoRA on linear layers of the model that it names",
        )
    return found


@torch.no_grad()
def _merge(
    encoder: Encoder, pairs: Mapping[str, Mapping[str, Tensor]], scale: float, config: Mapping[str, Any]
) -> None:
    """Add scale B A to the weights."""
    for name, pair in pairs.items():
        layer = encoder.body.get_submodule(name)
        assert isinstance(layer, nn.Module) and isinstance(layer.weight, Tensor)
        added = scale * (pair["B"] @ pair["A"])
        added = added.T if config.get("fan_in_fan_out") else added
        if added.shape != layer.weight.shape:
            raise InputError(
                f"{name}.lora_B and lora_A make {list(added.shape)}",
                where=encoder.folder,
                expected=f"{list(layer.weight.shape)}, as that layer is",
                remedy="use the base model that the LoRA was trained on",
            )
        layer.weight.add_(added)
