"""Retrieval measures, equal to trec_eval's.

Each formula is a function (ranking, k, min_rel) -> value of one query: the first k documents count (infinity: all), and a
document is relevant from the grade `min_rel` on; nDCG uses the grades themselves. The order of a run is the one that
formats/trec gave it: nothing is sorted by score here.
"""

import math
import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

from drtools.errors import UserError
from drtools.formats.trec import Qrels, Run


class Ranking(NamedTuple):
    """One query's retrieved documents, as far as they were judged, and all its judgements."""

    found: list[tuple[int, int]]  # (rank from 1, grade) of the retrieved documents that have a judgement, by rank
    retrieved: int
    grades: list[int]  # of all judgements, retrieved or not


class Measure(NamedTuple):
    """A measure: its name as the user wrote it, its formula and its cutoff (infinity without one)."""

    name: str
    formula: Callable[[Ranking, float, int], float]
    k: float


def ndcg(ranking: Ranking, k: float, min_rel: int) -> float:
    """Return the discounted gain over that of the best order of all judged documents (Järvelin and Kekäläinen 2002).

    The gain of a document is its grade; grades below 0 gain 0. `min_rel` plays no part.
    """
    ideal = _discounted_gain(enumerate(sorted(ranking.grades, reverse=True), start=1), k)
    return _discounted_gain(ranking.found, k) / ideal if ideal else 0.0


def _discounted_gain(found: Iterable[tuple[int, int]], k: float) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in found if rank <= k and grade > 0)


def reciprocal_rank(ranking: Ranking, k: float, min_rel: int) -> float:
    """Return 1 / rank of the first relevant document, 0 without one."""
    return next((1 / rank for rank in _relevant_ranks(ranking, k, min_rel)), 0.0)


def average_precision(ranking: Ranking, k: float, min_rel: int) -> float:
    """Return the sum of the precisions at the relevant documents over the number of all relevant, retrieved or not."""
    total = _relevant_total(ranking, min_rel)
    ranks = _relevant_ranks(ranking, k, min_rel)
    return sum(count / rank for count, rank in enumerate(ranks, start=1)) / total if total else 0.0


def recall(ranking: Ranking, k: float, min_rel: int) -> float:
    """Return the share of all relevant documents that are among the first k."""
    total = _relevant_total(ranking, min_rel)
    return len(_relevant_ranks(ranking, k, min_rel)) / total if total else 0.0


def precision(ranking: Ranking, k: float, min_rel: int) -> float:
    """Return the number of relevant documents among the first k over k, however few were retrieved."""
    return len(_relevant_ranks(ranking, k, min_rel)) / k


def success(ranking: Ranking, k: float, min_rel: int) -> float:
    """Return 1 with a relevant document among the first k, else 0."""
    return 1.0 if _relevant_ranks(ranking, k, min_rel) else 0.0


def judged(ranking: Ranking, k: float, min_rel: int) -> float:
    """Return the share of the first k retrieved documents that have a judgement, whatever its grade; 0 without documents."""
    first = min(k, ranking.retrieved)
    return sum(rank <= k for rank, _ in ranking.found) / first if first else 0.0


def _relevant_ranks(ranking: Ranking, k: float, min_rel: int) -> list[int]:
    return [rank for rank, grade in ranking.found if rank <= k and grade >= min_rel]


def _relevant_total(ranking: Ranking, min_rel: int) -> int:
    return sum(grade >= min_rel for grade in ranking.grades)


WHOLE_OR_CUT = {"ndcg": ndcg, "rr": reciprocal_rank, "mrr": reciprocal_rank, "ap": average_precision}
CUT_ONLY = {"r": recall, "p": precision, "success": success, "judged": judged}


def parse_measure(text: str) -> Measure:
    """Read a measure such as `nDCG@10` or `AP`, in any case; raises UserError for one that is not known."""
    match = re.fullmatch(r"([a-z]+)(?:@([1-9][0-9]*))?", text.lower())
    if match and match[2] is None and match[1] in WHOLE_OR_CUT:
        return Measure(text, WHOLE_OR_CUT[match[1]], math.inf)
    if match and match[2] and match[1] in WHOLE_OR_CUT | CUT_ONLY:
        return Measure(text, (WHOLE_OR_CUT | CUT_ONLY)[match[1]], int(match[2]))
    raise UserError(
        f"measure {text!r} is not known; known are nDCG, RR (or MRR), AP, each with or without a cutoff such as nDCG@10, "
        f"and R@k (recall), P@k, Success@k, Judged@k, with k a whole number from 1"
    )


def evaluate(qrels: Qrels, run: Run, measures: list[Measure], min_rel: int = 1) -> dict[str, dict[str, float]]:
    """Return {name of the measure: {query id: value}} for every judged query, in the order of the judgements.

    A query that the run lacks has 0. So has, but for nDCG and Judged, a query none of whose judged documents reaches
    `min_rel`: it counts in means like any other (as in trec_eval with -c). Queries of the run without judgements are
    left out. Raises UserError for a `min_rel` below 1.
    """
    if min_rel < 1:
        raise UserError(f"the lowest relevant grade is {min_rel}, expected 1 or more: a document of grade 0 is not relevant")
    depth = max((measure.k for measure in measures), default=0)
    values: dict[str, dict[str, float]] = {measure.name: {} for measure in measures}
    for query, judgements in qrels.items():
        hits = run.get(query, {})
        first = map(judgements.get, islice(hits, None if depth == math.inf else depth))
        found = [(rank, grade) for rank, grade in enumerate(first, start=1) if grade is not None]
        ranking = Ranking(found, len(hits), list(judgements.values()))
        for measure in measures:
            values[measure.name][query] = measure.formula(ranking, measure.k, min_rel)
    return values
