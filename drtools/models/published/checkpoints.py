"""Find and read a published checkpoint: a folder, a file, an archive, or a name on the hub."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from drtools.errors import InputError, param
from drtools.formats.archives import is_tar_name, unpack
from drtools.formats.packing import open_archive
from drtools.models.hub import TOKENIZERS
from drtools.models.hub import find as find_model
from drtools.models.json_files import BODY
from drtools.models.module_keys import DAMAGED
from drtools.models.published.layouts import WRAPPER
from drtools.models.published.pickles import read_weights
from drtools.outputs.disk import read_json

# in the order of preference; a file of another name is taken if it is the only one
USUAL = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".cp")
# of a training that can be continued; no weights of a model
TRAINING = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state.pth")
ADAPTER = "adapter_config.json"


@dataclass
class Checkpoint:
    """Tensors by name, and the files next to them. `name` is as the user gave it, `file` holds the tensors."""

    name: str
    file: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    rest: dict[str, object] = field(default_factory=dict)  # what else the file holds

    @property
    def folder(self) -> Path:
        """The folder of the file."""
        return self.file.parent


def find(name: str, unpacked: Path) -> Path:
    """Return the folder or the file that a name means; an archive of a model is unpacked into the folder `unpacked`."""
    path = Path(name)
    if not path.exists():
        return find_model(name)
    if path.is_file() and (is_tar_name(path) or (zipfile.is_zipfile(path) and not _is_saved_by_torch(path))):
        return _unpack(path, unpacked)
    return path


def _is_saved_by_torch(path: Path) -> bool:
    with open_archive(path) as archive:
        return any(entry.rsplit("/", 1)[-1] == "data.pkl" for entry in archive.namelist())


def _unpack(path: Path, into: Path) -> Path:
    """Unpack an archive, and return the folder in it that holds a model."""
    unpack(path, into)
    folders = sorted({file.parent for file in into.rglob("*") if file.name in (ADAPTER, "config.json", *USUAL)})
    outer = [folder for folder in folders if not any(parent in folders for parent in folder.parents)]
    if len(outer) != 1:
        raise InputError(
            f"found {len(outer)} models in it" if outer else "found neither a config.json nor weights in it",
            where=path,
            remedy="unpack it, and name the folder of the model",
        )
    return outer[0]


def weights_in(folder: Path) -> Path:
    """Return the file of weights in a folder. Raises InputError unless there is exactly one set of them."""
    for name in USUAL:
        if (folder / name).exists():
            others = _others(folder, folder / name)
            if others:
                raise InputError(
                    f"found {', '.join(others)} beside {name}",
                    where=folder,
                    remedy="name the file that you mean, or move the others elsewhere",
                )
            return folder / name
    found = [file for file in sorted(folder.iterdir()) if file.suffix in ENDINGS and file.name not in TRAINING]
    if len(found) != 1:
        names = ", ".join(file.name for file in found)
        raise InputError(
            f"found {names}" if found else "found no weights",
            where=folder,
            expected=f"one of {', '.join(USUAL)}, or one file of another name that ends in {', '.join(ENDINGS)}",
            remedy="name the file of the weights",
        )
    return found[0]


def _others(folder: Path, own: Path) -> list[str]:
    """Return the names of weights that are not another form of a folder's own."""
    forms = ("model", "pytorch_model", "consolidated", "rust_model", "flax_model", "tf_model")
    return sorted(
        file.name
        for file in folder.iterdir()
        if file.suffix in ENDINGS
        and file != own
        and file.name not in TRAINING
        and file.name.split(".")[0].split("-0")[0] not in forms
        and not file.name.startswith("rng_state")
    )


def read_unwrapped(file: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read the tensors of a checkpoint by the names that they had in its model, and what else it holds, by name."""
    tensors, rest = read_weights(file)
    if all(each.startswith(WRAPPER) for each in tensors):
        tensors = {each.removeprefix(WRAPPER): tensor for each, tensor in tensors.items()}
    return tensors, rest


def read_checkpoint(name: str, place: Path, tokenizer: Path | None) -> Checkpoint:
    """Read the checkpoint at a place; `tokenizer` is the folder whose config.json is taken where it has none."""
    file = weights_in(place) if place.is_dir() else place
    tensors, rest = read_unwrapped(file)
    configs = [folder / "config.json" for folder in (file.parent, tokenizer) if folder is not None]
    config = next((each for each in configs if each.exists()), None)
    if config is None:
        raise InputError(
            "no config.json with the sizes of the body was found next to it",
            where=name,
            remedy=f"use {param('tokenizer')} to name the model that it was trained from, whose config.json is taken",
        )
    return Checkpoint(name, file, tensors, dict(read_json(config, BODY, DAMAGED)), rest)


def tokenizer_folder(checkpoint: Checkpoint, named: Path | None) -> Path:
    """Return the folder with a checkpoint's tokenizer: the one that was named, else its own."""
    if named is None and not any(any(checkpoint.folder.glob(file)) for file in TOKENIZERS):
        raise InputError(
            "no tokenizer was found next to it",
            where=checkpoint.name,
            remedy=f"use {param('tokenizer')} to name the model that it was trained from, as roberta-base",
        )
    return named or checkpoint.folder
