"""The order of examples: queries in batches, epoch after epoch, and the draws of each visit.

All of it is a function of (seed, step), so that continuing a training or preparing batches ahead changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.formats.corpora import document_text
from drtools.randomness import generator

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.training.examples import RaggedArray, TrainingExamples


@dataclass
class ExampleSource:
    """Examples with their corpus. `weight` is how often an epoch visits each query.

    If a source is `alone`, its queries are in batches of their own. If it is `apart`, documents of other corpora are no
    negatives of its queries.
    """

    examples: TrainingExamples
    store: CorpusStore
    title_separator: str = " "
    weight: float = 1.0
    alone: bool = False
    apart: bool = False

    def text(self, row: int) -> str:
        """Return the text of a document, with the title as this source joins it."""
        document = self.store.at(row)
        return document_text(document.title, document.text, self.title_separator)

    def text_of(self, document_id: str) -> str:
        """Return the text of a document in the corpus by its id."""
        document = self.store.get(document_id)
        assert document is not None, "only documents in the corpus have rows"
        return document_text(document.title, document.text, self.title_separator)


class Visit(NamedTuple):
    """A visit of a query in a batch: the place of the example in its source, and what its draws depend on."""

    source: ExampleSource
    at: int
    seed: tuple[object, ...]

    @property
    def query(self) -> str:
        """The text of the query."""
        return self.source.examples.queries[self.at]


class DrawnExample(NamedTuple):
    """The draws of one visit.

    These are the rows of one positive and of negatives [m], with their scores, nan if there is none.
    """

    positive: int
    negatives: np.ndarray
    positive_score: float
    negative_scores: np.ndarray


class EpochSampler:
    """The endless sequence of visits, in random order in each epoch. A batch may span two epochs.

    If sources are `alone`, each has its own sequence, which is cut into batches. The batches that are full by the end
    of an epoch of all sources are in random order.
    """

    def __init__(self, sources: Sequence[ExampleSource], batch_queries: int, seed: int) -> None:
        self.sources, self.batch_queries, self.seed = sources, batch_queries, seed
        self.counts = [len(source.examples) * int(source.weight) + _rest(source) for source in sources]
        self.ends = np.cumsum(self.counts)  # of each source among all visits of an epoch
        self.epoch_queries = int(self.ends[-1])
        self._order = lru_cache(maxsize=2)(self._order_of)
        self._shares = lru_cache(maxsize=2 * len(sources))(self._share_of)
        self.alone = any(source.alone for source in sources)
        self._own_order = lru_cache(maxsize=2 * len(sources))(self._own_order_of)
        self._batches = lru_cache(maxsize=2)(self._batches_of)

    def _share_of(self, number: int, epoch: int) -> np.ndarray:
        """Return the examples of a source that an epoch visits once more than the others."""
        source = self.sources[number]
        rest = _rest(source)
        if not rest:
            return np.empty(0, np.int64)
        return generator(self.seed, "share", epoch, number).permutation(len(source.examples))[:rest].copy()

    def _example(self, number: int, epoch: int, at: int) -> tuple[int, int]:
        """Return (example, copy) of a visit of a source, by its place before the visits are shuffled."""
        source = self.sources[number]
        copy, example = divmod(at, len(source.examples))
        if copy < int(source.weight):
            return example, copy
        return int(self._shares(number, epoch)[example]), copy

    def _order_of(self, epoch: int) -> np.ndarray:
        return _shuffled(self.epoch_queries, generator(self.seed, "order", epoch))

    def __call__(self, step: int) -> list[Visit]:
        """Return the visits of a step."""
        if self.alone:
            return self._visits_alone(step)
        visits = []
        for place in range(step * self.batch_queries, (step + 1) * self.batch_queries):
            epoch = place // self.epoch_queries
            drawn = int(self._order(epoch)[place % self.epoch_queries])
            number = int(np.searchsorted(self.ends, drawn, "right"))
            at, copy = self._example(number, epoch, drawn - int(self.ends[number]) + self.counts[number])
            source = self.sources[number]
            visits.append(Visit(source, at, (self.seed, epoch, source.examples.query_ids[at], number, copy)))
        return visits

    def _visits_alone(self, step: int) -> list[Visit]:
        """Return the visits of a step, all of one source."""
        epoch = max(0, step * self.batch_queries // self.epoch_queries - 1)  # as many batches are full at most
        while self._full_batches(epoch + 1) <= step:
            epoch += 1
        number, batch = self._batches(epoch)[step - self._full_batches(epoch)]
        source, visits = self.sources[number], []
        for place in range(batch * self.batch_queries, (batch + 1) * self.batch_queries):
            own_epoch, at = divmod(place, self.counts[number])
            example, copy = self._example(number, own_epoch, int(self._own_order(number, own_epoch)[at]))
            seed = (self.seed, own_epoch, source.examples.query_ids[example], number, copy)
            visits.append(Visit(source, example, seed))
        return visits

    def _full_batches(self, epochs: int) -> int:
        """Return how many batches of all sources are full after a number of epochs."""
        return sum(epochs * count // self.batch_queries for count in self.counts)

    def _batches_of(self, epoch: int) -> list[tuple[int, int]]:
        """Return the batches of an epoch as (source, batch of that source)."""
        found = [
            (number, batch)
            for number, count in enumerate(self.counts)
            for batch in range(epoch * count // self.batch_queries, (epoch + 1) * count // self.batch_queries)
        ]
        return [found[at] for at in generator(self.seed, "batches", epoch).permutation(len(found))]

    def _own_order_of(self, number: int, epoch: int) -> np.ndarray:
        return _shuffled(self.counts[number], generator(self.seed, "order", epoch, number))


def _rest(source: ExampleSource) -> int:
    """Return how many examples of a source an epoch visits once more than the others."""
    return round((source.weight - int(source.weight)) * len(source.examples))


def _shuffled(count: int, random: np.random.Generator) -> np.ndarray:
    """Return what `random.permutation(count)` returns, in four bytes for each number where they suffice."""
    order = np.arange(count, dtype=np.int32 if count <= np.iinfo(np.int32).max else np.int64)
    random.shuffle(order)
    return order


def draw(visit: Visit, negatives: int, random: np.random.Generator, among_all: bool = False) -> DrawnExample:
    """Draw a positive and `negatives` without replacement from an example, or from all documents with `among_all`.

    The example's `avoided` rows are not drawn from all documents, if the corpus has others.
    """
    examples = visit.source.examples
    relevant = examples.positives[visit.at]
    place = int(random.integers(len(relevant)))
    if among_all:
        drawn = random.integers(len(visit.source.store), size=negatives)
        if examples.avoided is not None and 0 < len(examples.avoided[visit.at]) < len(visit.source.store):
            while (again := np.isin(drawn, examples.avoided[visit.at])).any():
                drawn[again] = random.integers(len(visit.source.store), size=int(again.sum()))
        return DrawnExample(
            int(relevant[place]),
            drawn,
            _score(examples.positive_scores, visit.at, place),
            np.full(len(drawn), np.nan, np.float32),
        )
    mined = examples.negatives[visit.at]
    places = (
        random.choice(len(mined), min(negatives, len(mined)), replace=False) if len(mined) else np.empty(0, np.int64)
    )
    scores = (
        np.full(len(places), np.nan, np.float32)
        if examples.negative_scores is None
        else examples.negative_scores[visit.at][places]
    )
    return DrawnExample(int(relevant[place]), mined[places], _score(examples.positive_scores, visit.at, place), scores)


def _score(scores: RaggedArray | None, at: int, place: int) -> float:
    return float("nan") if scores is None else float(scores[at][place])
