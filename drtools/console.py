"""All that a person reads: words, progress, warnings and tables, on standard error.

Data never pass here. `configure` is called once by the command line; every other room only speaks.
"""

import json
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from drtools.cli.terminal import progress_line
from drtools.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

SECONDS_BETWEEN_LINES = 30.0
SECONDS_OF_RATE = 60.0

_settings = {"tool": "drtools", "quiet": False, "log_json": False, "strict": False, "data_on_stdout": False}
_notices: list[str] = []


def configure(tool: str, quiet: bool = False, log_json: bool = False, strict: bool = False) -> None:
    """Set how this process speaks, and forget the notices of an earlier tool."""
    _settings.update(tool=tool, quiet=quiet, log_json=log_json, strict=strict, data_on_stdout=False)
    _notices.clear()


def _is_first_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _write(line: str) -> None:
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # nobody reads the words any more, or their disk is full; the work goes on
        pass


def event(kind: str, **fields: object) -> None:
    """Write one JSON line, under `--log-json` alone."""
    if _settings["log_json"] and not _settings["quiet"] and _is_first_rank():
        record = {"event": kind, "tool": _settings["tool"], "time": round(time.time(), 3), **fields}
        _write(json.dumps(record, ensure_ascii=False, default=str))


def say(text: str) -> None:
    """Write a line for a person (an event of kind `say` under `--log-json`)."""
    if _settings["log_json"]:
        event("say", text=text)
    elif not _settings["quiet"] and _is_first_rank():
        _write(text)


def error(text: str) -> None:
    """Write the one line that says why the tool ends; `--quiet` does not silence it."""
    text = " ".join(text.split())
    if not _is_first_rank():
        time.sleep(3)  # what stops all processes is said by the first; torchrun ends the others meanwhile
    if _settings["log_json"]:
        record = {"event": "error", "tool": _settings["tool"], "time": round(time.time(), 3), "text": text}
        _write(json.dumps(record, ensure_ascii=False))
    else:
        _write(f"drtools {_settings['tool']}: {text}" if _settings["tool"] != "drtools" else f"drtools: {text}")


def notice(count: int, text: str) -> None:
    """Remember something odd but usable, to be said once at the end and to fail under `--strict`.

    Nothing if `count` is 0.
    """
    if count and text not in _notices:
        _notices.append(text)


def notices() -> list[str]:
    """Return what was odd so far; manifests keep it."""
    return list(_notices)


def check_strict() -> None:
    """Raise UserError if `--strict` was asked for and something was odd."""
    if _settings["strict"] and _notices:
        raise UserError(f"--strict: {'; '.join(_notices)}; without --strict this is only counted")


def say_notices() -> None:
    """Say everything that was counted as odd."""
    for text in _notices:
        say(f"note: {text}")


class Moment(NamedTuple):
    """How far work was at a time (seconds of the monotonic clock)."""

    time: float
    done: int
    tokens: float


