"""Convert a published checkpoint into a model folder: one encoder, a pair, a REM, or a cross-encoder."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drtools import reporting
from drtools.errors import InputError, param
from drtools.models.cross_encoder import load_cross_encoder, save_cross_encoder
from drtools.models.encoder import Encoder
from drtools.models.encoder_files import save_encoder
from drtools.models.json_files import optional_json
from drtools.models.pair import EncoderPair
from drtools.models.published.adapters import read_adapter, write_adapter
from drtools.models.published.checkpoints import ADAPTER, find
from drtools.models.published.encoders import import_encoder
from drtools.models.published.folders import import_folder, is_ranker, stage
from drtools.models.published.lora import import_lora
from drtools.models.published.specs import ImportSpec, said_of

if TYPE_CHECKING:
    from drtools.outputs.work import Work

AS_IT_IS = ("document_checkpoint", "tokenizer", "prefix_space", "lower_case")  # settings that a whole folder has itself


def import_model(work: Work, spec: ImportSpec) -> str:
    """Write a published checkpoint into the folder of `work`; return what was made of it, in words."""
    with tempfile.TemporaryDirectory(dir=work.path, prefix=".import-") as name:
        staging = Path(name)
        place = find(spec.checkpoint, staging / "unpacked")
        if place.is_dir() and (place / ADAPTER).exists() and "peft_type" not in optional_json(place / ADAPTER):
            made, record = _import_rem(place, spec, work.path)
        elif place.is_dir() and is_ranker(place) and not (place / "modules.json").exists():
            made, record = _import_ranker(place, staging, spec, work.path)
        else:
            made, record = _import_encoder(place, staging, spec, work.path)
    work.finish(base=spec.checkpoint, **record)
    return made


def _import_encoder(place: Path, staging: Path, spec: ImportSpec, folder: Path) -> tuple[str, dict[str, Any]]:
    """Write an encoder or a pair; return what it is, in words, and what the manifest says of it."""
    if place.is_dir() and (place / ADAPTER).exists():
        _refuse(spec, AS_IT_IS, "a LoRA, which has the tokenizer of its base model")
        encoder: Encoder | EncoderPair[Encoder] = import_lora(spec, place)
        layout = "LoRA of peft"
    elif place.is_dir() and (place / "modules.json").exists():
        _refuse(spec, AS_IT_IS, "a folder of sentence-transformers, which is imported as it is")
        encoder, layout = import_folder(spec, place, staging), "sentence-transformers"
    else:
        encoder, layout = import_encoder(spec, place, staging)
    fingerprints = save_encoder(encoder, folder)
    return "a pair of encoders" if isinstance(encoder, EncoderPair) else "an encoder", {
        "kind": "encoder",
        "layout": layout,
        **({"document_base": spec.document_checkpoint} if spec.document_checkpoint else {}),
        **{f"{side}_fingerprint": value for side, value in fingerprints.items()},
    }


def _import_ranker(place: Path, staging: Path, spec: ImportSpec, folder: Path) -> tuple[str, dict[str, Any]]:
    """Write a cross-encoder; return what it is, in words, and what the manifest says of it."""
    _refuse(spec, (*AS_IT_IS, "pooling"), "a cross-encoder, which is imported as it is")
    staged = stage(place, staging)
    with said_of(spec.checkpoint, staged):
        fingerprint = save_cross_encoder(load_cross_encoder(str(staged)), folder)
    return "a cross-encoder", {"kind": "ranker", "ranker_fingerprint": fingerprint}


def _import_rem(place: Path, spec: ImportSpec, folder: Path) -> tuple[str, dict[str, Any]]:
    """Write the REM of the adapter library; return what it is, in words, and what the manifest says of it."""
    _refuse(spec, (*AS_IT_IS, "pooling"), "a REM, which is put on a body with a tokenizer and a pooling")
    tensors, settings, record = read_adapter(place, spec.checkpoint)
    fingerprint = write_adapter(folder, tensors, settings, record)
    reporting.say(f"{spec.checkpoint}: an adapter named {record['name']}; {len(tensors)} tensors used")
    return f"a REM (rank {settings.lora_rank}, adapters of {settings.adapter_size})", {
        "kind": "rem",
        "body": record.get("model_name"),
        "rem_fingerprint": fingerprint,
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
    }


def _refuse(spec: ImportSpec, names: tuple[str, ...], what: str) -> None:
    """Raise InputError for settings that do not apply to the kind of a checkpoint."""
    for name, value in dataclasses.asdict(spec).items():
        if name in names and value is not None:
            raise InputError(f"{spec.checkpoint} is {what}", where=param(name), remedy="leave it out")
