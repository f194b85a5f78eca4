"""Pairwise errors (Zhan et al. 2021, Table 1 and Figure 3): documents that are not relevant above relevant ones."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence, Set
from itertools import pairwise
from typing import NamedTuple

# bins of errors a query, closed on both sides: 0, then 1, 2, 5 of each power of ten, even on a log axis
FIRST_IN_DECADE = (1, 2, 5)


class Above(NamedTuple):
    """How many non-relevant documents rank above each relevant one of a query.

    `each` has these numbers for the listed relevant documents, ascending. `lacking` relevant documents are not in the
    list, which has `listed` non-relevant documents, so at least this many rank above each of them.
    """

    each: list[int]
    lacking: int = 0
    listed: int = 0


def above_in_list(documents: Iterable[str], relevant: Set[str]) -> Above:
    """Count the non-relevant documents above each relevant one: its rank - 1 - the relevant documents above it."""
    each: list[int] = []
    above = 0
    for document in documents:
        if document in relevant:
            each.append(above)
        else:
            above += 1
    return Above(each, len(relevant) - len(each), above)


def errors_in_all(above: Above) -> int:
    """Return the number of (relevant, not relevant) pairs in the wrong order, or a lower bound if some are lacking."""
    return sum(above.each) + above.lacking * above.listed


def errors_against_top(above: Above, depth: int) -> int:
    """Return the errors against the first `depth` non-relevant documents, at most `depth` for each relevant one.

    A relevant document that is not listed has all `depth` above it. This also holds for lists that are shorter, so that
    a query without hits has the maximum number of errors.
    """
    return sum(min(count, depth) for count in above.each) + above.lacking * depth


def errors_in_list(documents: Iterable[str], relevant: Set[str]) -> tuple[int, int]:
    """Count a ranked list's pairs (relevant, not relevant) in the wrong order, and the relevant that it lacks."""
    above = above_in_list(documents, relevant)
    return errors_in_all(above), above.lacking


def errors_in_top(documents: Sequence[str], relevant: Set[str], depth: int) -> int:
    """Count a ranked list's errors against its first `depth` documents that are not relevant."""
    return errors_against_top(above_in_list(documents, relevant), depth)


def share_of_worst(counts: Iterable[float]) -> float:
    """Return the share of all errors that the worst tenth of the queries (rounded up) has; 0 without errors."""
    ordered = sorted(counts, reverse=True)
    worst = ordered[: -(-len(ordered) // 10)]
    return sum(worst) / sum(ordered) if ordered[0] else 0.0


def bins_up_to(largest: float) -> list[tuple[int, int]]:
    """Return bins (first, last) for counts from 0 to `largest`: 0, 1, 2 to 4, 5 to 9, 10 to 19, 20 to 49 ..."""
    firsts = [0]
    power = 1
    while firsts[-1] <= largest:
        firsts += [first * power for first in FIRST_IN_DECADE]
        power *= 10
    bins = [(first, following - 1) for first, following in pairwise(firsts)]
    return [pair for pair in bins if pair[0] <= largest]


def count_in_bins(values: Iterable[float], bins: list[tuple[int, int]]) -> list[int]:
    """Return how many of the values fall into each bin."""
    return [len(held) for held in _by_bin(values, bins)]


def sum_in_bins(values: Iterable[float], bins: list[tuple[int, int]]) -> list[float]:
    """Return the sum of the values that fall into each bin."""
    return [sum(held) for held in _by_bin(values, bins)]


def _by_bin(values: Iterable[float], bins: list[tuple[int, int]]) -> list[list[float]]:
    firsts = [first for first, _ in bins]
    held: list[list[float]] = [[] for _ in bins]
    for value in values:
        held[bisect_right(firsts, value) - 1].append(value)
    return held


def shares(values: Sequence[float]) -> list[float]:
    """Return each value's share of their sum, or 0 if the sum is 0."""
    total = sum(values)
    return [value / total if total else 0.0 for value in values]
