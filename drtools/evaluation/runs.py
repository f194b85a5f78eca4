"""Evaluation of runs by judgements, or by answers in their documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drtools import reporting
from drtools.evaluation.answers import Matching, check_measures, judge
from drtools.evaluation.measures import Measure, evaluate, judged_share
from drtools.evaluation.specs import MeasuringSpec
from drtools.formats.answers import read_answers
from drtools.formats.corpus_store import open_store
from drtools.formats.identical import without_identical
from drtools.formats.joins import Join, note_nothing_judged, note_nothing_relevant
from drtools.formats.trec import Qrels, Run, read_qrels, read_run
from drtools.units import counted

JUDGED_DIFFERENCE = 0.1  # [ours] between two runs' Judged@10, before a note
Values = dict[str, dict[str, float]]  # measure -> query -> value


def judgements(runs: Sequence[str], spec: MeasuringSpec, measures: Sequence[Measure]) -> Qrels:
    """Read the judgements, or judge the runs' documents by the answers in them."""
    whose = spec.qrels or spec.answers
    assert whose is not None, "judgements or answers"
    if spec.qrels:
        judged = read_qrels(spec.qrels)
    else:
        assert spec.corpus is not None, "answers are looked for in texts"
        listed = (read(name, spec, quiet=True) for name in runs)
        judged = judged_by_answers(whose, spec.corpus, spec.answer_match, listed, measures, spec.min_rel)
    if spec.only:
        judged = only_those(judged, spec.only, whose)
    if spec.qrels:
        note_nothing_relevant(judged, spec.qrels, spec.min_rel)
    return judged


def measured(runs: Sequence[str], judged: Qrels, spec: MeasuringSpec, measures: Sequence[Measure]) -> list[Values]:
    """Return each run's values, {measure: {query: value}}."""
    shares: dict[str, float] = {}
    results = []
    for name in runs:
        run = read(name, spec)
        check_run(name, run, judged, spec.qrels, bool(spec.only))
        results.append(evaluate(judged, run, measures, spec.min_rel))
        shares[name] = judged_share(judged, run)
    if spec.qrels:
        note_judged(shares)
    return results


def judged_by_answers(
    answers: str, corpus: str, matching: Matching, runs: Iterable[Run], measures: Sequence[Measure], min_rel: int
) -> dict[str, dict[str, int]]:
    """Judge the runs' documents, down to the depth of the measures, by whether their texts contain an answer."""
    check_measures(measures, min_rel)
    deepest = max(measure.k or 0 for measure in measures)
    given = read_answers(answers)
    listed: dict[str, dict[str, None]] = {query_id: {} for query_id in given}
    for run in runs:
        for query_id, documents in listed.items():
            documents.update(dict.fromkeys(list(run.get(query_id, ()))[:deepest]))
    return judge(listed, given, open_store(corpus), matching)


def only_those(judged: Qrels, only: str, whose: str) -> Qrels:
    """Return the judgements of the queries that `only` names."""
    kept = read_qrels(only)
    found = Join(judged, whose, kept)
    found.check(
        f"{only}: names none of the queries that {whose} judges",
        f"{found.missing:,} of the {found.asked:,} queries of {only} are not judged by {whose} and are left out",
    )
    return {query_id: grades for query_id, grades in judged.items() if query_id in kept}


def read(name: str, spec: MeasuringSpec, quiet: bool = False) -> Run:
    """Read a run; leave out and report documents with the query's own id if the spec says so."""
    run = read_run(name, spec.rank_order)
    if not spec.ignore_identical_ids:
        return run
    run, count = without_identical(run)
    if not quiet:
        lists = counted(count, "query lists", "queries list")
        reporting.say(f"{name}: {lists} a document with the same id, which was left out")
    return run


def check_run(name: str, run: Run, judged: Qrels, qrels: str | None, is_part: bool) -> None:
    """Raise InputError for a run without any judged query, and report what does not fit the judgements.

    With `is_part` the judgements cover only a part of the queries on purpose.
    """
    found = Join(run, name, judged)
    others = [query_id for query_id in run if query_id not in judged] if not is_part else []
    found.check(
        f"{name}: holds none of the {len(judged):,} judged queries; do the run and the qrels belong together?",
        f"{name} lacks {found.missing:,} of the {len(judged):,} judged queries; they count 0"
        + (f", and {len(others):,} of its {len(run):,} queries are not judged; left out" if others else ""),
    )
    if others and not found.missing:
        reporting.say(
            f"{name}: {len(others):,} of its {len(run):,} queries are not judged (for instance {others[0]!r}); left out"
        )
    if qrels:
        note_nothing_judged(name, run, judged, qrels)


def note_judged(shares: dict[str, float]) -> None:
    """Report runs that differ much in Judged@10, because documents without a judgement count as not relevant."""
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    if round(shares[most] - shares[least], 4) > JUDGED_DIFFERENCE:
        reporting.notice(
            1,
            f"Judged@10 is {shares[least]:.2f} in {least} and {shares[most]:.2f} in {most}; documents that are not "
            "judged count as not relevant, so the first run may be better than its measures",
        )
