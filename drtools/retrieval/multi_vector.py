"""Search by a document's vector and those of its pieces: s + gamma * (best passage + best sentence), over the top of s (FGD)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from typer import Option

from drtools import console
from drtools.errors import UserError
from drtools.flags import Role
from drtools.formats.piece_vectors import PieceVectors
from drtools.formats.trec import Qrels, rank
from drtools.retrieval.searching import QUERIES_A_BLOCK, DenseSource, Found

if TYPE_CHECKING:
    import numpy as np

PANEL = "Pieces"
GRID = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)  # [ours]


@dataclass
class MultiVectorFlags:
    """Whether and how pieces are scored besides documents."""

    multi_vector: Annotated[bool, Option("--multi-vector", help="--vectors: score the top documents by their pieces too", rich_help_panel=PANEL)] = False
    gamma: Annotated[float, Option(min=0, help="weight of the best passage and the best sentence", rich_help_panel=PANEL)] = 0.4
    tune: Annotated[str | None, Option(help="qrels (dev): choose gamma on them", rich_help_panel=PANEL), Role.INPUT] = None
    tune_queries: Annotated[str | None, Option(help="their queries; default: --queries", rich_help_panel=PANEL), Role.INPUT] = None
    tune_measure: Annotated[str, Option(help="what to tune for", rich_help_panel=PANEL)] = "nDCG@10"

    def check(self, vectors: str | None, rerank: str | None, queries: str | None) -> None:
        """Raise UserError for flags that mean nothing together."""
        if (self.multi_vector and (not vectors or rerank)) or (self.tune and not (self.multi_vector and (queries or self.tune_queries))):
            raise UserError("--multi-vector scores pieces beside --vectors, without --rerank; --tune chooses its gamma and needs --queries or --tune-queries")

    def settle(self, source: object, queries: str | None, depth: int) -> dict:
        """Let a multi-vector source choose its gamma if that was asked; return what the manifest says of it."""
        from drtools.formats.trec import read_qrels
        from drtools.retrieval.texts import judged_queries

        if not self.multi_vector:
            return {}
        tried = source.tune(list(judged_queries(self.tune_queries or queries, self.tune).items()), depth, read_qrels(self.tune), self.tune_measure) if self.tune else []
        return {"gamma": source.gamma, "tried": tried}


class Scored(NamedTuple):
    """One query's documents by their own vectors: ids, scores [C], and the sum of the best piece of each level [C]."""

    query_id: str
    documents: list[str]
    scores: np.ndarray
    of_pieces: np.ndarray

    def hits(self, gamma: float) -> dict[str, float]:
        """Return the documents in the order of score + gamma * pieces."""
        return rank(dict(zip(self.documents, (self.scores + gamma * self.of_pieces).tolist(), strict=True)))


class MultiVectorSource:
    """A vectors folder whose documents' pieces are scored too: those of each query's top documents."""

    def __init__(self, dense: DenseSource, pieces: PieceVectors, gamma: float) -> None:
        self.dense, self.pieces, self.gamma = dense, pieces, gamma
        self.record, self.noted = dense.record, dense.noted

    def scored(self, queries: Sequence[tuple[str, str]], depth: int) -> Iterator[Scored]:
        """Yield each query's top `depth` documents; one without pieces counts as its own passage and sentence."""
        import numpy as np

        for start in range(0, len(queries), QUERIES_A_BLOCK):
            block = queries[start : start + QUERIES_A_BLOCK]
            vectors = self.dense.queries.encode(block)
            scores, rows = self.dense.nearest(vectors, depth)
            for at, (query_id, _) in enumerate(block):
                passage, sentence, there = self.pieces.best(rows[at], vectors[at])
                yield Scored(query_id, [self.dense.ids[row] for row in rows[at].tolist()], scores[at], np.where(there, passage + sentence, 2 * scores[at]))

    def search(self, queries: Sequence[tuple[str, str]], depth: int, asked: dict[str, list[str]]) -> Iterator[Found]:
        """Yield each query's top documents in their new order."""
        assert not asked
        for found in self.scored(queries, depth):
            yield Found(found.query_id, found.hits(self.gamma), {})

    def tune(self, queries: Sequence[tuple[str, str]], depth: int, qrels: Qrels, measure: str) -> list[tuple[float, float]]:
        """Take the gamma that is best on judged queries, the smallest of equals; return every (gamma, value)."""
        from drtools.evaluation.measures import evaluate, mean, parse_measure

        found = list(self.scored(queries, depth))
        judged, parsed = {one.query_id: qrels[one.query_id] for one in found}, [parse_measure(measure)]
        tried = []
        for gamma in GRID:
            (by_query,) = evaluate(judged, {one.query_id: one.hits(gamma) for one in found}, parsed).values()
            tried.append((gamma, mean(by_query)))
        self.gamma, value = max(tried, key=lambda pair: (pair[1], -pair[0]))
        console.say(f"gamma {self.gamma:g}: {measure} {value:.4f} over {len(found):,} dev queries ({tried[0][1]:.4f} without pieces)")
        self.noted.clear()  # what was odd about the dev queries
        return tried


def open_multi_vector(dense: DenseSource, folder: str, gamma: float) -> MultiVectorSource:
    """Open the pieces beside the vectors that `dense` searches."""
    from pathlib import Path

    from drtools.formats.piece_vectors import open_pieces

    return MultiVectorSource(dense, open_pieces(Path(folder), len(dense.ids)), gamma)
