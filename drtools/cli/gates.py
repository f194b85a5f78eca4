"""Gates and floors of measures: how they are written on the command line, and what they refuse."""

import re

from drtools import reporting
from drtools.errors import GateRefused, InputError
from drtools.evaluation.measures import mean

Values = dict[str, dict[str, float]]  # measure -> query -> value
ROUNDING = 1e-9  # of a mean over queries, so that a run that is at its floor passes


def parse_gate(text: str) -> tuple[str, float]:
    """Parse `RR@10>=-0.005` into (measure, least difference)."""
    return parse_limit(f"--gate {text}", text, 'MEASURE>=DIFFERENCE, for instance "RR@10>=-0.005"')


def parse_floor(text: str) -> tuple[str, float]:
    """Parse `nDCG@10>=0.3` into (measure, least value)."""
    name, least = parse_limit(f"--floor {text}", text, 'MEASURE>=VALUE, for instance "nDCG@10>=0.3"')
    if not 0 <= least <= 1:
        raise InputError(
            f"{least:g} is not a value of a measure", where=f"--floor {text}", expected="a number from 0 to 1"
        )
    return name, least


def parse_limit(where: str, text: str, expected: str) -> tuple[str, float]:
    """Parse a measure and the number that it must reach."""
    found = re.fullmatch(r"\s*(\S.*?)\s*>=\s*([-+]?[0-9.]+(?:e-?\d+)?)\s*", text)
    if not found:
        raise InputError(where=where, expected=expected)
    try:
        return found[1], float(found[2])
    except ValueError:
        raise InputError(f"{found[2]} is not a number", where=where) from None


def check_gate(name: str, least: float, first: Values, last: Values, baseline: str) -> None:
    """Raise GateRefused if the last run is worse than a baseline by more than the gate allows."""
    before, after = value_of(name, first), value_of(name, last)
    if after - before < least:
        raise GateRefused(
            f"gate {name}>={least:g}: the last run has {after:.4f}, {baseline} has {before:.4f}, a difference of "
            f"{after - before:+.4f}"
        )
    reporting.say(f"gate {name}>={least:g} holds: {after - before:+.4f}")


def check_floors(floors: list[tuple[str, float]], last: Values) -> None:
    """Raise GateRefused if the last run is below a floor; all floors that it is below are named."""
    below = [(name, least) for name, least in floors if value_of(name, last) < least - ROUNDING]
    if below:
        clauses = [f"floor {name}>={least:g}: the last run has {value_of(name, last):.4f}" for name, least in below]
        raise GateRefused("; ".join(clauses))
    for name, least in floors:
        reporting.say(f"floor {name}>={least:g} holds: {value_of(name, last):.4f}")


def value_of(name: str, values: Values) -> float:
    """Return a run's mean of a measure, whatever the case of its name."""
    return mean(next(per_query for word, per_query in values.items() if word.lower() == name.lower()))
