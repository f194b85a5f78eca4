"""Output of several runs' measures on a terminal: a table with significance, and lines by query; and all as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_lowercase

from drtools.cli import terminal
from drtools.evaluation.measures import mean
from drtools.evaluation.significance import Comparisons
from drtools.units import counted

Measured = dict[str, dict[str, float]]  # a run's values by measure and query
DIGITS = 4  # after the point, if no other number is asked for


@dataclass(frozen=True)
class Report:
    """Runs with their values, and their comparisons with baselines, which are positions among the runs.

    `named` tells whether the baselines were named, `test` in words which test made the comparisons. `digits` is the
    number of digits after the point, None for as many as make the number.
    """

    runs: Sequence[str]
    results: Sequence[Measured]
    compared: Sequence[Comparisons]
    baselines: Sequence[int]
    named: bool
    queries: int
    alpha: float
    test: str
    digits: int | None = DIGITS

    @property
    def names(self) -> list[str]:
        """The measures."""
        return list(self.results[0])

    @cached_property
    def marks(self) -> dict[int, str]:
        """The mark of a significant difference from each baseline."""
        letters = ascii_lowercase if len(self.baselines) > 1 else "*"
        return dict(zip(self.baselines, letters, strict=False))

    @property
    def count(self) -> int:
        """The number of comparisons, for each measure."""
        return sum(map(len, self.compared))

    def shown(self, value: float) -> str:
        """Return a number with the report's digits."""
        return repr(value) if self.digits is None else f"{value:.{self.digits}f}"

    def marks_of(self, run: int, name: str, absent: str = "") -> str:
        """Return the marks of a run's value, with `absent` in the place of each that it does not have."""
        against = self.compared[run]
        return "".join(
            mark if baseline in against and against[baseline][name][1] < self.alpha else absent
            for baseline, mark in self.marks.items()
        )

    @property
    def note(self) -> str:
        """What the table is about: how many queries were judged, and what the marks mean."""
        words = counted(self.queries, "judged query", "judged queries")
        if self.count:
            differs = ", ".join(f"{mark} differs from {self.runs[baseline]}" for baseline, mark in self.marks.items())
            over = f"{self.count} runs" if len(self.baselines) == 1 else f"{self.count} comparisons"
            holm_words = f", Holm-corrected over {over}" if self.count > 1 else ""
            words += f"; {differs}, p < {self.alpha:g} ({self.test}{holm_words})"
        return words


def table_text(report: Report, width: int | None) -> str:
    """Return a table of values with p of each comparison below, and the corrected p if there are several."""
    gap = " " * len(report.baselines)
    rows = [["", *(name + gap for name in report.names)]]
    for place, (run, result, against) in enumerate(zip(report.runs, report.results, report.compared, strict=True)):
        values = [report.shown(mean(result[name])) + report.marks_of(place, name, " ") for name in report.names]
        rows.append([run, *values])
        for baseline, by_measure in against.items():
            other = "the first" if list(report.baselines) == [0] else report.runs[baseline]
            for which, words in enumerate((f"p against {other}", "Holm-corrected")[: 1 + (report.count > 1)]):
                rows.append([f"  {words}", *(report.shown(by_measure[name][which]) + gap for name in report.names)])
    return f"{terminal.aligned(rows, width)}\n{terminal.wrapped(report.note, width)}\n"


def by_query(report: Report) -> Iterator[list[str]]:
    """Yield run, measure, query and value, and the mean as query `all`."""
    for run, result in zip(report.runs, report.results, strict=True):
        for measure, values in result.items():
            for query_id, value in values.items():
                yield [run, measure, query_id, report.shown(value)]
            yield [run, measure, "all", report.shown(mean(values))]


def json_of(report: Report, per_query: bool) -> bytes:
    """Return one JSON object; comparisons are under the baselines' names if these were named."""
    import orjson

    runs = report.runs
    rows = []
    for run, result, against in zip(runs, report.results, report.compared, strict=True):
        row = {"run": run, "measures": {name: mean(values) for name, values in result.items()}}
        tests = {
            runs[baseline]: {
                name: {
                    "difference": mean(result[name]) - mean(report.results[baseline][name]),
                    "p": p,
                    "p_holm": corrected,
                }
                for name, (p, corrected) in by_measure.items()
            }
            for baseline, by_measure in against.items()
        }
        if tests:
            row |= {"against": tests} if report.named else {"against_first": tests[runs[0]]}
        if per_query:
            row["per_query"] = result
        rows.append(row)
    return orjson.dumps(
        {"judged_queries": report.queries, "test": report.test, "runs": rows}, option=orjson.OPT_INDENT_2
    )
