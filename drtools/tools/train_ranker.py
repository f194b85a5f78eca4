r"""Train a cross-encoder, for re-ranking or as a teacher.

    drtools train-ranker --model bert-base-uncased --corpus corpus.jsonl.gz \
        --queries queries.jsonl.gz --examples examples.jsonl -o ranker
    drtools train-ranker --model bert-base-uncased --corpus corpus.jsonl.gz \
        --queries queries.jsonl.gz --examples examples.jsonl --dev-run bm25.run \
        --dev-qrels qrels/dev.tsv -o best-ranker

Training starts from any Hugging Face body, encoder or cross-encoder. The default loss is the listwise cross-entropy
over one positive and hard negatives of the query, drawn at each visit; --loss selects pointwise or RankNet. With
--dev-run and --dev-qrels the model is evaluated by re-ranking that run. Examples come from mine-negatives.

The result is a folder that teacher-score, Hugging Face and sentence-transformers' CrossEncoder can load. A stopped
training continues where it was. `torchrun -m drtools train-ranker` trains on several devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import RankerDevFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, RankerFlags, TrainingFlags, epochs_option
from drtools.cli.model_card import write_ranker_card
from drtools.methods.ranker.settings import EPOCHS, RankerSettings
from drtools.outputs.opening import open_folder


@dataclass(frozen=True)
class LossFlags(RankerSettings):
    """The negatives of each query, and the loss."""

    negatives: Annotated[int, Option(min=1, help="negatives drawn for each query at each visit")] = 7
    loss: Annotated[
        Literal["listwise", "pointwise", "ranknet"],
        Option(
            help="listwise: cross-entropy of the positive in its list; pointwise: binary cross-entropy of each pair; "
            "ranknet: pairwise loss of the positive and each negative"
        ),
    ] = "listwise"


@dataclass(frozen=True)
class RankerTraining(TrainingFlags):
    """Length of the training, batches and learning rate, with the default number of epochs."""

    epochs: Annotated[float | None, epochs_option(EPOCHS)] = None


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    ranker: RankerFlags,
    dev: RankerDevFlags,
    compute: ComputeFlags,
    training: RankerTraining = RankerTraining(batch_queries=16),
    settings: LossFlags = LossFlags(),
) -> None:
    """Train a cross-encoder into the output folder."""
    with open_folder(folder, training.dry_run) as work:
        from drtools.methods.ranker.training import train

        train(
            work,
            settings,
            examples=example_flags,
            start=ranker,
            training=training,
            dev=dev,
            compute=compute,
            card=write_ranker_card,
        )
