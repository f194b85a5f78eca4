"""Measures of several runs as a person or a program reads them: a table with significance, lines by query, JSON."""

import sys

from drtools import layout
from drtools.evaluation.measures import mean
from drtools.evaluation.significance import holm, paired_t_test


def comparisons(results: list[dict]) -> list[dict[str, tuple[float, float]]]:
    """Return for each run {measure: (p, corrected p)} against the first; empty for the first itself."""
    compared: list[dict[str, tuple[float, float]]] = [{} for _ in results]
    for measure, first in results[0].items():
        raw = [paired_t_test(first, result[measure]) for result in results[1:]]
        for at, pair in enumerate(zip(raw, holm(raw), strict=True), start=1):
            compared[at][measure] = pair
    return compared


def print_table(runs: list[str], results: list[dict], compared: list[dict], queries: int, alpha: float) -> None:
    """Print the table for a person."""
    names = list(results[0])
    rows = [["", *(f"{name} " for name in names)]]
    for run, result, against in zip(runs, results, compared, strict=True):
        marks = ["*" if name in against and against[name][1] < alpha else " " for name in names]
        rows.append([run, *(f"{mean(result[name]):.4f}{mark}" for name, mark in zip(names, marks, strict=True))])
        if against:
            rows.append(["  p against the first", *(f"{against[name][1]:.4f} " for name in names)])
    width = layout.terminal_width(sys.stdout)
    print(layout.aligned(rows, width))
    words = f"{queries:,} judged queries"
    if len(runs) > 1:
        holm_words = f", Holm-corrected over {len(runs) - 1} runs" if len(runs) > 2 else ""
        words += f"; * differs from {runs[0]}, p < {alpha:g} (two-tailed paired t-test{holm_words})"
    print(layout.wrapped(words, width))


def print_per_query(runs: list[str], results: list[dict]) -> None:
    """Print one line for each run, measure and query, and the mean as query `all`."""
    for run, result in zip(runs, results, strict=True):
        for measure, by_query in result.items():
            lines = [f"{run}\t{measure}\t{query_id}\t{value:.4f}\n" for query_id, value in by_query.items()]
            sys.stdout.writelines([*lines, f"{run}\t{measure}\tall\t{mean(by_query):.4f}\n"])


def print_json(runs: list[str], results: list[dict], compared: list[dict], queries: int, per_query: bool) -> None:
    """Print one JSON object."""
    import orjson

    rows = []
    for run, result, against in zip(runs, results, compared, strict=True):
        row = {"run": run, "measures": {name: mean(by_query) for name, by_query in result.items()}}
        if against:
            row["against_first"] = {
                name: {"difference": mean(result[name]) - mean(results[0][name]), "p": p, "p_holm": corrected}
                for name, (p, corrected) in against.items()
            }
        if per_query:
            row["per_query"] = result
        rows.append(row)
    print(
        orjson.dumps(
            {"judged_queries": queries, "test": "two-tailed paired t-test", "runs": rows}, option=orjson.OPT_INDENT_2
        ).decode()
    )
