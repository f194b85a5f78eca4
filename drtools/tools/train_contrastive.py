"""Train an encoder by contrast: softmax over in-batch and hard negatives (DPR and the papers' baselines).

Cross-entropy of each query's positive among all positives and hard negatives of the batch; what else is relevant to a query is
masked. Examples come from mine-negatives. The result is a folder that every tool here, Hugging Face and
sentence-transformers load. A stopped training continues where it was; `torchrun -m drtools train-contrastive` trains on
several devices.
"""

from __future__ import annotations

from typing import Annotated

from typer import Option

from drtools import flags, output
from drtools.retrieval.dev import DevFlags
from drtools.training.settings import ExampleFlags, ShapeFlags, StudentFlags, TrainingFlags

PAPER_WARMUP = 1000  # [ours] a tenth of the steps if that is less


def main(
    folder: flags.FolderOutput,
    example_flags: ExampleFlags,
    encoder_flags: flags.EncoderFlags,
    shape: ShapeFlags,
    student: StudentFlags,
    training: TrainingFlags,
    dev: DevFlags,
    compute: flags.ComputeFlags,
    hard_negatives: Annotated[int, Option(min=0, help="hard negatives drawn for each query at each visit")] = 1,
) -> None:
    """Compose: examples and texts into batches, the contrastive loss, the one loop, a model folder."""
    with output.folder(folder) as work:
        from drtools.training.encoders import EncoderTraining, read_sources
        from drtools.training.objectives import contrastive_loss

        task = EncoderTraining(work, encoder_flags, student, training, compute, shape)
        sources = read_sources(example_flags)
        batches = task.pair_batches(sources, negatives=hard_negatives)
        task.fit(batches, contrastive_loss(task.scale), batches.epoch_queries, task.measure_on(dev, sources[0], example_flags.queries[0]),
                 default_epochs=2, paper_warmup=PAPER_WARMUP)
        task.finish(queries=sum(len(source.examples) for source in sources))
