"""Train an encoder by contrast: softmax over in-batch and hard negatives (DPR and the papers' baselines).

Cross-entropy of each query's positive among all positives and hard negatives of the batch; what else is relevant to a
query is masked. Examples come from mine-negatives. The result is a folder that every tool here, Hugging Face and
sentence-transformers load. A stopped training continues where it was; `torchrun -m drtools train-contrastive` trains on
several devices. Beside another encoder's vectors (--beside-documents, --beside-queries) scores are s1 + mu * s2: that
encoder stays as it is, this one and mu learn (SPAR's joint training); join both with concat-spar.
"""

from __future__ import annotations

import math
from typing import Annotated

from typer import Option

from drtools import flags, output
from drtools.errors import UserError
from drtools.retrieval.dev import DevFlags
from drtools.training.settings import ExampleFlags, ShapeFlags, StudentFlags, TrainingFlags

BESIDE = "Beside another encoder"
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
    beside_documents: Annotated[
        str | None,
        Option(help="vectors folder of the documents by another encoder", rich_help_panel=BESIDE),
        flags.Role.INPUT,
    ] = None,
    beside_queries: Annotated[
        str | None,
        Option(help="vectors folder of the queries, dev queries too, by that encoder", rich_help_panel=BESIDE),
        flags.Role.INPUT,
    ] = None,
    mu: Annotated[
        float | None,
        Option(help="what its scores are weighed by at the start, above 0; default 1", rich_help_panel=BESIDE),
    ] = None,
) -> None:
    """Compose: examples and texts into batches, the contrastive loss, the one loop, a model folder."""
    if bool(beside_documents) != bool(beside_queries) or (
        mu is not None and not (beside_documents and 0 < mu < math.inf)
    ):
        raise UserError(
            "beside another encoder: expected --beside-documents VECTORS and --beside-queries VECTORS, and a --mu "
            "above 0 with them alone"
        )
    with output.folder(folder) as work:
        from drtools.training.encoders import EncoderTraining, read_sources
        from drtools.training.joint import Beside, JointModel
        from drtools.training.objectives import contrastive_loss

        task = EncoderTraining(work, encoder_flags, student, training, compute, shape)
        sources = read_sources(example_flags)
        beside = Beside(beside_documents, beside_queries) if beside_documents and beside_queries else None
        encoder, joint = task.model, None
        if beside:
            joint = JointModel(encoder, beside.dimension, 1.0 if mu is None else mu).to(task.computing.device)
            task.model = joint  # type: ignore[assignment]  # it is trained in the place of the encoder within it
        batches = task.pair_batches(sources, negatives=hard_negatives, beside=beside)
        task.fit(
            batches,
            contrastive_loss(task.scale),
            batches.epoch_queries,
            task.measure_on(dev, sources[0], example_flags.queries[0], beside),
            default_epochs=2,
            paper_warmup=PAPER_WARMUP,
        )
        learnt = {} if joint is None else {"mu": joint.mu.item()}
        task.model = encoder
        task.finish(queries=sum(len(source.examples) for source in sources), **learnt)
