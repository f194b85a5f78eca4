"""Folders that only their weights' form keeps from being loaded: of sentence-transformers, and of cross-encoders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file

from drtools.errors import InputError
from drtools.formats.archives import is_inside
from drtools.models.encoder import Encoder
from drtools.models.encoder_files import load_folder
from drtools.models.json_files import listed_modules, optional_json
from drtools.models.published.checkpoints import ENDINGS, read_unwrapped, weights_in
from drtools.models.published.specs import ImportSpec, said_of
from drtools.models.settings import read_settings

KEPT = (".json", ".txt", ".model", ".jinja")  # settings and tokenizers


def import_folder(spec: ImportSpec, place: Path, staging: Path) -> Encoder:
    """Make the encoder of a folder of sentence-transformers, its body in a subfolder or its weights pickled."""
    staged = staging / "staged"
    copy_modules(place, staged)
    with said_of(spec.checkpoint, staged):
        return load_folder(staged, read_settings(staged, spec.pooling))


def copy_modules(place: Path, target: Path) -> None:
    """Copy a folder of sentence-transformers, its weights as safetensors and its body in the folder itself."""
    modules = listed_modules(place)
    for module in modules:
        if not is_inside(module["path"]):
            raise InputError(
                f"it names the folder {module['path']!r}", where=place / "modules.json", expected="folders in its own"
            )
    body = next((module for module in modules if module["type"].rsplit(".", 1)[-1] == "Transformer"), None)
    if body is None:
        raise InputError("its modules.json names no Transformer", where=place)
    copy_folder(place, target)
    copy_folder(place / body["path"], target)
    for module in modules:
        if module is not body and (place / module["path"]).is_dir():  # a hub keeps no empty folder, as Normalize has
            copy_folder(place / module["path"], target / module["path"])
    body["path"] = ""
    (target / "modules.json").write_text(json.dumps(modules), encoding="utf-8")


def stage(place: Path, staging: Path) -> Path:
    """Return a copy of a model's folder with its weights as safetensors."""
    copy_folder(place, staging / "staged")
    return staging / "staged"


def is_ranker(place: Path) -> bool:
    """Whether a folder's config.json names a classifier, as a cross-encoder is."""
    named = optional_json(place / "config.json").get("architectures") or ()
    return any(str(name).endswith("ForSequenceClassification") for name in named)


def copy_folder(place: Path, target: Path, *more: str) -> None:
    """Copy a folder's own files, without its subfolders; weights become one file of safetensors.

    `more` are endings of files that are copied beside settings and tokenizers.
    """
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(place.iterdir()):
        if file.is_file() and file.suffix in (*KEPT, *more) and not file.name.endswith(".index.json"):
            shutil.copyfile(file, target / file.name)
    if any(file.suffix in ENDINGS for file in place.iterdir()):
        tensors, _ = read_unwrapped(weights_in(place))
        plain = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        save_file(plain, target / "model.safetensors", metadata={"format": "pt"})
