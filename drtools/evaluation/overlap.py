"""Overlap of ranked lists: rank-biased overlap, and the share of static negatives that are still hard."""

from collections.abc import Sequence, Set
from itertools import islice


def rank_biased_overlap(first: Sequence[str], other: Sequence[str], p: float) -> float:
    """Return the extrapolated rank-biased overlap of two rankings without ties (Webber et al. 2010, Eq. 32): 0 to 1.

    `p` in (0, 1) is the probability that a reader goes on to the next rank. The lists may differ in length; the
    agreement at the end is assumed to continue. Two empty lists have an overlap of 1, an empty and another list of 0.
    """
    assert 0 < p < 1
    shorter, longer = sorted((first, other), key=len)
    if not shorter:
        return float(not longer)
    seen: set[str] = set()
    common = at_shorter_end = 0
    total, weight = 0.0, 1.0
    for depth, document in enumerate(longer, start=1):
        new = {document, shorter[depth - 1]} if depth <= len(shorter) else {document}
        common += len(new & seen) + (depth <= len(shorter) and len(new) == 1)
        seen |= new
        weight *= p
        total += common / depth * weight
        if depth == len(shorter):
            at_shorter_end = common
        elif depth > len(shorter):  # the overlap of the shorter list, extrapolated from its end
            total += at_shorter_end * (depth - len(shorter)) / (len(shorter) * depth) * weight
    agreement = (common - at_shorter_end) / len(longer) + at_shorter_end / len(shorter)
    return min(1.0, (1 - p) / p * total + agreement * weight)


def share_still_hard(negatives: Sequence[str], ranking: Sequence[str], positives: Set[str], depth: int) -> float:
    """Return the share of a query's negatives that are among the first `depth` documents that are not positive.

    Negatives that were mined from this very ranking, down to `depth`, have 1 (Zhan et al. 2021, Figure 4).
    """
    hard = set(islice((document for document in ranking if document not in positives), depth))
    return sum(document in hard for document in negatives) / len(negatives)
