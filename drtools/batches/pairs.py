"""Training batches of queries with one positive and some negatives each, drawn afresh at each visit.

A batch is a pure function of (seed, step): continuing a run, or preparing batches ahead in a thread, changes nothing. Every
process draws the whole batch and tokenizes its own share of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.batches.tokens import Tokens, tokenize
from drtools.batches.usable import Usable
from drtools.formats.jsonl import document_text
from drtools.randomness import generator

if TYPE_CHECKING:
    from drtools.formats.store import Store
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair


@dataclass
class Source:
    """Examples with the corpus that they speak of; `weight` is how often an epoch visits each query."""

    examples: Usable
    store: Store
    title_separator: str = " "
    weight: float = 1.0

    def text(self, row: int) -> str:
        """Return a document's text by this source's title rule."""
        document = self.store.at(row)
        return document_text(document.title, document.text, self.title_separator)


class PairBatch(NamedTuple):
    """B queries and C documents: first each query's positive [B], then the negatives of all.

    `tokens` and `counts` are the loop's (this process's share; how many each process has). `relevant` bool [B, C]: document c is
    a positive of query b. `owner` [C]: the query that a document was drawn for.
    """

    tokens: dict[str, Tokens]
    counts: dict[str, Sequence[int]]
    relevant: np.ndarray
    owner: np.ndarray


class Visit(NamedTuple):
    """A query's turn in a batch: the example's place in its source, and what its draws depend on."""

    source: Source
    at: int
    seed: tuple


class PairBatches:
    """The endless sequence of batches over examples: epochs in random order, one after another without a rest.

    `shares(count)` says which of `count` texts are whose, `rank` which of the processes this is.
    """

    def __init__(self, sources: Sequence[Source], model: Encoder | EncoderPair, *, batch_queries: int, negatives: int, seed: int,
                 random_negatives: bool = False, shares: Callable[[int], list[slice]] = lambda count: [slice(0, count)], rank: int = 0) -> None:
        self.sources, self.model, self.seed = sources, model, seed
        self.batch_queries, self.negatives, self.random_negatives = batch_queries, negatives, random_negatives
        self.shares, self.rank = shares, rank
        self.epoch_queries = sum(len(copies) for copies in self._copies(0))
        self._order = lru_cache(maxsize=2)(self._order_of)

    def _copies(self, epoch: int) -> list[list[tuple[int, int, int]]]:
        """Return for each source the (source, example, copy) of its visits in an epoch."""
        visits = []
        for number, source in enumerate(self.sources):
            count = len(source.examples)
            whole = int(source.weight)
            some = generator(self.seed, "share", epoch, number).permutation(count)[: round((source.weight - whole) * count)]
            visits.append([(number, at, copy) for copy in range(whole) for at in range(count)] + [(number, int(at), whole) for at in some])
        return visits

    def _order_of(self, epoch: int) -> list[tuple[int, int, int]]:
        visits = [visit for source in self._copies(epoch) for visit in source]
        return [visits[at] for at in generator(self.seed, "order", epoch).permutation(len(visits))]

    def visits(self, step: int) -> list[Visit]:
        """Return the queries of a step."""
        visits = []
        for place in range(step * self.batch_queries, (step + 1) * self.batch_queries):
            epoch = place // self.epoch_queries
            number, at, copy = self._order(epoch)[place % self.epoch_queries]
            source = self.sources[number]
            visits.append(Visit(source, at, (self.seed, epoch, source.examples.query_ids[at], number, copy)))
        return visits

    def __call__(self, step: int) -> PairBatch:
        """Draw the batch of a step, look up and tokenize this process's share of its texts."""
        visits = self.visits(step)
        positives, negatives, owner = [], [], list(range(len(visits)))
        for row, (source, at, seed) in enumerate(visits):
            random = generator(*seed)
            relevant = source.examples.positives[at]
            positives.append((source, int(relevant[random.integers(len(relevant))])))
            drawn = self._random(source, random) if self.random_negatives else self._mined(source.examples.negatives[at], random)
            negatives += [(source, document) for document in drawn.tolist()]
            owner += [row] * len(drawn)
        documents = positives + negatives
        texts = {
            "query": lambda part: [source.examples.queries[at] for source, at, _ in visits[part]],
            "document": lambda part: [source.text(document) for source, document in documents[part]],
        }
        shares = {"query": self.shares(len(visits)), "document": self.shares(len(documents))}
        return PairBatch(
            {side: tokenize(self.model.of(side), texts[side](parts[self.rank]), side) for side, parts in shares.items()},
            {side: [part.stop - part.start for part in parts] for side, parts in shares.items()},
            _relevant(visits, documents), np.array(owner),
        )

    def _mined(self, negatives: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return negatives[random.choice(len(negatives), min(self.negatives, len(negatives)), replace=False)] if len(negatives) else negatives

    def _random(self, source: Source, random: np.random.Generator) -> np.ndarray:
        return random.integers(len(source.store), size=self.negatives)


def _relevant(visits: Sequence[Visit], documents: Sequence[tuple[Source, int]]) -> np.ndarray:  # -> bool [B, C]
    columns: dict[tuple[int, int], list[int]] = {}
    for column, (source, document) in enumerate(documents):
        columns.setdefault((id(source.store), document), []).append(column)
    relevant = np.zeros((len(visits), len(documents)), bool)
    for row, (source, at, _) in enumerate(visits):
        for document in source.examples.positives[at].tolist():
            relevant[row, columns.get((id(source.store), document), [])] = True
    return relevant
