"""Measure runs against judgements: a table with significance, values by query, a gate for cron.

    drtools eval --qrels qrels/test.tsv bm25.run star.run
    drtools eval --qrels qrels/test.tsv bm25.run ance.run star.run --baseline bm25.run --baseline ance.run
    drtools eval --qrels qrels/test.tsv old.run new.run --gate "RR@10>=-0.005"

nDCG@k, RR@k (MRR@k is the same), R@k, AP, P@k, Success@k, Judged@k: trec_eval's values, over all judged queries (one
that a run lacks counts 0). R(rel=2)@k counts documents of grade 2 or more, whatever --min-rel. Each run is compared
with the first, or with each --baseline, by a two-tailed paired t-test over queries: the table shows p as it is and as
Holm corrects it for the number of comparisons, which decides the stars. With --answers a document is relevant if its
text holds an answer, by DPR's match of words. --ignore-identical-ids is BEIR's rule for queries that stand among the
documents. Test queries that a model behind a run was trained on are reported: by its manifests, or by --train-qrels. A
note says when Judged@10 of the runs differs by more than 0.1.

    drtools eval --answers answers.jsonl --corpus psgs_w100.tsv dpr.run spar.run
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import IgnoreIdenticalIds, MinRel, Only, Role
from drtools.cli.report import print_json, print_per_query, print_table
from drtools.errors import GateRefused, InputError
from drtools.formats.joins import Join, note_nothing_judged, note_nothing_relevant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drtools.evaluation.answers import Matching
    from drtools.formats.trec import Qrels, Run

ANSWERS, LEAKAGE = "Answers", "Trained on"
JUDGED_DIFFERENCE = 0.1  # [ours] between two runs' Judged@10, before a note


def main(
    runs: Annotated[
        list[str],
        Argument(help="runs to measure; without --baseline the others are compared with the first"),
        Role.INPUT,
    ],
    qrels: Annotated[str | None, Option(help="judgements: BEIR TSV or TREC"), Role.INPUT] = None,
    answers: Annotated[
        str | None,
        Option(help='answers in place of judgements: JSONL {"_id", "answers"}, or DPR\'s TSV', rich_help_panel=ANSWERS),
        Role.INPUT,
    ] = None,
    corpus: Annotated[
        str | None,
        Option(help="--answers: the texts to find them in; --train-qrels: the texts of relevant documents"),
        Role.INPUT,
    ] = None,
    answer_match: Annotated[
        Literal["string", "regex"],
        Option(
            help="string: words in their order, whatever their case; regex: regular expressions",
            rich_help_panel=ANSWERS,
        ),
    ] = "string",
    measures: Annotated[
        str | None,
        Option(
            help="measures with commas between; default nDCG@10, RR@10, R@100, with --answers Success@20, Success@100"
        ),
    ] = None,
    min_rel: MinRel = 1,
    only: Only = None,
    ignore_identical_ids: IgnoreIdenticalIds = False,
    rank_order: Annotated[
        bool, Option("--rank-order", help="rank by the runs' rank column (MS MARCO), not by score (trec_eval)")
    ] = False,
    per_query: Annotated[bool, Option("--per-query", help="one line each: run, measure, query, value")] = False,
    json: Annotated[bool, Option("--json", help="everything as one JSON object")] = False,
    gate: Annotated[
        str | None,
        Option(help='exit 3 unless the last run holds against the first, or each --baseline: "RR@10>=-0.005"'),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        Option(help="a run to compare the others with, one of those given; several times for several"),
        Role.INPUT,
    ] = None,
    alpha: Annotated[float, Option(min=0, max=1, help="significance level of the stars in the table")] = 0.05,
    train_qrels: Annotated[
        str | None,
        Option(
            help="judgements that a model was trained on: report test queries and relevant documents that stand there "
            "too, by their texts",
            rich_help_panel=LEAKAGE,
        ),
        Role.INPUT,
    ] = None,
    train_queries: Annotated[
        str | None,
        Option(help="queries that it was trained on; with --train-qrels by default --queries", rich_help_panel=LEAKAGE),
        Role.INPUT,
    ] = None,
    queries: Annotated[
        str | None,
        Option(help="the test queries' texts; default: those that a run was made for", rich_help_panel=LEAKAGE),
        Role.INPUT,
    ] = None,
) -> None:
    """Compose: read, evaluate, compare, print, gate."""
    from drtools.cli.show.trained_on import note_trained_on
    from drtools.evaluation.measures import evaluate, judged_share, parse_measure
    from drtools.evaluation.significance import comparisons
    from drtools.formats.trec import read_qrels

    if (qrels is None) == (answers is None) or (answers and not corpus):
        raise InputError("say either --qrels QRELS, or --answers ANSWERS with the --corpus whose texts may hold them")
    check_needless(answers, corpus, answer_match, train_qrels, train_queries, queries)
    gate_name, gate_least = parse_gate(gate) if gate else (None, 0.0)
    if gate and len(runs) < 2:
        raise InputError("--gate compares the last run with the first; two runs are needed")
    baselines = places_of(baseline, runs, gate) if baseline else [0]
    words = [
        word.strip()
        for word in (measures or ("Success@20,Success@100" if answers else "nDCG@10,RR@10,R@100")).split(",")
        if word.strip()
    ]
    words = list(dict.fromkeys(words))
    if not words:
        raise InputError(
            f"--measures {measures!r}: names no measure; expected some with commas between, for instance nDCG@10,R@100"
        )
    if gate_name and gate_name.lower() not in [word.lower() for word in words]:
        words.append(gate_name)
    parsed = [parse_measure(word) for word in words]
    if qrels is not None:
        judged = read_qrels(qrels)
    else:
        assert answers is not None and corpus is not None, "qrels, or answers and a corpus are said"
        judged = judged_by_answers(
            answers,
            corpus,
            answer_match,
            (read(name, rank_order, ignore_identical_ids, quiet=True) for name in runs),
            parsed,
            min_rel,
        )
    if only:
        judged = only_those(judged, only, qrels or answers or "")
    if qrels:
        note_nothing_relevant(judged, qrels, min_rel)
    if train_qrels or train_queries:
        report_leakage(judged, min_rel, runs, train_qrels, train_queries, queries, corpus)
    else:
        note_trained_on(runs, judged)
    shares: dict[str, float] = {}
    results = []
    for name in runs:
        run = read(name, rank_order, ignore_identical_ids)
        check_run(name, run, judged, qrels, bool(only))
        results.append(evaluate(judged, run, parsed, min_rel))
        shares[name] = judged_share(judged, run)
    if qrels:
        note_judged(shares)
    compared = comparisons(results, baselines)
    if json:
        print_json(runs, results, compared, bool(baseline), len(judged), per_query)
    elif per_query:
        print_per_query(runs, results)
    else:
        print_table(runs, results, compared, baselines, len(judged), alpha)
    if gate_name:
        for place in baselines:
            name = runs[place] if baseline else "the first"
            check_gate(gate_name, gate_least, words, results[place], results[-1], name)


def places_of(baselines: list[str], runs: list[str], gate: str | None) -> list[int]:
    """Return the baselines' places among the runs; InputError for one that is none of them."""
    for name in baselines:
        if name not in runs:
            raise InputError(f"--baseline {name}: not one of the runs to measure; name it among them too")
    places = list(dict.fromkeys(runs.index(name) for name in baselines))
    if len(runs) < 2:
        raise InputError(f"--baseline {baselines[0]}: it is the only run; give the runs to compare with it")
    if gate and len(runs) - 1 in places:
        raise InputError(f"--gate compares the last run, {runs[-1]}, which is a --baseline; put the new run last")
    return places


