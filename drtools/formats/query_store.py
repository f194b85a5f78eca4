"""Texts of queries by id: in memory, or for a large file in a store like the corpus'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from drtools.formats.corpora import read_queries
from drtools.formats.corpus_store import CorpusStore, open_query_store
from drtools.formats.lines import local

IN_MEMORY_BYTES = 1 << 26  # of a file of queries


class QueryStore(Mapping[str, str]):
    """The texts of queries by id, read from a store."""

    def __init__(self, store: CorpusStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __iter__(self) -> Iterator[str]:
        return iter(self.store)

    def __contains__(self, query_id: object) -> bool:
        return query_id in self.store

    def __getitem__(self, query_id: str) -> str:
        found = self.store.get(query_id)
        if found is None:
            raise KeyError(query_id)
        return found.text

    def missing(self, query_ids: Sequence[str]) -> list[str]:
        """Return the ids that have no text, in order."""
        return self.store.missing(query_ids)

    def of(self, query_ids: Sequence[str]) -> dict[str, str]:
        """Return the texts of some queries, those that have one."""
        return self.store.texts_of(query_ids)


def open_queries(path: str) -> Mapping[str, str]:
    """Open the texts of queries by id, in the file's order; raise InputError for duplicate ids."""
    if Path(local(path)).stat().st_size < IN_MEMORY_BYTES:
        return read_queries(path)
    return QueryStore(open_query_store(path))
