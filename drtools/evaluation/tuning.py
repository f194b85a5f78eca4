"""Tuning of weights on judged queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from drtools import reporting
from drtools.errors import param
from drtools.evaluation.answers import judge
from drtools.evaluation.best_input import compare_with_best_input
from drtools.evaluation.measures import Measure, evaluate, mean, parse_measure
from drtools.evaluation.specs import FusionTuning
from drtools.formats.answers import read_answers
from drtools.formats.corpus_store import open_store
from drtools.formats.joins import Join, note_nothing_judged, note_nothing_relevant
from drtools.formats.text_sources import check_judged_documents, judged_queries
from drtools.formats.trec import read_qrels
from drtools.search.fusion import Parts, fuse, parts_of, read_scores
from drtools.search.multi_vector import MultiVectorSource
from drtools.search.sources import HitSource
from drtools.search.specs import FusionSpec, MultiVectorSpec

if TYPE_CHECKING:
    from drtools.formats.trec import Qrels, Run


GRID = [
    0.0,
    *(round(mantissa * 10.0**exponent, 6) for exponent in (-3, -2, -1, 0, 1) for mantissa in (1, 2, 3, 5, 7)),
    100.0,
]


def tune_weight(
    parts: dict[str, Parts], qrels: Qrels, measure: Measure, depth: int
) -> tuple[float, list[tuple[float, float]]]:
    """Try each weight of the grid for the second of two runs.

    Returns the best weight (of equals the smallest) and every (weight, value).
    """
    judged = {query_id: each for query_id, each in parts.items() if query_id in qrels}
    seen = min(depth, measure.k or depth)  # ranks below a measure's cutoff are not needed
    tried = []
    for weight in GRID:
        (by_query,) = evaluate(qrels, fuse(judged, [1.0, weight], seen), [measure]).values()
        tried.append((weight, mean(by_query)))
    return max(tried, key=lambda pair: (pair[1], -pair[0]))[0], tried


class Dev(NamedTuple):
    """Runs of the dev queries, judgements of these, and the measure; `name` is the file of the judgements."""

    name: str
    runs: list[Run]
    judged: Qrels
    measure: Measure


def read_dev(paths: Sequence[str], spec: FusionSpec, tuning: FusionTuning) -> Dev:
    """Read the dev runs of the runs at `paths`, and judgements or answers."""
    name = tuning.qrels or tuning.answers
    assert name is not None, "judgements or answers"
    read = tuning.runs or tuple(paths)
    runs = [read_scores(path, spec) for path in read]
    judged = judgements(tuning, runs)
    check_judged(name, judged, read, runs, tuning.qrels is None)
    return Dev(name, runs, judged, parse_measure(tuning.measure))


def tune_fusion(paths: Sequence[str], spec: FusionSpec, dev: Dev) -> tuple[float, list[tuple[float, float]]]:
    """Return the best weight of the second of two runs on judged queries, and every (weight, value)."""
    best, tried = tune_weight(parts_of(dev.runs, spec), dev.judged, dev.measure, spec.depth)
    reporting.say(f"weight of {paths[1]}: {best:g} ({dev.measure.name} {dict(tried)[best]:.4f} on {dev.name})")
    return best, tried


def compare_fusion(paths: Sequence[str], weights: Sequence[float], spec: FusionSpec, dev: Dev) -> dict[str, Any]:
    """Report whether the fusion is better on dev than the best of the runs; return the facts for the manifest."""
    fused = fuse(parts_of(dev.runs, spec), weights, spec.depth)
    values = [evaluate(dev.judged, run, [dev.measure])[dev.measure.name] for run in (fused, *dev.runs)]
    inputs = dict(zip(paths, values[1:], strict=True))
    return compare_with_best_input("the fusion", values[0], inputs, dev.measure.name)


def judgements(tuning: FusionTuning, runs: Sequence[Run]) -> Qrels:
    """Read judgements, or judge the runs' documents by the answers in them."""
    if tuning.qrels:
        return read_qrels(tuning.qrels)
    assert tuning.answers is not None and tuning.corpus is not None, "answers are looked for in texts"
    given = read_answers(tuning.answers)
    return judge(
        {query_id: dict.fromkeys(document for run in runs for document in run.get(query_id, ())) for query_id in given},
        given,
        open_store(tuning.corpus),
        tuning.answer_match,
    )


def check_judged(name: str, judged: Qrels, paths: Sequence[str], runs: Sequence[Run], by_answers: bool) -> None:
    """Raise InputError if no judged query is in the runs, and report those that are in neither."""
    union = {query_id: None for run in runs for query_id in run}
    found = Join(union, " and ".join(paths), judged)
    found.check(
        f"{name}: judges none of the queries of {found.name}; pass runs of the dev queries with {param('tune_runs')}, "
        "one for each run",
        f"{found.missing:,} of the {found.asked:,} queries that {name} judges are in neither run; they count 0 at each "
        "weight",
    )
    if not by_answers:
        note_nothing_relevant(judged, name)
        for path, run in zip(paths, runs, strict=True):
            note_nothing_judged(path, run, judged, name)


USUAL_MEASURE = "nDCG@10"
# [ours]
GAMMAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


def settle_gamma(
    pieces: MultiVectorSpec, source: HitSource | MultiVectorSource, queries: str | None, depth: int
) -> dict[str, Any]:
    """Tune the gamma of a multi-vector source if asked to; return the facts for the manifest."""
    if not pieces.multi_vector:
        return {}
    assert isinstance(source, MultiVectorSource), "a multi-vector search opens this"
    if not pieces.tune:
        return {"gamma": source.gamma, "tried": []}
    measure, texts = pieces.tune_measure or USUAL_MEASURE, pieces.tune_queries or queries
    assert texts is not None, "the command line refuses to tune without texts"
    qrels, judged = read_qrels(pieces.tune), judged_queries(texts, pieces.tune)
    note_nothing_relevant(qrels, pieces.tune)
    check_judged_documents({query_id: qrels[query_id] for query_id in judged}, source.dense.ids, source.dense.whose)
    tried = tune_gamma(source, list(judged.items()), depth, qrels, measure)
    return {"gamma": source.gamma, "tried": tried, "tuned_for": measure}


def tune_gamma(
    source: MultiVectorSource, queries: Sequence[tuple[str, str]], depth: int, qrels: Qrels, measure: str
) -> list[tuple[float, float]]:
    """Set gamma to the best value on judged queries (of equals the smallest); return every (gamma, value)."""
    found, tried = [], []
    with reporting.progress("scoring pieces for dev", len(queries), "queries") as progress:
        for one in source.scored(queries, depth):
            found.append(one)
            progress.advance(1)
    judged, parsed = {one.query_id: qrels[one.query_id] for one in found}, [parse_measure(measure)]
    with reporting.progress("tuning gamma", len(GAMMAS), "weights") as progress:
        for gamma in GAMMAS:
            (by_query,) = evaluate(judged, {one.query_id: one.hits(gamma, depth) for one in found}, parsed).values()
            tried.append((gamma, mean(by_query)))
            progress.advance(1)
    source.gamma, value = max(tried, key=lambda pair: (pair[1], -pair[0]))
    reporting.say(
        f"gamma {source.gamma:g}: {measure} {value:.4f} over {len(found):,} dev queries ({tried[0][1]:.4f} without "
        "pieces)"
    )
    source.noted.clear()  # these counts are of the dev queries
    return tried
