"""Distil a cross-encoder into an encoder over negatives and dark examples, the clearest queries most (ADAM).

KL divergence of the teacher's and the student's softmax over each query's positive, negatives, reinforced negatives and
noisy positives, of the queries of which the teacher is surest, fewer from epoch to epoch; and a little cross-entropy of
the positive among its negatives. Examples come from make-dark-examples and teacher-score. At each visit of a query
--negatives of those that it lists are drawn, with their dark items; with --teacher they are scored while training.
--baseline is the same without dark examples. The result is a folder that every tool here, Hugging Face and
sentence-transformers load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.common import Role
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import DevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, StudentFlags, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.methods.adam.settings import NEGATIVES, AdamSettings
from drtools.outputs.opening import open_folder
from drtools.outputs.request import add_change

METHOD = "ADAM"
# what 0.1.0 computed otherwise for the same arguments
CHANGE = (
    "negatives are drawn anew at each visit, --reduction sum sums the cross-entropies too, and --teacher reads texts "
    "as long as the student does"
)


@dataclass(frozen=True)
class AdamFlags(AdamSettings):
    """Who scores, what is distilled, and how."""

    teacher: Annotated[
        list[str] | None,
        Option(
            help="score with this cross-encoder while training, through the cache; several are averaged",
            rich_help_panel=METHOD,
        ),
        Role.MODEL,
    ] = None
    teacher_dropout: Annotated[
        float | None,
        Option(
            min=0,
            max=0.9,
            help="--teacher: score with this share of its activations dropped, anew at each step and past the cache "
            "(the paper: 0.1); default: none",
            rich_help_panel=METHOD,
        ),
    ] = None
    accept_scores: Annotated[
        bool,
        Option("--accept-scores", help="learn from the examples' scores whoever gave them", rich_help_panel=METHOD),
    ] = False
    baseline: Annotated[
        Literal["hard-kd", "rand-kd"] | None,
        Option(
            help="the positive and the listed negatives alone, or the positive and random documents (--teacher scores "
            "them)",
            rich_help_panel=METHOD,
        ),
    ] = None
    without: Annotated[
        list[str] | None, Option(help="reinforced, noisy: leave this kind of dark example out", rich_help_panel=METHOD)
    ] = None
    negatives: Annotated[
        int,
        Option(min=0, help="negatives drawn at each visit of a query; 0: all that are listed", rich_help_panel=METHOD),
    ] = NEGATIVES
    with_positive: Annotated[
        bool,
        Option(
            "--with-positive/--without-positive",
            help="distil on the positive too, as section 3.1 of the paper has it; without is its Eq. 9 as printed",
            rich_help_panel=METHOD,
        ),
    ] = True
    pacing: Annotated[
        Literal["epochs", "steps", "none"] | None,
        Option(
            help="share of the queries distilled on, from 1 to 1/2: by epoch as in the paper (default), by step, or "
            "all (default of the baselines)",
            rich_help_panel=METHOD,
        ),
    ] = None
    supervised_weight: Annotated[
        float,
        Option("--lambda", min=0, help="weight of the cross-entropy beside the divergence", rich_help_panel=METHOD),
    ] = 0.01
    kl: Annotated[
        Literal["forward", "reverse"], Option(help="forward: KL(teacher || student)", rich_help_panel=METHOD)
    ] = "forward"
    reduction: Annotated[
        Literal["mean", "sum"],
        Option(
            help="of the divergences and of the cross-entropies over the queries (the paper's Eq. 9 sums)",
            rich_help_panel=METHOD,
        ),
    ] = "mean"


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    student: StudentFlags,
    dev: DevFlags,
    compute: ComputeFlags,
    settings: AdamFlags = AdamFlags(),
    encoder_flags: EncoderFlags = EncoderFlags(max_query_tokens=32, max_document_tokens=128),
    training: TrainingFlags = TrainingFlags(learning_rate=5e-5, batch_queries=128),
) -> None:
    """Distil into the output folder."""
    add_change(folder.request, CHANGE)
    with open_folder(folder) as work:
        from drtools.methods.adam.training import train

        train(
            work,
            settings,
            examples=example_flags,
            start=encoder_flags,
            student=student,
            training=training,
            dev=dev,
            compute=compute,
            card=write_card,
        )
