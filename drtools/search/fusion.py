"""Several runs into one: reciprocal rank, or a weighted sum of scores.

Normalization and missing scores said explicitly.

What a weight multiplies does not depend on the weight: each query's lists become a matrix once, [lists, documents], and
a fusion of either kind is a row of weights times that matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from drtools.formats.trec import Run


class Parts(NamedTuple):
    """One query's lists.

    The documents of any of them, ids descending, and what each list gives to each document, [lists, documents] float64.
    """

    documents: list[str]
    given: np.ndarray


def reciprocal_ranks(lists: Sequence[dict[str, float]], k: float = 60.0) -> Parts:
    """Give 1 / (k + rank), ranks from 1, and 0 to a document that a ranked list lacks (Cormack et al. 2009)."""
    return _parts(
        [{document: 1 / (k + place) for place, document in enumerate(scores, start=1)} for scores in lists],
        [0.0] * len(lists),
    )


def scores_of(lists: Sequence[dict[str, float]], normalization: str, missing: str) -> Parts:
    """Give normalized scores; to a document that a list lacks its lowest one (`missing` lowest) or 0 (`zero`).

    An empty list gives 0.
    """
    normalized = [normalize(scores, normalization) for scores in lists]
    return _parts(
        normalized, [min(scores.values()) if scores and missing == "lowest" else 0.0 for scores in normalized]
    )


def _parts(lists: Sequence[dict[str, float]], floors: Sequence[float]) -> Parts:
    import numpy as np

    documents = sorted(dict.fromkeys(document for scores in lists for document in scores), reverse=True)
    return Parts(
        documents,
        np.array(
            [
                [scores.get(document, floor) for document in documents]
                for scores, floor in zip(lists, floors, strict=True)
            ],
            dtype=np.float64,
        ),
    )


def normalize(scores: dict[str, float], how: str) -> dict[str, float]:
    """Normalize one list: `none`, `min-max` to [0, 1] (equal scores give 1), or `z-score` (equal scores give 0)."""
    if how == "none" or not scores:
        return scores
    values = scores.values()
    if how == "min-max":
        low, high = min(values), max(values)
        return {document: (score - low) / (high - low) if high > low else 1.0 for document, score in scores.items()}
    mean = sum(values) / len(values)
    deviation = (sum((score - mean) ** 2 for score in values) / len(values)) ** 0.5
    return {document: (score - mean) / deviation if deviation else 0.0 for document, score in scores.items()}


def weigh(parts: Parts, weights: Sequence[float], depth: int) -> dict[str, float]:
    """Return one query's best `depth` documents by the weighted sum, in formats/trec's ranked order.

    Documents stand by their ids, descending.
    """
    import numpy as np

    fused = (np.asarray(weights, dtype=np.float64)[:, None] * parts.given).sum(axis=0)
    best = np.argsort(-fused.astype(np.float32), kind="stable")[:depth]
    return {parts.documents[place]: score for place, score in zip(best.tolist(), fused[best].tolist(), strict=True)}


def parts_of_runs(runs: Sequence[Run], one_query: Callable[[Sequence[dict[str, float]]], Parts]) -> dict[str, Parts]:
    """Return each query's parts; a query that one run lacks takes part with an empty list there."""
    queries = dict.fromkeys(query_id for run in runs for query_id in run)
    return {query_id: one_query([run.get(query_id, {}) for run in runs]) for query_id in queries}


def fuse(parts: dict[str, Parts], weights: Sequence[float], depth: int) -> Run:
    """Fuse query by query, ranked and cut at `depth`."""
    return {query_id: weigh(each, weights, depth) for query_id, each in parts.items()}
