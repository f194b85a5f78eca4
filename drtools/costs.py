"""What a job costs: the lines that open every run and that a dry run prints.

A dry run reads the inputs, computes a sample, prints these lines, and writes nothing.
"""

import sys
import time
from pathlib import Path
from typing import NamedTuple

from drtools import reporting
from drtools.units import bytes_as_words, seconds_as_words

LEAST_SECONDS = 6.0  # [ours] of work before a forecast; the first half of them is not measured, since it is slower
STARVED = 5  # [ours] times these seconds, in which a busy machine may give the processor for fewer
SETTLED_SECONDS = 1.0  # [ours] that are measured at least
SHORT_SECONDS = 10.0  # [ours] no forecast is made of shorter work


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


class Forecast:
    """Reports the memory, disk and time of some work, once, when its first seconds tell them.

    `total` is the work in any unit, such as tokens. Nothing is reported of short work. No batch is computed twice for
    it. `disk` and `about` are as in `Costs`.
    """

    def __init__(self, total: float, disk: float | None = None, about: str = "") -> None:
        self.total, self.disk, self.about = total, disk, about
        self.started, self.processor = time.monotonic(), time.process_time()
        self.first: tuple[float, float] | None = None
        self.is_made = False

    def note(self, done: float, written: float | None = None) -> None:
        """Note how much is done, and the bytes written for it if they tell the disk that all of it takes."""
        if self.is_made:
            return
        now = time.monotonic()
        passed = now - self.started
        worked = min(passed, max(time.process_time() - self.processor, passed / STARVED))
        if self.first is None or worked < LEAST_SECONDS / 2:
            self.first = now, done
        since, before = self.first
        if now - since < SETTLED_SECONDS or worked < LEAST_SECONDS or done <= before:
            return
        self.is_made = True
        left = max(0.0, self.total - done) * (now - since) / (done - before)
        seconds = passed + left
        if seconds >= SHORT_SECONDS:
            disk = self.disk if written is None else written / done * self.total
            say_costs(Costs(memory=peak_bytes(), disk=disk, seconds=seconds, time=self.about))


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