def judged_by_answers(
    answers: str, corpus: str, matching: Matching, runs: Iterable[Run], parsed: list, min_rel: int
) -> dict[str, dict[str, int]]:
    """Return judgements of the runs' documents, as deep as the measures look, by whether their texts hold an answer."""
    from drtools.evaluation.answers import check_measures, judge
    from drtools.formats.answers import read_answers
    from drtools.formats.corpus_store import open_store

    check_measures(parsed, min_rel)
    deepest = max(measure.k for measure in parsed)
    given = read_answers(answers)
    listed: dict[str, dict[str, None]] = {query_id: {} for query_id in given}
    for run in runs:
        for query_id, documents in listed.items():
            documents.update(dict.fromkeys(list(run.get(query_id, ()))[:deepest]))
    return judge(listed, given, open_store(corpus), matching)


def check_needless(answers, corpus, answer_match, train_qrels, train_queries, queries) -> None:
    """Raise InputError for what serves nothing that was asked for."""
    if answer_match != "string" and not answers:
        raise InputError("--answer-match: for --answers, which was not said; say it, or leave --answer-match out")
    if corpus and not (answers or train_qrels):
        raise InputError("--corpus: for --answers, or for --train-qrels; pass one of them, or leave --corpus out")
    if queries and not (train_qrels or train_queries):
        raise InputError("--queries: compared with --train-qrels or --train-queries; pass one, or leave --queries out")


