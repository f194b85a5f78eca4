"""Forms of a table of measures for other programs: CSV, TSV, Markdown, LaTeX, JSON."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from drtools.cli.report import DIGITS, Report, by_query, json_of, table_text
from drtools.errors import InputError
from drtools.evaluation.measures import mean

Format = Literal["table", "tsv", "csv", "json", "markdown", "latex"]
MOST_DIGITS = 17  # which make every float64
PER_QUERY = ["run", "measure", "query", "value"]
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


class Cell(NamedTuple):
    """A text in a table that people read, with its marks of significance, and whether it is the best of its column."""

    text: str
    marks: str = ""
    is_best: bool = False


def digits_of(text: str | None) -> int | None:
    """Parse the number of digits after the point; None stands for all."""
    if text is None:
        return DIGITS
    if text == "all":
        return None
    if not re.fullmatch(r"[0-9]{1,2}", text) or int(text) > MOST_DIGITS:
        raise InputError(where=f"--digits {text}", expected=f"a number from 0 to {MOST_DIGITS}, or all")
    return int(text)


def table_as(form: Format, report: Report, per_query: bool, width: int | None = None) -> str:
    """Return a report in a form, with a line break at its end."""
    if form == "json":
        return json_of(report, per_query).decode() + "\n"
    if form == "table":
        # lines for each query have no header on a terminal, where `cut` and `awk` read them
        return "".join("\t".join(row) + "\n" for row in by_query(report)) if per_query else table_text(report, width)
    if form in ("csv", "tsv"):
        return _separated(
            [PER_QUERY, *by_query(report)] if per_query else _wide(report), "," if form == "csv" else "\t"
        )
    write = _markdown if form == "markdown" else _latex
    if per_query:
        return write([[Cell(text) for text in row] for row in (PER_QUERY, *by_query(report))], "")
    return write(_cells(report), report.note)


def _wide(report: Report) -> Iterable[list[str]]:
    """Yield a row for each run: its values, then for each baseline and measure the difference and p."""
    pairs = [(baseline, name) for baseline in report.baselines for name in report.names] if report.count else []
    header = ["run", *report.names]
    for baseline, name in pairs:
        other = report.runs[baseline]
        header += [f"{name} difference from {other}", f"{name} p against {other}"]
        header += [f"{name} Holm-corrected p against {other}"] * (report.count > 1)
    yield header
    for run, result, against in zip(report.runs, report.results, report.compared, strict=True):
        row = [run, *(report.shown(mean(result[name])) for name in report.names)]
        for baseline, name in pairs:
            if baseline not in against:
                row += [""] * (2 + (report.count > 1))
                continue
            difference = mean(result[name]) - mean(report.results[baseline][name])
            row += map(report.shown, (difference, *against[baseline][name][: 1 + (report.count > 1)]))
        yield row


def _separated(rows: Iterable[Sequence[str]], delimiter: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _cells(report: Report) -> list[list[Cell]]:
    """Return the rows of a table for people; the best of each column is marked if there are several runs."""
    best = {name: max(mean(result[name]) for result in report.results) for name in report.names}
    rows = [[Cell("run"), *map(Cell, report.names)]]
    for place, (run, result) in enumerate(zip(report.runs, report.results, strict=True)):
        values = {name: mean(result[name]) for name in report.names}
        rows.append(
            [
                Cell(run),
                *(
                    Cell(
                        report.shown(value),
                        report.marks_of(place, name),
                        len(report.runs) > 1 and report.shown(value) == report.shown(best[name]),
                    )
                    for name, value in values.items()
                ),
            ]
        )
    return rows


def _markdown(rows: Sequence[Sequence[Cell]], note: str) -> str:
    def escaped(text: str) -> str:
        return re.sub(r"([\\|*`<_\[\]])", r"\\\1", " ".join(text.split()))

    def written(cell: Cell) -> str:
        text = f"**{escaped(cell.text)}**" if cell.is_best else escaped(cell.text)
        return f"{text} {escaped(cell.marks)}" if cell.marks else text

    lines = [f"| {' | '.join(map(written, row))} |" for row in rows]
    lines.insert(1, f"|---|{'---:|' * (len(rows[0]) - 1)}")
    return "\n".join([*lines, *(["", escaped(note)] if note else [])]) + "\n"


def _latex(rows: Sequence[Sequence[Cell]], note: str) -> str:
    def escaped(text: str) -> str:
        return "".join(LATEX.get(sign, sign) for sign in " ".join(text.split()))

    def written(cell: Cell) -> str:
        text = f"\\textbf{{{escaped(cell.text)}}}" if cell.is_best else escaped(cell.text)
        return f"{text}$^{{{cell.marks}}}$" if cell.marks else text

    def line(row: Sequence[Cell]) -> str:
        return f"{' & '.join(map(written, row))} \\\\"

    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}",
        *("\\toprule", line(rows[0]), "\\midrule", *map(line, rows[1:]), "\\bottomrule", "\\end{tabular}"),
    ]
    return "\n".join([*lines, *([f"% {' '.join(note.split())}"] if note else [])]) + "\n"
