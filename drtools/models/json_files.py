"""Read the JSON files in a model's folder, and check their values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drtools.errors import InputError
from drtools.models.module_keys import DAMAGED
from drtools.outputs.disk import read_json
from drtools.outputs.records import (
    OBJECT,
    POSITIVE,
    TEXT,
    Kind,
    Record,
    list_of,
    map_of,
    object_of,
    optional,
    parse_json,
)

BODY = {  # the keys of config.json that are read here; transformers checks its own
    **dict.fromkeys(("model_type", "activation", "sbert_ce_default_activation_function"), optional(TEXT)),
    "architectures": optional(list_of(TEXT)),
    "sentence_transformers": optional(object_of({"activation_fn": optional(TEXT)})),
}
OURS = {"kind": optional(TEXT), "body": optional(OBJECT)}  # of drtools.json, for any kind of model
SHARDS = {"weight_map": map_of(TEXT)}
ADAPTER = {"base_model_name_or_path": optional(TEXT)}


def _is_part(value: object) -> bool:
    """Return whether a value is a part of tokenizer.json, such as its normalizer, as far as it is read here."""
    if value is None:
        return True
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return False
    inner = [part for key in ("pretokenizers", "processors", "normalizers") for part in value.get(key) or ()]
    if value["type"] == "TemplateProcessing":
        return _TEMPLATE.fits(value)
    if value["type"] in ("BertProcessing", "RobertaProcessing"):
        return all(
            isinstance(value.get(key), list) and value[key] and TEXT.fits(value[key][0]) for key in ("cls", "sep")
        )
    return all(part is not None and _is_part(part) for part in inner)


_TEMPLATE = object_of({"single": list_of(object_of({"SpecialToken": object_of({"id": TEXT}, ["id"])}))}, ["single"])
_PART = Kind(_is_part, "a part of a tokenizer, with its type")
_TOKEN = Kind(
    lambda value: isinstance(value, str | None) or (isinstance(value, dict) and TEXT.fits(value.get("content"))),
    "a token, as a text or an object with its content",
)
_TOKENS = Kind(
    lambda value: (
        isinstance(value, list | dict) and all(map(_TOKEN.fits, value.values() if isinstance(value, dict) else value))
    ),
    "a list or an object of tokens",
)
TOKENIZER = {
    **dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor"), _PART),
    "added_tokens": optional(list_of(object_of({"content": TEXT}, ["content"]))),
    "model": optional(object_of({"unk_token": optional(TEXT)})),
}
TOKENIZER_CONFIG = {
    **dict.fromkeys(
        ("bos_token", "eos_token", "cls_token", "sep_token", "unk_token", "pad_token", "mask_token"), _TOKEN
    ),
    **dict.fromkeys(("extra_special_tokens", "additional_special_tokens", "added_tokens_decoder"), optional(_TOKENS)),
    **dict.fromkeys(("truncation_side", "padding_side", "tokenizer_class"), optional(TEXT)),
    "model_max_length": optional(POSITIVE),
}


def optional_json(path: Path, kinds: Mapping[str, Kind] | None = None) -> Record:
    """Read the object of a model's JSON file. Returns an empty one if there is no such file."""
    return read_json(path, kinds, DAMAGED) if path.exists() else Record({}, path, DAMAGED)


def body_config(folder: Path) -> Record:
    """Read the config.json of a body. Returns an empty object if there is none."""
    return optional_json(folder / "config.json", BODY)


def own_settings(folder: Path) -> Record:
    """Read the drtools.json of a folder. Returns an empty object if there is none."""
    return optional_json(folder / "drtools.json", OURS)


def shards_of(index: Path) -> set[str]:
    """Return the file names in a model.safetensors.index.json."""
    return set(read_json(index, SHARDS, DAMAGED)["weight_map"].values())


def listed_modules(folder: Path) -> list[dict[str, Any]]:
    """Return the modules in modules.json, each with its type and its path."""
    path = folder / "modules.json"
    modules = parse_json(path.read_bytes(), path, DAMAGED)
    if not isinstance(modules, list) or not all(
        isinstance(module, dict) and isinstance(module.get("type"), str) and isinstance(module.get("path"), str)
        for module in modules
    ):
        raise InputError(
            "expected a list of modules, each with a type and a path; the file was damaged, fetch the model again",
            where=path,
        )
    return modules
