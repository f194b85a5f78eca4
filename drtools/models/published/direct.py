"""Models that are loaded by their names although their weights are pickled.

The weights are read once, without running code, and kept as safetensors in the cache, by the content of their files.
Every tensor is accounted for as in an import. A body without a pooling stays one, with its heads of the pre-training.
Another layout becomes the folder that an import would write. What needs a choice by the user is refused.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.archives import is_inside
from drtools.models.encoder_files import save_encoder
from drtools.models.json_files import body_config, listed_modules
from drtools.models.pair import EncoderPair
from drtools.models.published.accounting import check_body, sort_out
from drtools.models.published.checkpoints import Checkpoint, read_checkpoint, tokenizer_folder
from drtools.models.published.encoders import encoders_of, report
from drtools.models.published.folders import KEPT, copy_folder, copy_modules, is_ranker
from drtools.models.published.layouts import (
    BOTH,
    CLASSES,
    DOCUMENT,
    PLAIN,
    POOLING_KEY,
    QUERY,
    SIMILARITY_KEY,
    recognise,
)
from drtools.models.published.specs import ImportSpec
from drtools.models.ranker_families import family_of, names_of
from drtools.outputs.cache import cache_directory, make_folder, note_unwritable
from drtools.outputs.cache_contents import MODELS
from drtools.outputs.cache_locks import alone, hold
from drtools.outputs.fingerprints import content_fingerprint
from drtools.outputs.places import remember_places

VERSION = 1  # of what is written; a change of it makes the copies again
CODE = ".py"  # of the model's own; run only if the user trusts it
_held: list[int] = []  # lock files of the copies that this process uses


def converted(name: str, place: Path) -> Path:
    """Return a folder with the safetensors of a model whose folder `place` has pickled weights.

    `name` is as the user gave it. The folder is kept in the cache; where that cannot be written, it is a temporary one.
    """
    with naming_import(name):
        key = content_fingerprint(place, _files(place))
    kept = make_folder(cache_directory() / MODELS) / f"{key}-{VERSION}"
    lock = kept.with_suffix(".lock")
    try:
        if not (kept.exists() and lock.exists()):
            with alone(lock):
                if not kept.exists():
                    _write(name, place, kept)
        with suppress(PermissionError):
            _held.append(hold(lock))
        return kept
    except OSError as error:
        if error.filename is not None and Path(error.filename).is_relative_to(place):
            raise
        note_unwritable(kept, error)
    folder = Path(tempfile.mkdtemp(prefix="drtools-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _write(name, place, folder / "model")
    return folder / "model"


def _files(place: Path) -> list[Path]:
    """Return the files that a model is made of: in its folder and in those of its modules."""
    folders = {place}
    if (place / "modules.json").exists():
        folders |= {place / module["path"] for module in listed_modules(place) if is_inside(module["path"])}
    kinds = (*KEPT, CODE, ".bin", ".safetensors")
    return sorted(
        file
        for folder in folders
        if folder.is_dir()
        for file in folder.iterdir()
        if file.suffix in kinds and file.is_file()
    )


@contextmanager
def naming_import(name: str) -> Iterator[None]:
    """Add the command that imports the model to errors whose remedy is a setting of the import."""
    try:
        yield
    except InputError as error:
        asked = [each.name for each in fields(ImportSpec) if param(each.name) in error.remedy]
        if not asked and not error.remedy.startswith("name the file"):
            raise
        command = f"import it with `drtools import-model {name} -o FOLDER`, and pass that folder"
        raise InputError(
            error.found, where=error.where, expected=error.expected, remedy=f"{command}; there, {error.remedy}"
        ) from None


def _write(name: str, place: Path, target: Path) -> None:
    """Write the folder of a model, whole or not at all."""
    staging = target.with_suffix(".partial")
    shutil.rmtree(staging, ignore_errors=True)  # of a killed process
    staging.mkdir()
    try:
        with naming_import(name):
            _convert(name, place, staging / "made", staging)
        os.replace(staging / "made", target)
        reporting.say(f"{name}: pickled weights, read without running code and kept as safetensors in {target}")
        remember_places([(target.name, str(place.resolve()))])
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _convert(name: str, place: Path, made: Path, staging: Path) -> None:
    if (place / "modules.json").exists():
        copy_modules(place, made)
        return
    architectures = body_config(place).get("architectures") or []
    if is_ranker(place) or family_of(names_of(name), architectures):
        copy_folder(place, made, CODE)
        return
    checkpoint = read_checkpoint(name, place, None)
    source = tokenizer_folder(checkpoint, None)
    layout = recognise(checkpoint.tensors)
    if layout is PLAIN and not _has_pooling(checkpoint):
        _account(checkpoint)
        copy_folder(place, made, CODE)
        return
    found = encoders_of(checkpoint, layout, ImportSpec(name), source, staging / "parts")
    if len(found) == 2:
        save_encoder(EncoderPair(found[QUERY], found[DOCUMENT]), made)
    else:
        save_encoder(next(found[side] for side in (BOTH, QUERY, DOCUMENT) if side in found), made)


def _has_pooling(checkpoint: Checkpoint) -> bool:
    """Return whether the files of a body have a pooling."""
    config = checkpoint.config
    named = any(name in CLASSES for name in config.get("architectures") or ())
    return named or POOLING_KEY in config or SIMILARITY_KEY in config or "opt" in checkpoint.rest


def _account(checkpoint: Checkpoint) -> None:
    """Account for the tensors of a body by itself. Raises InputError for one that has no place, or is missing."""
    from transformers import CONFIG_MAPPING

    config = checkpoint.config
    if config.get("model_type") not in CONFIG_MAPPING:  # its code has the names; they are compared when it is loaded
        return
    found = sort_out(checkpoint.tensors, PLAIN, config, checkpoint.name)
    (parts,) = found.parts
    useless = check_body(parts, config, checkpoint.name, config.get("architectures") or ())
    report(checkpoint, PLAIN, [*found.useless, *useless], found.aside)
