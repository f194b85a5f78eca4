"""Several runs into one: reciprocal rank, or a weighted sum of scores.

Normalization and missing scores said explicitly.

What a weight multiplies does not depend on the weight: each query's lists become a matrix once, [lists, documents], and
a fusion of either kind is a row of weights times that matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.identical import without_identical
from drtools.formats.joins import Join, note_little_in_common
from drtools.formats.trec import Run, read_run
from drtools.search.specs import FusionSpec

if TYPE_CHECKING:
    import numpy as np


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


def normalized_scores(lists: Sequence[dict[str, float]], normalization: str, missing: str) -> Parts:
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


def parts_of(runs: Sequence[Run], spec: FusionSpec) -> dict[str, Parts]:
    """Return what each run gives to the documents of each query."""

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
    """Read a run, without the documents of the queries' own ids if these are ignored; infinite scores have no sum."""
    run = read_run(path)
    if spec.ignore_identical_ids:
        run, count = without_identical(run)
        reporting.say(f"{path}: {count:,} queries list a document of their own id; left out")
    for query_id, hits in run.items() if spec.method == "linear" else ():
        if not isfinite(sum(hits.values())):
            raise InputError(
                f"query {query_id} has an infinite score, which cannot be weighed",
                where=path,
                remedy=f"fuse by {param('method')} rrf, or write the run again",
            )
    return run


def note_lacking(names: Sequence[str], runs: Sequence[Run]) -> None:
    """Count the queries that some runs have and others lack, and note runs that list few documents in common."""
    union = {query_id: None for run in runs for query_id in run}
    for name, run in zip(names, runs, strict=True):
        found = Join(run, name, union)
        found.note(f"{name} lacks {found.missing:,} of the {found.asked:,} queries; they are fused without it")
    for (name, run), (other, its) in combinations(zip(names, runs, strict=True), 2):
        note_little_in_common(name, run, other, its)
