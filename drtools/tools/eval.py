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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import IgnoreIdenticalIds, MinRel, Only, Role
from drtools.cli.report import print_json, print_per_query, print_table
from drtools.cli.show import lineage
from drtools.cli.show.trained_on import note_trained_on
from drtools.errors import GateRefused, InputError
from drtools.evaluation.measures import Measure, mean, parse_measure
from drtools.evaluation.runs import Values, judgements, measured
from drtools.evaluation.significance import comparisons
from drtools.evaluation.specs import MeasuringSpec
from drtools.formats.leakage import compare_with_training

if TYPE_CHECKING:
    from drtools.formats.trec import Qrels

ANSWERS, LEAKAGE = "Answers", "Trained on"


@dataclass(frozen=True)
class EvalFlags:
    """What is measured by what, and compared with what."""

    runs: Annotated[
        list[str],
        Argument(help="runs to measure; without --baseline the others are compared with the first"),
        Role.INPUT,
    ]
    qrels: Annotated[str | None, Option(help="judgements: BEIR TSV or TREC"), Role.INPUT] = None
    answers: Annotated[
        str | None,
        Option(help='answers in place of judgements: JSONL {"_id", "answers"}, or DPR\'s TSV', rich_help_panel=ANSWERS),
        Role.INPUT,
    ] = None
    corpus: Annotated[
        str | None,
        Option(help="--answers: the texts to find them in; --train-qrels: the texts of relevant documents"),
        Role.INPUT,
    ] = None
    answer_match: Annotated[
        Literal["string", "regex"],
        Option(
            help="string: words in their order, whatever their case; regex: regular expressions",
            rich_help_panel=ANSWERS,
        ),
    ] = "string"
    measures: Annotated[
        str | None,
        Option(
            help="measures with commas between; default nDCG@10, RR@10, R@100, with --answers Success@20, Success@100"
        ),
    ] = None
    min_rel: MinRel = 1
    only: Only = None
    ignore_identical_ids: IgnoreIdenticalIds = False
    rank_order: Annotated[
        bool, Option("--rank-order", help="rank by the runs' rank column (MS MARCO), not by score (trec_eval)")
    ] = False
    per_query: Annotated[bool, Option("--per-query", help="one line each: run, measure, query, value")] = False
    json: Annotated[bool, Option("--json", help="everything as one JSON object")] = False
    gate: Annotated[
        str | None,
        Option(help='exit 3 unless the last run holds against the first, or each --baseline: "RR@10>=-0.005"'),
    ] = None
    baseline: Annotated[
        list[str] | None,
        Option(help="a run to compare the others with, one of those given; several times for several"),
        Role.INPUT,
    ] = None
    alpha: Annotated[float, Option(min=0, max=1, help="significance level of the stars in the table")] = 0.05
    train_qrels: Annotated[
        str | None,
        Option(
            help="judgements that a model was trained on: report test queries and relevant documents that stand there "
            "too, by their texts",
            rich_help_panel=LEAKAGE,
        ),
        Role.INPUT,
    ] = None
    train_queries: Annotated[
        str | None,
        Option(help="queries that it was trained on; with --train-qrels by default --queries", rich_help_panel=LEAKAGE),
        Role.INPUT,
    ] = None
    queries: Annotated[
        str | None,
        Option(help="the test queries' texts; default: those that a run was made for", rich_help_panel=LEAKAGE),
        Role.INPUT,
    ] = None

    @property
    def spec(self) -> MeasuringSpec:
        """How the runs are read, and what judges them."""
        return MeasuringSpec(
            self.qrels,
            self.answers,
            self.corpus,
            self.answer_match,
            self.min_rel,
            self.only,
            self.rank_order,
            self.ignore_identical_ids,
        )


def main(flags: EvalFlags) -> None:
    """Compose: read, evaluate, compare, print, gate."""
    check(flags)
    gate_name, gate_least = parse_gate(flags.gate) if flags.gate else (None, 0.0)
    runs, spec = flags.runs, flags.spec
    if flags.gate and len(runs) < 2:
        raise InputError("--gate compares the last run with the first; two runs are needed")
    baselines = places_of(flags.baseline, runs, flags.gate) if flags.baseline else [0]
    measures = measures_of(flags, gate_name)
    judged = judgements(runs, spec, measures)
    if flags.train_qrels or flags.train_queries:
        report_leakage(judged, flags)
    else:
        note_trained_on(runs, judged)
    results = measured(runs, judged, spec, measures)
    compared = comparisons(results, baselines)
    if flags.json:
        print_json(runs, results, compared, bool(flags.baseline), len(judged), flags.per_query)
    elif flags.per_query:
        print_per_query(runs, results)
    else:
        print_table(runs, results, compared, baselines, len(judged), flags.alpha)
    if gate_name:
        for place in baselines:
            name = runs[place] if flags.baseline else "the first"
            check_gate(gate_name, gate_least, results[place], results[-1], name)


