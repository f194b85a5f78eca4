"""Fusion of several runs into one, by reciprocal rank or by a weighted sum of scores.

Each query's lists are turned into a matrix [lists, documents] once, which does not depend on the weights. A fusion of
either kind is then a row of weights times that matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from drtools import reporting, units
from drtools.errors import InputError, param
from drtools.formats.identical import without_identical
from drtools.formats.joins import Join, note_little_in_common
from drtools.formats.trec import Run, read_run
from drtools.search.specs import FusionSpec

if TYPE_CHECKING:
    import numpy as np


class Parts(NamedTuple):
    """One query's lists: the documents of all lists, ids descending, and each list's value for each document.

    The values are float64 [lists, documents].
    """

    documents: list[str]
    given: np.ndarray


def reciprocal_ranks(lists: Sequence[dict[str, float]], k: float = 60.0) -> Parts:
    """Return 1 / (k + rank), with ranks from 1, and 0 for a document that is not in a list (Cormack et al. 2009)."""
    return _parts(
        [{document: 1 / (k + place) for place, document in enumerate(scores, start=1)} for scores in lists],
        [0.0] * len(lists),
    )


def normalized_scores(lists: Sequence[dict[str, float]], normalization: str, missing: str) -> Parts:
    """Return normalized scores. A document that is not in a list gets its lowest score, or 0 if `missing` is `zero`.

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
    """Return one query's best `depth` documents by the weighted sum, best first; ties are ordered by id, descending."""
    import numpy as np

    fused = (np.asarray(weights, dtype=np.float64)[:, None] * parts.given).sum(axis=0)
    best = np.argsort(-fused.astype(np.float32), kind="stable")[:depth]
    return {parts.documents[place]: score for place, score in zip(best.tolist(), fused[best].tolist(), strict=True)}


def parts_of_runs(runs: Sequence[Run], one_query: Callable[[Sequence[dict[str, float]]], Parts]) -> dict[str, Parts]:
    """Return each query's parts; a query that is missing from a run has an empty list there."""
    queries = dict.fromkeys(query_id for run in runs for query_id in run)
    return {query_id: one_query([run.get(query_id, {}) for run in runs]) for query_id in queries}


def fuse(parts: dict[str, Parts], weights: Sequence[float], depth: int) -> Run:
    """Fuse query by query, ranked and cut at `depth`."""
    return {query_id: weigh(each, weights, depth) for query_id, each in parts.items()}


def parts_of(runs: Sequence[Run], spec: FusionSpec) -> dict[str, Parts]:
    """Return the value of each run for the documents of each query."""

    def one_query(lists: Sequence[dict[str, float]]) -> Parts:
        if spec.method == "rrf":
            return reciprocal_ranks(lists, spec.k)
        return normalized_scores(lists, spec.normalization, spec.missing)

    return parts_of_runs(runs, one_query)


def fuse_runs(paths: Sequence[str], weights: Sequence[float], spec: FusionSpec) -> Run:
    """Read runs and fuse them, with a weight for each."""
    runs = [read_scores(path, spec) for path in paths]
    note_lacking(paths, runs)
    return fuse(parts_of(runs, spec), weights, spec.depth)


def read_scores(path: str, spec: FusionSpec) -> Run:
    """Read a run, without documents that have the query's own id if the spec says so; refuse infinite scores."""
    run = read_run(path)
    if spec.ignore_identical_ids:
        run, count = without_identical(run)
        lists = units.counted(count, "query lists", "queries list")
        reporting.say(f"{path}: {lists} a document with the same id, which was left out")
    for query_id, hits in run.items() if spec.method == "linear" else ():
        if not isfinite(sum(hits.values())):
            raise InputError(
                f"query {query_id} has an infinite score, which cannot be weighted",
                where=path,
                remedy=f"use {param('method')} rrf, or write the run again",
            )
    return run


def note_lacking(names: Sequence[str], runs: Sequence[Run]) -> None:
    """Report queries that only some runs have, and runs that have few documents in common."""
    union = {query_id: None for run in runs for query_id in run}
    for name, run in zip(names, runs, strict=True):
        found = Join(run, name, union)
        found.note(f"{name} does not have {found.missing:,} of the {found.asked:,} queries; they are fused without it")
    for (name, run), (other, its) in combinations(zip(names, runs, strict=True), 2):
        note_little_in_common(name, run, other, its)
