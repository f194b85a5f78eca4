"""Measure runs against judgements, with significance tests and quality gates.

    drtools eval --qrels qrels/test.tsv bm25.run star.run fused.run
    drtools eval --qrels qrels/test.tsv bm25.run star.run --measures "nDCG@10,R@100" --per-query
    drtools eval --qrels qrels/test.tsv star.run fused.run --gate "RR@10>=-0.005"
    drtools eval --qrels qrels/test.tsv star.run --floor "nDCG@10>=0.3" --floor "R@100>=0.6"
    drtools eval --qrels qrels/test.tsv bm25.run star.run --format latex -o table.tex

Measures are nDCG@k, RR@k (also written MRR@k), R@k, AP, P@k, Success@k and Judged@k, with trec_eval's values, and those
of ir_measures, such as ERR@20, RBP(p=0.8), Bpref and Rprec. trec_eval's names (ndcg_cut_10, map, P_5) mean the same.
They are averaged over all judged queries; a query that is missing from a run counts as 0. R(rel=2)@k counts documents
of grade 2 or more, whatever --min-rel is.

Each run is compared with the first, or with each --baseline, by a two-tailed paired t-test over queries, or with
--test randomization by a paired randomization test. The table shows p uncorrected, and corrected by Holm's method for
the number of comparisons; the corrected p decides the stars.

--format prints the table for other programs: tsv, csv, markdown, latex or json. --digits all prints every digit.

With --answers a document is relevant if its text contains an answer, matched as in DPR. --ignore-identical-ids is
BEIR's rule for queries that are also documents. Test queries that a run's model was trained on are reported; they are
found by its manifests, or by --train-qrels. A note is printed if Judged@10 of the runs differs by more than 0.1.

--gate limits how much worse than an earlier run the last run may be, --floor how low its value may be. A gate that
compares each night with the night before lets a slow fall pass; a floor does not. A refusal exits with status 3.

-o writes all results as JSON, or the table in --format, too. `publish --measures` publishes the values of the last run,
unless a gate refused it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from drtools.cli.flags.common import IgnoreIdenticalIds, MinRel, Only, Role
from drtools.cli.flags.outputs import FileOutput
from drtools.cli.gates import check_floors, check_gate, parse_floor, parse_gate
from drtools.cli.report import Report
from drtools.cli.show import lineage
from drtools.cli.show.trained_on import note_trained_on
from drtools.cli.tables import Format, digits_of, table_as
from drtools.cli.terminal import terminal_width
from drtools.errors import AlreadyDone, InputError
from drtools.evaluation.measures import Measure, mean, parse_measure, split_measures
from drtools.evaluation.runs import judgements, measured
from drtools.evaluation.significance import TESTS_IN_WORDS, Test, comparisons
from drtools.evaluation.specs import MeasuringSpec
from drtools.formats.leakage import compare_with_training
from drtools.outputs.disk import is_standard_output
from drtools.outputs.opening import open_file
from drtools.outputs.publication import KIND

if TYPE_CHECKING:
    from drtools.formats.trec import Qrels

ANSWERS, LEAKAGE = "Answers", "Trained on"


@dataclass(frozen=True)
class EvalFlags:
    """The runs to evaluate, what they are judged by, and what they are compared with."""

    runs: Annotated[
        list[str],
        Argument(help="runs to evaluate; without --baseline all others are compared with the first"),
        Role.INPUT,
    ]
    qrels: Annotated[str | None, Option(help="relevance judgements: BEIR TSV or TREC format"), Role.INPUT] = None
    answers: Annotated[
        str | None,
        Option(
            help='answers to use instead of --qrels: JSONL {"_id", "answers"}, or DPR\'s TSV', rich_help_panel=ANSWERS
        ),
        Role.INPUT,
    ] = None
    corpus: Annotated[
        str | None,
        Option(
            help="with --answers: corpus in which to look for answers; with --train-qrels: texts of relevant documents"
        ),
        Role.INPUT,
    ] = None
    answer_match: Annotated[
        Literal["string", "regex"],
        Option(
            help="string: match words in order, ignoring case; regex: match regular expressions",
            rich_help_panel=ANSWERS,
        ),
    ] = "string"
    measures: Annotated[
        str | None,
        Option(
            help="measures, separated by commas; default: nDCG@10,RR@10,R@100, with --answers Success@20,Success@100"
        ),
    ] = None
    min_rel: MinRel = 1
    only: Only = None
    ignore_identical_ids: IgnoreIdenticalIds = False
    rank_order: Annotated[
        bool,
        Option("--rank-order", help="order documents by the rank column (MS MARCO) instead of by score (trec_eval)"),
    ] = False
    per_query: Annotated[
        bool, Option("--per-query", help="print one line for each run, measure and query, with the value")
    ] = False
    format: Annotated[
        Format | None,
        Option(help="form of what is printed, or with -o of the file; default: table, and json for a file"),
    ] = None
    digits: Annotated[str | None, Option(help="digits after the point, or `all`; default: 4; JSON always has all")] = (
        None
    )
    json: Annotated[bool, Option("--json", help="print all results as one JSON object, as --format json")] = False
    gate: Annotated[
        str | None,
        Option(
            help="exit with status 3 if the last run minus the first, or minus any --baseline, is less than this: "
            '"RR@10>=-0.005"'
        ),
    ] = None
    floor: Annotated[
        list[str] | None,
        Option(
            help="exit with status 3 if the last run has a lower value than this; repeat it for several measures: "
            '"nDCG@10>=0.3"'
        ),
    ] = None
    baseline: Annotated[
        list[str] | None,
        Option(
            "--baseline",
            "--against",
            help="one of the runs, to compare the others with; repeat it for several; --against means the same",
        ),
        Role.INPUT,
    ] = None
    test: Annotated[
        Test | None,
        Option(help="paired test: Student's t, or randomization of 100,000 sign flips; default: t"),
    ] = None
    alpha: Annotated[float, Option(min=0, max=1, help="significance level of the stars in the table")] = 0.05
    train_qrels: Annotated[
        str | None,
        Option(
            help="qrels that a model was trained on: report test queries and relevant documents whose texts occur in "
            "them",
            rich_help_panel=LEAKAGE,
        ),
        Role.INPUT,
    ] = None
    train_queries: Annotated[
        str | None,
        Option(
            help="queries that a model was trained on; default with --train-qrels: --queries", rich_help_panel=LEAKAGE
        ),
        Role.INPUT,
    ] = None
    queries: Annotated[
        str | None,
        Option(
            help="texts of the test queries; default: the queries of the first run with a known source",
            rich_help_panel=LEAKAGE,
        ),
        Role.INPUT,
    ] = None

    @property
    def spec(self) -> MeasuringSpec:
        """How the runs are read and judged."""
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


def main(flags: EvalFlags, file: FileOutput = FileOutput()) -> None:
    """Read, evaluate and compare runs, print the results, apply the gates, and write the measures if asked to."""
    check(flags)
    is_printed = is_standard_output(file.output)
    printed: Format = "json" if flags.json else (flags.format or "table") if is_printed else "table"
    if is_printed:
        evaluate(flags, printed)
        return
    try:
        with open_file(file) as work:
            report, judged = evaluate(flags, printed)
            work.stream.write(table_as(flags.format or "json", report, flags.per_query).encode())
            arguments = file.request["arguments"]
            work.finish(
                kind=KIND,
                measures={name: mean(by_query) for name, by_query in report.results[-1].items()},
                queries=len(judged),
                judgements=sum(map(len, judged.values())),
                qrels=(arguments["qrels"] or arguments["answers"])["fingerprint"],
            )
    except AlreadyDone:
        evaluate(flags, printed)  # the gates refuse it as they did
        raise


def evaluate(flags: EvalFlags, printed: Format) -> tuple[Report, Qrels]:
    """Evaluate and compare runs, print the results in this form and apply the gates."""
    gate = parse_gate(flags.gate) if flags.gate else None
    floors = [parse_floor(text) for text in flags.floor or []]
    runs, spec = flags.runs, flags.spec
    if flags.gate and len(runs) < 2:
        raise InputError("--gate compares the last run with the first", expected="at least two runs")
    baselines = places_of(flags.baseline, runs, flags.gate) if flags.baseline else [0]
    measures = measures_of(flags, [name for name, _ in [*([gate] if gate else []), *floors]])
    judged = judgements(runs, spec, measures)
    if flags.train_qrels or flags.train_queries:
        report_leakage(judged, flags)
    else:
        note_trained_on(runs, judged)
    results = measured(runs, judged, spec, measures)
    test: Test = flags.test or "t"
    compared = comparisons(results, baselines, test)
    named, digits = bool(flags.baseline), digits_of(flags.digits)
    report = Report(runs, results, compared, baselines, named, len(judged), flags.alpha, TESTS_IN_WORDS[test], digits)
    sys.stdout.write(table_as(printed, report, flags.per_query, terminal_width(sys.stdout)))
    if gate:
        for place in baselines:
            name = runs[place] if flags.baseline else "the first"
            check_gate(*gate, results[place], results[-1], name)
    check_floors(floors, results[-1])
    return report, judged


def check(flags: EvalFlags) -> None:
    """Raise InputError without judgements, or for flags that do not go together."""
    if (flags.qrels is None) == (flags.answers is None) or (flags.answers and not flags.corpus):
        raise InputError("pass either --qrels QRELS, or --answers ANSWERS with the --corpus in which to look for them")
    digits_of(flags.digits)
    if flags.json and flags.format not in (None, "json"):
        raise InputError(f"--json and --format {flags.format} ask for two forms", remedy="leave one of them out")
    if flags.digits and "json" in (flags.format, "json" if flags.json else None):
        raise InputError("--digits does not apply to JSON, which has all digits", remedy="leave it out")
    if flags.answer_match != "string" and not flags.answers:
        raise InputError("--answer-match needs --answers", remedy="pass --answers too, or leave --answer-match out")
    if flags.corpus and not (flags.answers or flags.train_qrels):
        raise InputError(
            "--corpus needs --answers or --train-qrels", remedy="pass one of them too, or leave --corpus out"
        )
    if flags.queries and not (flags.train_qrels or flags.train_queries):
        raise InputError(
            "--queries needs --train-qrels or --train-queries", remedy="pass one of them too, or leave --queries out"
        )


def measures_of(flags: EvalFlags, of_gates: list[str]) -> list[Measure]:
    """Return the measures that are named (or else the default ones), and those of the gate and the floors."""
    usual = "Success@20,Success@100" if flags.answers else "nDCG@10,RR@10,R@100"
    words = split_measures(flags.measures or usual)
    if not words:
        raise InputError(
            where=f"--measures {flags.measures!r}",
            expected="measures separated by commas, for instance nDCG@10,R@100",
        )
    for name in of_gates:
        if name.lower() not in [word.lower() for word in words]:
            words.append(name)
    return [parse_measure(word) for word in words]


def places_of(baselines: list[str], runs: list[str], gate: str | None) -> list[int]:
    """Return the positions of the baselines among the runs; raise InputError for one that is not a run."""
    for name in baselines:
        if name not in runs:
            raise InputError("not one of the runs", where=f"--baseline {name}", remedy="name it among the runs too")
    places = list(dict.fromkeys(runs.index(name) for name in baselines))
    if len(runs) < 2:
        raise InputError(
            "this is the only run", where=f"--baseline {baselines[0]}", remedy="name the runs to compare with it"
        )
    if gate and len(runs) - 1 in places:
        raise InputError(
            f"--gate compares the last run with the baselines, but the last run, {runs[-1]}, is itself a --baseline",
            remedy="put the new run last",
        )
    return places


def report_leakage(judged: Qrels, flags: EvalFlags) -> None:
    """Report test queries and relevant documents that were trained on."""
    queries = flags.queries or behind(flags.runs, lineage.QUERIES_FLAGS)
    if queries is None:
        raise InputError(
            "the texts of the test queries are not known, because no run names its queries file",
            remedy="pass --queries QUERIES",
        )
    corpus = flags.corpus
    if flags.train_qrels and not corpus:
        corpus = behind(flags.runs, lineage.CORPUS_FLAGS)
    compare_with_training(judged, flags.min_rel, queries, corpus, flags.train_queries, flags.train_qrels)


def behind(runs: list[str], wanted: tuple[str, ...]) -> str | None:
    """Return the queries file or the corpus of the first run whose manifests name it."""
    found = (lineage.source(Path(run), wanted, lineage.SEARCHED_FLAGS) for run in runs)
    return next(filter(None, found), None)
