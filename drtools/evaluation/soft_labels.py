"""A teacher's softmax over the lists that ADAM distills, and how close a student's comes to it (Tao et al.)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drtools.formats.examples import Example

LISTS = ("positive, negatives", "positive, negatives, dark", "negatives", "negatives, dark")


def lists_of(example: Example) -> dict[str, list[float]]:
    """Return {kind of list: scores} of one example, without items that have no score.

    The positive is that of the dark items, or else the first one.
    """
    positives = dict(zip(example.positives, example.positive_scores or [None] * len(example.positives), strict=True))
    dark_of = example.dark[0].positive if example.dark else None
    positive = [positives[dark_of if dark_of in positives else example.positives[0]]] if positives else []
    parts = {"positive": positive, "negatives": example.negative_scores or [], "dark": example.dark_scores or []}
    return {name: [score for part in name.split(", ") for score in parts[part] if score is not None] for name in LISTS}


def softmax(scores: Sequence[float]) -> list[float]:
    """Return the softmax of scores."""
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    return [power / sum(powers) for power in powers]


def evenness(shares: Sequence[float]) -> float:
    """Return the entropy of shares divided by that of equal ones, so that lists of different length are comparable.

    At 0 the shares are a hard label, at 1 they are uniform.
    """
    return (
        -sum(share * math.log(share) for share in shares if share) / math.log(len(shares)) if len(shares) > 1 else 0.0
    )


def soft_labels(examples: Iterable[Example]) -> dict[str, list[list[float]]]:
    """Return {kind of list: the shares of each example}, for examples with a scored positive, negative and dark item.

    If no example has dark items, the lists are those without them.
    """
    found = [lists_of(example) for example in examples]
    has_dark = any(len(lists["negatives, dark"]) > len(lists["negatives"]) for lists in found)
    kinds = [name for name in LISTS if has_dark or "dark" not in name]
    whole = [
        lists
        for lists in found
        if len(lists["positive, negatives"]) > len(lists["negatives"]) > 0
        and (not has_dark or len(lists["negatives, dark"]) > len(lists["negatives"]))
    ]
    return {name: [softmax(lists[name]) for lists in whole] for name in kinds} if whole else {}


def agreement(teacher: Sequence[float], student: Sequence[float], scale: float) -> tuple[float, float]:
    """Return (KL(teacher || student), Kendall's tau-b) for a list of two or more items.

    The student's scores are scaled first. tau is NaN if one of them gives all items the same score.
    """
    import torch
    from scipy.stats import kendalltau

    from drtools.losses import kl_of_lists

    told, own = (torch.tensor([list(scores)], dtype=torch.float32) for scores in (teacher, student))
    divergence = kl_of_lists(told, scale * own, torch.ones_like(told, dtype=torch.bool))
    return float(divergence), float(kendalltau(teacher, student).statistic)
