"""Rows of a FAISS index that are marked as deleted, for the kinds that cannot remove rows (HNSW).

A graph keeps a deleted row as a step on the way to others, and no search returns it. Such an index is an IndexIDMap
around the graph: its map has the row in `ids.txt` of each stored row, and -1 for one that is marked. Other programs
that load the file thus get the same rows, or -1. Deleted rows cost memory and time, so that the index is built anew
once more than a tenth of its rows is marked.
"""

from __future__ import annotations

import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from drtools.errors import InputError

if TYPE_CHECKING:
    import faiss

LARGEST_SHARE_MARKED = Fraction(1, 10)
GRAPHS = ("IndexHNSWFlat", "IndexHNSWSQ", "IndexHNSWPQ")  # IndexHNSW2Level searches its second level without selectors


def takes_marks(index: faiss.Index) -> bool:
    """Return whether a search of an index can leave rows out: HNSW, also after transforms and with refinement."""
    import faiss

    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexIDMap | faiss.IndexPreTransform):
        return takes_marks(index.index)
    if isinstance(index, faiss.IndexRefine):
        return takes_marks(index.base_index)
    return type(index).__name__ in GRAPHS


def largest_marked(stored: int) -> int:
    """Return how many of an index's stored rows may be marked; with more it is built anew."""
    return int(LARGEST_SHARE_MARKED * stored)


def rows_of_stored(index: faiss.Index) -> np.ndarray | None:
    """Return the row int64 of each stored row, -1 for one that is marked; None for an index without marks."""
    import faiss

    outer: Any = faiss.downcast_index(index)
    return faiss.vector_to_array(outer.id_map) if _has_marks(outer) else None


def without_marks(index: faiss.Index) -> faiss.Index:
    """Return the index of the stored rows, with its own type."""
    import faiss

    outer: Any = faiss.downcast_index(index)
    inner: Any = faiss.downcast_index(outer.index) if _has_marks(outer) else outer
    inner.referenced_objects = [index]  # which owns it
    found: faiss.Index = inner
    return found


def _has_marks(index: faiss.Index) -> bool:
    import faiss

    return isinstance(index, faiss.IndexIDMap) and takes_marks(index)


def count_rows(index: faiss.Index) -> int:
    """Return the number of rows that are not marked."""
    rows = rows_of_stored(index)
    return index.ntotal if rows is None else int((rows >= 0).sum())


def check(index: faiss.Index, where: str | os.PathLike[str]) -> None:
    """Raise InputError if the stored rows that are not marked are not rows 0 to N - 1, each once."""
    rows = rows_of_stored(index)
    if rows is None:
        return
    kept = rows[rows >= 0]
    if len(rows) != without_marks(index).ntotal or not np.array_equal(np.sort(kept), np.arange(len(kept))):
        raise InputError(
            "its numbers of rows do not fit its vectors", where=where, remedy="it was damaged, build the index again"
        )


def stored_rows(index: faiss.Index, rows: np.ndarray) -> np.ndarray:
    """Return where rows [C] are stored."""
    known = rows_of_stored(index)
    if known is None:
        return rows
    kept = np.flatnonzero(known >= 0)
    places = np.empty(len(kept), np.int64)
    places[known[kept]] = kept
    found: np.ndarray = places[rows]
    return found


def with_rows(index: faiss.Index, rows: np.ndarray) -> faiss.Index:
    """Return an index whose stored rows are `rows` int64, -1 for one that is marked; `index` has no marks yet."""
    import faiss

    empty = faiss.IndexFlat(index.d, index.metric_type)  # IndexIDMap only takes an index without rows
    marked = faiss.IndexIDMap(empty)
    marked.index = index
    marked.referenced_objects = [index]  # type: ignore[attr-defined]  # as FAISS's own classes do, to keep it alive
    marked.ntotal, marked.is_trained = index.ntotal, index.is_trained
    faiss.copy_array_to_vector(np.ascontiguousarray(rows, np.int64), marked.id_map)
    return marked


def search(
    index: faiss.Index, queries: np.ndarray, count: int, ef_search: int, refined_a_hit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the best `count` rows that are not marked for queries [Q, D] float32.

    Returns scores float32 [Q, count] and rows int64 [Q, count]. If a query's neighbours are marked, the graph is
    searched again with twice the candidates, until there are `count` hits or all rows were candidates.
    """
    import faiss

    known, inner = rows_of_stored(index), without_marks(index)
    assert known is not None, "an index with marks"
    bits = np.packbits(known >= 0, bitorder="little")
    selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]  # FAISS's stubs know no arrays here
    stored = inner.ntotal
    candidates = min(stored, -(-ef_search * stored // max(1, int((known >= 0).sum()))))
    scores = np.full((len(queries), count), -np.inf, np.float32)
    rows = np.full((len(queries), count), -1, np.int64)
    wanted = np.arange(len(queries))
    while len(wanted) and count:
        how = _parameters(inner, selector, candidates, refined_a_hit)
        found_scores, found = inner.search(np.ascontiguousarray(queries[wanted]), count, params=how)
        scores[wanted], rows[wanted] = found_scores, np.where(found >= 0, known[found], -1)
        wanted = wanted[(found < 0).any(axis=1)]
        if candidates >= stored:
            break
        candidates = min(stored, 2 * candidates)
    return scores, rows


def _parameters(index: faiss.Index, selector: Any, ef_search: int, refined_a_hit: int) -> Any:
    """Return the settings of one search, in the form that each layer of an index takes."""
    import faiss

    kinds: Any = faiss  # whose stubs lack these classes or their settings
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        within = _parameters(index.index, selector, ef_search, refined_a_hit)
        return kinds.SearchParametersPreTransform(index_params=within)
    if isinstance(index, faiss.IndexRefine):
        within = _parameters(index.base_index, selector, ef_search, refined_a_hit)
        return kinds.IndexRefineSearchParameters(k_factor=float(refined_a_hit), base_index_params=within)
    return kinds.SearchParametersHNSW(sel=selector, efSearch=ef_search)
