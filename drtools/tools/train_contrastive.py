r"""Train an encoder by contrast over in-batch and hard negatives (DPR).

    drtools train-contrastive --model sentence-transformers/all-MiniLM-L6-v2 \
        --corpus corpus.jsonl.gz --queries queries.jsonl.gz --examples examples.jsonl \
        --dev-qrels qrels/dev.tsv -o dpr
    drtools train-contrastive --model bert-base-uncased --pooling cls --max-document-tokens 512 \
        --corpus corpus.jsonl.gz --queries queries.jsonl.gz --examples examples.jsonl -o long

The loss is the cross-entropy of each query's positive among all positives and hard negatives of the batch. Other
documents that are relevant to the query are masked, and with --guide those that another encoder scores above the
positive. With --loss margin-mse the encoder learns the score margins of a teacher between a positive and its own
negatives instead (DDR's distilled baselines), with --loss kl the teacher's softmax over these documents. Examples come
from mine-negatives, scores from teacher-score.

The result is a folder that all tools here, Hugging Face and sentence-transformers can load. A stopped training
continues where it was. `torchrun -m drtools train-contrastive` trains on several devices.

With --beside-documents and --beside-queries, the fixed vectors of another encoder, the score is s1 + mu * s2. This
encoder and mu are trained together (SPAR's joint training). Join both encoders' vectors with concat-spar afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import DevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import (
    AcceptScores,
    BesideFlags,
    ExampleFlags,
    GuardFlags,
    ShapeFlags,
    StudentFlags,
    TeacherTemperature,
    TrainingFlags,
    epochs_option,
    loss_option,
)
from drtools.cli.model_card import write_card
from drtools.methods.contrastive import EPOCHS, ContrastiveSettings, LossName, train
from drtools.outputs.opening import open_folder


@dataclass(frozen=True)
class LossFlags(ContrastiveSettings):
    """The negatives of each query, and the loss."""

    loss: Annotated[LossName | None, loss_option("; default: contrast")] = None
    hard_negatives: Annotated[int, Option(min=0, help="hard negatives drawn for each query at each visit")] = 1
    accept_scores: AcceptScores = False
    teacher_temperature: TeacherTemperature = None


MARGIN_EPOCHS = f"{EPOCHS['margin-mse']} with --loss kl and margin-mse"


@dataclass(frozen=True)
class ContrastiveTraining(TrainingFlags):
    """Length of the training, batches and learning rate, with the default number of epochs."""

    epochs: Annotated[float | None, epochs_option(EPOCHS["contrast"], MARGIN_EPOCHS)] = None


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    encoder_flags: EncoderFlags,
    shape: ShapeFlags,
    student: StudentFlags,
    training: ContrastiveTraining,
    dev: DevFlags,
    compute: ComputeFlags,
    settings: LossFlags = LossFlags(),
    guarding: GuardFlags = GuardFlags(),
    beside_flags: BesideFlags = BesideFlags(),
) -> None:
    """Train an encoder into the output folder."""
    example_flags.note_changes(folder.request)
    with open_folder(folder, training.dry_run) as work:
        train(
            work,
            settings,
            examples=example_flags,
            start=encoder_flags,
            shape=shape,
            student=student,
            training=training,
            dev=dev,
            compute=compute,
            beside=beside_flags,
            guarding=guarding,
            card=write_card,
        )
