"""Vectors: a folder with vectors.npy [N, D], ids.txt and a manifest; both files are read through memory maps.

A folder may have parts.json instead of vectors.npy. It names two other folders, whose vectors are joined while they are
read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from drtools.errors import InputError, param
from drtools.formats.ids import Ids
from drtools.formats.joined_vectors import JoinedArray, order_of
from drtools.formats.npy import open_npy
from drtools.outputs import manifest
from drtools.outputs.disk import read_json, write_json
from drtools.units import counted

if TYPE_CHECKING:
    import numpy as np

ARRAY, IDS, PARTS = "vectors.npy", "ids.txt", "parts.json"


class Vectors(NamedTuple):
    """A vectors folder: `array` [N, D] float16 or float32 (a memory map), the rows' ids, the manifest."""

    path: Path
    array: np.ndarray | JoinedArray
    ids: Ids
    manifest: dict[str, Any]


def create_array(folder: Path, count: int, dimension: int, dtype: str) -> np.memmap:
    """Create the array file [count, dimension] of float16 or float32, to be filled through the memory map."""
    import numpy as np

    return np.lib.format.open_memmap(folder / ARRAY, mode="w+", dtype=dtype, shape=(count, dimension))


def open_array(path: Path, mode: Literal["r", "r+"] = "r") -> np.memmap:
    """Open an .npy file of two dimensions as a memory map; InputError if it is anything else."""
    import numpy as np

    array = open_npy(path, "write it again with numpy.save", mode)
    if array.ndim != 2 or array.dtype not in (np.float16, np.float32):
        raise InputError(
            f"found {array.dtype} {list(array.shape)}", where=path, expected="float16 or float32 [rows, dimensions]"
        )
    return array


def open_vectors(folder: str | Path) -> Vectors:
    """Open a finished vectors folder and check that its parts fit together."""
    folder = Path(folder)
    joined = (folder / PARTS).exists()
    if folder.exists() and not joined and not (folder / ARRAY).exists():
        raise InputError(
            f"no {ARRAY} was found", where=folder, expected="a vectors folder as `drtools encode` writes it"
        )
    record = manifest.read(folder)
    array, ids = _open_parts(folder) if joined else open_array(folder / ARRAY), Ids(folder / IDS)
    if len(ids) != len(array):
        raise InputError(
            f"{counted(len(array), 'vector')} but {len(ids):,} ids; the folder was damaged, make it again", where=folder
        )
    return Vectors(folder, array, ids, record)


def write_parts(folder: Path, how: str, parts: list[Vectors], target: Path) -> None:
    """Write parts.json with both folders' paths, relative to the finished folder, `target`.

    No link is part of them.
    """
    named = [
        {
            "folder": os.path.relpath(part.path.resolve(), target.resolve()),
            "fingerprint": manifest.fingerprint(part.path),
        }
        for part in parts
    ]
    write_json(folder / PARTS, {"how": how, "parts": named})


def _open_parts(folder: Path) -> JoinedArray:
    named = read_json(folder / PARTS)
    parts = [open_vectors((folder.resolve() / part["folder"]).resolve()) for part in named["parts"]]
    for part, known in zip(parts, named["parts"], strict=True):
        if manifest.fingerprint(part.path) != known["fingerprint"]:
            raise InputError(
                f"has changed since {folder} was joined from it",
                where=part.path,
                remedy="join them again with concat-spar",
            )
    first, second = parts
    return JoinedArray(
        named["how"], first.array, second.array, order_of(first.ids, second.ids, (str(first.path), str(second.path)))
    )


def belong_together(queries: dict[str, Any], documents: dict[str, Any]) -> bool:
    """Return whether query vectors fit document vectors, by the fingerprints of their encoders.

    Either is a manifest, or fingerprints of an encoder. The encoder of documents is the same, or the encoder of
    queries is the one that the documents' manifest names for them: that of a pair, whose encoders need not know each
    other.
    """
    names = ("document_fingerprint", "query_fingerprint")
    return any(name in queries and queries[name] == documents[name] for name in names)


def named_fingerprints(sides: dict[str, str]) -> dict[str, str]:
    """Return fingerprints by side under the names that manifests use."""
    return {f"{side}_fingerprint": value for side, value in sides.items()}


def maker_of(record: dict[str, Any]) -> str:
    """Return the name of the encoder that made vectors, or the vectors of an index, from their manifest."""
    own = record.get("document_model") if record.get("side", "document") == "document" else None
    return str(own or record["model"])


def open_document_vectors(folder: str | Path) -> Vectors:
    """Open a folder that must hold vectors of documents."""
    opened = open_vectors(folder)
    if opened.manifest["side"] != "document":
        raise InputError("vectors of queries", where=folder, expected="vectors of documents")
    return opened


def open_query_vectors(folder: str | Path, documents: Vectors) -> Vectors:
    """Open a folder that must hold vectors of queries, of the encoder that the documents' vectors are searched with."""
    opened = open_vectors(folder)
    if opened.manifest["side"] != "query":
        raise InputError(
            "vectors of documents", where=folder, expected=f"vectors of queries (encode {param('queries')})"
        )
    if not belong_together(opened.manifest, documents.manifest):
        raise InputError(
            (
                f"made by another encoder than the document vectors {documents.path}; both must be made by the same "
                "encoder"
            ),
            where=folder,
        )
    return opened


def find_not_finite(array: np.ndarray, rows_a_block: int = 65536) -> int | None:
    """Return the first row that holds NaN or infinity, or None."""
    import numpy as np

    for start in range(0, len(array), rows_a_block):
        bad = ~np.isfinite(array[start : start + rows_a_block]).all(axis=1)
        if bad.any():
            return start + int(bad.argmax())
    return None
