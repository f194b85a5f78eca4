"""The folder of a REM: its tensors, and the bodies to which it can be added."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from drtools.errors import InputError, param
from drtools.models.rem import add_rem, rem_parameters
from drtools.models.settings import OURS, RemSettings, weights_fingerprint
from drtools.models.unused import check_names
from drtools.models.weights import read_tensors
from drtools.outputs.disk import read_json
from drtools.outputs.fingerprints import digest, file_fingerprint
from drtools.outputs.records import NUMBER, OBJECT, TEXT, WHOLE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from drtools.models.encoder import Encoder

WEIGHTS = "rem.safetensors"
PROMPTS = ("query_prompt", "document_prompt")

REM = {
    **dict.fromkeys(("lora_rank", "adapter_size"), WHOLE),
    "adapter_scale": NUMBER,
    **dict.fromkeys(PROMPTS, TEXT),
    "body": OBJECT,
}
FITTING = {  # properties that two bodies must share, in words
    "type": "a body of type {}",
    "layers": "{} layers",
    "dimension": "{} dimensions",
    "tokenizer": "the tokenizer {}",
    "pooling": "{} pooling",
    "head": "{} head",
    "case": "texts in {} case",
}


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the fingerprint of a vocabulary. It is equal exactly if the same tokens have the same ids."""
    return digest(sorted(tokenizer.get_vocab().items()))


def _fits(encoder: Encoder) -> dict[str, object]:
    """Return the properties that the body of a REM's training and any other body for it must share."""
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
    """Write the REM of an encoder, with the name of its body. Returns the fingerprint of the REM."""
    assert encoder.rem is not None and encoder.folder is not None, "the REM was trained on a body in a folder"
    tensors = {name: parameter.detach().cpu() for name, parameter in rem_parameters(encoder).items()}
    body = {"fingerprint": weights_fingerprint(encoder.folder), **_fits(encoder)}
    return write_rem(folder, tensors, encoder.rem, body, {name: getattr(encoder.settings, name) for name in PROMPTS})


def write_rem(
    folder: Path,
    tensors: Mapping[str, Tensor],
    settings: RemSettings,
    body: Mapping[str, object],
    prompts: Mapping[str, str] | None = None,
) -> str:
    """Write the folder of a REM: its tensors, sizes, prompts, and properties of its body. Returns its fingerprint."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    record = {"kind": "rem", **dataclasses.asdict(settings), **(prompts or {}), "body": dict(body)}
    (folder / OURS).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return _fingerprint(folder)


def _fingerprint(folder: Path) -> str:
    return digest([file_fingerprint(folder / name) for name in (WEIGHTS, OURS)])


def _tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return read_tensors(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise InputError(
            (
                f"the REM could not be read ({' '.join(str(error).split())[:200]}); the file was damaged, train the "
                "REM again"
            ),
            where=folder / WEIGHTS,
        ) from None


def load_rem(encoder: Encoder, folder: Path) -> None:
    """Add a REM to an encoder's body, with the prompts of its training.

    Raises InputError for a REM of another family, depth, tokenizer, pooling or head.
    """
    record = read_json(folder / OURS, REM) if (folder / OURS).is_file() else {}
    if record.get("kind") != "rem":
        raise InputError(
            f"found {record.get('kind', 'no ' + OURS)}",
            where=folder,
            expected="a REM",
            remedy="make one with `drtools train-rem`",
        )
    sizes: list[Any] = [record.get(field.name) for field in dataclasses.fields(RemSettings)]
    theirs, ours = record.get("body"), _fits(encoder)
    if not isinstance(theirs, dict) or not all(isinstance(size, int | float) for size in sizes):
        raise InputError(
            "the REM's sizes or its body are missing; the file was damaged, train the REM again", where=folder / OURS
        )
    for name, words in FITTING.items():
        if theirs.get(name, ours[name]) != ours[name]:  # an older REM has fewer keys
            raise InputError(
                (
                    f"this REM was trained on {words.format(theirs[name])}, {encoder.folder} has "
                    f"{words.format(ours[name])}"
                ),
                where=folder,
                remedy="use a body adapted from the one that it was trained on",
            )
    for name in PROMPTS:
        setattr(encoder.settings, name, record.get(name, getattr(encoder.settings, name)))
    tensors = _tensors(folder)
    add_rem(encoder, RemSettings(*sizes), seed=0)
    parameters = rem_parameters(encoder)
    check_names(tensors, parameters.__contains__, folder, f"the REM that {OURS} describes")
    if {name: tensor.shape for name, tensor in tensors.items()} != {
        name: parameter.shape for name, parameter in parameters.items()
    }:
        raise InputError(f"its tensors do not match {OURS}; the file was damaged, train the REM again", where=folder)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    encoder.rem_fingerprint = _fingerprint(folder)
    if encoder.settings.folded_rem == encoder.rem_fingerprint:
        raise InputError(
            f"{folder} is already folded into its weights",
            where=encoder.folder,
            remedy=f"use only {param('model')} {encoder.folder}",
        )
