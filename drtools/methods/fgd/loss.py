"""FGD's loss of a batch.

Documents have a contrastive loss. Passages and sentences learn the teacher's scores, with negative pieces that are
selected by current scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from drtools.losses import contrastive, fine_grained, highest, scores
from drtools.methods.contrastive import kl_of_documents
from drtools.methods.fgd.batches import Level, PieceBatch

if TYPE_CHECKING:
    from drtools.training.gradients import Metrics
    from drtools.training.pairs import PairBatch

Direction = Literal["teacher-student", "student-teacher"]


class FgdLoss:
    """Computes weight * contrast + the divergence of each level.

    The loop calls it with queries [B, D] and rows of documents [C, K * D]. A row has the document, its P passages and
    its sentences.
    """

    def __init__(
        self,
        levels: Sequence[str],
        passages: int,
        scale: float,
        *,
        weight: float,
        negative_pieces: int,
        direction: Direction,
    ) -> None:
        self.levels, self.passages, self.scale = levels, passages, scale
        self.weight, self.negative_pieces, self.reverse = weight, negative_pieces, direction == "student-teacher"

    def __call__(self, queries: Tensor, rows: Tensor, batch: PieceBatch | PairBatch) -> tuple[Tensor, Metrics]:
        """Return the loss of the whole batch, and its parts."""
        vectors = rows.unflatten(1, (-1, queries.shape[1]))
        table = scores(queries, vectors[:, 0], self.scale)
        relevant, owner = (torch.from_numpy(part).to(table.device) for part in (batch.relevant, batch.owner))
        mine = owner == torch.arange(len(table), device=table.device).unsqueeze(1)
        parts = {"contrastive": contrastive(table.diagonal(), table, ~relevant)}
        if "document" in self.levels:
            assert batch.scores is not None, "examples are read with their scores"
            parts["document KL"] = kl_of_documents(table, batch.scores, batch.owner, reverse=self.reverse)
        if "passage" in self.levels or "sentence" in self.levels:
            assert isinstance(batch, PieceBatch), "levels of pieces need batches of them"
            parts |= self._of_pieces(queries, vectors[:, 1:], mine, batch)
        loss = sum((part for name, part in parts.items() if name != "contrastive"), self.weight * parts["contrastive"])
        return loss, {name: float(part.detach()) for name, part in parts.items()}

    def _of_pieces(self, queries: Tensor, vectors: Tensor, mine: Tensor, batch: PieceBatch) -> dict[str, Tensor]:
        """Return the divergence of each level, with negatives selected from the top down.

        These are the passages with the student's highest scores, and the sentences in them with the highest scores.
        """
        parents = torch.from_numpy(batch.parents).to(queries.device)
        negative = mine.clone()
        negative[:, : len(queries)] = False  # the first B documents are the queries' positives
        allowed = negative.unsqueeze(2)
        found = {}
        if "passage" in self.levels:
            found["passage KL"], chosen = self._of_level(queries, vectors[:, : self.passages], batch.passages, allowed)
            allowed = chosen.gather(2, parents.expand(len(queries), -1, -1))
        if "sentence" in self.levels:
            # a piece that was counted as a passage is not counted again
            without = torch.from_numpy(batch.once).to(queries.device) if "passage" in self.levels else None
            found["sentence KL"], _ = self._of_level(
                queries, vectors[:, self.passages :], batch.sentences, allowed, without
            )
        return found

    def _of_level(
        self, queries: Tensor, vectors: Tensor, level: Level, allowed: Tensor, without: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the divergence of a level, and which pieces were selected as negatives, bool [B, C, n].

        `allowed` bool [B, C, 1 or n].
        """
        count, width = len(queries), vectors.shape[1]
        there, teacher = (torch.from_numpy(part).to(queries.device) for part in level)
        student = scores(queries, vectors.flatten(0, 1), self.scale)  # [B, C * n]
        places, kept = highest(student.detach(), (allowed & there).flatten(1), self.negative_pieces)
        own = torch.arange(count, device=queries.device).unsqueeze(1) * width + torch.arange(
            width, device=queries.device
        )
        pieces = there[:count] if without is None else there[:count] & ~without[:count].unsqueeze(1)
        loss = fine_grained(
            (teacher[:count], teacher.flatten()[places]),
            (student.gather(1, own), student.gather(1, places)),
            pieces,
            kept,
            self.reverse,
        )
        chosen = torch.zeros_like(student, dtype=torch.bool).scatter(1, places, kept)
        return loss, chosen.unflatten(1, (-1, width))
