"""Training batches for a ranker.

Each query has one positive and its own negatives, as pairs of texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.models.pair_tokens import PairTokens, tokenize_pairs
from drtools.randomness import generator
from drtools.training.distributed import Shares, single_share
from drtools.training.memory import Separation
from drtools.training.sampling import EpochSampler, ExampleSource, draw

if TYPE_CHECKING:
    from drtools.models.cross_encoder_model import CrossEncoder


class RankedBatch(NamedTuple):
    """N pairs of B queries. `tokens` and `counts` are those of the loop: this process's share, and each number.

    `lists` int64 [B, 1 + m] has the pairs of each query: first the positive, then its negatives, -1 for missing ones.
    """

    tokens: dict[str, PairTokens]
    counts: dict[str, Sequence[int]]
    lists: np.ndarray


def separation_of(batch: RankedBatch) -> Separation:
    """Return which query each pair belongs to."""
    there = batch.lists >= 0
    owner = np.empty(int(there.sum()), np.int64)
    owner[batch.lists[there]] = np.nonzero(there)[0]
    return Separation({"pair": owner})


class RankedBatches:
    """The endless sequence of batches of examples, a function of (seed, step)."""

    def __init__(
        self,
        sources: Sequence[ExampleSource],
        encoder: CrossEncoder,
        *,
        batch_queries: int,
        negatives: int,
        seed: int,
        shares: Shares = single_share,
        rank: int = 0,
    ) -> None:
        self.visits, self.encoder, self.negatives = EpochSampler(sources, batch_queries, seed), encoder, negatives
        self.shares, self.rank = shares, rank
        self.epoch_queries = self.visits.epoch_queries

    def __call__(self, step: int) -> RankedBatch:
        """Draw the batch of a step, look up and tokenize this process's share of its pairs."""
        lists = np.full((self.visits.batch_queries, 1 + self.negatives), -1, np.int64)
        pairs: list[tuple[str, ExampleSource, int]] = []
        for row, visit in enumerate(self.visits(step)):
            drawn = draw(visit, self.negatives, generator(*visit.seed))
            documents = [drawn.positive, *drawn.negatives.tolist()]
            lists[row, : len(documents)] = np.arange(len(pairs), len(pairs) + len(documents))
            pairs += [(visit.query, visit.source, document) for document in documents]
        parts = self.shares(len(pairs))
        own = [(query, source.text(document)) for query, source, document in pairs[parts[self.rank]]]
        return RankedBatch(
            {"pair": tokenize_pairs(self.encoder, own)}, {"pair": [part.stop - part.start for part in parts]}, lists
        )
