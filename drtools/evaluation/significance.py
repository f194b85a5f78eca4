"""Significance of the difference between two runs on the same queries."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

Test = Literal["t", "randomization"]
SAMPLES = 100_000  # of sign flips: p is exact to about 0.001; with fewer possible ones, all of them
BLOCK_VALUES = 1 << 22  # float64 values in memory at once, 32 MiB
SEED = 0
EQUAL = 1e-12  # relative; sums of the same numbers in another order differ by this much


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


def paired_randomization_test(first: dict[str, float], other: dict[str, float]) -> float:
    """Return the two-tailed p-value of a paired randomization test on {query id: value} of two runs.

    Fisher's test as in Smucker, Allan and Carterette (CIKM 2007): the share of sign flips of the differences whose mean
    is as far from 0 as that of the runs, or farther. All flips are tried if there are at most `SAMPLES`; otherwise
    `SAMPLES` random ones, and that of the runs is counted among them. Runs without any difference have p = 1; with
    fewer than two queries there is no test and p is NaN.
    """
    import numpy as np

    assert first.keys() == other.keys()
    if len(first) < 2:
        return math.nan
    differences = np.array([other[query] - value for query, value in first.items()])
    differences = differences[differences != 0]  # whose signs change nothing
    count, total = len(differences), differences.sum()
    is_exact = 2**count <= SAMPLES
    samples = 2**count if is_exact else SAMPLES
    generator = np.random.default_rng(SEED)
    block = max(1, BLOCK_VALUES // max(1, count))
    least = abs(total) - EQUAL * np.abs(differences).sum()
    extreme = 0
    for start in range(0, samples, block):
        rows = min(block, samples - start)
        if is_exact:
            flips = (np.arange(start, start + rows)[:, None] >> np.arange(count) & 1).astype(np.uint8)
        else:
            bytes_of_flips = generator.integers(0, 256, (rows, -(-count // 8)), dtype=np.uint8)
            flips = np.unpackbits(bytes_of_flips, axis=1, count=count)
        extreme += int((np.abs(total - 2 * (flips.astype(np.float64) @ differences)) >= least).sum())
    return extreme / samples if is_exact else (extreme + 1) / (samples + 1)


TESTS: dict[Test, Callable[[dict[str, float], dict[str, float]], float]] = {
    "t": paired_t_test,
    "randomization": paired_randomization_test,
}
TESTS_IN_WORDS: dict[Test, str] = {
    "t": "two-tailed paired t-test",
    "randomization": f"two-tailed paired randomization test, {SAMPLES:,} samples",
}


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


def comparisons(
    results: list[dict[str, dict[str, float]]], baselines: Sequence[int] = (0,), test: Test = "t"
) -> list[Comparisons]:
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
        raw = [TESTS[test](results[baseline][measure], results[run][measure]) for run, baseline in pairs]
        for (run, baseline), both in zip(pairs, zip(raw, holm(raw), strict=True), strict=True):
            compared[run].setdefault(baseline, {})[measure] = both
    return compared
