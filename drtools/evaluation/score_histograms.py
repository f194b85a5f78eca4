"""The scores in examples by kind: positives, negatives and dark examples (Tao et al., ADAM)."""

from collections.abc import Iterable

import numpy as np

from drtools.formats.examples import Example

DARK = {"reinforced": "reinforced negatives", "noisy": "noisy positives"}
TOGETHER = "negatives and dark"
QUANTILES = {"5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95}


def scores_by_kind(examples: Iterable[Example]) -> dict[str, list[float]]:
    """Return {kind: scores}: positives, negatives, dark examples, and negatives and dark examples together.

    Kinds without scores are left out, and so are items without a score (null).
    """
    kinds: dict[str, list[float]] = {name: [] for name in ("positives", "negatives", *DARK.values())}
    for example in examples:
        kinds["positives"] += [score for score in example.positive_scores or () if score is not None]
        kinds["negatives"] += [score for score in example.negative_scores or () if score is not None]
        for item, score in zip(example.dark or (), example.dark_scores or (), strict=False):
            if score is not None:
                kinds[DARK[item.kind]].append(score)
    dark = [score for name in DARK.values() for score in kinds[name]]
    kinds[TOGETHER] = kinds["negatives"] + dark if dark else []
    return {name: scores for name, scores in kinds.items() if scores}


def summary(values: list[float]) -> dict[str, float]:
    """Return count, mean, standard deviation and quantiles of numbers."""
    array = np.asarray(values, np.float64)
    quantiles = np.quantile(array, list(QUANTILES.values())).tolist()
    return {
        "count": len(array),
        "mean": float(array.mean()),
        "standard_deviation": float(array.std()),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def histogram(series: dict[str, list[float]], bins: int) -> tuple[list[float], dict[str, list[int]]]:
    """Return the edges [bins + 1] of bins of equal width that hold every number, and {name: counts [bins]}."""
    edges = np.histogram_bin_edges(np.concatenate([np.asarray(values, np.float64) for values in series.values()]), bins)
    return edges.tolist(), {name: np.histogram(values, edges)[0].tolist() for name, values in series.items()}
