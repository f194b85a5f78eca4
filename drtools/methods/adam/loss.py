"""ADAM's loss of a batch: the divergence from the teacher in each list, and a cross-entropy of the positive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch

from drtools.losses import adam, confidence, contrastive_of_lists, kl_of_lists, most_confident, scores
from drtools.methods.adam.batches import ask

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from drtools.methods.adam.batches import AdamBatch, Scorer
    from drtools.training.gradients import Loss, Metrics


def adam_loss(
    scale: float,
    *,
    weight: float,
    with_positive: bool,
    reverse: bool,
    reduction: Literal["mean", "sum"],
    gather: Callable[[Tensor, Sequence[int]], Tensor],
    teacher_at: Callable[[int], Scorer] | None = None,
) -> Loss:
    """Return ADAM's loss of a batch. `gather` collects the scores of all processes.

    `teacher_at(step)` returns the scorer of a step. It scores here, not in the thread that prepares batches: two
    threads that set torch's number of threads at the same time would not give reproducible results.
    """
    asked: list[tuple[AdamBatch, np.ndarray]] = []  # the latest batch that the teacher scored: groups share its scores

    def told_of(batch: AdamBatch) -> np.ndarray:
        if teacher_at is None:
            return batch.teacher
        if not asked or asked[0][0] is not batch:
            asked[:] = [(batch, ask(teacher_at(batch.step), batch))]
        return asked[0][1]

    def loss(query_vectors: Tensor, document_vectors: Tensor, *rest: Any) -> tuple[Tensor, Metrics]:
        reinforced_vectors, batch = rest[:-1], rest[-1]
        device = query_vectors.device
        columns, own, dark = (
            torch.from_numpy(part).to(device) for part in (batch.columns, batch.is_own, batch.is_dark)
        )
        told = gather(torch.from_numpy(told_of(batch)).to(device), batch.counts["query"])
        student = scores(query_vectors, torch.cat([document_vectors, *reinforced_vectors]), scale).gather(1, columns)
        listed = own | dark
        listed[:, 0] = with_positive
        kept = most_confident(confidence(told, own), batch.share)
        divergence = kl_of_lists(told, student, listed, reverse)
        supervised = contrastive_of_lists(student, own)
        return adam(supervised, divergence, kept, weight, reduction), {
            "divergence": float(divergence.detach()[kept].mean()),
            "cross_entropy": float(supervised.detach().mean()),
            "kept_share": float(kept.float().mean()),
        }

    return loss
