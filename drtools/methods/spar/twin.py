"""The training of a dense lexical model (SPAR's Lambda): an encoder that imitates its teacher's ranking."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from drtools.errors import InputError
from drtools.losses import contrastive, relative_error, scores
from drtools.methods.spar.dev import dev_measure_on_examples
from drtools.methods.spar.joint import Beside, JointModel
from drtools.methods.spar.settings import TWIN_EPOCHS, TWIN_WARMUP_STEPS, ExampleDevSpec, TargetSpec, TwinSettings
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
    targets: TargetSpec = TargetSpec(),
    card: Card = no_card,
) -> None:
    """Train an encoder on examples that are labelled by a teacher's ranks, and write its folder.

    With `targets`, its vectors of the texts in the examples learn to equal the vectors of a lexical encoder instead. A
    bare body uses cls pooling.
    """
    if start.model and start.pooling is None and is_bare(resolve(start.model)):
        start = replace(start, pooling="cls")
    task = EncoderTraining(work, start, student, training, compute, settings.shape)
    task.write_card = card
    sources = read_sources(examples)
    vectors = _open_targets(targets, task.model.dimension)
    learner = JointModel(task.model, task.model.dimension, mu=1.0).to(task.computing.device) if vectors else None
    batches = task.pair_batches(sources, negatives=settings.hard_negatives, beside=vectors)
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
        target_loss if vectors else lexical_loss(task.scale, settings.mask_positives),
        batches.epoch_queries,
        measure,
        default_epochs=TWIN_EPOCHS,
        paper_warmup=TWIN_WARMUP_STEPS,
        learner=learner,
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
        if batch.foreign is not None:
            out = out | torch.from_numpy(batch.foreign).to(table.device)
        return contrastive(table.diagonal(), table, ~out), {}

    return loss


def target_loss(query_rows: Tensor, document_rows: Tensor, batch: PairBatch) -> tuple[Tensor, Metrics]:
    """Return the loss of rows [v, t] [N, 2D]: the relative error of an encoder's vectors v to their targets t."""
    errors = []
    for rows in (query_rows, document_rows):
        vectors, targets = rows.float().chunk(2, dim=1)
        errors.append(relative_error(vectors, targets.detach()))
    return torch.stack(errors).mean(), {"query_error": errors[0].item(), "document_error": errors[1].item()}


def _open_targets(targets: TargetSpec, dimension: int) -> Beside | None:
    """Open the vectors that an encoder of the dimension learns. Raises InputError if theirs differs."""
    if targets.target_documents is None or targets.target_queries is None:
        return None
    vectors = Beside(targets.target_documents, targets.target_queries)
    if vectors.dimension != dimension:
        raise InputError(
            f"vectors of {vectors.dimension} dimensions",
            where=targets.target_documents,
            expected=f"{dimension}, the dimension of the encoder",
            remedy=f"use make-lexical with dimension {dimension}",
        )
    return vectors
