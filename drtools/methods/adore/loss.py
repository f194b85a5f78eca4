"""ADORE's candidates and loss: the rows that the index returns for each query at a step, and their pairs.

A query's list has the retrieved rows in their order, with ranks from 1. Appended relevant documents come after rank
`depth`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from drtools.encoding.loop import encode_texts
from drtools.errors import InputError
from drtools.formats.npy import open_npy
from drtools.losses import adore, lambda_weights
from drtools.methods.adore.batches import QueryBatch
from drtools.outputs.state_file import START_AFRESH
from drtools.randomness import generator
from drtools.training.matryoshka import prefix

if TYPE_CHECKING:
    from drtools.methods.adore.live_index import LiveIndex
    from drtools.methods.adore.settings import Metric
    from drtools.models.compute import Compute
    from drtools.models.encoder import Encoder
    from drtools.training.gradients import Metrics

RR_CUT = 10  # for RR@10 in the log


class Judged(NamedTuple):
    """A query's relevant documents: rows and grades [P], in the order of the judgements."""

    rows: np.ndarray
    grades: np.ndarray


class RankedCandidates(NamedTuple):
    """A query's list: rows [R], ranks [R] from 1, gains [R] (grades of relevant documents, else 0)."""

    rows: np.ndarray
    ranks: np.ndarray
    gains: np.ndarray


def candidates_of(
    retrieved: np.ndarray, judged: Judged, depth: int, append_missing: bool, avoided: Sequence[int] = ()
) -> RankedCandidates:
    """Complete a retrieved list.

    If it has no relevant document, all are appended. With `append_missing`, each missing one is appended. Rows to avoid
    are removed, and ranks are counted without them.
    """
    retrieved = _without(retrieved[retrieved >= 0], avoided)
    found = np.isin(judged.rows, retrieved)
    missing = judged.rows[~found] if append_missing or not found.any() else judged.rows[:0]
    rows = np.concatenate([retrieved, missing])
    ranks = np.concatenate([np.arange(1, len(retrieved) + 1), np.arange(depth + 1, depth + 1 + len(missing))])
    grades = dict(zip(judged.rows.tolist(), judged.grades.tolist(), strict=True))
    return RankedCandidates(rows, ranks, np.array([grades.get(row, 0) for row in rows.tolist()], np.float32))


def _without(rows: np.ndarray, avoided: Sequence[int]) -> np.ndarray:
    return rows[~np.isin(rows, avoided)] if avoided else rows


def random_candidates(drawn: np.ndarray, judged: Judged, ranking: np.ndarray, beyond: int) -> RankedCandidates:
    """List random rows and all relevant ones, with their ranks in the whole corpus.

    `ranking` holds the best rows of the corpus; all others have rank `beyond`.
    """
    rows = np.concatenate([judged.rows, drawn[~np.isin(drawn, judged.rows)]])
    place = {row: rank for rank, row in enumerate(ranking.tolist(), start=1)}
    ranks = np.array([place.get(row, beyond) for row in rows.tolist()])
    gains = np.concatenate([judged.grades, np.zeros(len(rows) - len(judged.rows), np.float32)])
    return RankedCandidates(rows, ranks, gains)


