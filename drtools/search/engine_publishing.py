"""Publication of indexes in an engine: an alias that names the collection of the current version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drtools.errors import InputError, param
from drtools.outputs import manifest
from drtools.outputs.records import Record
from drtools.search.engine_index import KIND
from drtools.search.engine_search import check_content
from drtools.search.engines.milvus import Milvus
from drtools.search.index_manifest import read_index


@dataclass(frozen=True)
class AliasOfLink:
    """An alias of an engine that is switched together with a link, first the alias, then the link.

    If a process dies between the two, the same publication again switches the link too.
    """

    alias: str

    def switch(self, version: Path) -> dict[str, str]:
        """Make the alias name the collection of a version; return what the history records of it.

        Raises InputError if the version has no index in an engine, or if its collection has other content.
        """
        records = list(_indexes(version))
        if len(records) != 1:
            raise InputError(
                f"{len(records)} of the folders are indexes in Milvus",
                where=f"{param('alias')} {self.alias}",
                expected="one",
                remedy=f"leave {param('alias')} out, or publish one such index",
            )
        folder, record = records[0]
        engine = Milvus(record["uri"])
        try:
            check_content(engine, folder, record)
            engine.name(self.alias, record["collection"])
        finally:
            engine.close()
        return {"alias": self.alias, "collection": record["collection"]}

    def remove(self, version: Path, kept: Sequence[Path]) -> None:
        """Remove the collection of a version, unless a version that is kept names it too."""
        named = {_place(record) for each in kept for _, record in _indexes(each)}
        for _, record in _indexes(version):
            if _place(record) not in named:
                engine = Milvus(record["uri"])
                try:
                    engine.drop(record["collection"])
                finally:
                    engine.close()


def _place(record: Record) -> tuple[str, str]:
    return record["uri"], record["collection"]


def _indexes(version: Path) -> Iterator[tuple[Path, Record]]:
    """Yield the indexes in an engine of a version: the folder itself, or folders in it."""
    for folder in (version, *sorted(version.iterdir())):
        if (folder / manifest.NAME).is_file() and manifest.read_manifest(folder / manifest.NAME).get("kind") == KIND:
            yield folder, read_index(folder)
