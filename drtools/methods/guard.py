"""Guards against false negatives: documents of a batch that score above a query's positive are not its negatives.

The scores are those of a guide, an encoder that is not trained (GISTEmbed, Solatorio 2024), or of the student itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drtools import reporting
from drtools.errors import InputError, param
from drtools.models.specs import EncoderSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from drtools.models.encoder import Encoder
    from drtools.models.lexical import LexicalEncoder
    from drtools.models.pair import EncoderPair
    from drtools.training.encoder_task import EncoderTraining
    from drtools.training.pairs import PairBatch

COUNTED = ("masked", "negatives")


@dataclass(frozen=True)
class GuardSpec:
    """Whose scores guard against false negatives, and by how much they must be above the positive's to mask."""

    guide: str | None = None
    self_guide: bool = False
    guide_margin: float | None = None

    def __post_init__(self) -> None:
        """Raise InputError for settings that do not go together."""
        if self.guide and self.self_guide:
            raise InputError(
                "both name a guide", where=f"{param('guide')} with {param('self_guide')}", remedy="leave one out"
            )
        if self.guide_margin is not None and not (self.given and math.isfinite(self.guide_margin)):
            raise InputError(
                where=f"{param('guide_margin')} {self.guide_margin:g}",
                expected=f"a finite number, with {param('guide')} or {param('self_guide')}",
            )
        if self.self_guide and self.guide_margin is None:
            raise InputError(
                "the encoder learns most from documents that it scores above the positive, so how far above is a "
                "decision",
                where=param("self_guide"),
                remedy=f"use {param('guide_margin')} too, such as 0.1 for vectors of length 1",
            )

    @property
    def given(self) -> bool:
        """Whether there is a guard."""
        return bool(self.guide) or self.self_guide


class Guard:
    """Says which documents of a batch are masked, and counts them.

    Without a `guide`, the scores are those of the student, divided by its `scale`. The answer for a batch is kept: it
    is the same for each prefix of a Matryoshka training, which begins with whole vectors.
    """

    def __init__(
        self,
        margin: float,
        scale: float = 1.0,
        guide: Encoder | EncoderPair[Encoder] | LexicalEncoder | EncoderPair[LexicalEncoder] | None = None,
        task: EncoderTraining | None = None,
    ) -> None:
        self.margin, self.scale, self.guide, self.task = margin, scale, guide, task
        self.counts: Counter[str] = Counter()
        self.latest: tuple[PairBatch, Tensor] | None = None

    def __call__(self, table: Tensor, batch: PairBatch) -> Tensor:  # [B, C] -> bool [B, C]
        """Return which documents score above the positive by more than the margin, without relevant ones."""
        import torch

        if self.latest is None or self.latest[0] is not batch:
            relevant = torch.from_numpy(batch.relevant).to(table.device)
            scores = table.detach() / self.scale if self.guide is None else self._of_guide(batch).to(table.device)
            masked = (scores > scores.diagonal().unsqueeze(1) + self.margin) & ~relevant
            self.counts.update(masked=int(masked.sum()), negatives=int((~relevant).sum()))
            self.latest = (batch, masked)
        return self.latest[1]

    def _of_guide(self, batch: PairBatch) -> Tensor:  # -> [B, C]
        """Encode this process's share of the texts, and score all of the batch."""
        import numpy as np
        import torch

        from drtools.encoding.loop import encode_tokens

        assert self.task is not None and self.guide is not None and batch.guide is not None, "batches of a guided task"
        vectors = []
        for side, tokens in batch.guide.items():
            encoder = self.guide.of(side)
            own: np.ndarray = np.empty((len(tokens.lengths), encoder.dimension), np.float32)
            encode_tokens(encoder, tokens, self.task.computing, own)
            vectors.append(
                self.task.world.gather(torch.from_numpy(own).to(self.task.computing.device), batch.counts[side])
            )
        queries, documents = vectors
        return queries @ documents.T

    def after_step(self, step: int, seconds: float) -> None:
        """Move the counts of a step to those of the training, which checkpoints keep."""
        assert self.task is not None
        self.task.run.meter.total_counts.update({name: self.counts.pop(name, 0) for name in COUNTED})

    def facts(self) -> dict[str, object]:
        """Report what was masked, and return it for the manifest."""
        assert self.task is not None
        masked, negatives = (self.task.run.meter.total_counts[name] for name in COUNTED)
        reporting.say(
            f"{masked:,} of {negatives:,} negatives scored above a positive and were masked "
            f"({masked / max(1, negatives):.2%})"
        )
        return {"false_negatives": {"masked": masked, "negatives": negatives}}


def open_guard(spec: GuardSpec, task: EncoderTraining) -> Guard | None:
    """Load the guide of a training, None if there is no guard."""
    from drtools.models.loader import load_for_encoding

    if not spec.given:
        return None
    guide = load_for_encoding(EncoderSpec(model=spec.guide), task.computing) if spec.guide else None
    return Guard(spec.guide_margin or 0.0, task.scale, guide, task)


def guarded(guard: Guard | None) -> Callable[[Tensor, PairBatch], tuple[Tensor, dict[str, float]]]:
    """Return a function of a batch's scores [B, C] that gives the candidates to keep, bool [B, C], and metrics.

    Relevant documents and masked ones are not kept.
    """
    import torch

    def keep(table: Tensor, batch: PairBatch) -> tuple[Tensor, dict[str, float]]:
        kept = ~torch.from_numpy(batch.relevant).to(table.device)
        if guard is None:
            return kept, {}
        masked = guard(table, batch)
        return kept & ~masked, {"masked": float(masked.sum())}

    return keep
