"""Prevent untrusted model files from running code and from naming files outside their folder.

transformers requires trust_remote_code to run the code in `auto_map`. It does not require it to fetch and run kernels
from a hub, which a config.json can request with its attention, and which some families request by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from drtools.errors import InputError, param
from drtools.formats.archives import is_inside
from drtools.outputs.disk import read_json

INDEXES = "*.safetensors.index.json"
REFUSAL = "code from a hub is run only if you trust it"
_fetch_kernel: list[Callable[..., object]] = []  # transformers' function that fetches kernels, while it is replaced


def check_code(folder: Path) -> None:
    """Raise InputError if config.json requests code from a hub, such as `"attn_implementation": "owner/name"`."""
    config = folder / "config.json"
    for key, value in _implementations(read_json(config)) if config.exists() else ():
        if "/" in value:
            raise InputError(
                f"its config.json requests the {key} {value!r}, code that would be fetched from a hub and run",
                where=folder,
                remedy=f"pass {param('trust_remote_code')} if you trust that code, or remove {key} from config.json",
            )


def check_family(folder: Path) -> None:
    """Refuse a model of a family that transformers has not, whose config.json names code of its own for it."""
    from transformers import CONFIG_MAPPING

    config = folder / "config.json"
    record = read_json(config) if config.exists() else {}
    family, code = record.get("model_type"), record.get("auto_map")
    if isinstance(family, str) and family not in CONFIG_MAPPING and isinstance(code, dict):
        named = next((str(value) for value in code.values()), "")
        raise InputError(
            f"a model of type {family!r}, which transformers knows only by custom code of the model ({named})",
            where=folder,
            remedy=f"pass {param('trust_remote_code')} if you trust that code",
        )


def _implementations(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, value) of all implementations in a configuration and in its nested configurations."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _implementations(inner, key if key.endswith("_implementation") else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _implementations(inner, key)
    elif isinstance(value, str) and key.endswith("_implementation"):
        yield key, value


@contextmanager
def only_trusted_code(trusted: bool) -> Iterator[None]:
    """Prevent transformers from using a hub while it loads a model from a folder, unless its code is trusted.

    Only files in the folder are used. Kernels stay refused afterwards, since models request some when they first
    compute.
    """
    from huggingface_hub import constants

    _refuse_kernels(not trusted)
    offline = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline or not trusted
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


def _refuse_kernels(refuse: bool) -> None:
    """Allow transformers to fetch kernels from a hub, or not. Without the library `kernels`, it never can."""
    from transformers.integrations import hub_kernels

    known: Any = hub_kernels
    if refuse and not _fetch_kernel and hasattr(known, "get_kernel_hub"):
        _fetch_kernel.append(known.get_kernel_hub)
        known.get_kernel_hub = _no_kernel
    elif not refuse and _fetch_kernel:
        known.get_kernel_hub = _fetch_kernel.pop()


def _no_kernel(name: str, **settings: object) -> NoReturn:
    raise FileNotFoundError(f"{name}: {REFUSAL}")  # transformers then continues without the kernel if possible


def check_shards(folder: Path) -> None:
    """Raise InputError for an index of weights with files outside its folder, or files that are not safetensors."""
    for index in sorted(folder.rglob(INDEXES)):
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise InputError("found no weight_map with file names; fetch the model again", where=index)
        for name in dict.fromkeys(shards.values()):
            if not is_inside(name) or not name.endswith(".safetensors"):
                raise InputError(
                    f"found {name!r}", where=index, expected="names of .safetensors files in the same folder"
                )
