"""What a model's files may not do unless the user trusts them: run code, or name files outside their folder.

transformers asks for leave before it runs the code that `auto_map` names. It asks for none before it fetches and runs
kernels from a hub, which a config.json can ask for by its attention, and which some families ask for by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from drtools.errors import InputError, param
from drtools.outputs.disk import read_json

INDEXES = "*.safetensors.index.json"
REFUSAL = "code from a hub is run only if you trust it"
_fetch_kernel: list[Callable[..., object]] = []  # what transformers fetches kernels with, while that is refused


def check_code(folder: Path) -> None:
    """Refuse a model whose config.json asks for code from a hub: `"attn_implementation": "owner/name"` and its kin."""
    config = folder / "config.json"
    for key, value in _implementations(read_json(config)) if config.exists() else ():
        if "/" in value:
            raise InputError(
                f"its config.json asks for the {key} {value!r}, code that would be fetched from a hub and run",
                where=folder,
                remedy=f"pass {param('trust_remote_code')} if you trust that code, or take {key} out of config.json",
            )


def _implementations(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, value) of all that a configuration, or one in it, says of implementations; some say it by part."""
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
    """Keep transformers from a hub while it loads a model from a folder, unless its code is trusted.

    What is in the folder is all there is to it. Kernels stay refused afterwards, as models ask for some of them when
    they compute for the first time.
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
    """Let transformers fetch kernels from a hub, or not; without the library `kernels` it cannot anyway."""
    from transformers.integrations import hub_kernels

    known: Any = hub_kernels
    if refuse and not _fetch_kernel and hasattr(known, "get_kernel_hub"):
        _fetch_kernel.append(known.get_kernel_hub)
        known.get_kernel_hub = _no_kernel
    elif not refuse and _fetch_kernel:
        known.get_kernel_hub = _fetch_kernel.pop()


def _no_kernel(name: str, **settings: object) -> NoReturn:
    raise FileNotFoundError(f"{name}: {REFUSAL}")  # transformers then does without it, where it can


def check_shards(folder: Path) -> None:
    """Refuse an index of weights that names files outside its folder, or files that are no safetensors."""
    for index in sorted(folder.rglob(INDEXES)):
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise InputError("found no weight_map of file names; fetch the model again", where=index)
        for name in dict.fromkeys(shards.values()):
            if not is_inside(name) or not name.endswith(".safetensors"):
                raise InputError(
                    f"it names {name!r}", where=index, expected="names of .safetensors files in the same folder"
                )


def is_inside(name: str) -> bool:
    """Return whether a file name of a model's files names something inside their folder; links are not followed."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name
