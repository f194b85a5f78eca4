"""Losses of a batch of examples that several tools train with: from vectors to score tables, masks and the formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.lines import shown
from drtools.losses import contrastive, margin_mse, scores
from drtools.training.encoder_task import read_sources
from drtools.training.examples import Scores
from drtools.training.specs import ExamplesSpec

if TYPE_CHECKING:
    from drtools.training.gradients import Loss, Metrics
    from drtools.training.pairs import PairBatch
    from drtools.training.sampling import Source


def contrastive_loss(scale: float) -> Loss:
    """Return the softmax loss of a batch: each query's positive among all documents that are not relevant to it."""

    def loss(query_vectors: Tensor, document_vectors: Tensor, batch: PairBatch) -> tuple[Tensor, Metrics]:
        table = scores(query_vectors, document_vectors, scale)
        return contrastive(table.diagonal(), table, ~torch.from_numpy(batch.relevant).to(table.device)), {}

    return loss


def margin_mse_loss(scale: float) -> Loss:
    """Return Margin-MSE of a batch.

    Each query's positive against its own negatives, as far as both have a teacher's score.
    """

    def loss(query_vectors: Tensor, document_vectors: Tensor, batch: PairBatch) -> tuple[Tensor, Metrics]:
        table = scores(query_vectors, document_vectors, scale)
        teacher, owner = (torch.from_numpy(part).to(table.device) for part in (batch.scores, batch.owner))
        count = len(table)  # the first documents are the queries' positives
        own = table[owner, torch.arange(len(owner), device=table.device)]
        margins, theirs = own[owner[count:]] - own[count:], teacher[owner[count:]] - teacher[count:]
        scored = ~theirs.isnan()
        return margin_mse(margins[scored], theirs[scored]), {}

    return loss


LOSSES = {"contrast": contrastive_loss, "margin-mse": margin_mse_loss}


def read_sources_for(loss: str, example_flags: ExamplesSpec, accept_scores: bool) -> list[Source]:
    """Open the examples with what a loss of LOSSES needs of them: margin-mse a teacher's scores.

    With `accept_scores` they may be whoever's.
    """
    if loss != "margin-mse":
        return read_sources(example_flags)
    sources = read_sources(example_flags, Scores.ANY if accept_scores else Scores.TEACHER)
    check_scored(sources)
    return sources


def check_scored(sources: list[Source]) -> None:
    """Count the documents without a score, whose pairs Margin-MSE leaves out.

    InputError if no pair of a source is left.
    """
    for source in sources:
        examples = source.examples
        of_positives, of_negatives = examples.positive_scores, examples.negative_scores
        assert of_positives is not None and of_negatives is not None, "sources are read with their scores"
        unscored = sum(int(np.isnan(scores.flat).sum()) for scores in (of_positives, of_negatives))
        name = shown(source.store.corpus)
        reporting.notice(unscored, f"{unscored:,} documents of the examples have no score; their pairs are left out")
        if not any(
            not np.isnan(positive).all() and not np.isnan(negative).all()
            for positive, negative in zip(of_positives, of_negatives, strict=True)
            if len(negative)
        ):
            raise InputError(
                f"the examples of {name}: no positive and negative of a query both have a score; run teacher-score on "
                f"them, or say {param('loss')} contrast"
            )
