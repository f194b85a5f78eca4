"""The scores that examples keep, by kind: positives, negatives and dark examples (Tao et al., ADAM)."""

from collections.abc import Iterable
from pathlib import Path

from drtools.errors import UserError
from drtools.formats.examples import Example
from drtools.formats.lines import shown

DARK = {"reinforced": "reinforced negatives", "noisy": "noisy positives"}
QUANTILES = {"5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95}


def scores_by_kind(examples: Iterable[Example], path: str | Path) -> dict[str, list[float]]:
    """Return {kind: scores} of the kinds that have any, in the order positives, negatives, dark ones.

    What has no score (null) is left out. Raises UserError for dark scores that do not fit the dark items.
    """
    kinds: dict[str, list[float]] = {name: [] for name in ("positives", "negatives", *DARK.values())}
    for example in examples:
        kinds["positives"] += [score for score in example.positive_scores or () if score is not None]
        kinds["negatives"] += [score for score in example.negative_scores or () if score is not None]
        for name, score in _dark_scores(example, path):
            kinds[name].append(score)
    return {name: scores for name, scores in kinds.items() if scores}


def _dark_scores(example: Example, path: str | Path) -> list[tuple[str, float]]:
    items, scores = example.others.get("dark"), example.others.get("dark_scores")
    if scores is None:
        return []
    fits = isinstance(items, list) and isinstance(scores, list) and len(items) == len(scores)
    if not fits or not all(isinstance(item, dict) and item.get("kind") in DARK for item in items):
        raise UserError(f"{shown(path)}: query {example.query_id!r}: dark_scores does not fit dark, expected a number for each item of kind {' or '.join(DARK)}")
    if not all(score is None or isinstance(score, int | float) for score in scores):
        raise UserError(f"{shown(path)}: query {example.query_id!r}: dark_scores holds something that is no number")
    return [(DARK[item["kind"]], score) for item, score in zip(items, scores, strict=True) if score is not None]


def summary(values: list[float]) -> dict[str, float]:
    """Return count, mean, standard deviation and quantiles of numbers."""
    import numpy as np

    array = np.asarray(values, np.float64)
    quantiles = np.quantile(array, list(QUANTILES.values())).tolist()
    return {"count": len(array), "mean": float(array.mean()), "standard_deviation": float(array.std()), **dict(zip(QUANTILES, quantiles, strict=True))}


def histogram(series: dict[str, list[float]], bins: int) -> tuple[list[float], dict[str, list[int]]]:
    """Return the edges [bins + 1] of bins of equal width that hold every number, and {name: counts [bins]}."""
    import numpy as np

    edges = np.histogram_bin_edges(np.concatenate([np.asarray(values, np.float64) for values in series.values()]), bins)
    return edges.tolist(), {name: np.histogram(values, edges)[0].tolist() for name, values in series.items()}
