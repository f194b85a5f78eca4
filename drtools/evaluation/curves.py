"""The logged values of trainings as curves over steps."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from drtools.errors import InputError, param
from drtools.formats.json_lines import read_json_lines
from drtools.formats.lines import shown

NOT_DRAWN = ("seconds", "learning_rate")  # unless they are asked for
SMOOTH_FROM = 100  # points; fewer are seen one by one
SMOOTH_SHARE = 0.05  # of the points of a curve are averaged


class Curve(NamedTuple):
    """One number of a log: the steps at which it was written, ascending, and its values."""

    steps: list[int]
    values: list[float]


def read_curves(path: str | Path) -> dict[str, Curve]:
    """Return {name of a number: its curve} of a training log: JSON lines, each with a `step` and numbers by name.

    What is not a number is left out. Raises InputError for a line without a step and for a log without numbers.
    """
    curves: dict[str, Curve] = {}
    for number, record in read_json_lines(path):
        step = record.pop("step", None)
        if not isinstance(step, int) or isinstance(step, bool):
            raise InputError(
                f"step is {step!r}, expected a whole number; is this a training log (training.jsonl)?",
                where=f"{shown(path)}:{number}",
            )
        for name, value in record.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                curve = curves.setdefault(name, Curve([], []))
                curve.steps.append(step)
                curve.values.append(float(value))
    if not curves:
        raise InputError(
            (
                "no values over steps were found; is this a training log (training.jsonl), and did the training take a "
                "step?"
            ),
            where=shown(path),
        )
    return curves


def chosen(logs: dict[str, dict[str, Curve]], names: list[str] | None) -> dict[str, dict[str, Curve]]:
    """Return {name of a value: {label of a log: curve}} for the given names.

    The default is all names but the time and the learning rate. Raises InputError for a name that no log has.
    """
    known = list(dict.fromkeys(name for curves in logs.values() for name in curves))
    for name in names or ():
        if name not in known:
            raise InputError(
                f"no log has this value; the logs have {', '.join(known)}", where=f"{param('curve')} {name}"
            )
    wanted = names or [name for name in known if name not in NOT_DRAWN]
    return {name: {label: curves[name] for label, curves in logs.items() if name in curves} for name in wanted}


def smoothed(values: list[float]) -> list[float] | None:
    """Return the moving average over 5% of the points; None for a curve with few points.

    At both ends the window is cut off.
    """
    if len(values) < SMOOTH_FROM:
        return None
    half = max(1, round(len(values) * SMOOTH_SHARE / 2))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    first, end = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    means: list[float] = ((sums[end] - sums[first]) / (end - first)).tolist()
    return means
