"""Search by document vectors and by the vectors of their pieces (FGD).

The top documents by s are scored as s + gamma * (best passage + best sentence).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from drtools.formats.piece_vectors import PieceVectors, open_pieces
from drtools.formats.trec import rank
from drtools.search.sources import QUERIES_A_BLOCK, DenseSource, Found
from drtools.search.specs import MultiVectorSpec

if TYPE_CHECKING:
    import numpy as np


USUAL_GAMMA = 0.4
USUAL_RESCORED = 1000  # [ours]
PAIRS_A_BLOCK = 2**24  # pairs of a query and a document that are scored at once, of some 40 bytes each


class PieceScoredHits(NamedTuple):
    """One query's top documents: ids, scores of their own vectors [C], and the sum of the best piece per level [C]."""

    query_id: str
    documents: list[str]
    scores: np.ndarray
    of_pieces: np.ndarray

    def hits(self, gamma: float, depth: int) -> dict[str, float]:
        """Return the best `depth` documents by score + gamma * pieces."""
        return dict(
            islice(
                rank(dict(zip(self.documents, (self.scores + gamma * self.of_pieces).tolist(), strict=True))).items(),
                depth,
            )
        )


class MultiVectorSource:
    """A vectors folder as a source in which each query's top documents are also scored by their pieces."""

    def __init__(self, dense: DenseSource, pieces: PieceVectors, gamma: float, rescored: int) -> None:
        self.dense, self.pieces, self.gamma, self.rescored = dense, pieces, gamma, rescored
        self.record, self.noted = dense.record, dense.noted
        self.ignore_identical = False  # whether the document with the query's own id is left out

    def scored(self, queries: Sequence[tuple[str, str]], depth: int) -> Iterator[PieceScoredHits]:
        """Yield each query's top `rescored` documents (at least `depth`; 0: all).

        A document without pieces counts as its own passage and sentence.
        """
        import numpy as np

        count = max(depth, self.rescored or len(self.dense.ids)) + self.ignore_identical
        step = QUERIES_A_BLOCK  # also after halving, blocks end where a run is saved
        while step > 1 and step * min(count, len(self.dense.ids)) > PAIRS_A_BLOCK:
            step //= 2
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            vectors = self.dense.queries.encode(block)
            scores, rows = self.dense.nearest(vectors, count)
            for at, (query_id, _) in enumerate(block):
                documents = [self.dense.ids[row] for row in rows[at].tolist()]
                kept = np.arange(len(documents))
                if self.ignore_identical:
                    others = [place for place, document in enumerate(documents) if document != query_id]
                    kept = np.array(others[: count - 1], np.int64)
                    self.noted["identical"] += query_id in documents
                    documents = [documents[place] for place in kept.tolist()]
                passage, sentence, there = self.pieces.best(rows[at][kept], vectors[at])
                yield PieceScoredHits(
                    query_id,
                    documents,
                    scores[at][kept],
                    np.where(there, passage + sentence, 2 * scores[at][kept]),
                )

    def search(self, queries: Sequence[tuple[str, str]], depth: int, asked: dict[str, list[str]]) -> Iterator[Found]:
        """Yield each query's top documents in their new order."""
        assert not asked
        for found in self.scored(queries, depth):
            yield Found(found.query_id, found.hits(self.gamma, depth), {})


def open_multi_vector(dense: DenseSource, folder: str, pieces: MultiVectorSpec) -> MultiVectorSource:
    """Open the pieces that belong to the vectors of `dense`."""
    gamma = USUAL_GAMMA if pieces.gamma is None else pieces.gamma
    return MultiVectorSource(
        dense,
        open_pieces(Path(folder), len(dense.ids)),
        gamma,
        USUAL_RESCORED if pieces.rescore is None else pieces.rescore,
    )
