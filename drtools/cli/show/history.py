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
    changes = list(_changes(*shown[-2:])) if len(shown) > 1 else []
    if changes:
        yield wrapped(f"since {shown[-2]['version']}: {', '.join(changes)}", width, LATER)
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


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Yield the figures of a publication that differ from those of the one before."""
    for name, value in after.get("measures", {}).items():
        earlier = before.get("measures", {}).get(name)
        if earlier is not None and earlier != value:
            yield f"{name} {_measure(earlier)} -> {_measure(value)}"
    for name in COUNTS:
        if name in before and name in after and before[name] != after[name]:
            yield f"{name} {before[name]:,} -> {after[name]:,}"


def _measure(value: float) -> str:
    return f"{value:.4f}"
