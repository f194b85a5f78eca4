r"""Score examples with a cross-encoder (a teacher), or re-rank a run.

    drtools teacher-score dark.jsonl --teacher ranker --corpus corpus.jsonl.gz \
        --queries queries.jsonl.gz -o scored.jsonl
    drtools teacher-score --run bm25.run --teacher ranker --corpus corpus.jsonl.gz \
        --queries queries.jsonl.gz -o by-ranker.run
    drtools teacher-score examples.jsonl --scores by-ranker.run -o by-run.jsonl
    drtools teacher-score examples.jsonl --teacher ranker --pieces long --corpus corpus.jsonl.gz \
        --queries queries.jsonl.gz -o pieces.jsonl

A teacher is any Hugging Face sequence classifier with one output, or with two (the score is the second minus the
first), or a language model that answers with one of two tokens (the score is the difference of their logits): any in
the form of sentence-transformers' CrossEncoder, Qwen3-Reranker, bge-reranker-v2-gemma and -minicpm-layerwise,
mxbai-rerank-v2, monoT5. Others need --pair-template and --score-tokens. Only queries and documents are cut, never the
template. The scores of several teachers are averaged. Scores are raw logits. They are written into the examples, for
dark items too, with scored_by, the teacher's name@fingerprint. Each score is cached when its batch is
done (after the first 10,000, every five seconds and when the scoring is stopped): a stopped scoring continues, and no
pair is scored twice.

--scores RUN puts the scores of any other ranker into the examples, by ids. Documents that the run does not have for
their query are counted, and get no score.

--pieces MODEL also scores each document's passages and sentences on their own, for distill-fgd. They are cut by the
tokens of MODEL. With --only-pieces the whole documents, a third of the teacher's tokens, are not scored: distill-fgd
reads their scores only with --levels document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Argument, Option

from drtools.cli.flags.common import DryRun, PartFlag, Role, TitleSeparator
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import PieceFlags
from drtools.cli.flags.outputs import FileOutput
from drtools.cli.flags.teacher import ReadingFlags
from drtools.methods.scoring_settings import ScoringSettings
from drtools.methods.teacher_scores import score
from drtools.outputs.opening import open_file

TEACHER = "Teacher"
PIECES = "Pieces"


@dataclass(frozen=True)
class ScoringFlags(ScoringSettings):
    """The teacher, the data that it scores, and its maximum lengths."""

    teacher: Annotated[
        list[str] | None,
        Option(
            help="cross-encoder: a folder or a name on the hub; repeat it to average several",
            rich_help_panel=TEACHER,
        ),
        Role.MODEL,
    ] = None
    scores: Annotated[
        str | None,
        Option(help="instead of --teacher: a run of any other ranker, whose scores go into --examples"),
        Role.INPUT,
    ] = None
    corpus: Annotated[str | None, Option(help="corpus file: JSONL or TSV, may be `.gz`"), Role.INPUT] = None
    queries: Annotated[
        str | None, Option(help="queries file: JSONL or TSV, may be `.gz`; `-`: standard input"), Role.INPUT
    ] = None
    given: Annotated[
        str | None,
        Argument(metavar="[EXAMPLES]", help="the same as --examples, for pipes: `... | drtools teacher-score - ...`"),
        Role.INPUT,
    ] = None
    examples: Annotated[
        str | None, Option(help="examples to score: JSONL, may be `.gz`; `-`: standard input"), Role.INPUT
    ] = None
    run: Annotated[str | None, Option(help="run to re-rank"), Role.INPUT] = None
    depth: Annotated[int, Option(min=1, help="documents of --run to score for each query; the others are left out")] = (
        100
    )
    max_query_tokens: Annotated[
        int | None,
        Option(
            min=1,
            help="truncate queries to this length, without special tokens; default: the model's",
            rich_help_panel=TEACHER,
        ),
    ] = None
    max_document_tokens: Annotated[
        int | None,
        Option(
            min=1,
            help="truncate documents to this length, without special tokens; default: the model's",
            rich_help_panel=TEACHER,
        ),
    ] = None
    trust_remote_code: Annotated[
        bool, Option("--trust-remote-code", help="run code that comes with the model", rich_help_panel=TEACHER)
    ] = False
    batch_tokens: Annotated[
        int | None, Option(min=1, help="tokens in a batch; default: depends on the device", rich_help_panel="Computing")
    ] = None
    window: Annotated[
        int | None,
        Option(
            min=1,
            help="number of pairs that are sorted by length and written together; default: 10000 for each device",
            rich_help_panel="Computing",
        ),
        Role.UNRECORDED,
    ] = None
    title_separator: TitleSeparator = " "
    tag: Annotated[str, Option(help="name of the run, its last column")] = "drtools"
    pieces: Annotated[
        str | None,
        Option(
            help="also score the pieces of the documents of --examples; the encoder that will learn from them",
            rich_help_panel=PIECES,
        ),
        Role.MODEL,
    ] = None
    only_pieces: Annotated[
        bool,
        Option(
            "--only-pieces",
            help="score the pieces and not the whole documents, which only distill-fgd --levels document reads",
            rich_help_panel=PIECES,
        ),
    ] = False
    pieces_max_document_tokens: Annotated[
        int | None,
        Option(min=1, help="length to which that encoder truncates documents; default: 512", rich_help_panel=PIECES),
    ] = None
    pieces_document_prompt: Annotated[
        str | None,
        Option(
            help="text put before each document, as in distill-fgd --document-prompt; default: that encoder's",
            rich_help_panel=PIECES,
        ),
    ] = None
    part: PartFlag = None


def main(
    file: FileOutput,
    compute: ComputeFlags,
    settings: ScoringFlags,
    reading: ReadingFlags = ReadingFlags(),
    sizes: PieceFlags = PieceFlags(),
    dry_run: DryRun = False,
) -> None:
    """Write examples with scores, or a re-ranked run, to the output."""
    settings.check_pieces(sizes)
    with open_file(file, dry_run) as work:
        score(work, settings, sizes=sizes, compute=compute, reading=reading)
