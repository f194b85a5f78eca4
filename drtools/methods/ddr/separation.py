"""Masked language modelling is a sum over texts: the numbers that a step needs to train on some of them at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drtools.models.masked import IGNORED
from drtools.training.memory import NUMBERS_OF_A_PREDICTION, Separation

if TYPE_CHECKING:
    from drtools.methods.ddr.masking import MaskedBatch, MaskedTokens


def separation_of(batch: MaskedBatch, vocabulary: int) -> Separation:
    """Return each text as a query, with the number of its masked tokens, by which the loss divides.

    Each of these tokens has logits over the vocabulary besides the body's activations.
    """
    tokens = batch.tokens["text"]
    masked = np.stack([count_masked(each) for each in tokens.every], axis=1)  # [N, 1], with a decoder [N, 2]
    known = np.zeros((len(masked), 2 * masked.shape[1]), np.float32)
    known[:, 1::2] = masked
    return Separation(
        {"text": np.arange(len(masked))},
        {"text": known},
        {"text": NUMBERS_OF_A_PREDICTION * vocabulary * masked.sum(axis=1)},
    )


def count_masked(tokens: MaskedTokens) -> np.ndarray:  # -> [N]
    """Return how many tokens of each text are to be predicted."""
    before = np.concatenate([[0], np.cumsum(tokens.labels != IGNORED)])
    counts: np.ndarray = before[tokens.tokens.starts[1:]] - before[tokens.tokens.starts[:-1]]
    return counts
