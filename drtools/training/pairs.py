"""Training batches of queries with one positive and some negatives each, drawn again at each visit.

Each process draws the whole batch and tokenizes its own share of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools.models.tokens import Tokenized, TokensWithVectors, VectorsBeside
from drtools.randomness import generator
from drtools.training.distributed import Shares, single_share
from drtools.training.memory import Separation
from drtools.training.sampling import DrawnExample, EpochSampler, ExampleSource, Visit, draw

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder
    from drtools.models.lexical import LexicalEncoder
    from drtools.models.pair import EncoderPair

    Guide = Encoder | EncoderPair[Encoder] | LexicalEncoder | EncoderPair[LexicalEncoder]


class PairBatch(NamedTuple):
    """B queries and C documents: first the positive of each query [B], then all negatives.

    `tokens` and `counts` are those of the loop: this process's share, and the number of texts of each process.
    `relevant` bool [B, C] is true if document c is a positive of query b, or of another corpus that is kept apart
    (`foreign` bool [B, C], None if there is none). `owner` [C] is the query for which a document
    was drawn. `scores` float32 [C] are the teacher's scores of a document for its owner, nan if there is none, or None
    if scores were not read. `guide` has this process's share of the texts of each side in the tokens of a guide.
    """

    tokens: dict[str, Tokenized]
    counts: dict[str, Sequence[int]]
    relevant: np.ndarray
    owner: np.ndarray
    scores: np.ndarray | None = None
    guide: dict[str, Tokenized] | None = None
    foreign: np.ndarray | None = None


class Drawing(NamedTuple):
    """The draws of a batch.

    These are the visits [B], the example that each drew, the documents [C] as (source, row), and their owners [C].
    """

    visits: list[Visit]
    drawn: list[DrawnExample]
    documents: list[tuple[ExampleSource, int]]
    owner: np.ndarray


class PairDraws:
    """The endless sequence of draws from examples, and the tokens of their texts.

    `shares(count)` returns the share of each process of `count` texts, and `rank` is the rank of this process.
    `beside(side, ids)` returns additional vectors of texts, float32 [N, D], if the model takes them. A `guide` is an
    encoder that is not trained, for which texts are tokenized too.
    """

    def __init__(
        self,
        sources: Sequence[ExampleSource],
        model: Encoder | EncoderPair[Encoder],
        *,
        batch_queries: int,
        negatives: int,
        seed: int,
        random_negatives: bool = False,
        shares: Shares = single_share,
        rank: int = 0,
        beside: VectorsBeside | None = None,
        guide: Guide | None = None,
    ) -> None:
        self.guide = guide
        self.visits, self.model = EpochSampler(sources, batch_queries, seed), model
        self.negatives, self.random_negatives = negatives, random_negatives
        self.shares, self.rank, self.beside = shares, rank, beside
        self.epoch_queries = self.visits.epoch_queries
        self.same_queries = SameQueries(sources)

    def pairs(self, step: int) -> PairBatch:
        """Draw the batch of a step, then look up and tokenize this process's share of its texts."""
        visits, drawn, documents, owner = self.draw(step)
        shares = {"query": self.shares(len(visits)), "document": self.shares(len(documents))}
        foreign = foreign_among(visits, documents)
        relevant = relevant_among(visits, documents, self.same_queries)
        scored = all(visit.source.examples.positive_scores is not None for visit in visits)
        return PairBatch(
            {
                "query": self._queries(visits[shares["query"][self.rank]]),
                "document": self.document_tokens(documents[shares["document"][self.rank]]),
            },
            {side: [part.stop - part.start for part in parts] for side, parts in shares.items()},
            relevant if foreign is None else relevant | foreign,
            owner,
            np.concatenate([[each.positive_score for each in drawn], *(each.negative_scores for each in drawn)]).astype(
                np.float32
            )
            if scored
            else None,
            self._of_guide(visits[shares["query"][self.rank]], documents[shares["document"][self.rank]]),
            foreign,
        )

    def draw(self, step: int) -> Drawing:
        """Draw the queries and documents of a step."""
        visits = self.visits(step)
        drawn = [draw(visit, self.negatives, generator(*visit.seed), self.random_negatives) for visit in visits]
        documents = [(visit.source, each.positive) for visit, each in zip(visits, drawn, strict=True)]
        documents += [
            (visit.source, row) for visit, each in zip(visits, drawn, strict=True) for row in each.negatives.tolist()
        ]
        owner = np.concatenate(
            [np.arange(len(visits)), np.repeat(np.arange(len(visits)), [len(each.negatives) for each in drawn])]
        )
        return Drawing(visits, drawn, documents, owner)

    def _of_guide(
        self, visits: Sequence[Visit], documents: Sequence[tuple[ExampleSource, int]]
    ) -> dict[str, Tokenized] | None:
        if self.guide is None:
            return None
        texts = {
            "query": [visit.query for visit in visits],
            "document": [source.text(row) for source, row in documents],
        }
        return {side: self.guide.of(side).tokenize(each, side) for side, each in texts.items()}

    def _queries(self, visits: Sequence[Visit]) -> Tokenized:
        tokens = self.model.of("query").tokenize([visit.query for visit in visits], "query")
        return (
            TokensWithVectors(
                tokens, self.beside("query", [visit.source.examples.query_ids[visit.at] for visit in visits])
            )
            if self.beside
            else tokens
        )

    def document_tokens(self, documents: Sequence[tuple[ExampleSource, int]]) -> Tokenized:
        """Look up and tokenize documents."""
        tokens = self.model.of("document").tokenize([source.text(row) for source, row in documents], "document")
        return (
            TokensWithVectors(
                tokens, self.beside("document", [source.store.ids_at([row])[0] for source, row in documents])
            )
            if self.beside
            else tokens
        )


