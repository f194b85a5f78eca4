"""Search by a document's vector and those of its pieces.

S + gamma * (best passage + best sentence), over the top of s (FGD).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, NamedTuple

from typer import Option

from drtools import reporting
from drtools.cli.flags.common import Role, names_of
from drtools.errors import UserError
from drtools.formats.joins import note_nothing_relevant
from drtools.formats.piece_vectors import PieceVectors
from drtools.formats.trec import Qrels, rank
from drtools.search.sources import QUERIES_A_BLOCK, DenseSource, Found

if TYPE_CHECKING:
    import numpy as np

    from drtools.search.sources import Source

PANEL = "Pieces"
USUAL_GAMMA = 0.4
USUAL_RESCORED = 1000  # [ours]
USUAL_MEASURE = "nDCG@10"
PAIRS_A_BLOCK = 2**24  # of queries and documents searched at once, of some 40 bytes each
GRID = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)  # [ours]


@dataclass
class MultiVectorFlags:
    """Whether and how pieces are scored besides documents."""

    multi_vector: Annotated[
        bool,
        Option("--multi-vector", help="--vectors: score the top documents by their pieces too", rich_help_panel=PANEL),
    ] = False
    rescore: Annotated[
        int | None,
        Option(
            min=0,
            help="by how many of a query's top documents to do so, --depth at the least; 0: all, of a small "
            "collection; default: 1000",
            rich_help_panel=PANEL,
        ),
    ] = None
    gamma: Annotated[
        float | None,
        Option(min=0, help="weight of the best passage and the best sentence; default: 0.4", rich_help_panel=PANEL),
    ] = None
    tune: Annotated[str | None, Option(help="qrels (dev): choose gamma on them", rich_help_panel=PANEL), Role.INPUT] = (
        None
    )
    tune_queries: Annotated[
        str | None, Option(help="their queries; default: --queries", rich_help_panel=PANEL), Role.INPUT
    ] = None
    tune_measure: Annotated[str | None, Option(help="what to tune for; default: nDCG@10", rich_help_panel=PANEL)] = None

    def check(self, vectors: str | None, rerank: str | None, queries: str | None, words: str | None) -> None:
        """Raise UserError for flags that mean nothing together, or for no measure."""
        said = names_of(
            {
                "rescore": self.rescore,
                "gamma": self.gamma,
                "tune": self.tune,
                "tune_queries": self.tune_queries,
                "tune_measure": self.tune_measure,
            }
        )
        if said and not self.multi_vector:
            raise UserError(
                f"{' and '.join(said)}: for pieces, which --multi-vector scores; say it too, or leave these out"
            )
        if self.multi_vector and (not vectors or rerank):
            raise UserError("--multi-vector scores pieces beside --vectors, without --rerank")
        if words is not None and (self.tune or self.tune_queries):
            raise UserError(
                "--tune chooses gamma before a run is written; for a question say the --gamma that it chose"
            )
        if self.tune_queries and not self.tune:
            raise UserError("--tune-queries: the queries of --tune, which was not said")
        if self.tune and self.gamma is not None:
            raise UserError("--tune chooses gamma, --gamma says it; expected one of them")
        if self.tune_measure:
            from drtools.evaluation.measures import parse_measure

            if not self.tune:
                raise UserError("--tune-measure: nothing is tuned; say --tune QRELS too")
            parse_measure(self.tune_measure)
        if self.tune and not (queries or self.tune_queries):
            raise UserError("--tune needs the texts of the queries that it judges; say --queries or --tune-queries")

    def settle(self, source: Source | MultiVectorSource, queries: str | None, depth: int) -> dict:
        """Let a multi-vector source choose its gamma if that was asked; return what the manifest says of it."""
        from drtools.formats.text_sources import check_judged_documents, judged_queries
        from drtools.formats.trec import read_qrels

        if not self.multi_vector:
            return {}
        assert isinstance(source, MultiVectorSource), "what --multi-vector opens"
        if not self.tune:
            return {"gamma": source.gamma, "tried": []}
        measure, texts = self.tune_measure or USUAL_MEASURE, self.tune_queries or queries
        assert texts is not None, "check refuses --tune without texts"
        qrels, judged = read_qrels(self.tune), judged_queries(texts, self.tune)
        note_nothing_relevant(qrels, self.tune)
        check_judged_documents({query_id: qrels[query_id] for query_id in judged}, source.dense.ids, source.dense.whose)
        tried = source.tune(list(judged.items()), depth, qrels, measure)
        return {"gamma": source.gamma, "tried": tried, "tuned_for": measure}


class Scored(NamedTuple):
    """One query's documents by their own vectors: ids, scores [C], and the sum of the best piece of each level [C]."""

    query_id: str
    documents: list[str]
    scores: np.ndarray
    of_pieces: np.ndarray

    def hits(self, gamma: float, depth: int) -> dict[str, float]:
        """Return the first `depth` documents in the order of score + gamma * pieces."""
        return dict(
            islice(
                rank(dict(zip(self.documents, (self.scores + gamma * self.of_pieces).tolist(), strict=True))).items(),
                depth,
            )
        )


