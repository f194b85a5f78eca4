"""Searches of an index in an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drtools.errors import InputError, WorldError, param
from drtools.formats.ids import Ids
from drtools.formats.vectors import IDS
from drtools.search.engines.engine import WHOLE, Effort, Facts, IndexSettings
from drtools.search.engines.milvus import Milvus

if TYPE_CHECKING:
    from drtools.outputs.records import Record


def words_of(found: Facts | None) -> str:
    """Describe what a collection says of itself."""
    return "it is not there" if found is None else f"it is {found.state}, {found.count:,} documents"


class EngineIndex:
    """A collection as an index of rows, which are those of `ids`."""

    def __init__(
        self,
        engine: Milvus,
        collection: str,
        settings: IndexSettings,
        ids: Ids,
        where: str = "",
        effort: Effort = Effort(),
    ) -> None:
        self.engine, self.collection, self.settings, self.ids = engine, collection, settings, ids
        self.where, self.effort = where, effort

    def search(self, queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores float32 [Q, k] and rows int64 [Q, k] of queries [Q, D], best first; -1 is no row."""
        if depth > self.engine.most_hits:
            raise InputError(
                f"{depth:,} hits for each query",
                expected=f"at most {self.engine.most_hits:,}, Milvus' bound",
                remedy=f"lower {param('depth')}, or search the vectors ({param('vectors')})",
            )
        depth = min(depth, len(self.ids))
        lists = self.engine.search(self.collection, self.settings, queries, depth, self.where, self.effort)
        scores = np.full((len(queries), depth), -np.inf, np.float32)
        rows = np.full((len(queries), depth), -1, np.int64)
        for at, hits in enumerate(lists):
            found = self.ids.rows_of([text_id for text_id, _ in hits])
            if (found < 0).any():
                raise WorldError(f"{self.engine.uri}: {self.collection} was changed while it was searched")
            rows[at, : len(hits)], scores[at, : len(hits)] = found, [score for _, score in hits]
        order = np.lexsort((rows, -scores), axis=1)
        return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)

    def scores_of_rows(self, queries: np.ndarray, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the inner products float32 [C] of rows [C] for each query [Q, D]."""
        wanted = np.unique(np.concatenate([*rows, np.empty(0, np.int64)]))
        known = self.engine.vectors_of(self.collection, self.ids.at(wanted))
        found = []
        for query, own in zip(queries, rows, strict=True):
            vectors = [known[text_id] for text_id in self.ids.at(own)]
            found.append(np.stack(vectors) @ query if vectors else np.empty(0, np.float32))
        return found


def open_engine(folder: Path, record: Record, where: str | None, effort: Effort) -> tuple[EngineIndex, Ids]:
    """Connect to the engine of an index folder. Raises InputError if its collection has other content."""
    ids = Ids(folder / IDS)
    ids.check_count(record["count"])
    engine = Milvus(record["uri"])
    check_content(engine, folder, record)
    if where:
        engine.check_filter(record["collection"], where)
    settings = IndexSettings(record["index_type"], record["parameters"])
    return EngineIndex(engine, record["collection"], settings, ids, where or "", effort), ids


def check_content(engine: Milvus, folder: Path, record: Record) -> None:
    """Raise InputError if the collection of an index folder has other content than its manifest says."""
    found, wanted = engine.facts(record["collection"]), Facts(record["content"], record["count"], WHOLE)
    if found == wanted:
        engine.load(record["collection"])
        counted = engine.count(record["collection"])
        found = Facts(record["content"], counted, WHOLE) if counted != record["count"] else found
    if found != wanted:
        raise InputError(
            f"its collection {record['collection']} of {record['uri']} has other content ({words_of(found)})",
            where=folder,
            expected=f"{record['count']:,} documents as they were indexed",
            remedy="use the index that was made last, or build it again",
        )
