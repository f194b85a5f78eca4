"""LoRA of peft in files, and models that are a base model with a LoRA in a folder of its own.

The folder of such a model has links: the files of the base model, over them the LoRA folder's own tokenizer and
modules, and in `lora-adapter` the LoRA itself. Loading adds it to the weights.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from drtools import units
from drtools.errors import InputError
from drtools.models.json_files import optional_json
from drtools.models.unused import listed

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
LINKED = "lora-adapter"  # the subfolder of a linked folder
PREFIX = "base_model.model."  # peft's, before the names of the model's own class
CLASSIFIERS = ("classifier", "score")  # the heads that peft saves with a LoRA of a classifier
# What changes the sum W + alpha / rank B A, or adds something else: setting -> the only value
ONLY: dict[str, object] = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
}


class Lora(NamedTuple):
    """What adapter_config.json says: the name of the base model, the factor of B A, and whether it is transposed."""

    base: str
    scale: float
    is_transposed: bool
    is_classifier: bool


def is_lora(folder: Path) -> bool:
    """Return whether a folder holds a LoRA of peft, with its rank and safetensors weights, and no base model."""
    if not (folder / CONFIG).exists() or (folder / "config.json").exists() or not (folder / WEIGHTS[0]).exists():
        return False
    config = optional_json(folder / CONFIG)
    return config.get("peft_type") == "LORA" and config.get("r") is not None


def read_lora(place: Path) -> Lora:
    """Read the adapter_config.json of a folder. Raises InputError for an adapter of another kind."""
    config = optional_json(place / CONFIG)
    is_classifier = config.get("task_type") == "SEQ_CLS"
    for key, only in ONLY.items():
        value = config.get(key)
        if key == "modules_to_save" and is_classifier and {*(value or ())} <= {*CLASSIFIERS}:
            continue
        if (value or only) != only:
            raise InputError(
                f"{key} is {value!r}",
                where=place / CONFIG,
                expected=f"{only!r}; adapters of another kind are not supported",
                remedy="merge it with peft (merge_and_unload), and save the merged model",
            )
    base, rank, alpha = config.get("base_model_name_or_path"), config.get("r"), config.get("lora_alpha")
    if not isinstance(base, str) or not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise InputError(
            f"found the base model {base!r}, the rank {rank!r} and lora_alpha {alpha!r}",
            where=place / CONFIG,
            expected="the name of a model, and numbers",
        )
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    return Lora(base, scale, bool(config.get("fan_in_fan_out")), is_classifier)


def merge(
    model: nn.Module, place: Path, read: Callable[[Path], Mapping[str, Tensor]], where: object, own: str = ""
) -> set[str]:
    """Add scale B A of a LoRA to the weights of a model, and set the head that it has. Returns the head's tensors.

    `own` is the prefix of the model's body, which names of a LoRA may have or not. Raises InputError for a tensor
    without a place in the model.
    """
    import torch

    lora = read_lora(place)
    file = next((place / name for name in WEIGHTS if (place / name).exists()), None)
    if file is None:
        raise InputError("found no weights next to it", where=place / CONFIG, expected=" or ".join(WEIGHTS))
    pairs, heads = _sorted(read(file), model, own, lora, f"{where}: {file.name}")
    with torch.no_grad():
        for name, pair in pairs.items():
            weight = model.get_parameter(f"{name}.weight")
            added = lora.scale * (pair["B"] @ pair["A"])
            added = added.T if lora.is_transposed else added
            if added.shape != weight.shape:
                raise InputError(
                    f"{name}.lora_B and lora_A make {list(added.shape)}",
                    where=place,
                    expected=f"{list(weight.shape)}, as that layer is",
                    remedy="use the base model that the LoRA was trained on",
                )
            weight.copy_(weight.float() + added)
        for name, tensor in heads.items():
            model.get_parameter(name).copy_(tensor)
    return {*heads}


def _sorted(
    tensors: Mapping[str, Tensor], model: nn.Module, own: str, lora: Lora, where: str
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return A and B by their layer, and the tensors of a classifier's head by their name."""
    layers = {name for name, layer in model.named_modules() if getattr(layer, "weight", None) is not None}
    parameters = {name for name, _ in model.named_parameters()}
    found: dict[str, dict[str, Tensor]] = {}
    heads: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        inside = name.removeprefix(PREFIX)
        match = re.fullmatch(r"(.+)\.lora_([AB])(?:\.default)?\.weight", inside)
        layer = match[1] if match else ""
        layer = next((each for each in (layer, layer.removeprefix(own), own + layer) if each in layers), "")
        head = inside.replace(".modules_to_save.default", "")
        if match and layer:
            found.setdefault(layer, {})[match[2]] = tensor.float()
        elif lora.is_classifier and head in parameters and head.split(".")[0] in CLASSIFIERS:
            heads[head] = tensor.float()
        else:
            unknown.append(name)
    lacking = [f"{layer}.lora_{each}" for layer, pair in found.items() for each in "AB" if each not in pair]
    if unknown or lacking or not found:
        many = units.counted(len(unknown or lacking), "tensor")
        raise InputError(
            f"holds {many} that its base model has no place for ({listed(sorted(unknown))})"
            if unknown
            else f"lacks {many} ({listed(lacking)})",
            where=where,
            expected="LoRA on linear layers of the model that it names",
        )
    return found, heads


def linked(adapter: Path, base: Path) -> Path:
    """Return a folder with links to the files of a base model and of its LoRA. It is removed with this process."""
    whole = _root() / f"{len(os.listdir(_root()))}" / adapter.resolve().name
    whole.mkdir(parents=True)
    own_modules = (adapter / "modules.json").exists()
    own_tokenizer = any((adapter / name).exists() for name in ("tokenizer.json", "vocab.txt", "tokenizer.model"))
    for file in base.iterdir():
        is_module = file.is_dir() or file.name == "modules.json" or "sentence" in file.name
        is_tokenizer = "token" in file.name or file.name in ("vocab.txt", "vocab.json", "merges.txt")
        weights = file.suffix == ".safetensors" or file.name == "config.json" or file.name.endswith("index.json")
        if weights or not ((is_module and own_modules) or (is_tokenizer and own_tokenizer)):
            (whole / file.name).symlink_to(file.resolve())
    (whole / LINKED).mkdir()
    for file in adapter.iterdir():
        if file.name == CONFIG or file.name in WEIGHTS:
            (whole / LINKED / file.name).symlink_to(file.resolve())
        elif file.is_dir() or file.suffix in (".json", ".txt", ".model", ".jinja"):
            (whole / file.name).unlink(missing_ok=True)
            (whole / file.name).symlink_to(file.resolve())
    return whole


@cache
def _root() -> Path:
    """Return the folder for the links of this process, which it removes when it ends."""
    root, process = Path(tempfile.mkdtemp(prefix="drtools-lora-")), os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # not a copy of the process
            shutil.rmtree(root, ignore_errors=True)

    atexit.register(remove)
    return root


def added_lora(folder: Path) -> dict[str, Any] | None:
    """Return adapter_config.json of a linked folder, or None for another folder."""
    place = folder / LINKED
    return dict(optional_json(place / CONFIG)) if place.is_dir() else None
