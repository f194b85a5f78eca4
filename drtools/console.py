"""All that a person reads: words, progress, warnings and tables, on standard error.

Data never pass here. `configure` is called once by the command line; every other room only speaks.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from drtools.errors import UserError

SECONDS_BETWEEN_LINES = 30.0

_settings = {"tool": "drtools", "quiet": False, "log_json": False, "strict": False}
_notices: list[str] = []


def configure(tool: str, quiet: bool = False, log_json: bool = False, strict: bool = False) -> None:
    """Set how this process speaks, and forget the notices of an earlier tool."""
    _settings.update(tool=tool, quiet=quiet, log_json=log_json, strict=strict)
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
    """Remember something odd but usable, to be said at the end and to fail under `--strict`; nothing if `count` is 0."""
    if count:
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


class Progress:
    """Counts work done and shows it: a live bar on a terminal, elsewhere a plain line every 30 s."""

    def __init__(self, description: str, total: int | None, unit: str, done: int = 0) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self.start_done = done
        self.numbers: dict[str, object] = {}
        self.started = self.last_line = time.monotonic()
        self.bar = None

    def advance(self, count: int = 1, **numbers: object) -> None:
        """Count `count` more, with the numbers of the moment (loss, tokens/s ...)."""
        self.done += count
        self.numbers.update(numbers)
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, words=self._words())
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            self._line()

    def rate(self) -> float:
        """Return units a second in this process."""
        return (self.done - self.start_done) / max(time.monotonic() - self.started, 1e-9)

    def _words(self) -> str:
        shown = [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in self.numbers.items()]
        return "  ".join([f"{self.rate():,.1f} {self.unit}/s", *shown])

    def _line(self) -> None:
        if _settings["log_json"]:
            event("progress", what=self.description, done=self.done, total=self.total, unit=self.unit,
                  per_second=round(self.rate(), 3), **self.numbers)
            return
        left = ""
        if self.total and self.rate() > 0:
            left = f"  {100 * self.done / self.total:.0f}%  {seconds_as_words((self.total - self.done) / self.rate())} left"
        of = f" of {self.total:,}" if self.total else ""
        say(f"{self.description}: {self.done:,}{of} {self.unit}{left}  {self._words()}")


@contextmanager
def progress(description: str, total: int | None, unit: str, done: int = 0) -> Iterator[Progress]:
    """Show the progress of a stretch of work; `done` units were done by an earlier process."""
    counter = Progress(description, total, unit, done)
    live = sys.stderr.isatty() and not _settings["quiet"] and not _settings["log_json"] and _is_first_rank()
    if not live:
        yield counter
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[words]}"))
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as counter.bar:
        counter.task = counter.bar.add_task(description, total=total, completed=done, words="")
        yield counter


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


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of words in columns: the first to the left, the others to the right, two spaces between."""
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    lines = []
    for row in rows:
        cells = [cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
