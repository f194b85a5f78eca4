"""Selection of a query's negatives from its hits: ranks, no positives, score filters, then top or random.

The filters are those of sentence-transformers. With the lowest score p of a query's positives, a negative with score s
is kept if s <= max score, s >= min score, s <= p - absolute margin and s <= p - |p| * relative margin.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from drtools.errors import InputError, param
from drtools.formats.examples import Example
from drtools.randomness import generator

# what 0.1.0 computed otherwise for the same arguments
NO_DUPLICATES = "a document with the query's id or with a positive's text is no negative"


@dataclass(frozen=True)
class MiningRules:
    """The rules for which documents may become negatives."""

    ranks: str = "1-200"
    negatives: int = 30
    draw: str = "top"
    absolute_margin: float | None = None
    relative_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    seed: int = 42
    keep_duplicates: bool = False

    @property
    def needs_positive_scores(self) -> bool:
        """Whether a filter compares with the scores of positives."""
        return self.absolute_margin is not None or self.relative_margin is not None


def parse_ranks(text: str, flag: str = param("ranks")) -> tuple[int, int]:
    """Parse `11-200` into (first, last): ranks from 1, both inclusive. `50` means `1-50`."""
    first, dash, last = text.partition("-")
    if not dash:
        first, last = "1", first
    if not (first.isdecimal() and last.isdecimal()) or not 1 <= int(first) <= int(last):
        raise InputError(where=f"{flag} {text}", expected="FIRST-LAST, ranks from 1, for instance 1-200")
    return int(first), int(last)


def choose_negatives(
    query_id: str,
    hits: Mapping[str, float | None],
    positives: set[str],
    lowest_positive: float | None,
    flags: MiningRules,
    removed: Counter[str],
    avoided: Mapping[str, str] | None = None,
) -> dict[str, float | None]:
    """Return {document: score} of a query's negatives, in ranked order.

    `hits` are ranked best first, from rank 1. `avoided` maps other documents that must not become negatives to the
    reason. `removed` counts what each rule removed. With a margin and no known score of a positive nothing is kept.
    """
    first, last = parse_ranks(flags.ranks)
    kept: dict[str, float | None] = {}
    for rank, (document, score) in enumerate(hits.items(), start=1):
        if not first <= rank <= last:
            continue
        if document in positives:
            reason: str | None = "positives"
        else:
            reason = (avoided or {}).get(document) or _refusal(score, lowest_positive, flags)
        if reason:
            removed[reason] += 1
        else:
            kept[document] = score
    if len(kept) <= flags.negatives:
        return kept
    if flags.draw == "top":
        return dict(list(kept.items())[: flags.negatives])
    places = generator(flags.seed, "negatives", query_id).choice(len(kept), flags.negatives, replace=False)
    return {document: score for place, (document, score) in enumerate(kept.items()) if place in set(places.tolist())}


SCORE_RULES = ("max_score", "min_score", "absolute_margin", "relative_margin")


def _refusal(score: float | None, lowest_positive: float | None, flags: MiningRules) -> str | None:
    """Return the name of the rule that removes a candidate with this score, or None."""
    if score is None:  # a random document, for which score filters are refused
        return None
    if flags.max_score is not None and score > flags.max_score:
        return "max_score"
    if flags.min_score is not None and score < flags.min_score:
        return "min_score"
    if flags.absolute_margin is not None and (
        lowest_positive is None or score > lowest_positive - flags.absolute_margin
    ):
        return "absolute_margin"
    if flags.relative_margin is not None and (
        lowest_positive is None or score > lowest_positive - abs(lowest_positive) * flags.relative_margin
    ):
        return "relative_margin"
    return None


def label_by_rank(query_id: str, hits: dict[str, float], positives: int, negatives: tuple[int, int]) -> Example | None:
    """Label documents by rank only: ranks 1 to `positives` are positive, the given ranks negative.

    If a list ends before the last rank, its last hits are the negatives. Returns None if there are too few for both.
    """
    count = negatives[1] - negatives[0] + 1
    ranked = list(hits.items())
    if len(ranked) < positives + count:
        return None
    stop = min(negatives[1], len(ranked))
    top, bottom = ranked[:positives], ranked[stop - count : stop]
    return Example(
        query_id,
        [document for document, _ in top],
        [document for document, _ in bottom],
        [score for _, score in top],
        [score for _, score in bottom],
    )
