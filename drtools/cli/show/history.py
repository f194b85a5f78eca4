"""Display of the history of a published link."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drtools import units
from drtools.cli.terminal import aligned, wrapped
from drtools.outputs.history import COUNTS, SUFFIX, history_of

SHOWN = 10  # publications
LATER = " " * 4


def history_lines(link: Path, width: int | None) -> Iterator[str]:
    """Yield the last publications of a link as a table, the number of earlier ones, and the changes in the last one."""
    publications, damaged = history_of(link)
    shown = publications[-SHOWN:]
    if shown:
        earlier = len(publications) - len(shown)
        more = f", {earlier:,} more in {link.name}{SUFFIX}" if earlier else ""
        yield wrapped(f"history{': the last ' + str(SHOWN) if earlier else ''}{more}", width, LATER)
        yield aligned(_rows(shown), width)
    for line in _drift(publications):
        yield wrapped(line, width, LATER)
    if damaged:
        lines = units.counted(damaged, "line of the history is", "lines of the history are")
        yield wrapped(f"note: {lines} cut short or damaged, and left out", width, LATER)


def _rows(publications: list[dict[str, Any]]) -> list[list[str]]:
    """Return a row for each publication, with a column for each figure that one of them has."""
    counts = [name for name in (*COUNTS, "notices") if any(each.get(name) for each in publications)]
    measures = list(dict.fromkeys(name for each in publications for name in each.get("measures", {})))
    rows = [["version", "date", *counts, *measures]]
    for each in publications:
        rows.append(
            [
                each["version"],
                each["date"][:16].replace("T", " "),
                *(f"{each[name]:,}" if name in each else "-" for name in counts),
                *(_measure(each["measures"][name]) if name in each.get("measures", {}) else "-" for name in measures),
            ]
        )
    return rows


def _drift(publications: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what changed since the publication before, and since the first one that has a measure of the last one."""
    if len(publications) < 2:
        return
    *earlier, last = publications
    names = set(last.get("measures", {}))
    first = next((each for each in earlier if names & set(each.get("measures", {}))), earlier[-1])
    for each in [earlier[-1]] + [first] * (first is not earlier[-1]):
        measures, counts = list(_falls_and_rises(each, last)), list(_added(each, last))
        in_brackets = f"({', '.join(counts)})" if measures else ", ".join(counts)
        words = " ".join(filter(None, [", ".join(measures), in_brackets if counts else ""]))
        if words:
            yield f"since version {int(each['version'].split('-')[0])}: {words}"


def _falls_and_rises(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for name, value in after.get("measures", {}).items():
        earlier = before.get("measures", {}).get(name)
        if earlier is not None and earlier != value:
            yield f"{name} {_measure(earlier)} -> {_measure(value)}"


def _added(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Yield the counts that changed: how many queries were added, and others from one to the other."""
    for name in COUNTS:
        if name not in before or name not in after or before[name] == after[name]:
            continue
        more = after[name] - before[name]
        if name == "queries":
            yield f"queries {'added' if more > 0 else 'removed'} {abs(more):,}"
        else:
            yield f"{name} {before[name]:,} -> {after[name]:,}"


def _measure(value: float) -> str:
    return f"{value:.4f}"