class PairBatches(PairDraws):
    """The endless sequence of batches of examples."""

    def __call__(self, step: int) -> PairBatch:
        """Return the batch of a step."""
        return self.pairs(step)


def separation_of(batch: PairBatch) -> Separation:
    """Return which query each text belongs to, for a loss of each query's own documents."""
    return Separation({"query": np.arange(len(batch.relevant)), "document": batch.owner})


class SameQueries:
    """Queries that several sources over one corpus share, found by the hashes of their ids and texts.

    Takes 16 bytes for each query of sources that share a corpus, and nothing for others.
    """

    def __init__(self, sources: Sequence[ExampleSource]) -> None:
        stores = [id(source.store) for source in sources]
        self.sources: dict[int, list[tuple[ExampleSource, np.ndarray, np.ndarray]]] = {}
        for source in sources:
            if stores.count(id(source.store)) > 1:
                examples = source.examples
                every = map(hash, zip(examples.query_ids, examples.queries, strict=True))
                hashes = np.fromiter(every, np.int64, len(examples))
                order = np.argsort(hashes, kind="stable")
                self.sources.setdefault(id(source.store), []).append((source, hashes[order], order))

    def positives(self, source: ExampleSource, at: int) -> list[np.ndarray]:
        """Return the positives of an example's query in each source that has the query."""
        found = []
        key = (source.examples.query_ids[at], source.examples.queries[at]) if self.sources else ("", "")
        for other, hashes, order in self.sources.get(id(source.store), ()):
            first, last = np.searchsorted(hashes, hash(key)), np.searchsorted(hashes, hash(key), "right")
            for place in order[first:last].tolist():
                if (other.examples.query_ids[place], other.examples.queries[place]) == key:
                    found.append(other.examples.positives[place])
        return found or [source.examples.positives[at]]


def foreign_among(
    visits: Sequence[Visit], documents: Sequence[tuple[ExampleSource, int]]
) -> np.ndarray | None:  # -> bool [B, C]
    """Return which documents are of another corpus than a query that keeps apart from these; None if there is none."""
    if not any(visit.source.apart for visit in visits):
        return None
    queries = np.array([id(visit.source.store) if visit.source.apart else 0 for visit in visits])
    corpora = np.array([id(source.store) for source, _ in documents])
    foreign: np.ndarray = (queries[:, None] != corpora) & (queries[:, None] != 0)
    return foreign if foreign.any() else None


def relevant_among(
    visits: Sequence[Visit],
    documents: Sequence[tuple[ExampleSource, int]],
    same: SameQueries,
) -> np.ndarray:  # -> bool [B, C]
    """Return which documents are positives of each visit's query.

    `same` has the positives of queries that several sources share.
    """
    columns: dict[tuple[int, int], list[int]] = {}
    for column, (source, document) in enumerate(documents):
        columns.setdefault((id(source.store), document), []).append(column)
    relevant = np.zeros((len(visits), len(documents)), bool)
    for row, (source, at, _) in enumerate(visits):
        for positives in same.positives(source, at):
            for document in positives.tolist():
                relevant[row, columns.get((id(source.store), document), [])] = True
    return relevant
