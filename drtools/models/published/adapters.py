"""Convert the published REM of DDR, an adapter of the adapter library with LoRA and a parallel adapter, into a REM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from drtools import units
from drtools.errors import InputError
from drtools.models.json_files import optional_json
from drtools.models.published.checkpoints import ADAPTER
from drtools.models.published.pickles import read_weights
from drtools.models.rem_files import write_rem
from drtools.models.settings import RemSettings
from drtools.models.unused import listed

WEIGHTS = ("adapter.safetensors", "pytorch_adapter.bin")  # names of the adapter library
# A tensor's name behind the layers' own prefix -> ours; NAME is the adapter's
ROWS = (
    (r"(encoder\.layer\.\d+\.attention\.self\.(?:query|value))\.loras\.NAME\.(lora_[AB])$", r"\1.\2.weight"),
    (r"(encoder\.layer\.\d+\.output)\.adapters\.NAME\.adapter_down\.0\.(weight|bias)$", r"\1.adapter.down.\2"),
    (r"(encoder\.layer\.\d+\.output)\.adapters\.NAME\.adapter_up\.(weight|bias)$", r"\1.adapter.up.\2"),
)
FAMILY = r"(?:bert|roberta|xlm_roberta)\."  # the prefix before them
# What a part must be to be computed as ours: setting -> the only value; one that a file lacks has it
LORA = {
    "selfattn_lora": True,
    "intermediate_lora": False,
    "output_lora": False,
    "composition_mode": "add",
    "use_gating": False,
    "use_dora": False,
    "leave_out": [],
}
PARALLEL = {
    "is_parallel": True,
    "mh_adapter": False,
    "output_adapter": True,
    "ln_before": False,
    "ln_after": False,
    "original_ln_before": False,
    "original_ln_after": True,
    "non_linearity": "relu",
    "use_gating": False,
    "phm_layer": False,
    "inv_adapter": None,
    "cross_adapter": False,
    "leave_out": [],
}
FROM_STATES = ("lora_A.weight", "adapter.down.weight")  # whose last side is the size of a state
FAULTY = re.compile(r"adapters\.(0\.|1\.0\.)")  # versions that left alpha / rank out of what they computed


def read_adapter(folder: Path, name: str) -> tuple[dict[str, Tensor], RemSettings, dict[str, Any]]:
    """Read the folder of an adapter: its tensors by the names of a REM, its sizes, and facts about its body."""
    record = optional_json(folder / ADAPTER)
    where = f"{name}: {ADAPTER}"
    config, adapter = record.get("config"), record.get("name")
    if not isinstance(config, dict) or not isinstance(adapter, str):
        raise InputError(
            "found no config and no name of an adapter", where=where, expected="a file of the adapter library"
        )
    parts = config.get("configs") if config.get("architecture") == "union" else [config]
    by_kind: dict[str, dict[str, Any]] = {}
    for part in parts if isinstance(parts, list) else []:
        kind = {"lora": "lora", None: "parallel", "bottleneck": "parallel"}.get(part.get("architecture"))
        if kind is None:
            raise InputError(
                f"a part of it is {part.get('architecture')!r}", where=where, expected="LoRA and a parallel adapter"
            )
        _check_part(part, LORA if kind == "lora" else PARALLEL, where)
        by_kind[kind] = part
    matrices = by_kind.get("lora", {}).get("attn_matrices", ["q", "v"])
    if sorted(matrices) != ["q", "v"]:
        raise InputError(f"its LoRA is on {', '.join(matrices)}", where=where, expected="queries and values, q and v")
    file = next((folder / each for each in WEIGHTS if (folder / each).exists()), None)
    if file is None:
        raise InputError("found no weights next to it", where=where, expected=" or ".join(WEIGHTS))
    tensors = _renamed(read_weights(file)[0], adapter, f"{name}: {file.name}")
    settings = _sizes(tensors, by_kind, record, where)
    return tensors, settings, record


def _check_part(part: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    for key, only in known.items():
        if part.get(key, only) != only:
            raise InputError(
                f"{key} is {part[key]!r}", where=where, expected=f"{only!r}; adapters of another form are not supported"
            )


def _renamed(tensors: Mapping[str, Tensor], adapter: str, where: str) -> dict[str, Tensor]:
    """Return tensors by a REM's names; InputError with the names of those that it has no place for."""
    found, unknown = {}, []
    for name, tensor in tensors.items():
        for pattern, ours in ROWS:
            match = re.fullmatch(FAMILY + pattern.replace("NAME", re.escape(adapter)).rstrip("$"), name)
            if match:
                found[match.expand(ours)] = tensor.float()
                break
        else:
            unknown.append(name)
    if unknown:
        raise InputError(
            f"holds {units.counted(len(unknown), 'tensor')} that a REM has no place for ({listed(sorted(unknown))})",
            where=where,
            expected=f"LoRA and parallel adapters of the name {adapter}",
        )
    return found


