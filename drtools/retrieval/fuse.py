"""Several runs into one: reciprocal rank, or a weighted sum of scores; normalization and missing scores said explicitly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from drtools.formats.trec import rank

if TYPE_CHECKING:
    from drtools.formats.trec import Qrels, Run

GRID = [0.0, *(round(mantissa * 10.0**exponent, 6) for exponent in (-3, -2, -1, 0, 1) for mantissa in (1, 2, 3, 5, 7)), 100.0]


def reciprocal_rank(lists: Sequence[dict[str, float]], weights: Sequence[float], k: float = 60.0) -> dict[str, float]:
    """Fuse one query's ranked lists: the sum of weight / (k + rank) over the lists that hold a document (Cormack et al. 2009)."""
    fused: dict[str, float] = {}
    for scores, weight in zip(lists, weights, strict=True):
        for place, document in enumerate(scores, start=1):
            fused[document] = fused.get(document, 0.0) + weight / (k + place)
    return fused


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


def linear(lists: Sequence[dict[str, float]], weights: Sequence[float], normalization: str, missing: str) -> dict[str, float]:
    """Fuse one query's lists: the weighted sum of normalized scores over the union of the lists.

    A list that lacks a document gives its lowest score (`missing` lowest) or 0 (`zero`); an empty list gives 0.
    """
    normalized = [normalize(scores, normalization) for scores in lists]
    floors = [min(scores.values()) if scores and missing == "lowest" else 0.0 for scores in normalized]
    union = dict.fromkeys(document for scores in normalized for document in scores)
    return {
        document: sum(weight * scores.get(document, floor) for scores, weight, floor in zip(normalized, weights, floors, strict=True))
        for document in union
    }


def fuse_runs(runs: Sequence[Run], one_query: Callable[[Sequence[dict[str, float]]], dict[str, float]], depth: int) -> Run:
    """Fuse query by query, ranked and cut at `depth`; a query that one run lacks takes part with an empty list there."""
    queries = dict.fromkeys(query_id for run in runs for query_id in run)
    fused = {query_id: rank(one_query([run.get(query_id, {}) for run in runs])) for query_id in queries}
    return {query_id: dict(list(scores.items())[:depth]) for query_id, scores in fused.items()}


def tune_weight(runs: Sequence[Run], qrels: Qrels, measure: object, fuse_with: Callable[[float], Callable], depth: int) -> tuple[float, list[tuple[float, float]]]:
    """Try each weight of the grid for the second run; return the best (the smallest of equals) and every (weight, value)."""
    from drtools.evaluation.measures import evaluate, mean

    judged = [{query_id: scores for query_id, scores in run.items() if query_id in qrels} for run in runs]
    tried = []
    for weight in GRID:
        (by_query,) = evaluate(qrels, fuse_runs(judged, fuse_with(weight), depth), [measure]).values()
        tried.append((weight, mean(by_query)))
    return max(tried, key=lambda pair: (pair[1], -pair[0]))[0], tried
