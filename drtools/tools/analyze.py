r"""Analyse runs, examples, training logs and vectors, as the papers do: a folder with analysis.json and pictures.

    drtools analyze star.run adore.run --qrels qrels/test.tsv -o errors
    drtools analyze --vectors vectors --query-vectors star-queries --query-vectors adore-queries \
        --qrels qrels/test.tsv -o errors
    drtools analyze lambda.run dense.run --against bm25.run -o likeness
    drtools analyze star.run --examples examples.jsonl -o negatives
    drtools analyze --examples scored.jsonl --student before --student after --corpus corpus.jsonl.gz \
        --queries queries.jsonl.gz -o agreement
    drtools analyze --logs static/training.jsonl --logs live/training.jsonl -o curves
    drtools analyze --examples pairs.jsonl --margins --vectors star-vectors --query-vectors star-queries \
        --vectors fgd-vectors --query-vectors fgd-queries -o margins
    drtools analyze --tuned multi-vector.run -o gamma
    drtools analyze --vectors vectors --query-vectors before --query-vectors after --query 42 \
        --qrels qrels/test.tsv -o move

What is given decides what is made. --qrels with runs, or with --vectors and --query-vectors: pairwise errors, against
the top --depth and in all. Vectors count them exactly over the whole corpus; a run knows those down to its end. With
--margins also by how much relevant documents stand above others, over the same pairs for all: those of --examples, or
the documents that every run lists. --tuned: a measure over the weights that were tried. Runs and --against: rank-biased
overlap. --examples: histogram of their scores, and of a teacher's softmax the mass on the top item; with runs: the
share of each query's negatives that is among the run's top; with --student, or with runs and --agreement: KL divergence
and Kendall's tau of the students' scores and the teacher's. --logs: their numbers over steps. --vectors and --query:
one query's move among its documents, projected and by t-SNE.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from drtools.cli import terminal
from drtools.cli.flags.common import MinRel, Role, TitleSeparator
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.errors import InputError
from drtools.outputs import work as output
from drtools.outputs.request import add_change
from drtools.outputs.specs import Request

SCORE_BINS = 50
RBO = 0.9
VECTORS, STUDENTS = "Vectors", "Students and their teacher"
# what 0.1.0 computed otherwise for the same arguments
ERRORS_CHANGE = "errors against the top count documents that are not relevant, and no rank is guessed"
MARGINS_CHANGE = "margins are those of the same pairs for all runs"


def main(
    folder: FolderOutput,
    runs: Annotated[list[str] | None, Argument(help="runs to look at"), Role.INPUT] = None,
    qrels: Annotated[
        str | None,
        Option(help="judgements: pairwise errors of runs and vectors; the relevant documents of --query"),
        Role.INPUT,
    ] = None,
    min_rel: MinRel = 1,
    against: Annotated[str | None, Option(help="run (a teacher's) to compare the runs with"), Role.INPUT] = None,
    rbo: Annotated[float, Option(help="--against: p of rank-biased overlap, above 0 and below 1")] = RBO,
    examples: Annotated[
        list[str] | None,
        Option(help="examples: their scores; with runs: which negatives are still hard"),
        Role.INPUT,
    ] = None,
    margins: Annotated[
        bool,
        Option(
            "--margins",
            help="s(q, p) - s(q, n) as a share of the range of scores: of the pairs of --examples, or of --qrels and "
            "what every run lists",
        ),
    ] = False,
    tuned: Annotated[
        list[str] | None,
        Option(help="run whose weight was tuned (search --multi-vector --tune, fuse --tune)"),
        Role.INPUT,
    ] = None,
    logs: Annotated[list[str] | None, Option(help="training.jsonl of a training"), Role.INPUT] = None,
    curve: Annotated[
        list[str] | None, Option(help="--logs: a number to draw; default: all but time and learning rate")
    ] = None,
    depth: Annotated[
        int,
        Option(
            min=1,
            help="the top of a list: errors against so many documents that are not relevant, negatives in it, "
            "documents drawn; lists are compared down to it",
        ),
    ] = 200,
    vectors: Annotated[
        list[str] | None,
        Option(
            help="vectors of documents: one for all --query-vectors, or one for each, in their order",
            rich_help_panel=VECTORS,
        ),
        Role.INPUT,
    ] = None,
    query_vectors: Annotated[
        list[str] | None,
        Option(
            help="vectors of queries: one for each encoder; with --query once before and once after",
            rich_help_panel=VECTORS,
        ),
        Role.INPUT,
    ] = None,
    query: Annotated[str | None, Option(help="id of a query, to see its move", rich_help_panel=VECTORS)] = None,
    student: Annotated[
        list[str] | None,
        Option(
            help="encoder to compare with the examples' teacher, for instance before and after",
            rich_help_panel=STUDENTS,
        ),
        Role.MODEL,
    ] = None,
    agreement: Annotated[
        bool,
        Option("--agreement", help="compare the runs' scores with the examples' teacher", rich_help_panel=STUDENTS),
    ] = False,
    scale: Annotated[
        float | None,
        Option(
            help="factor on students' scores in the divergence; default: as in their training, of runs 1",
            rich_help_panel=STUDENTS,
        ),
    ] = None,
    corpus: Annotated[
        str | None, Option(help="--student: the examples' corpus", rich_help_panel=STUDENTS), Role.INPUT
    ] = None,
    queries: Annotated[
        str | None, Option(help="--student: the examples' queries", rich_help_panel=STUDENTS), Role.INPUT
    ] = None,
    max_document_tokens: Annotated[
        int | None,
        Option(min=1, help="--student: cut documents here; default: the student's", rich_help_panel=STUDENTS),
    ] = None,
    title_separator: TitleSeparator = " ",
    compute: ComputeFlags = ComputeFlags(),
) -> None:
    """Compose: check what was given, make each analysis of it, write, print."""
    import orjson

    from drtools.evaluation.analyses import base
    from drtools.evaluation.analyses.margins import analyse_tuning
    from drtools.evaluation.analyses.move import analyse_move
    from drtools.evaluation.comparing import errors_of, margins_of
    from drtools.evaluation.corpus_ranks import open_sides
    from drtools.formats.trec import read_qrels, read_run

    check(runs, qrels, min_rel, against, rbo, examples, logs, curve, vectors, query_vectors, query, margins, tuned)
    check_students(student, agreement, scale, max_document_tokens, examples, runs, corpus, queries)
    add_changes(folder.request, bool(qrels and runs), margins)
    with output.folder(folder) as work:
        judged = read_qrels(qrels) if qrels else {}
        labels = labels_of([*(runs or []), *(query_vectors or [] if not query else [])])
        lists = {label: read_run(path) for label, path in labels.items() if path in (runs or [])}
        sides = open_sides(vectors or [], {label: path for label, path in labels.items() if label not in lists})
        made: list[base.Analysis] = []
        if qrels and (lists or sides):
            made.append(errors_of(lists, sides, judged, min_rel, depth, compute, work.path))
        if margins:
            made.append(margins_of(lists, sides, examples[0] if examples else None, judged, min_rel, depth, work.path))
        if tuned:
            made.append(analyse_tuning(labels_of(tuned), work.path))
        if against:
            made.append(base.likeness(lists, read_run(against), _parts(Path(against))[-1], rbo, depth, work.path))
        if examples and not margins:
            made += base.of_examples(labels_of(examples), lists, depth, SCORE_BINS, work.path)
        if student or agreement:
            from drtools.methods.adam.agreement import beside_teacher

            assert examples is not None, "check_students asks for one file"
            made.append(
                base.agreement(
                    beside_teacher(
                        examples[0],
                        lists if agreement else {},
                        labels_of(student or []),
                        corpus,
                        queries,
                        title_separator,
                        scale,
                        compute,
                        max_document_tokens,
                    ),
                    work.path,
                )
            )
        if logs:
            made.append(base.curves(labels_of(logs), curve, work.path))
        if query:
            assert vectors is not None and query_vectors is not None, "check asks for all three"
            made.append(analyse_move(vectors[0], query_vectors, query, judged, min_rel, depth, work.path))
        content = {"depth": depth, **{analysis.name: analysis.numbers for analysis in made}}
        (work.path / "analysis.json").write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
        work.finish(kind="analysis", analyses=[analysis.name for analysis in made])
    print(
        "\n\n".join(
            f"{analysis.title}\n{terminal.aligned(analysis.table, terminal.terminal_width(sys.stdout))}"
            for analysis in made
        )
    )


def add_changes(request: Request, of_errors: bool, of_margins: bool) -> None:
    """Say what this version computes otherwise, so that what an earlier one wrote is not taken for the same."""
    if of_errors:
        add_change(request, ERRORS_CHANGE)
    if of_margins:
        add_change(request, MARGINS_CHANGE)


def check(
    runs,
    qrels,
    min_rel,
    against,
    rbo,
    examples,
    logs,
    curve,
    vectors,
    query_vectors,
    query,
    margins,
    tuned,
) -> None:
    """Raise InputError for inputs that make no analysis together."""
    if not (examples or logs or vectors or query_vectors or query or runs or tuned):
        raise InputError(
            "nothing to analyse: give runs with --qrels, --against or --examples; or --examples, --logs, --tuned, "
            "--vectors"
        )
    check_margins(runs, qrels, examples, vectors, query, margins)
    if runs and not (qrels or against or examples):
        raise InputError(
            "runs alone say nothing: add --qrels QRELS (errors), --against RUN (overlap) or --examples EXAMPLES "
            "(negatives)"
        )
    if against and not runs:
        raise InputError("--against compares runs with a reference; name the runs")
    if qrels and not (runs or vectors or query_vectors):
        raise InputError("--qrels judges runs, or vectors; name the runs, or --vectors and --query-vectors")
    if not 0 < rbo < 1:
        raise InputError(f"--rbo {rbo:g}: p is above 0 and below 1")
    if rbo != RBO and not against:
        raise InputError("--rbo is of the overlap with --against; name that run too, or leave it out")
    if min_rel != 1 and not qrels:
        raise InputError("--min-rel is a grade of --qrels; name them too, or leave it out")
    if curve and not logs:
        raise InputError("--curve chooses among the numbers of --logs; name the logs")
    check_vectors(vectors, query_vectors, query, qrels, margins)


def check_margins(runs, qrels, examples, vectors, query, margins: bool) -> None:
    """Raise InputError where there are no pairs to take margins of, or nothing that scores them."""
    if not margins:
        return
    if query or not (runs or vectors):
        raise InputError("--margins compares scores; name runs, or --vectors and --query-vectors without --query")
    if examples and len(examples) > 1:
        raise InputError("--margins takes its pairs from one file; pass --examples PAIRS once")
    if not examples and not (runs and qrels):
        raise InputError(
            "--margins needs pairs of a relevant and another document: pass --examples PAIRS, or name runs and their "
            "judgements, --qrels QRELS"
        )


def check_vectors(vectors, query_vectors, query, qrels, margins: bool) -> None:
    """Raise InputError for vectors of which nothing can be made."""
    if not (vectors or query_vectors or query):
        return
    if not (query or qrels or margins):
        raise InputError(
            "vectors need what to look at: --query ID for a query's move, with --query-vectors twice (before and "
            "after), or --qrels QRELS for pairwise errors"
        )
    if query and not (vectors and len(vectors) == 1 and len(query_vectors or ()) == 2):
        raise InputError(
            "a query's move needs --vectors DOCUMENTS, --query ID, and --query-vectors twice: before and after"
        )
    if not vectors or not query_vectors:
        raise InputError("--vectors DOCUMENTS and --query-vectors QUERIES belong together; pass both")


def check_students(student, agreement: bool, scale, max_document_tokens, examples, runs, corpus, queries) -> None:
    """Raise InputError for what does not say whom to compare with which teacher."""
    if scale is not None and not (student or agreement):
        raise InputError("--scale is for --student and --agreement; say one of them too, or leave it out")
    if max_document_tokens and not student:
        raise InputError("--max-document-tokens cuts what --student encodes; name it too, or leave this out")
    if agreement and not runs:
        raise InputError("--agreement compares runs with a teacher; name the runs")
    if (student or agreement) and len(examples or []) != 1:
        raise InputError(
            f"{'--student' if student else '--agreement'} compares with the teacher of one file; say --examples SCORED "
            "once"
        )
    if bool(student) != bool(corpus or queries) or (student and not (corpus and queries)):
        raise InputError("--student needs --corpus CORPUS and --queries QUERIES, and they are for it alone")


def labels_of(paths: list[str]) -> dict[str, str]:
    """Return {label: path}: names without their endings, with as many folders before them as tell them apart.

    A training.jsonl goes by its folder's name. Raises InputError for a path that was named twice.
    """
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise InputError(f"{twice}: was named twice; once is enough")
    parts = [_parts(Path(path)) for path in paths]
    for count in range(1, max(map(len, parts), default=0) + 1):
        labels = ["/".join(names[-count:]) for names in parts]
        if len(set(labels)) == len(labels):
            return dict(zip(labels, paths, strict=True))
    return {path: path for path in paths}


def _parts(path: Path) -> tuple[str, ...]:
    """Return the names of a path's folders and file, without the file's ending."""
    folders = path.absolute().parent.parts
    if path.name == "training.jsonl":
        return folders
    name = path.name.removesuffix(".gz")
    for ending in (".run", ".trec", ".txt", ".jsonl"):
        name = name.removesuffix(ending)
    return (*folders, name or path.name)