def _sizes(
    tensors: dict[str, Tensor], parts: Mapping[str, Mapping[str, Any]], record: Mapping[str, Any], where: str
) -> RemSettings:
    """Return the sizes of a REM, and scale its LoRA with alpha / rank = 1. Raises InputError if a size is missing."""
    rank = parts["lora"].get("r") if "lora" in parts else 0
    alpha = parts["lora"].get("alpha") if "lora" in parts else 0
    scale = parts["parallel"].get("scaling", 4.0) if "parallel" in parts else 4.0
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or not isinstance(scale, int | float):
        raise InputError(
            f"found the rank {rank!r}, alpha {alpha!r} and scaling {scale!r}", where=where, expected="numbers"
        )
    if rank and alpha != rank and not FAULTY.match(str(record.get("version"))):
        for name in tensors:
            if name.endswith("lora_B.weight"):
                tensors[name] = tensors[name] * (alpha / rank)
    size = next((len(tensor) for name, tensor in tensors.items() if name.endswith("adapter.down.weight")), 0)
    width = next((tensor.shape[-1] for name, tensor in tensors.items() if name.endswith(FROM_STATES)), 0)
    layers = 1 + max((int(each) for name in tensors for each in re.findall(r"layer\.(\d+)\.", name)), default=-1)
    lora = {"lora_A.weight": [rank, width], "lora_B.weight": [width, rank]}
    adapter = {"down.weight": [size, width], "down.bias": [size], "up.weight": [width, size], "up.bias": [width]}
    expected = {
        f"encoder.layer.{layer}.{name}": shape
        for layer in range(layers)
        for name, shape in (
            *((f"attention.self.{each}.{name}", lora[name]) for each in ("query", "value") for name in lora if rank),
            *((f"output.adapter.{name}", adapter[name]) for name in adapter if "parallel" in parts),
        )
    }
    lacking, other = [name for name in expected if name not in tensors], sorted({*tensors} - {*expected})
    if lacking or other or not expected:
        raise InputError(
            f"the weights lack {listed(lacking)}" if lacking else f"found {listed(other) or 'no tensors'}",
            where=where,
            expected="the tensors of the parts that it names, in every layer",
            remedy="fetch the adapter again",
        )
    for name, shape in expected.items():
        if list(tensors[name].shape) != shape:
            raise InputError(
                f"{name} is {list(tensors[name].shape)}", where=where, expected=f"{shape}", remedy="fetch it again"
            )
    return RemSettings(rank, size, float(scale))


def write_adapter(folder: Path, tensors: dict[str, Tensor], settings: RemSettings, record: Mapping[str, Any]) -> str:
    """Write an adapter as a REM's folder; return its fingerprint.

    Unknown properties of its body (tokenizer, pooling, case) are not checked when the REM is added to one.
    """
    layers = 1 + max(int(each) for name in tensors for each in re.findall(r"layer\.(\d+)\.", name))
    body = {"type": record.get("model_type"), "layers": layers, "dimension": record.get("hidden_size")}
    return write_rem(folder, tensors, settings, {key: value for key, value in body.items() if value is not None})