class MultiVectorSource:
    """A vectors folder whose documents' pieces are scored too: those of each query's top documents."""

    def __init__(self, dense: DenseSource, pieces: PieceVectors, gamma: float, rescored: int) -> None:
        self.dense, self.pieces, self.gamma, self.rescored = dense, pieces, gamma, rescored
        self.record, self.noted = dense.record, dense.noted
        self.ignore_identical = False  # whether the document of a query's own id is left out

    def scored(self, queries: Sequence[tuple[str, str]], depth: int) -> Iterator[Scored]:
        """Yield each query's top `rescored` documents (`depth` at the least; 0: all).

        One without pieces counts as its own passage and sentence.
        """
        import numpy as np

        count = max(depth, self.rescored or len(self.dense.ids)) + self.ignore_identical
        step = QUERIES_A_BLOCK  # halved it still ends where a run is saved
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
                yield Scored(
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

    def tune(
        self, queries: Sequence[tuple[str, str]], depth: int, qrels: Qrels, measure: str
    ) -> list[tuple[float, float]]:
        """Take the gamma that is best on judged queries, the smallest of equals; return every (gamma, value)."""
        from drtools.evaluation.measures import evaluate, mean, parse_measure

        found, tried = [], []
        with reporting.progress("scoring pieces for dev", len(queries), "queries") as progress:
            for one in self.scored(queries, depth):
                found.append(one)
                progress.advance(1)
        judged, parsed = {one.query_id: qrels[one.query_id] for one in found}, [parse_measure(measure)]
        with reporting.progress("tuning gamma", len(GRID), "weights") as progress:
            for gamma in GRID:
                (by_query,) = evaluate(judged, {one.query_id: one.hits(gamma, depth) for one in found}, parsed).values()
                tried.append((gamma, mean(by_query)))
                progress.advance(1)
        self.gamma, value = max(tried, key=lambda pair: (pair[1], -pair[0]))
        reporting.say(
            f"gamma {self.gamma:g}: {measure} {value:.4f} over {len(found):,} dev queries ({tried[0][1]:.4f} without "
            "pieces)"
        )
        self.noted.clear()  # what was odd about the dev queries
        return tried


def open_multi_vector(dense: DenseSource, folder: str, pieces: MultiVectorFlags) -> MultiVectorSource:
    """Open the pieces beside the vectors that `dense` searches."""
    from pathlib import Path

    from drtools.formats.piece_vectors import open_pieces

    gamma = USUAL_GAMMA if pieces.gamma is None else pieces.gamma
    return MultiVectorSource(
        dense,
        open_pieces(Path(folder), len(dense.ids)),
        gamma,
        USUAL_RESCORED if pieces.rescore is None else pieces.rescore,
    )
