r"""Analyse runs, examples, logs and vectors as the papers do, with pictures.

    drtools analyze star.run bm25.run --qrels qrels/test.tsv -o errors
    drtools analyze --logs star/training.jsonl -o curves
    drtools analyze star.run fused.run --against bm25.run -o likeness
    drtools analyze star.run --examples examples.jsonl -o negatives
    drtools analyze --examples scored.jsonl --student star --student student \
        --corpus corpus.jsonl.gz --queries queries.jsonl.gz -o agreement
    drtools analyze --vectors vectors --query-vectors query-vectors --qrels qrels/test.tsv \
        -o vector-errors
    drtools analyze star.run bm25.run --margins --qrels qrels/test.tsv -o margins
    drtools analyze --tuned tuned.run -o tuning
    drtools analyze --history live.history.jsonl -o drift

The inputs decide which analyses are made. The output folder gets analysis.json and a picture of each analysis.

--qrels with runs, or with --vectors and --query-vectors: the number of pairwise errors, against the top --depth
documents and in total. With vectors the count is exact over the whole corpus. With a run it covers the documents that
the run lists.

--margins: the score differences between relevant and other documents. All runs are compared on the same pairs: those
of --examples, or those of the documents that every run lists.

--tuned: a measure over the weights that were tried.

Runs with --against: rank-biased overlap.

--examples: a histogram of their scores, and the probability that the teacher's softmax gives to the top item. With
runs: the share of each query's negatives among the top documents of the run. With --student, or with runs and
--agreement: KL divergence and Kendall's tau between the scores of the students and those of the teacher.

--logs: the logged values over steps.

--history: the measures and counts of a published link, over its publications.

--vectors with --query ID: how one query moves among its documents, as a projection and by t-SNE. Pass --query-vectors
twice, from before and from after.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from drtools.cli import terminal
from drtools.cli.flags.common import MinRel, Role, TitleSeparator
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.errors import InputError
from drtools.evaluation.analyses.labels import label_of, labels_of
from drtools.formats.trec import read_qrels, read_run
from drtools.outputs.opening import open_folder
from drtools.outputs.request import add_change
from drtools.outputs.specs import Request

if TYPE_CHECKING:
    from drtools.evaluation.analyses.base import Analysis

SCORE_BINS = 50
RBO = 0.9
VECTORS, STUDENTS = "Vectors", "Students and their teacher"
# what 0.1.0 computed otherwise for the same arguments
ERRORS_CHANGE = "errors against the top count documents that are not relevant, and no rank is guessed"
MARGINS_CHANGE = "margins are those of the same pairs for all runs"


@dataclass(frozen=True)
class AnalyzeFlags:
    """What to analyse. The inputs decide which analyses are made."""

    runs: Annotated[list[str] | None, Argument(help="runs to analyse"), Role.INPUT] = None
    qrels: Annotated[
        str | None,
        Option(help="qrels for pairwise errors of runs and vectors, and for the relevant documents of --query"),
        Role.INPUT,
    ] = None
    min_rel: MinRel = 1
    against: Annotated[str | None, Option(help="run (a teacher's) to compare the runs with"), Role.INPUT] = None
    rbo: Annotated[float, Option(help="with --against: p of rank-biased overlap, between 0 and 1")] = RBO
    examples: Annotated[
        list[str] | None,
        Option(help="examples whose scores are analysed; with runs: which negatives are still hard"),
        Role.INPUT,
    ] = None
    margins: Annotated[
        bool,
        Option(
            "--margins",
            help="analyse s(q, p) - s(q, n) as a fraction of the range of scores, for the pairs of --examples, or for "
            "those of --qrels and the documents that every run lists",
        ),
    ] = False
    tuned: Annotated[
        list[str] | None,
        Option(help="run with a tuned weight (search --multi-vector --tune, fuse --tune)"),
        Role.INPUT,
    ] = None
    logs: Annotated[list[str] | None, Option(help="training.jsonl of a training run"), Role.INPUT] = None
    history: Annotated[
        str | None, Option(help="LINK.history.jsonl of a published link: its measures and counts"), Role.INPUT
    ] = None
    curve: Annotated[
        list[str] | None, Option(help="with --logs: a value to plot; default: all but time and learning rate")
    ] = None
    depth: Annotated[
        int,
        Option(
            min=1,
            help="number of top documents: pairwise errors, hard negatives, plots and overlap look at this many",
        ),
    ] = 200
    vectors: Annotated[
        list[str] | None,
        Option(
            help="document vectors: one folder for all --query-vectors, or one for each, in the same order",
            rich_help_panel=VECTORS,
        ),
        Role.INPUT,
    ] = None
    query_vectors: Annotated[
        list[str] | None,
        Option(
            help="query vectors: one folder for each encoder; with --query one from before and one from after",
            rich_help_panel=VECTORS,
        ),
        Role.INPUT,
    ] = None
    query: Annotated[str | None, Option(help="id of the query whose move is shown", rich_help_panel=VECTORS)] = None
    student: Annotated[
        list[str] | None,
        Option(
            help="encoder to compare with the examples' teacher; repeat it to compare several",
            rich_help_panel=STUDENTS,
        ),
        Role.MODEL,
    ] = None
    agreement: Annotated[
        bool,
        Option(
            "--agreement", help="compare the runs' scores with those of the examples' teacher", rich_help_panel=STUDENTS
        ),
    ] = False
    scale: Annotated[
        float | None,
        Option(
            help="factor applied to students' scores in the divergence; default: as in their training, 1 for runs",
            rich_help_panel=STUDENTS,
        ),
    ] = None
    corpus: Annotated[
        str | None, Option(help="with --student: corpus of the examples", rich_help_panel=STUDENTS), Role.INPUT
    ] = None
    queries: Annotated[
        str | None, Option(help="with --student: queries of the examples", rich_help_panel=STUDENTS), Role.INPUT
    ] = None
    max_document_tokens: Annotated[
        int | None,
        Option(
            min=1,
            help="with --student: truncate documents to this length; default: the student's",
            rich_help_panel=STUDENTS,
        ),
    ] = None
    title_separator: TitleSeparator = " "


def main(folder: FolderOutput, flags: AnalyzeFlags, compute: ComputeFlags = ComputeFlags()) -> None:
    """Check the inputs, make each analysis, write and print the results."""
    import orjson

    check(flags)
    check_students(flags)
    add_changes(folder.request, bool(flags.qrels and flags.runs), flags.margins)
    with open_folder(folder) as work:
        made = list(analyses_of(flags, compute, work.path))
        content = {"depth": flags.depth, **{analysis.name: analysis.numbers for analysis in made}}
        (work.path / "analysis.json").write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
        work.finish(kind="analysis", analyses=[analysis.name for analysis in made])
    width = terminal.terminal_width(sys.stdout)
    print(
        "\n\n".join(
            f"{terminal.wrapped(analysis.title, None)}\n{terminal.aligned(analysis.table, width)}" for analysis in made
        )
    )


def analyses_of(flags: AnalyzeFlags, compute: ComputeFlags, folder: Path) -> Iterator[Analysis]:
    """Make each analysis that was asked for, and write its plot to the folder."""
    from drtools.evaluation.analyses import base
    from drtools.evaluation.analyses.margins import analyse_tuning
    from drtools.evaluation.analyses.move import analyse_move
    from drtools.evaluation.comparing import errors_of, margins_of
    from drtools.evaluation.sides import open_sides

    min_rel, depth, examples = flags.min_rel, flags.depth, flags.examples or []
    judged = read_qrels(flags.qrels) if flags.qrels else {}
    labels = labels_of([*(flags.runs or []), *(flags.query_vectors or [] if not flags.query else [])])
    lists = {label: read_run(path) for label, path in labels.items() if path in (flags.runs or [])}
    sides = open_sides(flags.vectors or [], {label: path for label, path in labels.items() if label not in lists})
    if flags.qrels and (lists or sides):
        yield errors_of(lists, sides, judged, min_rel, depth, compute, folder)
    if flags.margins:
        yield margins_of(lists, sides, examples[0] if examples else None, judged, min_rel, depth, folder)
    if flags.tuned:
        yield analyse_tuning(labels_of(flags.tuned), folder)
    if flags.against:
        yield base.likeness(lists, read_run(flags.against), label_of(flags.against), flags.rbo, depth, folder)
    if examples and not flags.margins:
        yield from base.of_examples(labels_of(examples), lists, depth, SCORE_BINS, folder)
    if flags.student or flags.agreement:
        from drtools.methods.adam.agreement import beside_teacher

        compared = beside_teacher(
            examples[0],
            lists if flags.agreement else {},
            labels_of(flags.student or []),
            flags.corpus,
            flags.queries,
            flags.title_separator,
            flags.scale,
            compute,
            flags.max_document_tokens,
        )
        yield base.agreement(compared, folder)
    if flags.logs:
        yield base.curves(labels_of(flags.logs), flags.curve, folder)
    if flags.history:
        from drtools.evaluation.analyses.history import analyse_history

        yield analyse_history(flags.history, label_of(flags.history), folder)
    if flags.query:
        assert flags.vectors is not None and flags.query_vectors is not None, "check asks for all three"
        yield analyse_move(flags.vectors[0], flags.query_vectors, flags.query, judged, min_rel, depth, folder)


def add_changes(request: Request, of_errors: bool, of_margins: bool) -> None:
    """Record what this version computes differently, so that an earlier version's output does not count as done."""
    if of_errors:
        add_change(request, ERRORS_CHANGE)
    if of_margins:
        add_change(request, MARGINS_CHANGE)


