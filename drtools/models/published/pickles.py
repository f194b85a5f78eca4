"""Files that torch saved, read without running any code in them.

A pickle can call any function while it is read. `torch.load(weights_only=True)` allows nothing but tensors, numbers,
texts and plain containers. Trainings save their settings together with the weights, as objects of their own classes; a
stand-in that does nothing takes the place of those that are known to be settings. Whatever else a file names is
refused.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from drtools.errors import InputError
from drtools.formats.archives import is_inside
from drtools.models.json_files import shards_of
from drtools.models.weights import aligned, read_tensors


class Settings:
    """A placeholder for an object of a training's settings; it keeps what the object held, and does nothing."""

    def __init__(self, *values: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update({key: value for key, value in state.items() if isinstance(key, str)})


def _empty(*_: object) -> dict[str, object]:
    return {}


# Names of settings in pickles: of OmegaConf (dpr-scale, DPR), argparse (Contriever), Lightning's callbacks, paths.
# The classes that OmegaConf notes for its values are names here too, and never called.
STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *[
        (Settings, f"omegaconf.{name}")
        for name in (
            "dictconfig.DictConfig",
            "listconfig.ListConfig",
            "base.ContainerMetadata",
            "base.Metadata",
            "nodes.ValueNode",
            "nodes.AnyNode",
            "nodes.BooleanNode",
            "nodes.EnumNode",
            "nodes.FloatNode",
            "nodes.IntegerNode",
            "nodes.StringNode",
        )
    ],
    *[(Settings, f"builtins.{name}") for name in ("bool", "dict", "float", "int", "list", "str", "tuple", "object")],
    *[(Settings, f"typing.{name}") for name in ("Any", "Dict", "List", "Union")],
    (_empty, "collections.defaultdict"),
    (Settings, "argparse.Namespace"),
    *[(Settings, f"pathlib.{name}") for name in ("PosixPath", "PurePosixPath", "Path")],
    *[
        (Settings, f"pytorch_lightning.{name}")
        for name in (
            "callbacks.model_checkpoint.ModelCheckpoint",
            "callbacks.early_stopping.EarlyStopping",
            "callbacks.lr_monitor.LearningRateMonitor",
            "utilities.parsing.AttributeDict",
        )
    ],
]
_REFUSED = re.compile(r"GLOBAL (\S+)")


def read_pickle(file: Path) -> object:
    """Read a file that torch saved. Raises InputError if it has anything but tensors, plain values and settings."""
    with open(file, "rb") as stream:
        start = stream.read(1024)
    if start.startswith(b"version https://git-lfs"):
        raise InputError(
            "a pointer of Git LFS, not the file itself", where=file, remedy="fetch the file with `git lfs pull`"
        )
    try:
        with torch.serialization.safe_globals(STAND_INS), warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except MemoryError:
        raise
    except Exception as error:  # each kind of damage raises another error
        # torch's own message advises to read the file without this safety; only the reason behind it is shown
        words = " ".join(str(error).rpartition("WeightsUnpickler error: ")[2].split())
        words = words.partition(" Check the documentation")[0]
        named = _REFUSED.search(words)
        if named:
            raise InputError(
                f"its pickle names {named[1]}, which is neither a tensor nor a plain value; reading it could run code",
                where=file,
                remedy="save the weights alone, as safetensors, on a machine where you trust the file",
            ) from None
        raise InputError(
            f"could not be read as weights ({words[:200]})",
            where=file,
            expected="a file of torch.save or of safetensors",
            remedy="fetch it again, or save the weights alone as safetensors",
        ) from None


def read_weights(file: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read the tensors of a checkpoint by their names, and what else it holds, by name."""
    if file.name.endswith(".index.json"):
        return _read_shards(file), {}
    if file.suffix == ".safetensors":
        try:
            return read_tensors(file), {}
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"could not be read as safetensors ({' '.join(str(error).split())[:200]})",
                where=file,
                remedy="fetch it again",
            ) from None
    found = read_pickle(file)
    if not isinstance(found, dict):
        raise InputError(
            f"found a {type(found).__name__}", where=file, expected="tensors by their names", remedy="name the weights"
        )
    rest: dict[str, object] = {}
    for key in CONTAINERS:
        if isinstance(found.get(key), dict) and _tensors_of(found[key]):
            rest = {str(name): value for name, value in found.items() if name != key}
            found = found[key]
            break
    tensors = _tensors_of(found)
    if not tensors:
        raise InputError(
            f"found no tensors, but {', '.join(map(str, list(found)[:5])) or 'nothing'}",
            where=file,
            expected=f"tensors by their names, or these under one of {', '.join(CONTAINERS)}",
        )
    return tensors, rest


# where trainings put the weights: DPR, Lightning (dpr-scale), Contriever
CONTAINERS = ("model_dict", "state_dict", "model", "model_state_dict")


def _tensors_of(found: dict[object, object]) -> dict[str, Tensor]:
    return {
        name: aligned(value) for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)
    }


def _read_shards(index: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for shard in sorted(shards_of(index)):
        if not is_inside(shard):
            raise InputError(f"it names {shard!r}", where=index, expected="names of files in the same folder")
        if not (index.parent / shard).exists():
            raise InputError(f"it names {shard}, which is not there", where=index, remedy="fetch the whole model")
        tensors |= read_weights(index.parent / shard)[0]
    return tensors
