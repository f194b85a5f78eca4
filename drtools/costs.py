"""What a job costs: the lines that open every run and that a dry run prints.

A dry run reads the inputs, computes a sample, prints these lines, and writes nothing.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from drtools import reporting
from drtools.units import bytes_as_words, seconds_as_words


class Costs(NamedTuple):
    """The costs of a job, as far as they are known.

    `work` says how much is done, in which steps. `sample` says what its texts are like. `memory` and `disk` are in
    bytes, `disk_meanwhile` if more is needed until the work is done. `time` adds to the seconds what they are made of.
    """

    work: str = ""
    sample: str = ""
    memory: float | None = None
    disk: float | None = None
    disk_meanwhile: float | None = None
    seconds: float | None = None
    time: str = ""


def say_costs(costs: Costs) -> None:
    """Report costs, a line for each kind that is known."""
    for words in (costs.work, costs.sample):
        if words:
            reporting.say(words)
    needs = []
    if costs.memory is not None:
        needs.append(f"about {bytes_as_words(costs.memory)} of memory")
    if costs.disk is not None:
        meanwhile = f", up to {bytes_as_words(costs.disk_meanwhile)} until it is done" if costs.disk_meanwhile else ""
        needs.append(f"{bytes_as_words(costs.disk)} on the disk{meanwhile}")
    if needs:
        reporting.say("; ".join(needs))
    if costs.seconds is not None:
        reporting.say(f"about {seconds_as_words(costs.seconds)}{f': {costs.time}' if costs.time else ''}")
    reporting.event("costs", **{name: value for name, value in costs._asdict().items() if value not in (None, "")})


def peak_bytes() -> float:
    """Return the most memory that this process has had in use."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak * (1 if sys.platform == "darwin" else 1024))


def resident_bytes() -> float:
    """Return the memory that this process has in use, or had at most where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_bytes()
    import resource

    return float(pages * resource.getpagesize())