class AdoreLoss:
    """The loss of a batch of queries; called by the loop with all query vectors [B, D].

    `live` negatives are retrieved at each step. `static` negatives were retrieved by an earlier state of the model
    (`keep`), and are ranked by current scores. `random` negatives are drawn from the corpus; they and the relevant
    documents have their ranks in the whole corpus, for which a metric other than `none` searches at each step. Overlap
    and RR@10 are logged in steps that search, and in every `note_every_steps`-th step. `avoided` has the rows that are
    not negatives of each query. Of query vectors that are cut to fewer dimensions than the documents have (Matryoshka
    training), the lists and ranks are those of the whole vectors in the same step. They are compared with documents
    that are cut too, to length 1 if documents are `normalized`.
    """

    def __init__(
        self,
        live: LiveIndex,
        judged: dict[str, Judged],
        *,
        depth: int,
        metric: Metric,
        append_missing: bool,
        decoded: bool,
        scale: float,
        negatives: str,
        seed: int,
        note_every_steps: int,
        avoided: dict[str, list[int]] | None = None,
        normalized: bool = False,
    ) -> None:
        self.live, self.judged, self.depth, self.metric = live, judged, min(depth, len(live)), metric
        self.append_missing, self.decoded, self.scale, self.negatives, self.seed = (
            append_missing,
            decoded,
            scale,
            negatives,
            seed,
        )
        self.note_every_steps = note_every_steps
        self.avoided = avoided or {}
        self.kept: dict[str, np.ndarray] = {}
        self.normalized = normalized
        self.latest: tuple[QueryBatch, int, list[RankedCandidates]] | None = None  # with the dimension of its queries

    def keep(self, lists: dict[str, np.ndarray]) -> None:
        """Set the static lists of rows, by query."""
        self.kept = lists

    def __call__(self, vectors: Tensor, batch: QueryBatch) -> tuple[Tensor, Metrics]:
        """Return the mean of the lists' losses over queries. Queries without a pair count as 0."""
        if self.latest and self.latest[0] is batch and vectors.shape[1] < self.latest[1]:
            return self._mean(vectors, self.latest[2], batch), {}
        lists, metrics = self._listed(batch, vectors.detach().float().cpu().numpy())
        self.latest = (batch, vectors.shape[1], lists)
        return self._mean(vectors, lists, batch), metrics

    def _listed(self, batch: QueryBatch, now: np.ndarray) -> tuple[list[RankedCandidates], Metrics]:
        """Return the list of each query with the vectors [B, D] of this step, and the metrics."""
        # all ranks below the metric's cutoff count the same, so the ranking can end there
        ranking = max(self.depth, self.metric.cut) if self.negatives == "random" and self.metric.cut else 0
        if ranking:
            ranking += max(len(self.avoided.get(query_id, ())) for query_id in batch.query_ids)
        retrieved = None
        if self.negatives == "live" or ranking or (batch.step + 1) % self.note_every_steps == 0:
            retrieved = self.live.search(now, ranking or self.depth)[1]
        used = self._used(batch, now) if retrieved is None or self.negatives != "live" else retrieved
        metrics = {} if retrieved is None else self._metrics(batch, retrieved[:, : self.depth], used)
        return self._lists(batch, used, retrieved if ranking else None), metrics

    def _mean(self, vectors: Tensor, lists: list[RankedCandidates], batch: QueryBatch) -> Tensor:
        losses = [
            self._of_query(scores, candidates, query_id)
            for scores, candidates, query_id in zip(
                self._scores(vectors.float(), lists), lists, batch.query_ids, strict=True
            )
        ]
        return torch.stack(losses).mean()

    def _lists(
        self, batch: QueryBatch, used: list[np.ndarray] | np.ndarray, ranking: np.ndarray | None
    ) -> list[RankedCandidates]:
        """Complete each query's rows with its relevant ones; random rows have their ranks in `ranking`."""
        judged = [self.judged[query_id] for query_id in batch.query_ids]
        avoided = [self.avoided.get(query_id, []) for query_id in batch.query_ids]
        if self.negatives != "random":
            return [
                candidates_of(rows, own, self.depth, self.append_missing, others)
                for rows, own, others in zip(used, judged, avoided, strict=True)
            ]
        beyond = max(self.depth, self.metric.cut) + 1
        found = [np.empty(0, np.int64)] * len(judged) if ranking is None else ranking
        return [
            random_candidates(_without(rows, others), own, _without(ranked[ranked >= 0], others), beyond)
            for rows, own, ranked, others in zip(used, judged, found, avoided, strict=True)
        ]

    def _used(self, batch: QueryBatch, vectors: np.ndarray) -> list[np.ndarray]:
        """Return each query's random rows, or its static rows in the order of their current scores."""
        if self.negatives == "random":
            return [
                np.unique(
                    generator(self.seed, "random", batch.step, query_id).integers(len(self.live), size=self.depth)
                )
                for query_id in batch.query_ids
            ]
        lists = []
        for query_id, vector in zip(batch.query_ids, vectors, strict=True):
            rows = self.kept[query_id]
            lists.append(rows[np.argsort(-(self.live.vectors_of(rows, self.decoded) @ vector), kind="stable")])
        return lists

    def _metrics(self, batch: QueryBatch, retrieved: np.ndarray, used: list[np.ndarray] | np.ndarray) -> Metrics:
        reciprocal, overlap = [], []
        for query_id, live, rows in zip(batch.query_ids, retrieved, used, strict=True):
            places = np.flatnonzero(np.isin(live[:RR_CUT], self.judged[query_id].rows))
            reciprocal.append(1 / (places[0] + 1) if len(places) else 0.0)
            overlap.append(len(np.intersect1d(live, rows)) / self.depth)
        return {f"RR@{RR_CUT}": float(np.mean(reciprocal)), "overlap": float(np.mean(overlap))}

    def _scores(self, queries: Tensor, lists: list[RankedCandidates]) -> list[Tensor]:  # [Q, D] -> [R] a query
        """Score each list; a row that is in several lists is read, and multiplied with all queries, only once."""
        rows, places = np.unique(np.concatenate([candidates.rows for candidates in lists]), return_inverse=True)
        documents = self.live.tensor_of(rows, self.decoded).to(queries.device)
        if queries.shape[1] < documents.shape[1]:
            documents = prefix(documents, queries.shape[1], self.normalized)
        table = self.scale * (queries @ documents.T)
        return [
            own[part]
            for own, part in zip(
                table,
                torch.from_numpy(places).to(queries.device).split([len(candidates.rows) for candidates in lists]),
                strict=True,
            )
        ]

    def _of_query(self, scores: Tensor, candidates: RankedCandidates, query_id: str) -> Tensor:
        gains = torch.from_numpy(candidates.gains).to(scores.device)
        relevant = gains > 0
        if not relevant.any() or relevant.all():
            return scores.sum() * 0
        ranks = torch.from_numpy(candidates.ranks).to(scores.device)
        return adore(
            scores,
            relevant,
            lambda_weights(self.metric.name, self.metric.cut, ranks, relevant, gains, self._ideal(query_id)),
        )

    def _ideal(self, query_id: str) -> float:
        best = np.sort(self.judged[query_id].grades)[::-1][: self.metric.cut]
        return float((best / np.log2(np.arange(2, len(best) + 2))).sum())


