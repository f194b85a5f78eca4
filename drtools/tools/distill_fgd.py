r"""Distill a cross-encoder's scores of a document's passages and sentences into an encoder of long documents (FGD).

One pass gives vectors of a document and of its pieces; pieces learn the teacher's scores against pieces of hard
negatives, chosen top down as the encoder scores them at that step; the document learns by contrast. Examples are scored
beforehand:

    drtools teacher-score --examples examples.jsonl --teacher ranker --pieces start --corpus corpus.jsonl.gz ... \
        -o scored.jsonl
    drtools distill-fgd --model start --examples scored.jsonl --corpus corpus.jsonl.gz --queries queries.jsonl.gz -o fgd

`--levels` and `--spans` make the paper's ablations: document alone, without passages, without sentences, mean-pooled
spans, a graph. A start that pools by the mean takes `--pooling cls` (train it so by train-contrastive first). A stopped
training continues where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from drtools import reporting
from drtools.cli.flags.common import names_of
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import DevFlags
from drtools.cli.flags.encoder import EncoderFlags, PieceFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, StudentFlags, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.errors import InputError
from drtools.outputs import work as output

if TYPE_CHECKING:
    from drtools.models.spans import SpanKind

LEVELS = ("document", "passage", "sentence")
PAPER_WARMUP = 1000
PAPER_EPOCHS = 20
NEGATIVE_PIECES = 8  # [ours]


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    student: StudentFlags,
    dev: DevFlags,
    compute: ComputeFlags,
    levels: Annotated[
        str, Option(help="what is distilled, with commas between: document, passage, sentence")
    ] = "passage,sentence",
    spans: Annotated[
        Literal["attention", "mean", "rgat"] | None,
        Option(
            help="a piece's vector: by the last layer's attention to it, the default; its mean; means after a graph of "
            "passages and sentences"
        ),
    ] = None,
    contrastive_weight: Annotated[
        float, Option("--lambda", min=0, help="weight of the documents' contrastive loss")
    ] = 0.2,
    hard_negatives: Annotated[int, Option(min=1, help="hard negatives drawn for each query at each visit")] = 8,
    negative_pieces: Annotated[
        int | None,
        Option(min=1, help="of their passages, and of these passages' sentences, how many to learn from; default: 8"),
    ] = None,
    kl: Annotated[
        Literal["teacher-student", "student-teacher"],
        Option(help="KL(teacher || student), or the paper's printed KL(student || teacher)"),
    ] = "teacher-student",
    accept_scores: Annotated[bool, Option("--accept-scores", help="learn from scores of whoever gave them")] = False,
    pieces: PieceFlags = PieceFlags(),
    encoder_flags: EncoderFlags = EncoderFlags(max_query_tokens=32, max_document_tokens=512),
    training: TrainingFlags = TrainingFlags(learning_rate=3e-6, batch_queries=64),
) -> None:
    """Compose: scored examples into batches of documents with pieces, FGD's loss, the one loop, a model folder."""
    wanted = parse_levels(levels)
    of_pieces = names_of({"spans": spans, "negative_pieces": negative_pieces}) + pieces.said
    if wanted == ("document",) and of_pieces:
        raise InputError(
            f"{' and '.join(of_pieces)}: for pieces, of which --levels document has none; leave it out, or add a level"
        )
    with output.folder(folder) as work:
        from drtools.methods.dev import measure_on
        from drtools.methods.fgd.training import FgdLoss
        from drtools.training.encoder_task import EncoderTraining, read_sources
        from drtools.training.examples import Scores

        task = EncoderTraining(work, encoder_flags, student, training, compute)
        task.write_card = write_card
        sources = read_sources(example_flags, Scores.ANY if accept_scores else Scores.TEACHER)
        unscored = unscored_documents(sources) if "document" in wanted else 0
        reporting.notice(
            unscored, f"{unscored:,} documents of the examples have no score; the documents' KL leaves them out"
        )
        passages, learner = 0, None
        if wanted == ("document",):
            batches = task.pair_batches(sources, negatives=hard_negatives)
        else:
            batches, passages, learner = with_pieces(
                task, sources, example_flags.examples, pieces, spans or "attention", hard_negatives
            )
        loss = FgdLoss(
            wanted,
            task.model.dimension,
            passages,
            task.scale,
            weight=contrastive_weight,
            negative_pieces=negative_pieces or NEGATIVE_PIECES,
            direction=kl,
        )
        task.fit(
            batches,
            loss,
            batches.epoch_queries,
            measure_on(task, dev, sources, example_flags.queries[0]),
            default_epochs=PAPER_EPOCHS,
            paper_warmup=PAPER_WARMUP,
            learner=learner,
        )
        task.finish(queries=sum(len(source.examples) for source in sources), scored_by=sources[0].examples.scored_by)


def parse_levels(text: str) -> tuple[str, ...]:
    """Read levels with commas between."""
    levels = tuple(word.strip() for word in text.split(","))
    if len(set(levels)) < len(levels) or not set(levels) <= set(LEVELS):
        raise InputError(
            f"--levels {text}: expected some of {', '.join(LEVELS)}, with commas between; what is left without any is "
            "train-contrastive"
        )
    return levels


def with_pieces(task, sources, paths: list[str], sizes: PieceFlags, spans: SpanKind, hard_negatives: int):
    """Return batches of documents with pieces, the passages of a row, and the encoder as it is trained.

    With its spans, which its settings remember.
    """
    from drtools.methods.fgd.batches import FineGrainedBatches, read_piece_scores
    from drtools.methods.fgd.graph import SpanStudent
    from drtools.models.pieces import cut_of, layout_of

    document = task.model.of("document")
    layout = layout_of(document, sizes)
    document.settings.pieces = {"spans": spans, **vars(layout.sizes)}
    learner = SpanStudent(task.model, layout.passages, layout.sentences, spans, task.training.seed)
    scores = [
        read_piece_scores(path, source.examples, source.store, cut_of(document, layout, source.title_separator))
        for path, source in zip(paths, sources, strict=True)
    ]
    batches = FineGrainedBatches(
        sources,
        scores,
        task.model,
        layout,
        batch_queries=task.training.batch_queries,
        negatives=hard_negatives,
        seed=task.training.seed,
        shares=task.world.shares,
        rank=task.world.rank,
    )
    return batches, layout.passages, learner


def unscored_documents(sources) -> int:
    """Count the documents of the examples without a score."""
    import numpy as np

    return sum(
        int(np.isnan(lists.flat).sum())
        for source in sources
        for lists in (source.examples.positive_scores, source.examples.negative_scores)
    )
