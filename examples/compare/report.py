"""What `make -f examples/compare/Makefile` cannot say by a tool alone: the time of a query, and the report.

report.py first queries.jsonl 100                 the first queries of a file
report.py time ONE.jsonl MANY.jsonl -- COMMAND    milliseconds of one more query of a search
report.py report OUT --qrels test.tsv SYSTEM ...  OUT/report.md and OUT/report.png
"""

import argparse
import gzip
import statistics
import subprocess
import sys
import time
from pathlib import Path

from drtools.evaluation.measures import evaluate, mean, parse_measure
from drtools.evaluation.pictures import BLUE, DARK_GREY, picture
from drtools.evaluation.significance import paired_t_test
from drtools.formats.trec import read_qrels, read_run
from drtools.outputs import manifest

MEASURES = ("nDCG@10", "RR@10", "R@100")
LEVEL = 0.05
MADE_OF = {
    "bm25": ("bm25",),
    "zero-shot": ("zero-shot-vectors",),
    "fused": ("bm25", "zero-shot-vectors"),
    "spar": ("zero-shot-vectors", "lexical", "lexical-vectors"),
    "star": ("zero-shot-vectors", "examples.jsonl", "star", "star-vectors"),
    "star-spar": ("zero-shot-vectors", "examples.jsonl", "star", "star-vectors", "lexical", "lexical-vectors"),
    "adore": ("zero-shot-vectors", "examples.jsonl", "star", "star-vectors", "adore"),
    "ddr": ("ddr/source-bm25", "ddr/examples.jsonl", "ddr/source-dam", "ddr/rem", "ddr/dam", "ddr-vectors"),
}
STORED = {
    "bm25": ("bm25",),
    "zero-shot": ("zero-shot-vectors",),
    "fused": ("bm25", "zero-shot-vectors"),
    "spar": ("zero-shot-vectors", "lexical-vectors"),
    "star": ("star-vectors",),
    "star-spar": ("star-vectors", "lexical-vectors"),
    "adore": ("star-vectors",),
    "ddr": ("ddr-vectors",),
}
PUBLISHED = {
    "bm25": "bm25",
    "zero-shot": "zero-shot-vectors",
    "fused": "bm25 zero-shot-vectors",
    "spar": "spar-vectors",
    "star": "star star-vectors",
    "star-spar": "star-spar-vectors",
    "adore": "adore star-vectors",
    "ddr": "ddr-vectors",
}


def first(path: str, count: int) -> None:
    """Print the first `count` queries of a JSONL file."""
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as stream:
        for _, line in zip(range(count), stream, strict=False):
            sys.stdout.buffer.write(line)


def time_search(repeats: int, one: str, many: str, command: list[str]) -> None:
    """Print the milliseconds that each further query takes: the median of several differences."""
    count = Path(many).read_bytes().count(b"\n") - Path(one).read_bytes().count(b"\n")
    seconds = []
    for _ in range(repeats):
        both = []
        for queries in (one, many):
            begun = time.perf_counter()
            subprocess.run([*command, "--quiet", "--queries", queries], stdout=subprocess.DEVNULL, check=True)
            both.append(time.perf_counter() - begun)
        seconds.append(both[1] - both[0])
    print(f"{max(0.0, statistics.median(seconds)) / max(count, 1) * 1000:.2f}")