class StaticLists:
    """Static negatives.

    The current model retrieves the lists at the start, and again after fixed numbers of steps.
    """

    at_start = True

    def __init__(
        self, loss: AdoreLoss, texts: dict[str, str], encoder: Encoder, computing: Compute, every_steps: int
    ) -> None:
        self.loss, self.texts, self.encoder, self.every_steps = loss, texts, encoder, every_steps
        self.computing = computing.in_training

    def make(self, path: Path, step: int, check_stop: Callable[[], None]) -> None:
        """Write rows int64 [Q, depth] in the order of the queries. Every process searches, and rank 0 writes."""
        vectors, _ = encode_texts(self.encoder, list(self.texts.values()), "query", self.computing)
        rows = self.loss.live.search(vectors, self.loss.depth)[1]
        if self.loss.live.world.is_first:
            with open(path, "wb") as stream:
                np.save(stream, rows)

    def load(self, path: Path) -> None:
        """Use these lists from now on."""
        rows, documents = open_npy(path, START_AFRESH), len(self.loss.live)  # 0.1.0 saved no checksum of it
        whole = rows.dtype == np.int64 and rows.ndim == 2 and len(rows) == len(self.texts)
        if not whole or (rows >= documents).any():
            raise InputError(
                f"found {rows.dtype} {list(rows.shape)}",
                where=path,
                expected=f"rows of {documents:,} documents for {len(self.texts):,} queries",
                remedy=START_AFRESH,
            )
        self.loss.keep({query_id: row[row >= 0] for query_id, row in zip(self.texts, rows, strict=True)})
