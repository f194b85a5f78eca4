"""Pairwise errors (Zhan et al.

2021, Table 1 and Figure 3): how many documents that are not relevant stand above relevant ones.
"""

from collections.abc import Iterable, Sequence, Set
from itertools import pairwise

# bins of errors a query, closed on both sides: 0, then 1, 2, 5 of each power of ten, even on a log axis
FIRST_IN_DECADE = (1, 2, 5)


def errors_in_list(documents: Iterable[str], relevant: Set[str]) -> tuple[int, int]:
    """Count a ranked list's pairs (relevant, not relevant) in the wrong order, and the relevant that it lacks.

    Over the relevant p that the list holds it is the sum of rank(p) - 1 - relevant above p. A relevant document that
    the list lacks stands below its end: every other document of the list is above it. So the count is exact if none is
    lacking, and else the least that it can be.
    """
    above = errors = found = 0
    for document in documents:
        if document in relevant:
            errors += above
            found += 1
        else:
            above += 1
    lacking = len(relevant) - found
    return errors + lacking * above, lacking


def expected_errors(documents: Sequence[str], relevant: Set[str], corpus_size: int) -> float:
    """Return the errors over a whole corpus if what the list lacks stands below its end in any order, each as likely.

    It is what a list without end would have on average where the rest is tied, as documents without a word of the query
    are.
    """
    errors, lacking = errors_in_list(documents, relevant)
    return errors + lacking * (corpus_size - len(documents) - lacking) / 2


def errors_in_top(documents: Sequence[str], relevant: Set[str], depth: int) -> int:
    """Count the errors against the first `depth` documents alone: at most `depth` for each relevant document.

    A relevant document from further down, or absent, has all others of the first `depth` above it. A list that is
    shorter is filled up to `depth` with documents that are not relevant, so that a query without hits has the most
    errors.
    """
    top = documents[:depth]
    errors, lacking = errors_in_list(top, relevant)
    return errors + lacking * (depth - len(top))


def share_of_worst(counts: Iterable[float]) -> float:
    """Return the share of all errors that the worst tenth of the queries (rounded up) makes.

    0 where there is no error.
    """
    ordered = sorted(counts, reverse=True)
    worst = ordered[: -(-len(ordered) // 10)]
    return sum(worst) / sum(ordered) if ordered[0] else 0.0


def bins_up_to(largest: float) -> list[tuple[int, int]]:
    """Return bins (first, last) that hold every count from 0 to `largest`.

    0, 1, 2 to 4, 5 to 9, 10 to 19, 20 to 49 ...
    """
    firsts = [0]
    power = 1
    while firsts[-1] <= largest:
        firsts += [first * power for first in FIRST_IN_DECADE]
        power *= 10
    bins = [(first, following - 1) for first, following in pairwise(firsts)]
    return [pair for pair in bins if pair[0] <= largest]


def count_in_bins(values: Iterable[float], bins: list[tuple[int, int]]) -> list[int]:
    """Return how many of the values fall into each bin."""
    from bisect import bisect_right

    firsts = [first for first, _ in bins]
    counts = [0] * len(bins)
    for value in values:
        counts[bisect_right(firsts, value) - 1] += 1
    return counts
