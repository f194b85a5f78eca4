"""Train a cross-encoder, a re-ranker and teacher, on a query's positive among its own hard negatives.

Starts from any Hugging Face body, encoder or cross-encoder. Listwise cross-entropy over one positive and negatives
drawn afresh at each visit; pointwise and RankNet by `--loss`. With --dev-run and --dev-qrels it measures itself by
ranking that run anew. Examples come from mine-negatives. The result is a folder that teacher-score, Hugging Face and
sentence-transformers' CrossEncoder load. A stopped training continues where it was; `torchrun -m drtools train-ranker`
trains on several devices.
"""

from __future__ import annotations

from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import RankerDevFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, RankerFlags, TrainingFlags
from drtools.cli.model_card import write_ranker_card
from drtools.outputs import work as output

WARMUP = 1000  # [ours] a tenth of the steps if that is less


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    ranker: RankerFlags,
    dev: RankerDevFlags,
    compute: ComputeFlags,
    training: TrainingFlags = TrainingFlags(batch_queries=16),
    negatives: Annotated[int, Option(min=1, help="negatives drawn for each query at each visit")] = 7,
    loss: Annotated[
        Literal["listwise", "pointwise", "ranknet"],
        Option(
            help="listwise: cross-entropy of the positive in its list; pointwise: binary cross-entropy of each pair; "
            "ranknet: the positive above each negative"
        ),
    ] = "listwise",
) -> None:
    """Compose: examples and texts into pairs, the loss of lists, the one loop, a model folder."""
    dev.check()
    with output.folder(folder) as work:
        from drtools import losses
        from drtools.methods.ranker.dev import dev_ranking
        from drtools.methods.ranker.training import RankerTraining, list_loss
        from drtools.training.encoder_task import read_sources

        task = RankerTraining(work, ranker, training, compute)
        task.write_card = write_ranker_card
        sources = read_sources(example_flags)
        batches = task.ranked_batches(sources, negatives)
        measure = dev_ranking(
            dev,
            example_flags.queries[0],
            sources[0].store,
            task.model,
            task.computing,
            sources[0].title_separator,
            task.trained_on(sources),
        )
        of_lists = {"listwise": losses.contrastive, "pointwise": losses.pointwise, "ranknet": losses.ranknet}[loss]
        task.fit(batches, list_loss(of_lists), batches.epoch_queries, measure, default_epochs=2, paper_warmup=WARMUP)
        task.finish(queries=sum(len(source.examples) for source in sources))
