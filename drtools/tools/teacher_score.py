r"""Score examples by a cross-encoder, or rank a run anew with it.

    drtools teacher-score --teacher ranker --examples examples.jsonl --corpus corpus.jsonl.gz \
        --queries queries.jsonl.gz -o scored.jsonl
    drtools teacher-score --teacher ranker --run bm25.run --corpus corpus.jsonl.gz --queries queries.jsonl.gz \
        -o ranked.run

A teacher is any Hugging Face sequence classifier with one output, or two (the second minus the first); several are
averaged. Scores are raw logits; examples get them, for dark items too, with scored_by, the teacher's name@fingerprint.
Each score is kept in the cache as soon as its batch is done: a stopped scoring continues, and no pair is scored twice.
--pieces MODEL scores each document's passages and sentences besides, alone and cut by the tokens of MODEL, for
distill-fgd.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import Queries, Role, TitleSeparator, names_of
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import PieceFlags
from drtools.cli.flags.outputs import FileOutput
from drtools.errors import InputError
from drtools.outputs import work as output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drtools.methods.fgd.piece_scores import Cutter
    from drtools.teachers.windows import Contributor, Lacking, Texts

TEACHER = "Teacher"
PIECES = "Pieces"


def main(
    file: FileOutput,
    compute: ComputeFlags,
    teacher: Annotated[
        list[str],
        Option(
            help="cross-encoder: a folder or a name on the hub; several times to average several",
            rich_help_panel=TEACHER,
        ),
        Role.MODEL,
    ],
    corpus: Annotated[str, Option(help="corpus: JSONL or TSV, `.gz`"), Role.INPUT],
    queries: Queries,
    given: Annotated[
        str | None,
        Argument(metavar="[EXAMPLES]", help="the same as --examples, for pipes: `... | drtools teacher-score - ...`"),
        Role.INPUT,
    ] = None,
    examples: Annotated[str | None, Option(help="examples to score: JSONL, `.gz` or `-`"), Role.INPUT] = None,
    run: Annotated[str | None, Option(help="run to rank anew"), Role.INPUT] = None,
    depth: Annotated[
        int, Option(min=1, help="documents of --run that are scored, for each query; the others are left out")
    ] = 100,
    max_query_tokens: Annotated[
        int | None,
        Option(
            min=1, help="cut queries here, special tokens not counted; default: the model's", rich_help_panel=TEACHER
        ),
    ] = None,
    max_document_tokens: Annotated[
        int | None,
        Option(
            min=1, help="cut documents here, special tokens not counted; default: the model's", rich_help_panel=TEACHER
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool, Option("--trust-remote-code", help="run code that comes with the model", rich_help_panel=TEACHER)
    ] = False,
    batch_tokens: Annotated[
        int | None, Option(min=1, help="tokens in a batch; default by device", rich_help_panel="Computing")
    ] = None,
    window: Annotated[
        int | None,
        Option(
            min=1,
            help="pairs that are sorted by length and written together; default: 10000 for each device",
            rich_help_panel="Computing",
        ),
        Role.UNRECORDED,
    ] = None,
    title_separator: TitleSeparator = " ",
    tag: Annotated[str, Option(help="the run's last column")] = "drtools",
    pieces: Annotated[
        str | None,
        Option(help="--examples: score pieces too; the encoder that is to learn from them", rich_help_panel=PIECES),
        Role.MODEL,
    ] = None,
    pieces_max_document_tokens: Annotated[
        int | None, Option(min=1, help="where that encoder cuts documents; default: 512", rich_help_panel=PIECES)
    ] = None,
    pieces_document_prompt: Annotated[
        str | None,
        Option(
            help="text before each document, as distill-fgd's --document-prompt; default: that encoder's",
            rich_help_panel=PIECES,
        ),
    ] = None,
    sizes: PieceFlags = PieceFlags(),
) -> None:
    """Compose.

    Windows of pairs out of examples or a run, their scores through the cache, the same written in its order.
    """
    if sum(source is not None for source in (given, examples, run)) != 1:
        raise InputError("say either --examples EXAMPLES or --run RUN")
    examples = examples or given
    if pieces and run:
        raise InputError("--pieces scores the pieces of --examples; a run has none")
    of_pieces = (
        names_of(
            {"pieces_max_document_tokens": pieces_max_document_tokens, "pieces_document_prompt": pieces_document_prompt}
        )
        + sizes.said
    )
    if of_pieces and not pieces:
        raise InputError(
            f"{' and '.join(of_pieces)}: for pieces, which are scored by --pieces MODEL; say it too, or leave these out"
        )
    with output.file(file) as work:
        from drtools.formats.corpora import read_queries
        from drtools.formats.corpus_store import open_store
        from drtools.formats.lines import shown
        from drtools.methods.fgd.piece_scores import load_cutter
        from drtools.models.compute import settle
        from drtools.teachers.scoring import WINDOW_PAIRS, load_teacher
        from drtools.teachers.windows import Lacking, Texts

        cutter = (
            load_cutter(pieces, pieces_max_document_tokens, sizes, pieces_document_prompt, trust_remote_code)
            if pieces
            else None
        )
        texts = Texts(read_queries(queries), open_store(corpus), title_separator, shown(queries))
        lacking = Lacking(texts, work.state.get("first", {}))
        computing = settle(compute, batch_tokens, several=True)
        window = window or WINDOW_PAIRS * len(computing.devices)
        scorer = load_teacher(
            teacher,
            computing,
            max_query_tokens=max_query_tokens,
            max_document_tokens=max_document_tokens,
            trust_remote_code=trust_remote_code,
        )
        if examples:
            counts = score_examples(scorer, examples, texts, cutter, lacking, window, work)
        else:
            assert run is not None, "one of the two is said"
            counts = rank_run(scorer, run, depth, texts, lacking, window, tag, work)
        counts.update(scorer.counts)
        report(counts, lacking)
        work.finish(
            kind="examples" if examples else "run",
            scored_by=scorer.name,
            max_query_tokens=scorer.max_query_tokens,
            max_document_tokens=scorer.max_document_tokens,
            precision=computing.precision,
            counts=dict(counts),
        )


def score_examples(
    teacher, path: str, texts: Texts, cutter: Cutter | None, lacking: Lacking, window: int, work
) -> Counter:
    """Write every example with its scores, in order."""
    from functools import partial

    from drtools.formats.examples import read_examples
    from drtools.methods.adam.dark import dark_asked
    from drtools.methods.fgd.piece_scores import drop_pieces
    from drtools.teachers.windows import check_texts, documents_in, example_windows, with_scores

    check_texts(((each.query_id, documents_in(each)) for each in read_examples(path)), texts, path)

    def write(example_and_asked, scores: Iterator[float], counts: Counter) -> None:
        example, asked = example_and_asked
        with_text = sum(item.text is not None for item in asked)
        known = example.query_id in texts.queries
        if len(asked) > with_text or not known:
            lacking.look_up(example.query_id, documents_in(example))
        dropped = cutter is None and drop_pieces(example, teacher.name)
        counts.update(
            {
                "examples": 1,
                "lacking queries": not known,
                "lacking documents": (len(asked) - with_text) * known,
                "dropped": dropped,
                "cut reinforced": sum(item.text is not None and item.cut for item in asked),
            }
        )
        work.stream.write(with_scores(example, asked, islice(scores, with_text), teacher.name).line())

    contributors: list[Contributor] = [partial(dark_asked, teacher=teacher)]
    if cutter:
        contributors.append(cutter.asked)
    examples = islice(read_examples(path), work.state.get("counts", {}).get("examples", 0), None)
    return write_windows(teacher, example_windows(examples, texts, contributors, window), write, lacking, work)


def rank_run(teacher, path: str, depth: int, texts: Texts, lacking: Lacking, window: int, tag: str, work) -> Counter:
    """Write the run in the teacher's order, query by query."""
    from drtools.formats.trec import rank, read_run, write_run
    from drtools.teachers.windows import check_texts, run_windows

    def write(ranked, scores: Iterator[float], counts: Counter) -> None:
        query_id, documents, without = ranked
        counts.update({"queries": 1, "lacking queries": query_id not in texts.queries, "lacking documents": without})
        if without or query_id not in texts.queries:
            lacking.look_up(query_id, list(run[query_id])[:depth])
        write_run(
            work.stream, [(query_id, rank(dict(zip(documents, islice(scores, len(documents)), strict=True))))], tag
        )

    run = read_run(path)
    check_texts(((query_id, list(hits)[:depth]) for query_id, hits in run.items()), texts, path)
    hits = dict(islice(run.items(), work.state.get("counts", {}).get("queries", 0), None))
    return write_windows(teacher, run_windows(hits, depth, texts, window), write, lacking, work)


