"""Compare reading and evaluating a run with pytrec_eval: the same files and measures, alternately in one process.

    python benchmarks/evaluation.py [--queries 6980] [--hits 1000] [--repeats 3]

Prints the median seconds of each step and their ratio, with the minimum and maximum ratio of the pairs.
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import pytrec_eval

from drtools.evaluation.measures import evaluate, parse_measure
from drtools.formats.trec import read_qrels, read_run

MEASURES = {"nDCG@10": "ndcg_cut_10", "RR": "recip_rank", "R@100": "recall_100", "R@1000": "recall_1000", "AP": "map"}
PASSAGES = 8_841_823  # in MS MARCO


def write_files(folder: Path, queries: int, hits: int, seed: int) -> tuple[Path, Path]:
    """Write a run in the order of retrievers, and judgements with one relevant document for each query."""
    rng = random.Random(seed)
    with open(folder / "run.trec", "w") as run, open(folder / "judged.qrels", "w") as judged:
        for query in rng.sample(range(1_200_000), queries):
            documents = rng.sample(range(PASSAGES), hits)
            scores = sorted((rng.gammavariate(3, 3) for _ in documents), reverse=True)
            run.writelines(
                f"{query} Q0 {d} {i} {s:.6f} run\n"
                for i, (d, s) in enumerate(zip(documents, scores, strict=True), start=1)
            )
            relevant = rng.choice(documents) if rng.random() < 0.9 else rng.randrange(PASSAGES)
            judged.write(f"{query} 0 {relevant} 1\n")
    return folder / "run.trec", folder / "judged.qrels"


def ours(run_path: Path, qrels_path: Path) -> tuple[list[float], dict[str, float]]:
    """Return the times at the start and after each step, and the means."""
    times = [time.perf_counter()]
    run = read_run(run_path)
    times.append(time.perf_counter())
    qrels = read_qrels(qrels_path)
    times.append(time.perf_counter())
    values = evaluate(qrels, run, [parse_measure(name) for name in MEASURES])
    times.append(time.perf_counter())
    return times, {name: statistics.fmean(values[name].values()) for name in MEASURES}


def theirs(run_path: Path, qrels_path: Path) -> tuple[list[float], dict[str, float]]:
    """Return the times at the start and after each step, and the means."""
    times = [time.perf_counter()]
    with open(run_path) as stream:
        run = pytrec_eval.parse_run(stream)
    times.append(time.perf_counter())
    with open(qrels_path) as stream:
        qrels = pytrec_eval.parse_qrel(stream)
    times.append(time.perf_counter())
    values = pytrec_eval.RelevanceEvaluator(qrels, set(MEASURES.values())).evaluate(run)
    times.append(time.perf_counter())
    return times, {name: statistics.fmean(values[query][other] for query in values) for name, other in MEASURES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=6980)  # MS MARCO dev, small
    parser.add_argument("--hits", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(Path(folder), options.queries, options.hits, options.seed)
        pairs = []
        for repeat in range(options.repeats):
            first, second = (ours, theirs) if repeat % 2 == 0 else (theirs, ours)
            found = {first: first(*paths), second: second(*paths)}
            pairs.append((found[ours][0], found[theirs][0]))
            assert all(f"{found[ours][1][name]:.4f}" == f"{found[theirs][1][name]:.4f}" for name in MEASURES), found
    print(f"{options.queries} queries x {options.hits} hits, {options.repeats} repeats, seconds (medians)")
    print(f"{'step':<20}{'drtools':>9}{'pytrec_eval':>13}{'ratio':>8}   least and greatest")
    for step, (start, stop) in {
        "read the run": (0, 1),
        "read judgements": (1, 2),
        "evaluate": (2, 3),
        "all": (0, 3),
    }.items():
        seconds = [(mine[stop] - mine[start], other[stop] - other[start]) for mine, other in pairs]
        ratios = [mine / other for mine, other in seconds]
        mine, other = (statistics.median(column) for column in zip(*seconds, strict=True))
        print(
            f"{step:<20}{mine:>9.3f}{other:>13.3f}{statistics.median(ratios):>8.2f}   {min(ratios):.2f} "
            f"{max(ratios):.2f}"
        )


if __name__ == "__main__":
    main()
