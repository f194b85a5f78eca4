"""Train an encoder on static hard negatives and in-batch negatives (STAR), or on one of its paper's baselines.

Pairwise RankNet over every query and every other query's positive, and every query and all hard negatives of the batch;
what is relevant to a query is masked. `--alpha` weighs the paper's two parts; `--negatives` chooses a baseline; with
`--refresh-every-steps` negatives are mined anew inside the run (ANCE). Examples come from mine-negatives. The result is
a folder that every tool here, Hugging Face and sentence-transformers load. A stopped training continues where it was;
`torchrun -m drtools train-star` trains on several devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import DevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, ShapeFlags, StudentFlags, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.methods.star import StarSettings, train
from drtools.outputs.opening import open_folder
from drtools.outputs.request import add_change
from drtools.search.mining import NO_DUPLICATES

REFRESH = "Refreshed negatives"


@dataclass(frozen=True)
class StarFlags(StarSettings):
    """Which negatives are learnt from, and whether they are mined anew."""

    hard_negatives: Annotated[int, Option(min=0, help="negatives drawn for each query at each visit")] = 1
    negatives: Annotated[
        Literal["static", "own", "in-batch", "random"],
        Option(
            help="static: other queries' positives and the batch's hard negatives (STAR); own: a query's own hard "
            "negatives alone; "
            "in-batch: other queries' positives alone; random: documents of the corpus, drawn anew at each visit, alone"
        ),
    ] = "static"
    alpha: Annotated[
        float | None,
        Option(help="weight of the other rows' documents beside a query's own hard negatives (the paper's Eq. 13)"),
    ] = None
    refresh_every_steps: Annotated[
        int | None,
        Option(min=1, help="encode the corpus and mine the negatives anew so often", rich_help_panel=REFRESH),
    ] = None
    refresh_ranks: Annotated[
        str, Option(help="raw ranks that refreshed negatives come from", rich_help_panel=REFRESH)
    ] = "1-200"
    refresh_negatives: Annotated[
        int, Option(min=1, help="refreshed negatives kept for each query", rich_help_panel=REFRESH)
    ] = 30
    refresh_draw: Annotated[
        Literal["random", "top"],
        Option(
            help="which of these ranks: any, drawn anew at each refresh (ANCE's program), or the best",
            rich_help_panel=REFRESH,
        ),
    ] = "random"
    keep_duplicates: Annotated[
        bool,
        Option(
            "--keep-duplicates",
            help="refreshed and random negatives may be the query's own document (of the query's id) and documents "
            "with a positive's text",
        ),
    ] = False


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    encoder_flags: EncoderFlags,
    shape: ShapeFlags,
    student: StudentFlags,
    training: TrainingFlags,
    dev: DevFlags,
    compute: ComputeFlags,
    settings: StarFlags = StarFlags(),
) -> None:
    """Train an encoder into the output folder."""
    if settings.avoids_duplicates:
        add_change(folder.request, NO_DUPLICATES)
    with open_folder(folder) as work:
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
            card=write_card,
        )