def write_windows(
    teacher, windows, write: Callable[[Any, Iterator[float], Counter], None], lacking: Lacking, work
) -> Counter:
    """Score window by window; one that is written counts as done."""
    counts = Counter(work.state.get("counts", {}))
    with reporting.progress("scoring", None, "pairs") as progress:
        for things, scores in teacher.stream(windows, progress.advance):
            values = iter(scores.tolist())
            for thing in things:
                write(thing, values, counts)
            counts["pairs"] += len(scores)
            work.save(counts=dict(counts), first=lacking.first)
    return counts


def report(counts: Counter, lacking: Lacking) -> None:
    """Say what was scored, and count what was odd."""
    from drtools.teachers.scoring import note_cuts

    reporting.say(f"{counts['pairs']:,} pairs; {counts['computed']:,} scores were computed now, the others were known")
    for name, words in (
        ("lacking queries", "queries have no text; what belongs to them has no score"),
        ("lacking documents", "documents are not in the corpus; they have no score"),
        ("dropped", "examples had pieces that another teacher scored; left out, --pieces MODEL scores them anew"),
        (
            "cut reinforced",
            "reinforced negatives were longer than twice a document, or than the teacher reads beside their query, and "
            "lost the end of a half or of both",
        ),
    ):
        pair = f" {lacking.joins[name].pair()}" if name in lacking.joins else ""
        reporting.notice(counts[name], f"{counts[name]:,} {words}{pair}")
    note_cuts(counts)
