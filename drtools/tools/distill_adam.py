r"""Distill a cross-encoder into an encoder, with dark examples (ADAM).

    drtools distill-adam --model star --corpus corpus.jsonl.gz --queries queries.jsonl.gz \
        --examples scored.jsonl -o student
    drtools distill-adam --model star --corpus corpus.jsonl.gz --queries queries.jsonl.gz \
        --examples dark.jsonl --teacher ranker --dev-qrels qrels/dev.tsv -o scored-in-training

Examples come from make-dark-examples and teacher-score. Each visit of a query draws --negatives of its listed
negatives, with their dark items: reinforced negatives, which are joined with the positive, and noisy positives, of
which words are masked. With --teacher they are scored during training. --baseline trains without dark examples.

The loss is the KL divergence between the teacher's and the student's softmax over each query's positive, negatives,
reinforced negatives and noisy positives, plus a small cross-entropy of the positive among its negatives. The divergence
counts only the queries of which the teacher is most confident, and fewer of them from epoch to epoch (self-paced
learning). The result is a folder that all tools here, Hugging Face and sentence-transformers can load.
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
from drtools.cli.flags.teacher import ReadingFlags
from drtools.cli.flags.training import ExampleFlags, StudentFlags, TrainingFlags, epochs_option
from drtools.cli.model_card import write_card
from drtools.methods.adam.settings import EPOCHS, NEGATIVES, AdamSettings
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
    """The teacher, the items to distill, and the loss."""

    teacher: Annotated[
        list[str] | None,
        Option(
            help="cross-encoder that scores during training, using the cache; repeat it to average several",
            rich_help_panel=METHOD,
        ),
        Role.MODEL,
    ] = None
    teacher_dropout: Annotated[
        float | None,
        Option(
            min=0,
            max=0.9,
            help="dropout rate of --teacher; scores are then new at each step and not cached (the paper uses 0.1); "
            "default: no dropout",
            rich_help_panel=METHOD,
        ),
    ] = None
    accept_scores: Annotated[
        bool,
        Option("--accept-scores", help="accept the examples' scores from any source", rich_help_panel=METHOD),
    ] = False
    baseline: Annotated[
        Literal["hard-kd", "rand-kd"] | None,
        Option(
            help="hard-kd: only the positive and the listed negatives; rand-kd: the positive and random documents, "
            "which --teacher scores",
            rich_help_panel=METHOD,
        ),
    ] = None
    without: Annotated[
        list[str] | None,
        Option(help="leave out this kind of dark example: reinforced or noisy", rich_help_panel=METHOD),
    ] = None
    negatives: Annotated[
        int,
        Option(min=0, help="negatives drawn at each visit of a query; 0: use all", rich_help_panel=METHOD),
    ] = NEGATIVES
    with_positive: Annotated[
        bool,
        Option(
            "--with-positive/--without-positive",
            help="distill on the positive too, as in section 3.1 of the paper; without it: Eq. 9 as printed",
            rich_help_panel=METHOD,
        ),
    ] = True
    pacing: Annotated[
        Literal["epochs", "steps", "none"] | None,
        Option(
            help="how the share of queries distilled on falls from 1 to 1/2: by epoch as in the paper (default), by "
            "step, or not at all (default of the baselines)",
            rich_help_panel=METHOD,
        ),
    ] = None
    supervised_weight: Annotated[
        float,
        Option("--lambda", min=0, help="weight of the cross-entropy in the loss", rich_help_panel=METHOD),
    ] = 0.01
    kl: Annotated[
        Literal["forward", "reverse"],
        Option(help="forward: KL(teacher || student); reverse: KL(student || teacher)", rich_help_panel=METHOD),
    ] = "forward"
    reduction: Annotated[
        Literal["mean", "sum"],
        Option(
            help="reduction of both losses over the queries (Eq. 9 of the paper has a sum)",
            rich_help_panel=METHOD,
        ),
    ] = "mean"


@dataclass(frozen=True)
class AdamTraining(TrainingFlags):
    """Length of the training, batches and learning rate, with the default number of epochs."""

    epochs: Annotated[float | None, epochs_option(EPOCHS)] = None


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    student: StudentFlags,
    dev: DevFlags,
    compute: ComputeFlags,
    settings: AdamFlags = AdamFlags(),
    reading: ReadingFlags = ReadingFlags(),
    encoder_flags: EncoderFlags = EncoderFlags(max_query_tokens=32, max_document_tokens=128),
    training: AdamTraining = AdamTraining(learning_rate=5e-5, batch_queries=128),
) -> None:
    """Train an encoder into the output folder."""
    add_change(folder.request, CHANGE)
    with open_folder(folder, training.dry_run) as work:
        from drtools.methods.adam.training import train

        train(
            work,
            settings,
            reading=reading,
            examples=example_flags,
            start=encoder_flags,
            student=student,
            training=training,
            dev=dev,
            compute=compute,
            card=write_card,
        )
