"""Batches of queries only, for methods with frozen documents.

Each epoch has its own random order; epochs follow each other without incomplete batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from drtools.models.tokens import Tokens
from drtools.randomness import generator
from drtools.training.distributed import Shares, single_share
from drtools.training.encoder_task import EncoderTraining

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder


class QueryBatch(NamedTuple):
    """B queries. `tokens` and `counts` are those of the loop: this process's share, and the number of each process."""

    tokens: dict[str, Tokens]
    counts: dict[str, Sequence[int]]
    query_ids: list[str]
    step: int


class QueryBatches:
    """The endless sequence of batches of queries, a function of (seed, step)."""

    def __init__(
        self,
        texts: dict[str, str],
        encoder: Encoder,
        *,
        batch_queries: int,
        seed: int,
        shares: Shares = single_share,
        rank: int = 0,
    ) -> None:
        self.texts, self.encoder, self.batch_queries = texts, encoder, batch_queries
        self.shares, self.rank = shares, rank
        self.query_ids = list(texts)
        self._order = lru_cache(maxsize=2)(lambda epoch: generator(seed, "order", epoch).permutation(len(texts)))

    def __call__(self, step: int) -> QueryBatch:
        """Return the batch of a step, with this process's share tokenized."""
        places = (
            divmod(place, len(self.query_ids))
            for place in range(step * self.batch_queries, (step + 1) * self.batch_queries)
        )
        query_ids = [self.query_ids[self._order(epoch)[at]] for epoch, at in places]
        parts = self.shares(len(query_ids))
        tokens = self.encoder.tokenize([self.texts[query_id] for query_id in query_ids[parts[self.rank]]], "query")
        return QueryBatch({"query": tokens}, {"query": [part.stop - part.start for part in parts]}, query_ids, step)


def query_batches(task: EncoderTraining, texts: dict[str, str]) -> QueryBatches:
    """Return batches of queries only."""
    return QueryBatches(
        texts,
        task.model.of("query"),
        batch_queries=task.training.batch_queries,
        seed=task.training.seed,
        shares=task.world.shares,
        rank=task.world.rank,
    )
