"""Vectors: a folder with vectors.npy [N, D], ids.txt and a manifest; both files are read through memory maps.

A folder may have parts.json instead of vectors.npy. It names two other folders, whose vectors are joined while they are
read. Or it has shards.json, which names folders whose vectors follow one another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.ids import Ids
from drtools.formats.joined_vectors import How, JoinedArray, JoinedColumns, JoinedRows, order_of
from drtools.formats.npy import create_npy, open_npy
from drtools.outputs import manifest
from drtools.outputs.disk import read_json, write_json
from drtools.outputs.fingerprints import in_floats, is_int8
from drtools.outputs.parts import PartRecord, refuse_part
from drtools.outputs.records import checked, checked_fields
from drtools.outputs.state_file import START_AFRESH
from drtools.units import counted

if TYPE_CHECKING:
    import numpy as np

ARRAY, IDS, PARTS, SHARDS = "vectors.npy", "ids.txt", "parts.json", "shards.json"
PRINTS = ("document_fingerprint", "query_fingerprint")
REMEDY = "it is not what drtools writes of vectors; make the folder again"


@dataclass(frozen=True, kw_only=True)
class EncoderKeys:
    """Keys in the manifests of vectors and of their indexes that only some encoders need."""

    document_model: str | None = None
    rem: str | None = None
    precision: str | None = None
    truncate_dimension: int | None = None


@dataclass(frozen=True, kw_only=True)
class VectorsManifest:
    """What the manifest of any vectors says beside what every manifest does; the fields are its keys."""

    side: Literal["document", "query"]
    count: int
    dimension: int
    dtype: str
    normalized: bool
    model: str
    corpus: str | None  # or the file of queries
    title_separator: str | None
    max_tokens: int | None
    query_fingerprint: str
    document_fingerprint: str

    def record(self) -> dict[str, Any]:
        """Return what `Work.finish` writes."""
        return {"kind": "vectors", **vars(self)}


class Counts(TypedDict):
    """Truncated and empty texts, all tokens, and vectors that were reused from an earlier folder."""

    truncated: int
    empty: int
    tokens: int
    taken: int


@dataclass(frozen=True, kw_only=True)
class EncodedManifest(VectorsManifest):
    """The manifest of vectors that one encoder made; unknown facts about adopted vectors are None.

    `document_model` is a key only where the encoder of documents is another than `model`, `truncate_dimension` only
    where vectors were cut to their first dimensions, `part` only in a part of the vectors. `updated` is the folder from
    which vectors were reused.
    """

    document_model: str | None = None
    rem: str | None = None
    precision: str | None = None
    pieces: Mapping[str, object] | None = None  # their count, the kind of spans, and their sizes
    counts: Counts | None = None
    updated: str | None = None
    truncate_dimension: int | None = None
    part: PartRecord | None = None

    def record(self) -> dict[str, Any]:
        """Return what `Work.finish` writes."""
        record = {**super().record(), "counts": self.counts or {}}
        absent = [name for name in ("document_model", "truncate_dimension", "part") if record[name] is None]
        return {name: value for name, value in record.items() if name not in absent}


class Joined(TypedDict):
    """How vectors were joined of two encoders', and what makes vectors of queries for each part, as manifests do."""

    how: How
    mu: float
    parts: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class JoinedManifest(VectorsManifest):
    """The manifest of vectors that are joined of two encoders'; `tried` has each mu and its value on dev."""

    joined: Joined
    tried: list[dict[str, float]]


class Part(TypedDict):
    """A folder that vectors were joined of, or one of their shards, by its path from the joined one."""

    folder: str
    fingerprint: str


class PartsFile(TypedDict):
    """What parts.json holds."""

    how: How
    parts: list[Part]


class ShardsFile(TypedDict):
    """What shards.json holds: folders of consecutive rows."""

    shards: list[Part]


class Vectors(NamedTuple):
    """A vectors folder: `array` [N, D] float16 or float32 (a memory map), the rows' ids, the manifest."""

    path: Path
    array: np.ndarray | JoinedArray
    ids: Ids
    manifest: dict[str, Any]


def create_array(folder: Path, count: int, dimension: int, dtype: str) -> np.memmap:
    """Create the array file [count, dimension] of float16 or float32, to be filled through the memory map."""
    return create_npy(folder / ARRAY, dtype, (count, dimension))


def open_array(path: Path, mode: Literal["r", "r+"] = "r") -> np.memmap:
    """Open an .npy file of two dimensions as a memory map; InputError if it is anything else."""
    import numpy as np

    array = open_npy(path, START_AFRESH if mode == "r+" else "write it again with numpy.save", mode)
    if array.ndim != 2 or array.dtype not in (np.float16, np.float32):
        raise InputError(
            f"found {array.dtype} {list(array.shape)}", where=path, expected="float16 or float32 [rows, dimensions]"
        )
    return array