def check(flags: AnalyzeFlags) -> None:
    """Raise InputError for inputs from which no analysis can be made."""
    if not (flags.examples or flags.logs or flags.history or flags.vectors or flags.query_vectors) and not (
        flags.query or flags.runs or flags.tuned
    ):
        raise InputError(
            "there is nothing to analyse",
            remedy="pass runs with --qrels, --against or --examples; or --examples, --logs, --tuned, --vectors or "
            "--history",
        )
    check_margins(flags)
    if flags.runs and not (flags.qrels or flags.against or flags.examples):
        raise InputError(
            "nothing can be analysed from runs alone",
            remedy="add --qrels QRELS (errors), --against RUN (overlap) or --examples EXAMPLES (negatives)",
        )
    if flags.against and not flags.runs:
        raise InputError("--against needs runs to compare", remedy="name the runs")
    if flags.qrels and not (flags.runs or flags.vectors or flags.query_vectors):
        raise InputError(
            "--qrels needs runs or vectors to judge", remedy="name runs, or pass --vectors and --query-vectors"
        )
    if not 0 < flags.rbo < 1:
        raise InputError(where=f"--rbo {flags.rbo:g}", expected="a number above 0 and below 1")
    if flags.rbo != RBO and not flags.against:
        raise InputError("--rbo needs --against", remedy="pass --against RUN too, or leave --rbo out")
    if flags.min_rel != 1 and not flags.qrels:
        raise InputError("--min-rel needs --qrels", remedy="pass --qrels QRELS too, or leave --min-rel out")
    if flags.curve and not flags.logs:
        raise InputError("--curve needs --logs", remedy="pass --logs LOG too, or leave --curve out")
    check_vectors(flags)