def only_those(judged: Qrels, only: str, whose: str) -> Qrels:
    """Return the judgements of the queries that `only` names."""
    from drtools.formats.trec import read_qrels

    found = Join(judged, whose, read_qrels(only))
    found.check(
        f"{only}: names none of the queries that {whose} judges",
        f"{found.missing:,} of the {found.asked:,} queries of {only} are not judged by {whose}; left out",
    )
    kept = read_qrels(only)
    return {query_id: grades for query_id, grades in judged.items() if query_id in kept}


def read(name: str, rank_order: bool, ignore_identical_ids: bool, quiet: bool = False) -> Run:
    """Read a run, without the documents of the queries' own ids if these are to be left out; how many is said."""
    from drtools.formats.identical import without_identical
    from drtools.formats.trec import read_run

    run = read_run(name, rank_order)
    if not ignore_identical_ids:
        return run
    run, count = without_identical(run)
    if not quiet:
        reporting.say(f"{name}: {count:,} queries list a document of their own id; left out")
    return run


def check_run(name: str, run: Run, judged: Qrels, qrels: str | None, is_part: bool) -> None:
    """Refuse a run of none of the judged queries, and count what does not fit the judgements.

    With `is_part` the judgements are of a part of the queries on purpose.
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
    """Note runs of whose first hits very different shares are judged: what nobody judged counts as not relevant."""
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    if round(shares[most] - shares[least], 4) > JUDGED_DIFFERENCE:
        reporting.notice(
            1,
            f"Judged@10 is {shares[least]:.2f} in {least} and {shares[most]:.2f} in {most}; what is not judged counts "
            "as not relevant, so the first may be better than it looks",
        )


def behind(runs: list[str], wanted: tuple[str, ...]) -> str | None:
    """Return what the first run that knows it was made from: its queries, or its corpus."""
    from drtools.cli.show import lineage

    found = (lineage.source(Path(run), wanted, lineage.SEARCHED_FLAGS) for run in runs)
    return next(filter(None, found), None)


def report_leakage(
    judged: Qrels,
    min_rel: int,
    runs: list[str],
    train_qrels: str | None,
    train_queries: str | None,
    queries: str | None,
    corpus: str | None,
) -> None:
    """Report test queries and relevant documents that were trained on."""
    from drtools.cli.show import lineage
    from drtools.formats.corpora import read_queries
    from drtools.formats.corpus_store import open_store
    from drtools.formats.leakage import Trained, note_leakage, relevant_in, texts_of
    from drtools.formats.text_sources import check_judged, judged_queries
    from drtools.formats.trec import read_qrels

    queries = queries or behind(runs, lineage.QUERIES_FLAGS)
    if queries is None:
        raise InputError(
            "the test queries' texts are not known, as no run says what queries it was made for; pass --queries QUERIES"
        )
    texts = read_queries(queries)
    check_judged(judged, "the judgements", texts, queries, "; they are not compared with training queries")
    trained = Trained(judged_queries(train_queries or queries, train_qrels).items())
    positives = None
    if train_qrels:
        corpus = corpus or behind(runs, lineage.CORPUS_FLAGS)
        store = open_store(corpus) if corpus else None
        relevant = relevant_in(read_qrels(train_qrels), min_rel)
        trained.positives = lambda: texts_of(relevant, store)
        positives = lambda: dict(texts_of(relevant_in(judged, min_rel), store))  # noqa: E731
    tested = {query_id: text for query_id, text in texts.items() if query_id in judged}
    note_leakage("test", tested, positives, trained)


def parse_gate(text: str) -> tuple[str, float]:
    """Return (measure, least difference) of `RR@10>=-0.005`."""
    found = re.fullmatch(r"\s*([A-Za-z]+(?:\(rel=\d+\))?(?:@\d+)?)\s*>=\s*([-+]?[0-9.]+(?:e-?\d+)?)\s*", text)
    if not found:
        raise InputError(f'--gate {text}: expected MEASURE>=DIFFERENCE, for instance "RR@10>=-0.005"')
    try:
        return found[1], float(found[2])
    except ValueError:
        raise InputError(f"--gate {text}: {found[2]} is no number") from None


def check_gate(name: str, least: float, words: list[str], first: dict, last: dict, baseline: str) -> None:
    """Raise GateRefused if the last run is worse than a baseline by more than the gate allows."""
    from drtools.evaluation.measures import mean

    key = next(word for word in words if word.lower() == name.lower())
    before, after = mean(first[key]), mean(last[key])
    if after - before < least:
        raise GateRefused(
            f"gate {name}>={least:g}: the last run has {after:.4f}, {baseline} {before:.4f}, a difference of "
            f"{after - before:+.4f}"
        )
    reporting.say(f"gate {name}>={least:g} holds: {after - before:+.4f}")
