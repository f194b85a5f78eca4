"""Measure runs against judgements: a table with significance, values by query, a gate for cron.

    drtools eval --qrels qrels/test.tsv bm25.run star.run
    drtools eval --qrels qrels/test.tsv old.run new.run --gate "RR@10>=-0.005"

nDCG@k, RR@k (MRR@k is the same), R@k, AP, P@k, Success@k, Judged@k: trec_eval's values, over all judged queries (one that
a run lacks counts 0). Each run is compared with the first by a two-tailed paired t-test over queries, Holm-corrected for
the number of runs compared.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated

from typer import Argument, Option

from drtools import console, flags
from drtools.errors import GateRefused, UserError


def main(
    runs: Annotated[list[str], Argument(help="runs to measure; the first is what the others are compared with"), flags.Role.INPUT],
    qrels: flags.Qrels,
    measures: Annotated[str, Option(help="measures with commas between")] = "nDCG@10,RR@10,R@100",
    min_rel: flags.MinRel = 1,
    only: flags.Only = None,
    rank_order: Annotated[bool, Option("--rank-order", help="rank by the runs' rank column (MS MARCO), not by score (trec_eval)")] = False,
    per_query: Annotated[bool, Option("--per-query", help="one line each: run, measure, query, value")] = False,
    json: Annotated[bool, Option("--json", help="everything as one JSON object")] = False,
    gate: Annotated[str | None, Option(help='exit 3 unless the last run holds against the first: "RR@10>=-0.005"')] = None,
    alpha: Annotated[float, Option(help="significance level of the stars in the table")] = 0.05,
) -> None:
    """Compose: read, evaluate, compare, print, gate."""
    from drtools.evaluation.measures import parse_measure
    from drtools.formats.trec import read_qrels, read_run

    gate_name, gate_least = parse_gate(gate) if gate else (None, 0.0)
    if gate and len(runs) < 2:
        raise UserError("--gate compares the last run with the first; two runs are needed")
    words = [word.strip() for word in measures.split(",") if word.strip()]
    if gate_name and gate_name.lower() not in [word.lower() for word in words]:
        words.append(gate_name)
    parsed = [parse_measure(word) for word in words]
    judged = read_qrels(qrels)
    if only:
        kept = read_qrels(only)
        judged = {query_id: grades for query_id, grades in judged.items() if query_id in kept}
        if not judged:
            raise UserError(f"{only}: names none of the queries that {qrels} judges")
    results = [measured(name, read_run(name, rank_order), judged, parsed, min_rel) for name in runs]
    compared = comparisons(results)
    if json:
        print_json(runs, results, compared, len(judged), per_query)
    elif per_query:
        print_per_query(runs, results)
    else:
        print_table(runs, results, compared, len(judged), alpha)
    if gate:
        check_gate(gate_name, gate_least, words, results)


def measured(name: str, run: dict, judged: dict, parsed: list, min_rel: int) -> dict[str, dict[str, float]]:
    """Return {measure: {query: value}} of one run, and count what does not fit the judgements."""
    from drtools.evaluation.measures import evaluate

    lacking = sum(query_id not in run for query_id in judged)
    if lacking == len(judged):
        raise UserError(f"{name}: holds none of the {len(judged):,} judged queries; do the run and the qrels belong together?")
    console.notice(lacking, f"{name} lacks {lacking:,} of the {len(judged):,} judged queries; they count 0")
    return evaluate(judged, run, parsed, min_rel)


def comparisons(results: list[dict]) -> list[dict[str, tuple[float, float]]]:
    """Return for each run {measure: (p, corrected p)} against the first; empty for the first itself."""
    from drtools.evaluation.significance import holm, paired_t_test

    compared: list[dict[str, tuple[float, float]]] = [{} for _ in results]
    for measure, first in results[0].items():
        raw = [paired_t_test(first, result[measure]) for result in results[1:]]
        for at, pair in enumerate(zip(raw, holm(raw), strict=True), start=1):
            compared[at][measure] = pair
    return compared


def print_table(runs: list[str], results: list[dict], compared: list[dict], queries: int, alpha: float) -> None:
    """Print the table for a person."""
    from drtools.evaluation.measures import mean

    names = list(results[0])
    rows = [["", *(f"{name} " for name in names)]]
    for run, result, against in zip(runs, results, compared, strict=True):
        marks = ["*" if name in against and against[name][1] < alpha else " " for name in names]
        rows.append([run, *(f"{mean(result[name]):.4f}{mark}" for name, mark in zip(names, marks, strict=True))])
        if against:
            rows.append(["  p against the first", *(f"{against[name][1]:.4f} " for name in names)])
    print(console.aligned(rows))
    words = f"{queries:,} judged queries"
    if len(runs) > 1:
        holm_words = f", Holm-corrected over {len(runs) - 1} runs" if len(runs) > 2 else ""
        words += f"; * differs from {runs[0]}, p < {alpha:g} (two-tailed paired t-test{holm_words})"
    print(words)


def print_per_query(runs: list[str], results: list[dict]) -> None:
    """Print one line for each run, measure and query, and the mean as query `all`."""
    from drtools.evaluation.measures import mean

    for run, result in zip(runs, results, strict=True):
        for measure, by_query in result.items():
            lines = [f"{run}\t{measure}\t{query_id}\t{value:.4f}\n" for query_id, value in by_query.items()]
            sys.stdout.writelines([*lines, f"{run}\t{measure}\tall\t{mean(by_query):.4f}\n"])


def print_json(runs: list[str], results: list[dict], compared: list[dict], queries: int, per_query: bool) -> None:
    """Print one JSON object."""
    import orjson

    from drtools.evaluation.measures import mean

    rows = []
    for run, result, against in zip(runs, results, compared, strict=True):
        row = {"run": run, "measures": {name: mean(by_query) for name, by_query in result.items()}}
        if against:
            row["against_first"] = {name: {"difference": mean(result[name]) - mean(results[0][name]), "p": p, "p_holm": corrected}
                                    for name, (p, corrected) in against.items()}
        if per_query:
            row["per_query"] = result
        rows.append(row)
    print(orjson.dumps({"judged_queries": queries, "test": "two-tailed paired t-test", "runs": rows}, option=orjson.OPT_INDENT_2).decode())


def parse_gate(text: str) -> tuple[str, float]:
    """Return (measure, least difference) of `RR@10>=-0.005`."""
    found = re.fullmatch(r"\s*([A-Za-z]+(?:@\d+)?)\s*>=\s*([-+]?[0-9.]+(?:e-?\d+)?)\s*", text)
    if not found:
        raise UserError(f'--gate {text}: expected MEASURE>=DIFFERENCE, for instance "RR@10>=-0.005"')
    try:
        return found[1], float(found[2])
    except ValueError:
        raise UserError(f"--gate {text}: {found[2]} is no number") from None


def check_gate(name: str, least: float, words: list[str], results: list[dict]) -> None:
    """Raise GateRefused if the last run is worse than the first by more than the gate allows."""
    from drtools.evaluation.measures import mean

    key = list(results[0])[[word.lower() for word in words].index(name.lower())]
    first, last = mean(results[0][key]), mean(results[-1][key])
    if last - first < least:
        raise GateRefused(f"gate {name}>={least:g}: the last run has {last:.4f}, the first {first:.4f}, a difference of {last - first:+.4f}")
    console.say(f"gate {name}>={least:g} holds: {last - first:+.4f}")
