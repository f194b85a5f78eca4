"""Retrieval measures: those of pytrec_eval (trec_eval), two that it does not have (RR@k, Judged@k), and ir_measures'.

The order of a run is the one from formats/trec. trec_eval would sort again by score, so it gets scores that decrease by
1 with each rank, which keeps the order however the run was ranked.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from drtools.errors import InputError
from drtools.evaluation import library_measures
from drtools.formats.trec import Qrels, Run

if TYPE_CHECKING:
    import ir_measures

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
    """A measure: its name as the user wrote it, trec_eval's name, its cutoff and its own lowest relevant grade.

    `kind` is the name without its grade and cutoff, in lower case, for instance `rr`. A measure with `library` is
    computed by ir_measures.
    """

    name: str
    theirs: str
    k: int | None
    min_rel: int | None = None
    kind: str = ""
    library: "ir_measures.Measure | None" = None


def split_measures(text: str) -> list[str]:
    """Split measures at commas, each once; a comma in parentheses belongs to a measure."""
    words = [word.strip() for word in re.findall(r"(?:\([^)]*\)|[^,])+", text)]
    return [word for word in dict.fromkeys(words) if word]


def parse_measures(text: str) -> list[Measure]:
    """Parse one measure or several; raise InputError for an unknown one, or if there is none."""
    return [parse_measure(word) for word in split_measures(text) or [""]]


def parse_measure(text: str) -> Measure:
    """Parse a measure such as `nDCG@10`, `AP`, `R(rel=2)@100`, `ERR@20` or trec_eval's `ndcg_cut_10`, ignoring case.

    Raises InputError for an unknown one.
    """
    ours = _parse_ours(text, text)
    if ours:
        return ours
    found = library_measures.parse(text) if text == text.strip() and text.lower() not in KNOWN else None
    if found is None:
        raise InputError(
            f"measure {text!r} is not known; use nDCG, RR (or MRR) or AP, with or without a cutoff such as nDCG@10, "
            "or R@k (recall), P@k, Success@k or Judged@k, with a whole number k of 1 or more; R(rel=2)@k counts "
            "documents of grade 2 or more; other measures of ir_measures, such as ERR@20 and RBP(p=0.8), and names of "
            "trec_eval, such as ndcg_cut_10, are known too"
        )
    again = _parse_ours(str(found), text)  # trec_eval's name of a measure that is computed here
    kind = str(found.NAME).lower()
    return again or Measure(text, str(found), found.params.get("cutoff"), found.params.get("rel"), kind, found)


def _parse_ours(text: str, name: str) -> Measure | None:
    """Parse a measure that is computed here, and call it `name`."""
    match = re.fullmatch(r"([a-z]+)(?:\(rel=([1-9][0-9]{0,8})\))?(?:@([1-9][0-9]{0,8}))?", text.lower())
    theirs = KNOWN.get(match[1], (None, None))[match[3] is not None] if match else None
    if match is None or theirs is None:
        return None
    if match[2] and match[1] in GRADED:
        raise InputError(f"measure {text!r}: (rel={match[2]}) does not apply to {match[1]}", remedy="leave it out")
    k, min_rel = (int(digits) if digits else None for digits in (match[3], match[2]))
    return Measure(name, theirs, k, min_rel, match[1])


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
        if measure.theirs != "judged" and not measure.library:
            asked.setdefault(measure.min_rel or min_rel, set()).add(measure.theirs + cut)
    found = {
        level: pytrec_eval.RelevanceEvaluator(grades, names, relevance_level=level).evaluate(ranked)
        for level, names in asked.items()
    }
    of_library = {
        measure.name: library_measures.with_grade(measure.library, min_rel) for measure in measures if measure.library
    }
    computed = library_measures.values(of_library, grades, ranked) if of_library else {}
    return {
        measure.name: computed.get(measure.name)
        or {query: _value(measure, query, found.get(measure.min_rel or min_rel, {}), qrels, run) for query in qrels}
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
