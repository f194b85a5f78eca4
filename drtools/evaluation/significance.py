"""Significance of the difference between two runs on the same queries."""

import math


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
