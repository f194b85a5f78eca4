r"""Train a relevance module (REM) that works with any adapted body (DDR).

    drtools train-rem --model source-dam --corpus source.jsonl.gz --queries queries.jsonl.gz \
        --examples examples.jsonl -o rem
    drtools encode --body target-dam --rem rem --corpus target.jsonl.gz -o target-vectors

A REM is a LoRA and a parallel adapter on a frozen body. It is trained once, on labels from any domain. It is then used
with bodies that mlm-adapt adapted to other domains (DAMs, domain-adapted modules), which needs no labels there: pass
`--body DAM --rem REM` wherever a tool takes an encoder.

--loss contrast is the softmax over in-batch and hard negatives; kl and margin-mse learn a teacher's scores. A REM
is a small folder that names its body; a body of another family, depth or tokenizer is refused. A stopped training
continues where it was. `torchrun -m drtools train-rem` trains on several devices.
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
    Dropout,
    ExampleFlags,
    GuardFlags,
    Matryoshka,
    Scale,
    TeacherTemperature,
    TrainingFlags,
    epochs_option,
    loss_option,
)
from drtools.cli.model_card import write_card
from drtools.methods.contrastive import LossName
from drtools.methods.ddr.settings import REM_EPOCHS, RemTrainingSettings
from drtools.outputs.opening import open_folder

PANEL = "Relevance module"


@dataclass(frozen=True)
class RemFlags(RemTrainingSettings):
    """The size of the REM, its negatives and the loss."""

    lora_rank: Annotated[
        int,
        Option(
            min=0, help="rank of LoRA on the query and value projections of every layer; 0: none", rich_help_panel=PANEL
        ),
    ] = 192
    adapter_size: Annotated[
        int,
        Option(
            min=0,
            help="bottleneck size of the adapter parallel to every feed-forward block; 0: none",
            rich_help_panel=PANEL,
        ),
    ] = 192
    adapter_scale: Annotated[float, Option(help="factor applied to the adapter's output", rich_help_panel=PANEL)] = 4.0
    dropout: Dropout = None
    scale: Scale = None
    matryoshka: Matryoshka = None
    loss: Annotated[LossName, loss_option()] = "contrast"
    hard_negatives: Annotated[int, Option(min=0, help="hard negatives drawn for each query at each visit")] = 3
    accept_scores: AcceptScores = False
    teacher_temperature: TeacherTemperature = None


MARGIN_EPOCHS = f"{REM_EPOCHS['margin-mse']} with --loss kl and margin-mse"


@dataclass(frozen=True)
class RemTraining(TrainingFlags):
    """Length of the training, batches and learning rate, with the default number of epochs."""

    epochs: Annotated[float | None, epochs_option(REM_EPOCHS["contrast"], MARGIN_EPOCHS)] = None


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    encoder_flags: EncoderFlags,
    dev: DevFlags,
    compute: ComputeFlags,
    training: RemTraining = RemTraining(batch_queries=128, learning_rate=2e-5, schedule="constant", weight_decay=0.0),
    settings: RemFlags = RemFlags(),
    guarding: GuardFlags = GuardFlags(),
) -> None:
    """Train a REM into the output folder."""
    example_flags.note_changes(folder.request)
    with open_folder(folder, training.dry_run) as work:
        from drtools.methods.ddr.rem import train

        train(
            work,
            settings,
            examples=example_flags,
            start=encoder_flags,
            training=training,
            dev=dev,
            compute=compute,
            guarding=guarding,
            card=write_card,
        )