class Progress:
    """Counts work done and shows it: a live line on a terminal, elsewhere a plain line every 30 s."""

    def __init__(self, description: str, total: int | None, unit: str, done: int = 0) -> None:
        self.description, self.total, self.unit, self.done = description, total, unit, done
        self.numbers: dict[str, float] = {}
        self.begin = self.latest = Moment(time.monotonic(), done, 0)
        self.past: deque[Moment] = (
            deque()
        )  # for each second with news of the last minute when its first came, and what was done before it
        self.last_line = self.begin.time

    def advance(self, count: int = 1, **numbers: float) -> None:
        """Count `count` more, with the numbers of the moment (loss ...).

        `tokens` are all so far, and are told as a rate.
        """
        before = self.latest
        self.done += count
        self.numbers.update(numbers)
        self.latest = Moment(time.monotonic(), self.done, self.numbers.get("tokens", 0))
        if not self.past or self.latest.time - self.past[-1].time >= 1:
            self.past.append(before._replace(time=self.latest.time))
        while len(self.past) > 2 and self.latest.time - self.past[1].time > SECONDS_OF_RATE:
            self.past.popleft()
        if self not in _shown and self.latest.time - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = self.latest.time
            self._line()

    def is_settled(self) -> bool:
        """Whether there is a rate that the start (loading, a first evaluation) has no part in."""
        return len(self.past) > 1

    def rate(self, what: str = "done") -> float:
        """Return units (or tokens) a second in this process, of the last minute or so.

        From wait to wait, for news may come in bursts.
        """
        since, until = (self.past[0], self.past[-1]) if self.is_settled() else (self.begin, self.latest)
        return (getattr(until, what) - getattr(since, what)) / max(until.time - since.time, 1e-9)

    def _details(self) -> list[str]:
        """Return time left, rate and numbers in words, the most important first.

        No rate and no time left before there is news of both.
        """
        numbers = [
            f"{name.replace('_', ' ')} {_as_word(value)}" for name, value in self.numbers.items() if name != "tokens"
        ]
        if not self.is_settled():
            return numbers
        rate = self.rate()
        left = [f"{seconds_as_words((self.total - self.done) / rate)} left"] if self.total and rate > 0 else []
        tokens = [f"{rate_as_words(self.rate('tokens'))} tokens/s"] if "tokens" in self.numbers else []
        return [*left, f"{rate_as_words(rate)} {self.unit}/s", *tokens, *numbers]

    def live_line(self, width: int, ascii_only: bool) -> str:
        """Return the line for a terminal of `width` columns."""
        count = f"{self.done:,}/{self.total:,}" if self.total else f"{self.done:,} {self.unit}"
        return progress_line(
            width, self.description, count, self.done / self.total if self.total else None, self._details(), ascii_only
        )

    def _line(self) -> None:
        if _settings["log_json"]:
            event(
                "progress",
                what=self.description,
                done=self.done,
                total=self.total,
                unit=self.unit,
                per_second=round(self.rate(), 3) if self.is_settled() else None,
                **self.numbers,
            )
            return
        of, share = (f" of {self.total:,}", [f"{100 * self.done / self.total:.0f}%"]) if self.total else ("", [])
        say("  ".join([f"{self.description}: {self.done:,}{of} {self.unit}", *share, *self._details()]))


class _Lines:
    """What rich draws again and again: a line for each work under way, the outer first."""

    def __rich_console__(self, screen: "Console", options: "ConsoleOptions") -> "Iterator[Text]":
        from rich.text import Text

        lines = [counter.live_line(options.max_width - 1, options.ascii_only) for counter in list(_shown)]
        yield Text("\n".join(lines), no_wrap=True, overflow="crop")


_shown: list[Progress] = []


def _can_live() -> bool:
    """Whether a person watches a terminal that can redraw lines, and no data go to it or into a pipe of its own."""
    quiet = _settings["quiet"] or _settings["log_json"] or _settings["data_on_stdout"] or not _is_first_rank()
    return not quiet and sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def leave_terminal_to_data() -> None:
    """Draw no live line from now on.

    Data go to standard output, to the same terminal or through a pipe to a tool that draws its own.
    """
    _settings["data_on_stdout"] = os.isatty(1) or stat.S_ISFIFO(os.fstat(1).st_mode)


@contextmanager
def progress(description: str, total: int | None, unit: str, done: int = 0) -> Iterator[Progress]:
    """Show the progress of a stretch of work; `done` units were done by an earlier process."""
    counter = Progress(description, total, unit, done)
    if not _can_live():
        yield counter
        return
    from rich.console import Console
    from rich.live import Live

    _shown.append(counter)
    outer = len(_shown) == 1
    try:
        with (
            Live(_Lines(), console=Console(stderr=True), transient=True, redirect_stdout=False)
            if outer
            else nullcontext()
        ):
            yield counter
    finally:
        _shown.remove(counter)


def rate_as_words(rate: float) -> str:
    """Write a rate with three digits: `1,234`, `56.7`, `0.123`."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _as_word(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def seconds_as_words(seconds: float) -> str:
    """Write a duration as a person would: `42 s`, `3 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def bytes_as_words(count: float) -> str:
    """Write a size in the unit that suits it: `873 B`, `1.2 MB`, `4.0 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
