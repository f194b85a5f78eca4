"""The head of an encoder: dense layers, LayerNorm and normalization between the pooled states and the vector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from drtools.errors import InputError
from drtools.models.cpu.rows import LEAST_ROWS
from drtools.models.module_keys import HeadLayer
from drtools.models.unused import check_names
from drtools.models.weights import read_tensors

if TYPE_CHECKING:
    from drtools.models.settings import EncoderSettings

ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU, "Sigmoid": nn.Sigmoid}
MODULES = {
    "dense": "Dense",
    "layer-norm": "LayerNorm",
    "normalize": "Normalize",
}  # our name: the module of sentence-transformers
DEVIATION = 0.02  # of the weights of a new linear layer, as in BERT and RoBERTa


def apply_head(head: nn.Module, pooled: Tensor) -> Tensor:  # [B, D] -> [B, D']
    """Return the vectors of pooled states. Their bits do not depend on the rest of the batch."""
    missing = max(0, LEAST_ROWS - len(pooled))
    vectors: Tensor = head(torch.cat([pooled, pooled[-1:].expand(missing, -1)]) if missing else pooled)
    return vectors[: len(pooled)] if missing else vectors


class Truncate(nn.Module):
    """Keep the first dimensions of a vector, as sentence-transformers does with `truncate_dim`."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def forward(self, vectors: Tensor) -> Tensor:  # [B, D] -> [B, min(D, dimension)]
        """Return the first columns."""
        return vectors[:, : self.dimension]


class Normalize(nn.Module):
    """Scale vectors to length 1."""

    def forward(self, vectors: Tensor) -> Tensor:  # [B, D] -> [B, D]
        """Divide each row by its length."""
        return nn.functional.normalize(vectors, dim=-1)


def make_head(settings: EncoderSettings, folder: Path | None = None) -> nn.Sequential:
    """Make the layers that settings list, with the weights in a folder if one is given."""
    layers: list[nn.Module] = []
    for description in settings.head:
        if description["kind"] == "normalize":
            layers.append(Normalize())
            continue
        if description["kind"] == "truncate":
            layers.append(Truncate(description["out"]))
            continue
        if description["kind"] == "layer-norm":
            layer: nn.LayerNorm | nn.Linear = nn.LayerNorm(description["dimension"])
            inner: list[nn.Module] = [layer]
        else:
            if description["activation"] not in ACTIVATIONS:
                raise InputError(
                    (
                        f"a head with the activation {description['activation']!r} is not supported; supported are "
                        f"{', '.join(ACTIVATIONS)}"
                    ),
                    where=folder,
                )
            layer = nn.Linear(description["in"], description["out"], bias=description["bias"])
            inner = [layer, ACTIVATIONS[description["activation"]]()]
        if folder:
            _load_layer(layer, folder / description["path"])
        layers += inner
    return nn.Sequential(*layers)


def _load_layer(layer: nn.Linear | nn.LayerNorm, folder: Path) -> None:
    """Load the weights of a layer from its folder. Raises InputError for unexpected or missing tensors."""
    state = _layer_state(folder)
    prefix = "norm" if isinstance(layer, nn.LayerNorm) else "linear"
    own = {f"{prefix}.{name}": value.shape for name, value in layer.state_dict().items()}
    check_names(state, own.__contains__, folder, f"this {type(layer).__name__}")
    there = {name: value.shape for name, value in state.items()}
    if there != own:
        raise InputError(
            (
                f"its weights are {_shapes(there)}, expected {_shapes(own)}; its config.json and its weights do not "
                "belong together"
            ),
            where=folder,
        )
    layer.load_state_dict({name.split(".", 1)[1]: value.float() for name, value in state.items()})


def _shapes(shapes: dict[str, torch.Size]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "none"


def _layer_state(folder: Path) -> dict[str, Tensor]:
    if not (folder / "model.safetensors").exists():
        raise InputError(
            "no model.safetensors was found",
            where=folder,
            remedy=(
                f"convert pickled weights with `drtools import-model {folder.parent} -o FOLDER`, and pass that folder"
            ),
        )
    return read_tensors(folder / "model.safetensors")


def save_head(head: nn.Sequential, settings: EncoderSettings, folder: Path, size: int) -> list[tuple[str, str]]:
    """Write a folder for each layer, named as in sentence-transformers. Returns their (path, module).

    `size` is the size of the pooled states. A truncation after all layers is not a module but `truncate_dim`. A
    truncation before a layer is written as a linear layer.
    """
    layers: list[nn.Module] = [layer for layer in head if isinstance(layer, nn.Linear | nn.LayerNorm)]
    modules = []
    for number, description in enumerate(settings.head, start=2):
        own: HeadLayer = description
        if description["kind"] == "truncate":
            kept = min(size, description["out"])
            if kept == size or description is settings.head[-1]:
                continue
            own = {"kind": "dense", "in": size, "out": kept, "bias": False, "activation": "Identity"}
            layers.insert(0, _slice(size, kept))
        kind = MODULES[own["kind"]]
        own["path"] = f"{number}_{kind}"
        modules.append((own["path"], kind))
        _save_layer(folder / own["path"], own, layers)
        size = own.get("out", size)
    return modules


def _slice(size: int, kept: int) -> nn.Linear:
    """Return the linear layer that keeps the first dimensions."""
    layer = nn.Linear(size, kept, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(kept, size))
    return layer


def _save_layer(folder: Path, description: HeadLayer, layers: list[nn.Module]) -> None:
    folder.mkdir(exist_ok=True)
    if description["kind"] == "normalize":
        return
    layer = layers.pop(0)
    prefix = "norm" if description["kind"] == "layer-norm" else "linear"
    save_file(
        {f"{prefix}.{name}": value.contiguous() for name, value in layer.state_dict().items()},
        folder / "model.safetensors",
    )
    if description["kind"] == "layer-norm":
        config: dict[str, object] = {"dimension": description["dimension"]}
    else:
        where = "torch.nn.modules.linear" if description["activation"] == "Identity" else "torch.nn.modules.activation"
        config = {
            "in_features": description["in"],
            "out_features": description["out"],
            "bias": description["bias"],
            "activation_function": f"{where}.{description['activation']}",
        }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
