"""Significance of the difference between two runs on the same queries."""

import math
from collections.abc import Sequence


def paired_t_test(first: dict[str, float], other: dict[str, float]) -> float:
    """Return the two-tailed p-value of a paired t-test on {query id: value} of two runs.

    Runs without any difference have p = 1; with fewer than two queries there is no test and p is NaN.
    """
    from scipy.special import stdtr

    assert first.keys() == other.keys()
    differences = [other[query] - value for query, value in first.items()]
    count = len(differences)
    if count < 2:
        return math.nan
    mean = math.fsum(differences) / count
    variance = math.fsum((difference - mean) ** 2 for difference in differences) / (count - 1)
    if variance == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(count - 1, -abs(mean) / math.sqrt(variance / count)))


def holm(p_values: list[float]) -> list[float]:
    """Return Holm-Bonferroni adjusted p-values, in the order given (Holm 1979).

    The smallest of m values is multiplied by m, the next by m - 1, and so on; none is below the one before it or above
    1.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max((len(p_values) - place) * p_values[i], highest)
        adjusted[i] = min(highest, 1.0)
    return adjusted


Comparisons = dict[int, dict[str, tuple[float, float]]]  # baseline -> measure -> (p, corrected p)


def comparisons(results: list[dict[str, dict[str, float]]], baselines: Sequence[int] = (0,)) -> list[Comparisons]:
    """Compare runs with each baseline, given by its position; two baselines are compared only in the later one's entry.

    Returns for each run {baseline: {measure: (p, corrected p)}}. Holm's correction is over all pairs of one measure.
    """
    pairs = [
        (run, baseline)
        for place, baseline in enumerate(baselines)
        for run in range(len(results))
        if run not in baselines[: place + 1]
    ]
    compared: list[Comparisons] = [{} for _ in results]
    for measure in results[0]:
        raw = [paired_t_test(results[baseline][measure], results[run][measure]) for run, baseline in pairs]
        for (run, baseline), both in zip(pairs, zip(raw, holm(raw), strict=True), strict=True):
            compared[run].setdefault(baseline, {})[measure] = both
    return compared