def open_vectors(folder: str | Path, part: bool = False) -> Vectors:
    """Open a finished vectors folder and check that its files fit together.

    Raises InputError for a part of the vectors of several machines, unless a `part` may be opened.
    """
    folder = Path(folder)
    joined = (folder / PARTS).exists()
    sharded = (folder / SHARDS).exists()
    if folder.exists() and not joined and not sharded and not (folder / ARRAY).exists():
        raise InputError(
            f"no {ARRAY} was found", where=folder, expected="a vectors folder as `drtools encode` writes it"
        )
    record = manifest.read(folder)
    if not part:
        refuse_part(record, folder)
    kind = JoinedManifest if "joined" in record else VectorsManifest
    for declared in (kind, EncoderKeys):
        checked_fields(record, declared, manifest.beside(folder), REMEDY)
    array: np.ndarray | JoinedArray
    if joined or sharded:
        array = _open_parts(folder) if joined else _open_shards(folder)
    else:
        array = open_array(folder / ARRAY)
    ids = Ids(folder / IDS)
    if len(ids) != len(array):
        raise InputError(
            f"{counted(len(array), 'vector')} but {len(ids):,} ids; the folder was damaged, make it again", where=folder
        )
    return Vectors(folder, array, ids, record)


def write_parts(folder: Path, how: str, parts: list[Vectors], target: Path) -> None:
    """Write parts.json with both folders' paths, relative to the finished folder, `target`.

    No link is part of them.
    """
    write_json(folder / PARTS, {"how": how, "parts": _named(parts, target)})


def write_shards(folder: Path, shards: Sequence[Vectors], target: Path) -> None:
    """Write shards.json with the folders' paths, relative to the finished folder, `target`."""
    write_json(folder / SHARDS, {"shards": _named(shards, target)})


def _named(parts: Sequence[Vectors], target: Path) -> list[Part]:
    return [
        {
            "folder": os.path.relpath(part.path.resolve(), target.resolve()),
            "fingerprint": manifest.fingerprint(part.path),
        }
        for part in parts
    ]


def _open_parts(folder: Path) -> JoinedArray:
    again = "join them again with concat-spar"
    named = checked(read_json(folder / PARTS), PartsFile, folder / PARTS, "join the vectors again with concat-spar")
    first, second = _open_named(folder, named["parts"], again, False)
    return JoinedColumns(
        named["how"], first.array, second.array, order_of(first.ids, second.ids, (str(first.path), str(second.path)))
    )


def _open_shards(folder: Path) -> JoinedArray:
    again = "gather the parts again"
    named = checked(read_json(folder / SHARDS), ShardsFile, folder / SHARDS, again)
    if not named["shards"]:
        raise InputError("found no shard", where=folder / SHARDS, remedy=again)
    shards = [opened.array for opened in _open_named(folder, named["shards"], again, True)]
    return JoinedRows(shards)


def _open_named(folder: Path, named: Sequence[Part], again: str, part: bool) -> list[Vectors]:
    """Open the folders that a joined one names. Raises InputError if one has changed."""
    opened = [open_vectors((folder.resolve() / each["folder"]).resolve(), part) for each in named]
    for each, known in zip(opened, named, strict=True):
        if manifest.fingerprint(each.path) != known["fingerprint"]:
            raise InputError(f"has changed since {folder} was joined from it", where=each.path, remedy=again)
    return opened


def belong_together(queries: Mapping[str, Any], documents: Mapping[str, Any]) -> bool:
    """Return whether query vectors fit document vectors, by the fingerprints of their encoders.

    Either is a manifest, or fingerprints of an encoder. The encoder of documents is the same, or the encoder of
    queries is the one that the documents' manifest names for them: that of a pair, whose encoders need not know each
    other. Vectors in int8 fit those in floating point (`note_other_precision`).
    """
    return any(name in queries and in_floats(queries[name]) == in_floats(documents[name]) for name in PRINTS)


def note_other_precision(queries: Mapping[str, Any], documents: Mapping[str, Any], where: Path) -> None:
    """Note vectors of queries in int8 for documents that are not, or the reverse.

    Both are a manifest, or fingerprints of an encoder.
    """
    of_queries, of_documents = (
        "in int8" if any(is_int8(each[name]) for name in PRINTS if name in each) else "in floating point"
        for each in (queries, documents)
    )
    reporting.notice(
        int(of_queries != of_documents),
        f"{where}: its vectors were computed {of_documents}, those of the queries {of_queries}; use the same "
        f"{param('precision')} for both",
    )


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
    note_other_precision(opened.manifest, documents.manifest, documents.path)
    return opened


def find_not_finite(array: np.ndarray, rows_a_block: int = 65536) -> int | None:
    """Return the first row that holds NaN or infinity, or None."""
    import numpy as np

    for start in range(0, len(array), rows_a_block):
        bad = ~np.isfinite(array[start : start + rows_a_block]).all(axis=1)
        if bad.any():
            return start + int(bad.argmax())
    return None
