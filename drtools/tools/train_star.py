r"""Train an encoder on static hard negatives (STAR), or a baseline of its paper.

    drtools train-star --model sentence-transformers/all-MiniLM-L6-v2 --corpus corpus.jsonl.gz \
        --queries queries.jsonl.gz --examples examples.jsonl --dev-qrels qrels/dev.tsv -o star
    drtools train-star --model star --corpus corpus.jsonl.gz --queries queries.jsonl.gz \
        --examples examples.jsonl --refresh-every-steps 1000 --minutes 60 -o ance

The loss is pairwise RankNet. The negatives of a query are the positives of the other queries and all hard negatives of
the batch; documents that are relevant to the query are masked. --alpha weights the two parts of the paper's loss.
--negatives selects a baseline. With --refresh-every-steps negatives are mined again during training (ANCE). Examples
come from mine-negatives.

The result is a folder that all tools here, Hugging Face and sentence-transformers can load. A stopped training
continues where it was. `torchrun -m drtools train-star` trains on several devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import DevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, GuardFlags, ShapeFlags, StudentFlags, TrainingFlags, epochs_option
from drtools.cli.model_card import write_card
from drtools.methods.star import EPOCHS, StarSettings, train
from drtools.outputs.opening import open_folder
from drtools.outputs.request import add_change
from drtools.search.mining import NO_DUPLICATES

REFRESH = "Refreshed negatives"


@dataclass(frozen=True)
class StarFlags(StarSettings):
    """Which negatives are used, and whether they are mined again during training."""

    hard_negatives: Annotated[int, Option(min=0, help="negatives drawn for each query at each visit")] = 1
    negatives: Annotated[
        Literal["static", "own", "in-batch", "random"],
        Option(
            help="static: other queries' positives and all hard negatives of the batch (STAR); own: only the query's "
            "own hard negatives; in-batch: only other queries' positives; random: only documents of the corpus, drawn "
            "at each visit"
        ),
    ] = "static"
    alpha: Annotated[
        float | None,
        Option(
            help="weight of other queries' documents relative to a query's own hard negatives (Eq. 13 of the paper)"
        ),
    ] = None
    refresh_every_steps: Annotated[
        int | None,
        Option(
            min=1, help="steps between refreshes: encode the corpus and mine negatives again", rich_help_panel=REFRESH
        ),
    ] = None
    refresh_ranks: Annotated[str, Option(help="ranks to take refreshed negatives from", rich_help_panel=REFRESH)] = (
        "1-200"
    )
    refresh_negatives: Annotated[
        int, Option(min=1, help="number of refreshed negatives for each query", rich_help_panel=REFRESH)
    ] = 30
    refresh_draw: Annotated[
        Literal["random", "top"],
        Option(
            help="draw them at random at each refresh (as ANCE's program does), or take the highest ranks",
            rich_help_panel=REFRESH,
        ),
    ] = "random"
    keep_duplicates: Annotated[
        bool,
        Option(
            "--keep-duplicates",
            help="allow the document with the query's id, and documents with the same text as a positive, as refreshed "
            "and random negatives",
        ),
    ] = False


@dataclass(frozen=True)
class StarTraining(TrainingFlags):
    """Length of the training, batches and learning rate, with the default number of epochs."""

    epochs: Annotated[float | None, epochs_option(EPOCHS)] = None


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    encoder_flags: EncoderFlags,
    shape: ShapeFlags,
    student: StudentFlags,
    training: StarTraining,
    dev: DevFlags,
    compute: ComputeFlags,
    settings: StarFlags = StarFlags(),
    guarding: GuardFlags = GuardFlags(),
) -> None:
    """Train an encoder into the output folder."""
    if settings.avoids_duplicates:
        add_change(folder.request, NO_DUPLICATES)
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
            guarding=guarding,
            card=write_card,
        )
