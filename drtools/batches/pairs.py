"""Training batches of queries with one positive and some hard negatives each, drawn afresh at each visit.

A batch is a pure function of (seed, step): continuing a run, or preparing batches ahead in a thread, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.batches.tokens import Tokens, tokenize
from drtools.formats.examples import Example
from drtools.formats.jsonl import document_text
from drtools.randomness import generator

if TYPE_CHECKING:
    from drtools.formats.store import Store
    from drtools.models.encoder import Encoder


class PairBatch(NamedTuple):
    """B queries and C documents: first each query's positive [B], then the hard negatives of all.

    `relevant` bool [B, C]: document c is a positive of query b.
    """

    queries: Tokens
    documents: Tokens
    relevant: np.ndarray


class PairBatches:
    """The endless sequence of batches over examples: epochs in random order, one after another without a rest."""

    def __init__(self, examples: Sequence[Example], query_texts: dict[str, str], store: Store, encoder: Encoder, *,
                 batch_queries: int, hard_negatives: int, seed: int, title_separator: str = " ") -> None:
        self.examples, self.query_texts, self.store, self.encoder = examples, query_texts, store, encoder
        self.batch_queries, self.hard_negatives, self.seed, self.title_separator = batch_queries, hard_negatives, seed, title_separator
        self._order = lru_cache(maxsize=2)(lambda epoch: generator(seed, "order", epoch).permutation(len(examples)))

    def members(self, step: int) -> list[tuple[int, Example]]:
        """Return (epoch, example) of each query of a step."""
        places = range(step * self.batch_queries, (step + 1) * self.batch_queries)
        return [(place // len(self.examples), self.examples[self._order(place // len(self.examples))[place % len(self.examples)]])
                for place in places]

    def __call__(self, step: int) -> PairBatch:
        """Draw, look up and tokenize the batch of a step."""
        positives, negatives = [], []
        members = self.members(step)
        for epoch, example in members:
            random = generator(self.seed, epoch, example.query_id)
            positives.append(example.positives[random.integers(len(example.positives))])
            count = min(self.hard_negatives, len(example.negatives))
            negatives += [example.negatives[at] for at in random.choice(len(example.negatives), count, replace=False)] if count else []
        documents = positives + negatives
        relevant = np.array([[document in example.positives for document in documents] for _, example in members])
        query_tokens = tokenize(self.encoder, [self.query_texts[example.query_id] for _, example in members], "query")
        return PairBatch(query_tokens, tokenize(self.encoder, [self._text(document) for document in documents], "document"), relevant)

    def _text(self, document_id: str) -> str:
        document = self.store.get(document_id)
        return document_text(document.title, document.text, self.title_separator)
