"""Retrieval measures: those of pytrec_eval (trec_eval), and two that it does not have (RR@k, Judged@k).

The order of a run is the one from formats/trec. trec_eval would sort again by score, so it gets scores that decrease by
1 with each rank, which keeps the order however the run was ranked.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from drtools.errors import InputError
from drtools.formats.trec import Qrels, Run

# our name in lower case: trec_eval's name without and with a cutoff (None: there is no such measure)
KNOWN = {
    "ndcg": ("ndcg", "ndcg_cut"),
    "rr": ("recip_rank", "recip_rank"),
    "mrr": ("recip_rank", "recip_rank"),
    "ap": ("map", "map_cut"),
    "r": (None, "recall"),
    "p": (None, "P"),
    "success": (None, "success"),
    "judged": (None, "judged"),
}


GRADED = ("ndcg", "judged")  # measures that no lowest relevant grade changes


class Measure(NamedTuple):
    """A measure: its name as the user wrote it, trec_eval's name, its cutoff and its own lowest relevant grade."""

    name: str
    theirs: str
    k: int | None
    min_rel: int | None = None

    @property
    def kind(self) -> str:
        """The name without its grade and cutoff, in lower case, for instance `rr`."""
        return re.split("[(@]", self.name.lower())[0]


def parse_measure(text: str) -> Measure:
    """Parse a measure such as `nDCG@10`, `AP` or `R(rel=2)@100`, ignoring case; raise InputError for an unknown one."""
    match = re.fullmatch(r"([a-z]+)(?:\(rel=([1-9][0-9]{0,8})\))?(?:@([1-9][0-9]{0,8}))?", text.lower())
    theirs = KNOWN.get(match[1], (None, None))[match[3] is not None] if match else None
    if match is None or theirs is None:
        raise InputError(
            f"measure {text!r} is not known; use nDCG, RR (or MRR) or AP, with or without a cutoff such as nDCG@10, "
            "or R@k (recall), P@k, Success@k or Judged@k, with a whole number k of 1 or more; R(rel=2)@k counts "
            "documents of grade 2 or more"
        )
    if match[2] and match[1] in GRADED:
        raise InputError(f"measure {text!r}: (rel={match[2]}) does not apply to {match[1]}", remedy="leave it out")
    return Measure(text, theirs, int(match[3]) if match[3] else None, int(match[2]) if match[2] else None)


def evaluate(qrels: Qrels, run: Run, measures: Sequence[Measure], min_rel: int = 1) -> dict[str, dict[str, float]]:
    """Return {name of the measure: {query id: value}} for every judged query, in the order of the judgements.

    A query that is not in the run has 0. So has, except for nDCG and Judged, a query without a document of grade
    `min_rel` or more; it counts in means like any other (as in trec_eval with -c). Queries of the run without
    judgements are left out. nDCG uses the grades themselves. A measure's own `min_rel` takes precedence. Raises
    InputError for a `min_rel` below 1.
    """
    import pytrec_eval

    if min_rel < 1:
        raise InputError(
            f"the lowest relevant grade is {min_rel}",
            expected="1 or more: grade 0 means that a document is not relevant",
        )
    # trec_eval gains nothing from a grade below 0, and crashes on a query that has no other
    grades = {
        query: {document: max(grade, 0) for document, grade in judgements.items()}
        for query, judgements in qrels.items()
    }
    ranked = {
        query: dict(zip(hits, range(len(hits), 0, -1), strict=True))
        for query, hits in run.items()
        if query in qrels and hits
    }
    asked: dict[int, set[str]] = {}
    for measure in measures:
        cut = "" if measure.theirs == "recip_rank" or measure.k is None else f".{measure.k}"
        if measure.theirs != "judged":
            asked.setdefault(measure.min_rel or min_rel, set()).add(measure.theirs + cut)
    found = {
        level: pytrec_eval.RelevanceEvaluator(grades, names, relevance_level=level).evaluate(ranked)
        for level, names in asked.items()
    }
    return {
        measure.name: {
            query: _value(measure, query, found.get(measure.min_rel or min_rel, {}), qrels, run) for query in qrels
        }
        for measure in measures
    }


def mean(by_query: Mapping[str, float]) -> float:
    """Average one measure's values over all judged queries."""
    return sum(by_query.values()) / len(by_query)


def _value(measure: Measure, query: str, found: dict[str, dict[str, float]], qrels: Qrels, run: Run) -> float:
    if measure.theirs == "judged":
        assert measure.k is not None  # `judged_share` is not known without a cutoff
        return judged_hits(run.get(query, {}), qrels[query], measure.k)
    values = found.get(query)
    if values is None:
        return 0.0
    if measure.theirs == "recip_rank":
        value = values["recip_rank"]
        return value if value and (measure.k is None or round(1 / value) <= measure.k) else 0.0
    return values[measure.theirs if measure.k is None else f"{measure.theirs}_{measure.k}"]


def judged_hits(hits: dict[str, float], judgements: dict[str, int], k: int) -> float:
    """Return the share of the first k hits that have a judgement, whatever its grade.

    0 without hits (as ir_measures).
    """
    first = list(islice(hits, k))
    return sum(document in judgements for document in first) / len(first) if first else 0.0


def judged_share(qrels: Qrels, run: Run, k: int = 10) -> float:
    """Average Judged@k over the judged queries that a run has hits for."""
    values = [judged_hits(run[query], judgements, k) for query, judgements in qrels.items() if run.get(query)]
    return sum(values) / len(values) if values else 0.0
