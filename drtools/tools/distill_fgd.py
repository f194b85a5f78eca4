r"""Distill a cross-encoder into an encoder of long documents, by pieces (FGD).

    drtools distill-fgd --model long --corpus corpus.jsonl.gz --queries queries.jsonl.gz \
        --examples pieces.jsonl -o fgd
    drtools distill-fgd --model long --corpus corpus.jsonl.gz --queries queries.jsonl.gz \
        --examples pieces.jsonl --levels document,passage --dev-qrels qrels/dev.tsv -o passages

Pieces are the passages and sentences of a document. One forward pass gives the vectors of a document and of its pieces.
Pieces learn the teacher's scores against pieces of hard negatives, which are chosen top down by the encoder's own
scores at that step. The document is trained with a contrastive loss. Score the examples first: `drtools teacher-score
--pieces MODEL`.

--levels and --spans select the paper's ablations: document only, without passages, without sentences, mean-pooled
spans, a graph. If the start encoder uses mean pooling, pass --pooling cls, and train it that way with
train-contrastive first. A stopped training continues where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import DevFlags
from drtools.cli.flags.encoder import EncoderFlags, PieceFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, StudentFlags, TrainingFlags, epochs_option
from drtools.cli.model_card import write_card
from drtools.methods.fgd.settings import EPOCHS, FgdSettings
from drtools.outputs.opening import open_folder


@dataclass(frozen=True)
class FgdFlags(FgdSettings):
    """What is distilled, and how."""

    levels: Annotated[str, Option(help="levels to distill, separated by commas: document, passage, sentence")] = (
        "passage,sentence"
    )
    spans: Annotated[
        Literal["attention", "mean", "rgat"] | None,
        Option(
            help="vector of a piece: weighted by the last layer's attention (the default), its mean, or its mean after "
            "a graph of passages and sentences"
        ),
    ] = None
    contrastive_weight: Annotated[
        float, Option("--lambda", min=0, help="weight of the documents' contrastive loss")
    ] = 0.2
    hard_negatives: Annotated[int, Option(min=1, help="hard negatives drawn for each query at each visit")] = 8
    negative_pieces: Annotated[
        int | None,
        Option(min=1, help="number of their passages, and of the sentences of these, to learn from; default: 8"),
    ] = None
    kl: Annotated[
        Literal["teacher-student", "student-teacher"],
        Option(help="KL(teacher || student), or KL(student || teacher) as printed in the paper"),
    ] = "teacher-student"
    accept_scores: Annotated[bool, Option("--accept-scores", help="accept scores from any source")] = False


@dataclass(frozen=True)
class FgdTraining(TrainingFlags):
    """Length of the training, batches and learning rate, with the default number of epochs."""

    epochs: Annotated[float | None, epochs_option(EPOCHS)] = None


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    student: StudentFlags,
    dev: DevFlags,
    compute: ComputeFlags,
    settings: FgdFlags = FgdFlags(),
    pieces: PieceFlags = PieceFlags(),
    encoder_flags: EncoderFlags = EncoderFlags(max_query_tokens=32, max_document_tokens=512),
    training: FgdTraining = FgdTraining(learning_rate=3e-6, batch_queries=64),
) -> None:
    """Train an encoder into the output folder."""
    settings.check_pieces(pieces)
    example_flags.note_changes(folder.request)
    with open_folder(folder, training.dry_run) as work:
        from drtools.methods.fgd.training import train

        train(
            work,
            settings,
            examples=example_flags,
            start=encoder_flags,
            pieces=pieces,
            student=student,
            training=training,
            dev=dev,
            compute=compute,
            card=write_card,
        )
