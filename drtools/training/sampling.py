"""Who is trained on when: queries in batches, an epoch after another, and what is drawn for each at each visit.

All of it is a pure function of (seed, step), so that continuing a run, or preparing batches ahead, changes nothing.
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
    """Examples with the corpus that they speak of; `weight` is how often an epoch visits each query."""

    examples: TrainingExamples
    store: CorpusStore
    title_separator: str = " "
    weight: float = 1.0

    def text(self, row: int) -> str:
        """Return a document's text by this source's title rule."""
        document = self.store.at(row)
        return document_text(document.title, document.text, self.title_separator)

    def text_of(self, document_id: str) -> str:
        """Return the same of a document that the corpus has, by its id."""
        document = self.store.get(document_id)
        assert document is not None, "rows are given to those documents alone that the corpus has"
        return document_text(document.title, document.text, self.title_separator)


class Visit(NamedTuple):
    """A query's turn in a batch: the example's place in its source, and what its draws depend on."""

    source: ExampleSource
    at: int
    seed: tuple[object, ...]

    @property
    def query(self) -> str:
        """The query's text."""
        return self.source.examples.queries[self.at]


class DrawnExample(NamedTuple):
    """What a visit trains on.

    Rows of one positive and of some negatives [m], with their scores, nan where there are none.
    """

    positive: int
    negatives: np.ndarray
    positive_score: float
    negative_scores: np.ndarray


class EpochSampler:
    """The endless sequence of visits: epochs in random order, one after another without a rest."""

    def __init__(self, sources: Sequence[ExampleSource], batch_queries: int, seed: int) -> None:
        self.sources, self.batch_queries, self.seed = sources, batch_queries, seed
        self.epoch_queries = sum(len(copies) for copies in self._copies(0))
        self._order = lru_cache(maxsize=2)(self._order_of)

    def _copies(self, epoch: int) -> list[list[tuple[int, int, int]]]:
        """Return for each source the (source, example, copy) of its visits in an epoch."""
        visits = []
        for number, source in enumerate(self.sources):
            count = len(source.examples)
            whole = int(source.weight)
            some = generator(self.seed, "share", epoch, number).permutation(count)[
                : round((source.weight - whole) * count)
            ]
            visits.append(
                [(number, at, copy) for copy in range(whole) for at in range(count)]
                + [(number, int(at), whole) for at in some]
            )
        return visits

    def _order_of(self, epoch: int) -> list[tuple[int, int, int]]:
        visits = [visit for source in self._copies(epoch) for visit in source]
        return [visits[at] for at in generator(self.seed, "order", epoch).permutation(len(visits))]

    def __call__(self, step: int) -> list[Visit]:
        """Return the visits of a step."""
        visits = []
        for place in range(step * self.batch_queries, (step + 1) * self.batch_queries):
            epoch = place // self.epoch_queries
            number, at, copy = self._order(epoch)[place % self.epoch_queries]
            source = self.sources[number]
            visits.append(Visit(source, at, (self.seed, epoch, source.examples.query_ids[at], number, copy)))
        return visits


def draw(visit: Visit, negatives: int, random: np.random.Generator, among_all: bool = False) -> DrawnExample:
    """Draw a positive and `negatives` of the example's own, without replacement, or of all documents of the corpus.

    Of all documents the example's `avoided` are not drawn, if the corpus has others.
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
