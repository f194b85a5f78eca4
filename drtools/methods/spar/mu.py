"""Tune mu of two joined encoders on dev, with the exact scores of both for every candidate."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.evaluation.measures import evaluate, mean, parse_measure
from drtools.formats.corpora import read_queries
from drtools.formats.joined_vectors import JoinedColumns, join
from drtools.formats.joins import Join
from drtools.formats.trec import rank
from drtools.search.query_vectors import QueryEncoder

if TYPE_CHECKING:
    from drtools.formats.ids import Ids
    from drtools.formats.trec import Qrels
    from drtools.formats.vectors import Vectors
    from drtools.search.query_vectors import JoinedQueries

GRID = [
    *(tenths / 10 for tenths in range(1, 11)),
    *(10 / tenths for tenths in range(9, 0, -1)),
]  # .1 to 1.0 and their inverses, ascending
EXTENSIONS = 3  # [ours] beyond these, one of the two encoders has no effect
DEPTH = 100
TIE_DEPTHS = (1, 5, 10, 20, 50, 100)  # [code] depths k of the accuracies that break ties


class JointCandidates(NamedTuple):
    """The rows that either encoder finds for one query, and their scores by both encoders."""

    query_id: str
    rows: np.ndarray
    first: np.ndarray
    second: np.ndarray


def candidates(
    joined: JoinedColumns,
    query_ids: Sequence[str],
    queries: tuple[np.ndarray, np.ndarray],
    depth: int = DEPTH,
    device: str = "cpu",
) -> list[JointCandidates]:
    """Return for each query the union of both encoders' exact top `depth`, with both exact scores of each row.

    `queries` are float32 [Q, D1] and [Q, D2]. The score of a row is first + mu * second.
    """
    from drtools.search import exact

    tops = [
        exact.search(array, vectors, depth, device)[1]
        for array, vectors in zip((joined.first, joined.second), queries, strict=True)
    ]
    if joined.order is not None:
        row_of = np.full(len(joined.second), -1)
        row_of[joined.order] = np.arange(len(joined))
        tops[1] = row_of[tops[1]]
    rows = [np.setdiff1d(np.union1d(*pair), [-1]) for pair in zip(*tops, strict=True)]
    alone = join(joined.how, queries[0], 0 * queries[1]), join(joined.how, 0 * queries[0], queries[1])
    scores = [exact.rerank(joined, vectors, rows) for vectors in alone]
    return [JointCandidates(*parts) for parts in zip(query_ids, rows, *scores, strict=True)]


def depth_weighted_accuracy(ranks: Sequence[float], depths: Sequence[int] = TIE_DEPTHS) -> float:
    """Return the mean over the depths k of acc@k * k, where acc@k is the share of the first relevant `ranks` <= k."""
    return sum(k * sum(rank <= k for rank in ranks) for k in depths) / len(ranks) / len(depths)


def tune(
    found: Sequence[JointCandidates], ids: Ids, qrels: Qrels, measure: str
) -> tuple[float, list[dict[str, float]]]:
    """Return the mu whose s1 + mu * s2 ranks the candidates best, and every {"mu", "value", "tie"} that was tried.

    Ties are broken by the higher depth-weighted accuracy, then by the mu nearest to 1. While the best is at an end of
    the grid, the grid is extended by a factor of 100.
    """
    names = {row: ids[row] for each in found for row in each.rows.tolist()}
    tried: dict[float, dict[str, float]] = {}
    grid = GRID
    for _ in range(1 + EXTENSIONS):
        tried |= {mu: {"mu": mu, **_values(found, names, qrels, measure, mu)} for mu in grid if mu not in tried}
        best = max(tried.values(), key=lambda one: (one["value"], one["tie"], -abs(math.log(one["mu"]))))["mu"]
        if min(tried) < best < max(tried):
            break
        centre = best * GRID[-1] if best > 1 else best * GRID[0]
        grid = [float(f"{mu * centre:.6g}") for mu in GRID]
    return best, [tried[mu] for mu in sorted(tried)]


def values_of_joined(
    found: Sequence[JointCandidates], ids: Ids, qrels: Qrels, measure: str, mu: float
) -> dict[str, float]:
    """Return a measure by query for the candidates ranked by first + mu * second."""
    names = {row: ids[row] for each in found for row in each.rows.tolist()}
    judged = {each.query_id: qrels[each.query_id] for each in found}
    return evaluate(judged, _ranked(found, names, mu), [parse_measure(measure)])[measure]


def values_alone(
    vectors: Vectors, query_ids: Sequence[str], queries: np.ndarray, qrels: Qrels, measure: str, device: str = "cpu"
) -> dict[str, float]:
    """Return a measure by query for the exact top documents of one encoder; `queries` are float32 [Q, D]."""
    from drtools.search import exact

    scores, rows = exact.search(vectors.array, queries, DEPTH, device)
    run = {
        query_id: rank({vectors.ids[row]: score for row, score in zip(its_rows, its_scores, strict=True)})
        for query_id, its_rows, its_scores in zip(query_ids, rows.tolist(), scores.tolist(), strict=True)
    }
    judged = {query_id: qrels[query_id] for query_id in query_ids}
    return evaluate(judged, run, [parse_measure(measure)])[measure]


def _ranked(found: Sequence[JointCandidates], names: dict[int, str], mu: float) -> dict[str, dict[str, float]]:
    return {
        each.query_id: rank(
            {
                names[row]: score
                for row, score in zip(each.rows.tolist(), (each.first + mu * each.second).tolist(), strict=True)
            }
        )
        for each in found
    }


def _values(
    found: Sequence[JointCandidates], names: dict[int, str], qrels: Qrels, measure: str, mu: float
) -> dict[str, float]:
    run = _ranked(found, names, mu)
    first = [
        next((place for place, document in enumerate(hits, start=1) if qrels[query_id].get(document, 0) > 0), math.inf)
        for query_id, hits in run.items()
    ]
    judged = {query_id: qrels[query_id] for query_id in run}
    return {
        "value": mean(evaluate(judged, run, [parse_measure(measure)])[measure]),
        "tie": depth_weighted_accuracy(first),
    }


def texts_to_tune_on(
    queries: str | None, source: QueryEncoder | JoinedQueries, judged: Collection[str], name: str
) -> list[tuple[str, str]]:
    """Return (query id, text) of the judged queries, from a file or from the query vectors of `source`."""
    if queries:
        texts, where = read_queries(queries), queries
    else:
        assert isinstance(source, QueryEncoder) and source.vectors is not None, "without texts, vectors are looked up"
        ids, where = source.vectors.ids, str(source.vectors.path)
        texts = {ids[row]: "" for row in range(len(ids))}
    found = Join(texts, where, judged)
    found.check(
        f"{name}: judges none of the queries of {where}; do the two belong together?",
        f"{found.missing:,} of the {found.asked:,} dev queries are not in {where}; mu is tuned without them",
    )
    return [(query_id, text) for query_id, text in texts.items() if query_id in judged]
