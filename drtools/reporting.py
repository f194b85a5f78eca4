"""Reports of the library during its work: lines of text, notices with counts, and progress.

A `Reporter` shows them. The command line installs one for terminals and its own flags. Without it, lines go to standard
error.
"""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from drtools.errors import InputError, names_in, param
from drtools.escapes import escaped
from drtools.process_ranks import rank
from drtools.units import joined, number_as_words, rate_as_words, readable, seconds_as_words

SECONDS_BETWEEN_LINES = 30.0
SECONDS_OF_RATE = 60.0


class Moment(NamedTuple):
    """The state of some work at a time (seconds of the monotonic clock)."""

    time: float
    done: int
    tokens: float


class Progress:
    """Counts the work done and has the reporter show it."""

    def __init__(self, description: str, total: int | None, unit: str, done: int = 0) -> None:
        self.description, self.total, self.unit, self.done = description, total, unit, done
        self.numbers: dict[str, float] = {}
        self.deadline: float | None = None  # the monotonic time at which the work ends, done or not
        self.is_live = False  # whether the reporter redraws it regularly
        self.begin = self.latest = Moment(time.monotonic(), done, 0)
        # For each second of the last minute with news: the time of its first news, and what was done before.
        self.past: deque[Moment] = deque()
        self.last_line = self.begin.time

    def advance(self, count: int = 1, **numbers: float) -> None:
        """Count `count` more, with the current numbers (loss ...).

        `tokens` is the total so far; it is shown as a rate.
        """
        before = self.latest
        self.done += count
        self.numbers.update(numbers)
        self.latest = Moment(time.monotonic(), self.done, self.numbers.get("tokens", 0))
        if not self.past or self.latest.time - self.past[-1].time >= 1:
            self.past.append(before._replace(time=self.latest.time))
        while len(self.past) > 2 and self.latest.time - self.past[1].time > SECONDS_OF_RATE:
            self.past.popleft()
        if not self.is_live and self.latest.time - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = self.latest.time
            _reporter.progressed(self)

    def is_settled(self) -> bool:
        """Return whether there is a rate that does not include the start (loading, a first evaluation)."""
        return len(self.past) > 1

    def rate(self, what: str = "done") -> float:
        """Return the units (or tokens) per second of this process over about the last minute.

        It is measured between waits, since news may come in bursts.
        """
        since, until = (self.past[0], self.past[-1]) if self.is_settled() else (self.begin, self.latest)
        gained = until.tokens - since.tokens if what == "tokens" else until.done - since.done
        return gained / max(until.time - since.time, 1e-9)

    def details(self) -> list[str]:
        """Return the time left, the rates and the numbers in words, the most important first.

        There is no rate and no time left before `is_settled`.
        """
        numbers = [
            f"{name.replace('_', ' ')} {number_as_words(value)}"
            for name, value in self.numbers.items()
            if name != "tokens"
        ]
        left = self.seconds_left()
        times = [f"{seconds_as_words(left)} left"] if left is not None else []
        if not self.is_settled():
            return [*times, *numbers]
        rate = self.rate()
        tokens = [f"{rate_as_words(self.rate('tokens'))} tokens/s"] if "tokens" in self.numbers else []
        return [*times, f"{rate_as_words(rate)} {self.unit}/s", *tokens, *numbers]

    def seconds_left(self) -> float | None:
        """Return the time until the work is done or its deadline comes, None if neither is known."""
        rate = self.rate() if self.is_settled() else 0
        left = [(self.total - self.done) / rate] if self.total and rate > 0 else []
        if self.deadline is not None:
            left.append(max(0.0, self.deadline - time.monotonic()))
        return min(left, default=None)

    def line(self) -> str:
        """Return a line of text with the progress."""
        of, share = (f" of {self.total:,}", [f"{100 * self.done / self.total:.0f}%"]) if self.total else ("", [])
        return "  ".join([f"{self.description}: {self.done:,}{of} {self.unit}", *share, *self.details()])


class Reporter:
    """Shows reports as plain lines on standard error, only in rank 0."""

    strict = False  # whether a notice is an error

    def say(self, text: str) -> None:
        """Show a line."""
        if rank() == 0:
            self.write(self.worded(text))

    def event(self, kind: str, **fields: object) -> None:
        """Record an event for programs. This reporter does nothing."""

    def progressed(self, counter: Progress) -> None:
        """Show the progress of some work, every `SECONDS_BETWEEN_LINES`."""
        self.say(counter.line())

    @contextmanager
    def watching(self, counter: Progress) -> Iterator[None]:
        """Watch some work while it is running."""
        yield

    def leave_terminal_to_data(self) -> None:
        """Draw nothing on the terminal from now on, since data is written to standard output."""

    def worded(self, text: str) -> str:
        """Return a message with its parameters by name."""
        return names_in(text)

    def write(self, line: str) -> None:
        """Write a line to standard error, its control characters escaped.

        If nobody can read it, or the disk is full, the work continues.
        """
        try:
            sys.stderr.write(escaped(readable(line)) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass


_reporter = Reporter()
_notices: list[str] = []
_said: set[str] = set()


def install(reporter: Reporter) -> None:
    """Report through `reporter` from now on, and forget the notices so far."""
    global _reporter
    _reporter = reporter
    _notices.clear()
    _said.clear()


def say(text: str) -> None:
    """Report a line for users."""
    _reporter.say(text)


def say_once(text: str, about: str) -> None:
    """Report a line for users, unless there was one about the same subject."""
    if about not in _said:
        _said.add(about)
        say(text)


def event(kind: str, **fields: object) -> None:
    """Report an event for programs."""
    _reporter.event(kind, **fields)


def notice(count: int, text: str) -> None:
    """Remember something odd but usable, if `count` is not 0. It is shown once at the end, and fails a strict run."""
    if count and text not in _notices:
        _notices.append(text)


def notices() -> list[str]:
    """Return the notices so far, which manifests record."""
    return [_reporter.worded(text) for text in _notices]


def check_strict() -> None:
    """Raise InputError if the run is strict and there are notices."""
    if _reporter.strict and _notices:
        strict = param("strict")
        raise InputError(joined([*_notices, f"without {strict} this is only counted"]), where=strict)


def leave_terminal_to_data() -> None:
    """Draw nothing on the terminal from now on, since data is written to standard output."""
    _reporter.leave_terminal_to_data()


@contextmanager
def progress(description: str, total: int | None, unit: str, done: int = 0) -> Iterator[Progress]:
    """Report the progress of some work. An earlier process has done `done` units."""
    counter = Progress(description, total, unit, done)
    with _reporter.watching(counter):
        yield counter