def report(out: Path, qrels_path: str | None, systems: list[str]) -> None:
    """Write the table, the picture and the advice."""
    runs = {system: read_run(out / "test" / f"{system}.run") for system in systems}
    costs = {system: cost(out, system) for system in systems}
    values: dict[str, dict[str, dict[str, float]]] = {}
    columns: list[str] = list(MEASURES)
    if qrels_path:
        qrels = read_qrels(qrels_path)
        measures = [parse_measure(text) for text in MEASURES]
        for system, run in runs.items():
            values[system] = evaluate(qrels, run, measures)
        means = {system: {name: mean(values[system][name]) for name in MEASURES} for system in systems}
        best = max(systems, key=lambda system: means[system][MEASURES[0]])
    else:
        columns = ["overlap with BM25 at 10"]
        means = {system: {columns[0]: overlap(run, runs.get("bm25", {}))} for system, run in runs.items()}
        best = ""
    lines = [
        "| system | " + " | ".join(columns) + (" | p | " if best else " | ") + "minutes | bytes/document | ms/query |",
        "|---" * (len(columns) + 4 + bool(best)) + "|",
    ]
    p_values = {
        system: 1.0 if system == best else paired_t_test(values[best][MEASURES[0]], values[system][MEASURES[0]])
        for system in systems
        if best
    }
    for system in systems:
        cells = [system, *(f"{means[system][name]:.4f}" for name in columns)]
        if best:
            cells.append("best" if system == best else f"{p_values[system]:.4f}")
        cells += [f"{costs[system][0]:.1f}", f"{costs[system][1]:,.0f}", f"{costs[system][2]:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    if best:
        lines += ["", advice(out, best, means, p_values, costs), ""]
        draw(out, {system: means[system][MEASURES[0]] for system in systems}, costs)
    (out / "report.md.new").write_text("\n".join(lines) + "\n")
    (out / "report.md.new").rename(out / "report.md")


def cost(out: Path, system: str) -> tuple[float, float, float]:
    """Return the minutes that a system took, its bytes a document, and its milliseconds a query."""
    seconds = sum(manifest.read(out / name)["seconds"] for name in MADE_OF[system])
    stored = 0.0
    for name in STORED[system]:
        size = sum(file.stat().st_size for file in (out / name).rglob("*") if file.is_file())
        stored += size / max(manifest.read(out / name).get("count", 1), 1)
    parts = ("bm25", "zero-shot") if system == "fused" else (system,)
    return seconds / 60, stored, sum(float((out / "test" / f"{part}.ms").read_text()) for part in parts)


def overlap(run: dict[str, dict[str, float]], other: dict[str, dict[str, float]]) -> float:
    """Return the mean share of a run's first ten documents that are also among the other's first ten."""
    shares = [len(set(list(hits)[:10]) & set(list(other.get(query, {}))[:10])) / 10 for query, hits in run.items()]
    return sum(shares) / max(len(shares), 1)


def advice(
    out: Path,
    best: str,
    means: dict[str, dict[str, float]],
    p_values: dict[str, float],
    costs: dict[str, tuple[float, float, float]],
) -> str:
    """Return a paragraph on which system to take: the cheapest that does not differ significantly from the best."""
    level = [system for system, p in p_values.items() if p >= LEVEL]
    take = min(level, key=lambda system: (costs[system][0], costs[system][1]))
    others = [system for system in level if system not in (best, take)]
    text = f"{best} has the highest {MEASURES[0]}, {means[best][MEASURES[0]]:.4f}."
    if take != best:
        text += (
            f" {take} has {means[take][MEASURES[0]]:.4f}; these queries do not show a difference "
            f"(p {p_values[take]:.2f}), and it takes {costs[take][0]:.1f} minutes instead of {costs[best][0]:.1f}, "
            f"{costs[take][1]:,.0f} bytes a document instead of {costs[best][1]:,.0f}."
        )
    if others:
        text += f" Neither do they for {', '.join(others)}."
    folders = " ".join(f"{out}/{name}" for name in PUBLISHED[take].split())
    return f"{text} Take {take}: `drtools publish {folders} live`."


def draw(out: Path, quality: dict[str, float], costs: dict[str, tuple[float, float, float]]) -> None:
    """Draw quality against the time of a query; the area of a point is the size of the stored documents."""
    below = "area: bytes a document on the disk; up and to the left is better"
    with picture(out / "report.png", 4.5, f"{MEASURES[0]} and the time of a query", below) as (_, (axes,)):
        largest = max(stored for _, stored, _ in costs.values())
        for system, value in quality.items():
            milliseconds, stored = costs[system][2], costs[system][1]
            axes.scatter(milliseconds, value, s=30 + 300 * stored / largest, color=BLUE, alpha=0.6, linewidths=0)
            axes.annotate(system, (milliseconds, value), xytext=(9, 7), textcoords="offset points", color=DARK_GREY)
        axes.set_xlabel("milliseconds a query")
        axes.set_ylabel(f"{MEASURES[0]} on the test queries")
        axes.margins(0.15)


def main() -> None:
    """Do what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("first")
    command.add_argument("path")
    command.add_argument("count", type=int)
    command = commands.add_parser("time")
    command.add_argument("repeats", type=int)
    command.add_argument("one")
    command.add_argument("many")
    command.add_argument("words", nargs="+")
    command = commands.add_parser("report")
    command.add_argument("out", type=Path)
    command.add_argument("systems", nargs="+")
    command.add_argument("--qrels")
    arguments = parser.parse_args()
    if arguments.command == "first":
        first(arguments.path, arguments.count)
    elif arguments.command == "time":
        time_search(arguments.repeats, arguments.one, arguments.many, arguments.words)
    else:
        report(arguments.out, arguments.qrels, arguments.systems)


if __name__ == "__main__":
    main()
