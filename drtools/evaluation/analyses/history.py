"""The history of a published link as curves: measures and counts over publications."""

from pathlib import Path

from drtools import reporting, units
from drtools.errors import InputError
from drtools.evaluation import pictures
from drtools.evaluation.analyses.base import Analysis, short
from drtools.evaluation.curves import Curve
from drtools.formats.lines import shown
from drtools.outputs.history import COUNTS, read_history


def analyse_history(path: str, label: str, folder: Path) -> Analysis:
    """Plot the measures and counts of a link's publications over their numbers (history.png)."""
    publications, damaged = read_history(Path(path))
    reporting.notice(
        damaged, f"{shown(path)}: {units.counted(damaged, 'line is', 'lines are')} no publication, and left out"
    )
    curves: dict[str, Curve] = {}
    for number, each in enumerate(publications, start=1):
        counts = {name: each[name] for name in (*COUNTS, "notices") if name in each}
        for name, value in {**each.get("measures", {}), **counts}.items():
            curve = curves.setdefault(name, Curve([], []))
            curve.steps.append(number)
            curve.values.append(float(value))
    if not curves:
        raise InputError(
            "no publication with a figure was found",
            where=shown(path),
            expected="the history that publish keeps: LINK.history.jsonl",
        )
    last = publications[-1]
    title = f"{short(label)}: {units.counted(len(publications), 'publication')} up to {last['date'][:10]}"
    numbers = {name: {label: curve} for name, curve in curves.items()}
    pictures.draw_curves(folder / "history.png", numbers, [label], title, over="publication")
    rows = [["", "first", "last"]]
    rows += [
        [name, *(units.number_as_words(round(curve.values[at], 4)) for at in (0, -1))] for name, curve in curves.items()
    ]
    return Analysis(
        "history",
        title,
        rows,
        {
            "publications": [{name: each[name] for name in ("date", "version")} for each in publications],
            "curves": {name: {"publications": curve.steps, "values": curve.values} for name, curve in curves.items()},
        },
    )
