"""Output of several runs' measures: a table with significance, lines by query, or JSON."""

import sys
from collections.abc import Sequence
from string import ascii_lowercase

from drtools.cli import terminal
from drtools.evaluation.measures import mean
from drtools.evaluation.significance import Comparisons
from drtools.units import counted

Measured = dict[str, dict[str, float]]  # a run's values by measure and query


def print_table(
    runs: list[str],
    results: list[Measured],
    compared: list[Comparisons],
    baselines: Sequence[int],
    queries: int,
    alpha: float,
) -> None:
    """Print a table of values with p of each comparison below, and the corrected p if there are several."""
    names = list(results[0])
    count = sum(map(len, compared))
    marks = dict(zip(baselines, ascii_lowercase if len(baselines) > 1 else "*", strict=False))
    gap = " " * len(baselines)
    rows = [["", *(name + gap for name in names)]]
    for run, result, against in zip(runs, results, compared, strict=True):
        found = {
            name: "".join(
                mark if baseline in against and against[baseline][name][1] < alpha else " "
                for baseline, mark in marks.items()
            )
            for name in names
        }
        rows.append([run, *(f"{mean(result[name]):.4f}{found[name]}" for name in names)])
        for baseline, by_measure in against.items():
            other = "the first" if list(baselines) == [0] else runs[baseline]
            for which, words in enumerate((f"p against {other}", "Holm-corrected")[: 1 + (count > 1)]):
                rows.append([f"  {words}", *(f"{by_measure[name][which]:.4f}{gap}" for name in names)])
    width = terminal.terminal_width(sys.stdout)
    print(terminal.aligned(rows, width))
    words = counted(queries, "judged query", "judged queries")
    if count:
        differs = ", ".join(f"{mark} differs from {runs[baseline]}" for baseline, mark in marks.items())
        over = f"{count} runs" if len(baselines) == 1 else f"{count} comparisons"
        holm_words = f", Holm-corrected over {over}" if count > 1 else ""
        words += f"; {differs}, p < {alpha:g} (two-tailed paired t-test{holm_words})"
    print(terminal.wrapped(words, width))


def print_per_query(runs: list[str], results: list[Measured]) -> None:
    """Print one line for each run, measure and query, and the mean as query `all`."""
    for run, result in zip(runs, results, strict=True):
        for measure, by_query in result.items():
            lines = [f"{run}\t{measure}\t{query_id}\t{value:.4f}\n" for query_id, value in by_query.items()]
            sys.stdout.writelines([*lines, f"{run}\t{measure}\tall\t{mean(by_query):.4f}\n"])


def json_of(
    runs: list[str],
    results: list[Measured],
    compared: list[Comparisons],
    named: bool,
    queries: int,
    per_query: bool,
) -> bytes:
    """Return one JSON object; comparisons are under the baselines' names if these were `named`."""
    import orjson

    rows = []
    for run, result, against in zip(runs, results, compared, strict=True):
        row = {"run": run, "measures": {name: mean(by_query) for name, by_query in result.items()}}
        tests = {
            runs[baseline]: {
                name: {"difference": mean(result[name]) - mean(results[baseline][name]), "p": p, "p_holm": corrected}
                for name, (p, corrected) in by_measure.items()
            }
            for baseline, by_measure in against.items()
        }
        if tests:
            row |= {"against": tests} if named else {"against_first": tests[runs[0]]}
        if per_query:
            row["per_query"] = result
        rows.append(row)
    return orjson.dumps(
        {"judged_queries": queries, "test": "two-tailed paired t-test", "runs": rows}, option=orjson.OPT_INDENT_2
    )
