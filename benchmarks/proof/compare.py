"""Compare arms over several seeds: means, and paired t-tests on each query's mean over the seeds.

    python benchmarks/proof/compare.py --qrels test.tsv --baseline hard-kd FOLDER --arms adam hard-kd rand-kd

A run is FOLDER/ARM-SEED.run; an arm without a seed is FOLDER/ARM.run. The p-values are not corrected: each compares an
arm with the baseline over the seeds that both have. The table is GitHub's Markdown.
"""

import argparse
import re
from pathlib import Path

from drtools.evaluation.measures import evaluate, mean, parse_measure
from drtools.evaluation.significance import paired_t_test
from drtools.formats.trec import read_qrels, read_run


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--qrels", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--baseline", required=True, help="one of the arms")
    parser.add_argument("--measures", nargs="+", default=["nDCG@10", "RR@10", "R@100"])
    arguments = parser.parse_args()
    qrels = read_qrels(arguments.qrels)
    measures = [parse_measure(text) for text in arguments.measures]
    arms: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for arm in arguments.arms:
        found = {
            match[1] or "": path
            for path in arguments.folder.glob(f"{arm}*.run")
            if (match := re.fullmatch(rf"{re.escape(arm)}(?:-(\d+))?\.run", path.name))
        }
        arms[arm] = {seed: evaluate(qrels, read_run(path), measures) for seed, path in sorted(found.items())}
    print("| arm | seeds |" + "".join(f" {name} | each seed | p |" for name in arguments.measures))
    print("|---|---|" + "---|---|---|" * len(measures))
    for arm, runs in arms.items():
        if not runs:
            print(f"| {arm} | not run |" + " | | |" * len(measures))
            continue
        cells = [arm, " ".join(runs).strip() or "-"]
        for measure in arguments.measures:
            values = [mean(run[measure]) for run in runs.values()]
            cells += [f"{sum(values) / len(values):.4f}", " ".join(f"{value:.4f}" for value in values)]
            cells.append("" if arm == arguments.baseline else _p_value(arms[arguments.baseline], runs, measure))
        print("| " + " | ".join(cells) + " |")


def _p_value(
    baseline: dict[str, dict[str, dict[str, float]]], other: dict[str, dict[str, dict[str, float]]], measure: str
) -> str:
    """Return the p-value of a paired t-test on each query's mean over the seeds that both arms have."""
    shared = [seed for seed in other if seed in baseline]
    first, second = (shared, shared) if shared else (list(baseline), list(other))
    if not first or not second:
        return "-"
    return f"{paired_t_test(_by_query(baseline, first, measure), _by_query(other, second, measure)):.4f}"


def _by_query(runs: dict[str, dict[str, dict[str, float]]], seeds: list[str], measure: str) -> dict[str, float]:
    """Return each query's mean value over some seeds."""
    return {query: sum(runs[seed][measure][query] for seed in seeds) / len(seeds) for query in runs[seeds[0]][measure]}


if __name__ == "__main__":
    main()