def check(flags: EvalFlags) -> None:
    """Raise InputError without judgements, and for what serves nothing that was asked for."""
    if (flags.qrels is None) == (flags.answers is None) or (flags.answers and not flags.corpus):
        raise InputError("pass either --qrels QRELS, or --answers ANSWERS with the --corpus whose texts may hold them")
    if flags.answer_match != "string" and not flags.answers:
        raise InputError(
            "for --answers, which was not said", where="--answer-match", remedy="pass it, or leave --answer-match out"
        )
    if flags.corpus and not (flags.answers or flags.train_qrels):
        raise InputError(
            "for --answers, or for --train-qrels", where="--corpus", remedy="pass one of them, or leave --corpus out"
        )
    if flags.queries and not (flags.train_qrels or flags.train_queries):
        raise InputError(
            "compared with --train-qrels or --train-queries",
            where="--queries",
            remedy="pass one, or leave --queries out",
        )


def measures_of(flags: EvalFlags, of_gate: str | None) -> list[Measure]:
    """Return the measures that are named, the usual ones if none are, and the gate's."""
    usual = "Success@20,Success@100" if flags.answers else "nDCG@10,RR@10,R@100"
    words = [word.strip() for word in (flags.measures or usual).split(",") if word.strip()]
    words = list(dict.fromkeys(words))
    if not words:
        raise InputError(
            "names no measure",
            where=f"--measures {flags.measures!r}",
            expected="some with commas between, for instance nDCG@10,R@100",
        )
    if of_gate and of_gate.lower() not in [word.lower() for word in words]:
        words.append(of_gate)
    return [parse_measure(word) for word in words]


def places_of(baselines: list[str], runs: list[str], gate: str | None) -> list[int]:
    """Return the baselines' places among the runs; InputError for one that is none of them."""
    for name in baselines:
        if name not in runs:
            raise InputError(
                "not one of the runs to measure", where=f"--baseline {name}", remedy="name it among them too"
            )
    places = list(dict.fromkeys(runs.index(name) for name in baselines))
    if len(runs) < 2:
        raise InputError(
            "it is the only run", where=f"--baseline {baselines[0]}", remedy="give the runs to compare with it"
        )
    if gate and len(runs) - 1 in places:
        raise InputError(
            f"--gate compares the last run, {runs[-1]}, which is a --baseline", remedy="put the new run last"
        )
    return places


def report_leakage(judged: Qrels, flags: EvalFlags) -> None:
    """Report test queries and relevant documents that were trained on."""
    queries = flags.queries or behind(flags.runs, lineage.QUERIES_FLAGS)
    if queries is None:
        raise InputError(
            "the test queries' texts are not known, as no run says what queries it was made for",
            remedy="pass --queries QUERIES",
        )
    corpus = flags.corpus
    if flags.train_qrels and not corpus:
        corpus = behind(flags.runs, lineage.CORPUS_FLAGS)
    compare_with_training(judged, flags.min_rel, queries, corpus, flags.train_queries, flags.train_qrels)


def behind(runs: list[str], wanted: tuple[str, ...]) -> str | None:
    """Return what the first run that knows it was made from: its queries, or its corpus."""
    found = (lineage.source(Path(run), wanted, lineage.SEARCHED_FLAGS) for run in runs)
    return next(filter(None, found), None)


def parse_gate(text: str) -> tuple[str, float]:
    """Return (measure, least difference) of `RR@10>=-0.005`."""
    found = re.fullmatch(r"\s*([A-Za-z]+(?:\(rel=\d+\))?(?:@\d+)?)\s*>=\s*([-+]?[0-9.]+(?:e-?\d+)?)\s*", text)
    if not found:
        raise InputError(where=f"--gate {text}", expected='MEASURE>=DIFFERENCE, for instance "RR@10>=-0.005"')
    try:
        return found[1], float(found[2])
    except ValueError:
        raise InputError(f"{found[2]} is no number", where=f"--gate {text}") from None


def check_gate(name: str, least: float, first: Values, last: Values, baseline: str) -> None:
    """Raise GateRefused if the last run is worse than a baseline by more than the gate allows."""
    key = next(word for word in first if word.lower() == name.lower())
    before, after = mean(first[key]), mean(last[key])
    if after - before < least:
        raise GateRefused(
            f"gate {name}>={least:g}: the last run has {after:.4f}, {baseline} {before:.4f}, a difference of "
            f"{after - before:+.4f}"
        )
    reporting.say(f"gate {name}>={least:g} holds: {after - before:+.4f}")
