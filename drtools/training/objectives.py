"""Losses of a batch of examples that several tools train with: from vectors to score tables, masks and the formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drtools.losses import contrastive, margin_mse, scores

if TYPE_CHECKING:
    from drtools.batches.pairs import PairBatch
    from drtools.training.gradients import Loss


def contrastive_loss(scale: float) -> Loss:
    """Return the softmax loss of a batch: each query's positive among all documents that are not relevant to it."""

    def loss(query_vectors: Tensor, document_vectors: Tensor, batch: PairBatch) -> Tensor:
        table = scores(query_vectors, document_vectors, scale)
        return contrastive(table.diagonal(), table, ~torch.from_numpy(batch.relevant).to(table.device))

    return loss


def margin_mse_loss(scale: float) -> Loss:
    """Return Margin-MSE of a batch.

    Each query's positive against its own negatives, as far as both have a teacher's score.
    """

    def loss(query_vectors: Tensor, document_vectors: Tensor, batch: PairBatch) -> Tensor:
        table = scores(query_vectors, document_vectors, scale)
        teacher, owner = (torch.from_numpy(part).to(table.device) for part in (batch.scores, batch.owner))
        count = len(table)  # the first documents are the queries' positives
        own = table[owner, torch.arange(len(owner), device=table.device)]
        margins, theirs = own[owner[count:]] - own[count:], teacher[owner[count:]] - teacher[count:]
        scored = ~theirs.isnan()
        return margin_mse(margins[scored], theirs[scored])

    return loss
