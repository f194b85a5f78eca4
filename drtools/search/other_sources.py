"""Sources of hits for mining that are not searched: an existing run, and random documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Sized
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from drtools.formats.lines import shown
from drtools.formats.stored_run import open_run
from drtools.randomness import generator
from drtools.search.sources import Found

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.formats.joins import KnownIds


class RandomHits(NamedTuple):
    """The same as `Found` for random documents, which have no scores."""

    query_id: str
    hits: dict[str, None]
    asked: dict[str, None]


class RunSource:
    """An existing run, which has scores only for the documents that it lists."""

    def __init__(self, path: str) -> None:
        self.run, self.whose = open_run(path), shown(path)
        self.record: dict[str, object] = {}
        self.noted: Counter[str] = Counter()

    @cached_property
    def documents(self) -> KnownIds:
        """Every document that it lists, for any query."""
        return {document: None for hits in self.run.values() for document in hits}  # in an order: one may be shown

    def search(self, queries: Sequence[tuple[str, str]], depth: int, asked: dict[str, list[str]]) -> Iterator[Found]:
        """Yield each query's list, cut at `depth`."""
        for query_id, _ in queries:
            hits = self.run.get(query_id, {})
            yield Found(
                query_id,
                dict(list(hits.items())[:depth]),
                {document: hits.get(document) for document in asked.get(query_id, ())},
            )


class RandomSource:
    """Random documents as hits without scores, drawn for each query by (seed, query id)."""

    def __init__(self, store: CorpusStore, seed: int, count: int, taken: Callable[[str], Sized]) -> None:
        self.store, self.seed, self.count, self.taken = store, seed, count, taken
        self.record: dict[str, object] = {}
        self.noted: Counter[str] = Counter()
        self.documents: KnownIds = store
        self.whose = shown(store.corpus)

    def search(
        self, queries: Sequence[tuple[str, str]], depth: int, asked: dict[str, list[str]]
    ) -> Iterator[RandomHits]:
        """Draw `count` documents in addition to those that `taken` returns for a query, if the corpus has so many."""
        for query_id, _ in queries:
            wanted = min(len(self.store), self.count + len(self.taken(query_id)))
            rows = generator(self.seed, "random", query_id).choice(len(self.store), wanted, replace=False)
            documents = self.store.ids_at(rows.tolist())
            yield RandomHits(query_id, dict.fromkeys(documents), dict.fromkeys(asked.get(query_id, ())))