def check_margins(flags: AnalyzeFlags) -> None:
    """Raise InputError if there are no pairs to take margins of, or no scores for them."""
    if not flags.margins:
        return
    if flags.query or not (flags.runs or flags.vectors):
        raise InputError(
            "--margins needs scores", remedy="name runs, or pass --vectors and --query-vectors without --query"
        )
    if flags.examples and len(flags.examples) > 1:
        raise InputError("--margins takes its pairs from one file", remedy="pass --examples PAIRS once")
    if not flags.examples and not (flags.runs and flags.qrels):
        raise InputError(
            "--margins needs pairs of a relevant and another document",
            remedy="pass --examples PAIRS, or name runs and pass --qrels QRELS",
        )


def check_vectors(flags: AnalyzeFlags) -> None:
    """Raise InputError if the vectors do not suffice for an analysis."""
    if not (flags.vectors or flags.query_vectors or flags.query):
        return
    if not (flags.query or flags.qrels or flags.margins):
        raise InputError(
            "nothing can be analysed from vectors alone",
            remedy="pass --qrels QRELS for pairwise errors; or pass --query ID for a query's move, and "
            "--query-vectors twice, before and after",
        )
    if flags.query and not (flags.vectors and len(flags.vectors) == 1 and len(flags.query_vectors or ()) == 2):
        raise InputError(
            "a query's move needs --vectors DOCUMENTS once, --query ID, and --query-vectors twice: before and after"
        )
    if not flags.vectors or not flags.query_vectors:
        raise InputError("--vectors DOCUMENTS and --query-vectors QUERIES are used together", remedy="pass both")


def check_students(flags: AnalyzeFlags) -> None:
    """Raise InputError unless it is clear which students are compared with which teacher."""
    if flags.scale is not None and not (flags.student or flags.agreement):
        raise InputError("--scale needs --student or --agreement", remedy="pass one of them too, or leave it out")
    if flags.max_document_tokens and not flags.student:
        raise InputError("--max-document-tokens needs --student", remedy="pass it too, or leave this out")
    if flags.agreement and not flags.runs:
        raise InputError("--agreement needs runs to compare with a teacher", remedy="name the runs")
    if (flags.student or flags.agreement) and len(flags.examples or []) != 1:
        raise InputError(
            f"{('--student' if flags.student else '--agreement')} compares with the teacher of one file",
            remedy="pass --examples SCORED exactly once",
        )
    if bool(flags.student) != bool(flags.corpus or flags.queries) or (
        flags.student and not (flags.corpus and flags.queries)
    ):
        raise InputError("--student, --corpus CORPUS and --queries QUERIES are used together", remedy="pass all three")
