"""Whether what was made of several inputs is better than the best of them, on dev queries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from drtools import reporting
from drtools.evaluation.measures import mean
from drtools.evaluation.significance import paired_t_test
from drtools.units import counted

SIGNIFICANT = 0.05


def compare_with_best_input(
    what: str, made: dict[str, float], inputs: Mapping[str, dict[str, float]], measure: str
) -> dict[str, Any]:
    """Report whether `what` is better than its best input, with p of a paired t-test, and which to take if not.

    `made` and each of `inputs`, by its name, are values of a measure by query. Returns the facts for a manifest.
    """
    name, best = max(inputs.items(), key=lambda pair: mean(pair[1]))  # of equals the first
    p = paired_t_test(best, made)
    if mean(made) <= mean(best):
        advice = f"{what} is not better; take {name}"
    elif p < SIGNIFICANT:
        advice = f"{what} is better"
    else:
        advice = f"{what} is better, but the difference is not significant"
    words = "too few queries for p" if math.isnan(p) else f"p {p:.4f}"
    reporting.say(
        f"{measure} on {counted(len(made), 'dev query', 'dev queries')}: {mean(made):.4f} {what}, {mean(best):.4f} "
        f"{name}, the best input ({words}): {advice}"
    )
    facts = {"measure": measure, "value": mean(made), "best_input": name, "best_input_value": mean(best)}
    return facts if math.isnan(p) else {**facts, "p": p}
