"""What is read of the manifest of an index, and its types."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drtools.errors import InputError, param
from drtools.formats.vectors import EncoderKeys, Joined
from drtools.outputs import manifest
from drtools.outputs.records import Record, checked_fields


@dataclass(frozen=True, kw_only=True)
class LuceneManifest:
    """A Lucene index of a corpus."""

    count: int
    language: str


@dataclass(frozen=True, kw_only=True)
class OfVectors(EncoderKeys):
    """What every index of vectors copies from their manifest."""

    dimension: int
    model: str
    query_fingerprint: str
    document_fingerprint: str
    side: str | None = None
    normalized: bool | None = None
    corpus: str | None = None
    title_separator: str | None = None
    max_tokens: int | None = None
    joined: Joined | None = None


@dataclass(frozen=True, kw_only=True)
class FaissManifest(OfVectors):
    """A FAISS index of vectors: the factory string, and facts from the manifest of the vectors."""

    count: int
    factory: str
    new_since_training: int
    marked: int = 0


@dataclass(frozen=True, kw_only=True)
class MilvusManifest(OfVectors):
    """An index in a collection of Milvus, whose content has the fingerprint `content`."""

    count: int
    uri: str
    collection: str
    content: str
    index_type: str
    parameters: dict[str, int | float | str]
    fields: list[str]


KINDS = {"lucene": LuceneManifest, "faiss": FaissManifest, "milvus": MilvusManifest}


def read_index(folder: str | Path) -> Record:
    """Read the manifest of an index. Raises InputError if it is not an index, or if the manifest has other types."""
    folder = Path(folder)
    if folder.is_file():
        raise InputError(
            "a file was found where an index folder was expected", where=folder, remedy="build one with `drtools index`"
        )
    record = manifest.read(folder)
    kind = record.get("kind")
    if kind not in KINDS:
        advice = f"search it with {param('vectors')}" if kind == "vectors" else "build one with `drtools index`"
        raise InputError(f"found {kind or 'something else'}", where=folder, expected="an index", remedy=advice)
    checked_fields(record, KINDS[kind], manifest.beside(folder), "build the index again")
    return record
