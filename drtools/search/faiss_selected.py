"""Scores of chosen rows of a FAISS index that only a search estimates: those of RaBitQ's codes.

A search estimates an inner product from a code and the query together. The vector that is decoded from the code has
another inner product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drtools.search.faiss_transforms import parts

if TYPE_CHECKING:
    import faiss


def has_estimates(index: faiss.Index) -> bool:
    """Return whether the scores of an index are estimates of RaBitQ's codes that can be searched row by row."""
    import faiss

    return not isinstance(index, faiss.IndexRefine) and any(
        isinstance(part, (faiss.IndexRaBitQ, faiss.IndexIVFRaBitQ)) for part in parts(index)
    )


def selected_scores(index: faiss.Index, queries: np.ndarray, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the scores float32 [C] of rows [C] for each query [Q, D], by a search among these rows."""
    found = []
    for query, wanted in zip(queries, rows, strict=True):
        chosen = np.unique(wanted).astype(np.int64)
        scores, hits = index.search(query[None], max(1, len(chosen)), params=_among(index, chosen))
        known = dict(zip(hits[0].tolist(), scores[0].tolist(), strict=True))
        found.append(np.array([known[row] for row in wanted.tolist()], np.float32))
    return found


def _among(index: faiss.Index, rows: np.ndarray) -> Any:
    """Return the parameters of a search of all lists, among some rows only."""
    import faiss

    made: Any = faiss  # FAISS's stubs lack the parameters of searches
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        outer = made.SearchParametersPreTransform()
        outer.index_params = inner = _among(index.index, rows)
        outer.kept = inner  # C++ holds a pointer alone
        return outer
    selector = made.IDSelectorBatch(rows)
    if isinstance(index, faiss.IndexIVF):
        return made.SearchParametersIVF(sel=selector, nprobe=index.nlist)
    return made.SearchParameters(sel=selector)
