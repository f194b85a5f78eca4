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

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import DevFlags
from drtools.cli.flags.encoder import EncoderFlags, PieceFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, StudentFlags, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.methods.fgd.settings import FgdSettings
from drtools.outputs.opening import open_folder


@dataclass(frozen=True)
class FgdFlags(FgdSettings):
    """What is distilled, and how."""

    levels: Annotated[str, Option(help="what is distilled, with commas between: document, passage, sentence")] = (
        "passage,sentence"
    )
    spans: Annotated[
        Literal["attention", "mean", "rgat"] | None,
        Option(
            help="a piece's vector: by the last layer's attention to it, the default; its mean; means after a graph of "
            "passages and sentences"
        ),
    ] = None
    contrastive_weight: Annotated[
        float, Option("--lambda", min=0, help="weight of the documents' contrastive loss")
    ] = 0.2
    hard_negatives: Annotated[int, Option(min=1, help="hard negatives drawn for each query at each visit")] = 8
    negative_pieces: Annotated[
        int | None,
        Option(min=1, help="of their passages, and of these passages' sentences, how many to learn from; default: 8"),
    ] = None
    kl: Annotated[
        Literal["teacher-student", "student-teacher"],
        Option(help="KL(teacher || student), or the paper's printed KL(student || teacher)"),
    ] = "teacher-student"
    accept_scores: Annotated[bool, Option("--accept-scores", help="learn from scores of whoever gave them")] = False


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    student: StudentFlags,
    dev: DevFlags,
    compute: ComputeFlags,
    settings: FgdFlags = FgdFlags(),
    pieces: PieceFlags = PieceFlags(),
    encoder_flags: EncoderFlags = EncoderFlags(max_query_tokens=32, max_document_tokens=512),
    training: TrainingFlags = TrainingFlags(learning_rate=3e-6, batch_queries=64),
) -> None:
    """Distill into the output folder."""
    settings.check_pieces(pieces)
    with open_folder(folder) as work:
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
