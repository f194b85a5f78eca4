"""The training of a dense lexical model (SPAR's Lambda): an encoder that imitates its teacher's ranking."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from drtools.losses import contrastive, scores
from drtools.methods.spar.dev import dev_measure_on_examples
from drtools.methods.spar.settings import TWIN_EPOCHS, TWIN_WARMUP_STEPS, ExampleDevSpec, TwinSettings
from drtools.models.resolving import resolve
from drtools.models.settings import is_bare
from drtools.training.encoder_task import EncoderTraining, read_sources
from drtools.training.task import Card, no_card

if TYPE_CHECKING:
    from torch import Tensor

    from drtools.models.specs import ComputeSpec, EncoderSpec
    from drtools.outputs.work import Work
    from drtools.training.gradients import Loss, Metrics
    from drtools.training.pairs import PairBatch
    from drtools.training.specs import ExamplesSpec, StudentSpec, TrainingSpec


def train(
    work: Work,
    settings: TwinSettings,
    *,
    examples: ExamplesSpec,
    start: EncoderSpec,
    student: StudentSpec,
    training: TrainingSpec,
    dev: ExampleDevSpec,
    compute: ComputeSpec,
    card: Card = no_card,
) -> None:
    """Train an encoder on examples that are labelled by a teacher's ranks, and write its folder.

    A bare body uses cls pooling.
    """
    if start.model and start.pooling is None and is_bare(resolve(start.model)):
        start = replace(start, pooling="cls")
    task = EncoderTraining(work, start, student, training, compute, settings.shape)
    task.write_card = card
    sources = read_sources(examples)
    batches = task.pair_batches(sources, negatives=settings.hard_negatives)
    measure = dev_measure_on_examples(
        dev,
        examples.queries[0],
        sources[0],
        task.model,
        task.computing,
        training.seed,
        task.trained_on(sources, positives=False),
    )
    task.fit(
        batches,
        lexical_loss(task.scale, settings.mask_positives),
        batches.epoch_queries,
        measure,
        default_epochs=TWIN_EPOCHS,
        paper_warmup=TWIN_WARMUP_STEPS,
    )
    task.finish(queries=sum(len(source.examples) for source in sources))


def lexical_loss(scale: float, mask_positives: bool = False) -> Loss:
    """Return the loss of a batch: the positive of each query among all candidates.

    Its other positives are masked only with `mask_positives`.
    """

    def loss(query_vectors: Tensor, document_vectors: Tensor, batch: PairBatch) -> tuple[Tensor, Metrics]:
        table = scores(query_vectors, document_vectors, scale)
        rows, columns = table.shape
        out = (
            torch.from_numpy(batch.relevant).to(table.device)
            if mask_positives
            else torch.eye(rows, columns, dtype=torch.bool, device=table.device)
        )
        return contrastive(table.diagonal(), table, ~out), {}

    return loss
