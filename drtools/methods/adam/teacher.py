"""A teacher that scores with dropout, as in ADAM's paper.

Each call draws new dropout masks, so scores are not cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from drtools.encoding.loop import encode_tokens
from drtools.models.cpu.attention import use_sliced_attention
from drtools.models.cpu.dropout import use_own_dropout
from drtools.models.pair_tokens import tokenize_pairs
from drtools.randomness import generator
from drtools.teachers.scoring import Teacher
from drtools.teachers.windows import Pair


def keep_dropout(teacher: Teacher) -> None:
    """Put a teacher's models into training mode. On a CPU, dropout is drawn with the seed of the thread."""
    for scorer in teacher.scorers:
        scorer.encoder.train()
        if scorer.computing.device == "cpu":
            use_own_dropout(scorer.encoder)
            use_sliced_attention(scorer.encoder.body)


@dataclass(frozen=True)
class Dropping:
    """Scores pairs with a teacher with dropout. The same `key` and pairs give the same scores."""

    teacher: Teacher
    key: tuple[object, ...]

    def scores(self, pairs: Sequence[Pair], limits: Sequence[int | None] | None = None) -> np.ndarray:
        """Return the raw logits float32 [N] of (query text, document text), in their order.

        `limits` are as in Teacher.
        """
        found = np.zeros(len(pairs))
        for number, scorer in enumerate(self.teacher.scorers):
            logits = np.empty((len(pairs), 1), np.float32)
            tokens = tokenize_pairs(
                scorer.encoder, self.teacher.in_words_of(scorer, pairs), limits or [None] * len(pairs)
            )
            scorer.counts.update(
                computed=len(pairs),
                truncated=tokens.truncated,
                truncated_queries=tokens.truncated_queries,
                empty=tokens.empty,
            )
            encode_tokens(scorer.encoder, tokens, scorer.computing, logits, seed_of=partial(self._seed, number))
            found += logits[:, 0]
        return (found / len(self.teacher.scorers)).astype(np.float32)

    def _seed(self, number: int, batch: int) -> int:
        """Return the seed of dropout for a batch of a scorer."""
        return int(generator(*self.key, number, batch).integers(2**62))
