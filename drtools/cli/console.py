"""How the command line shows what the library reports: plain lines, a live line on a terminal, or JSON lines.

Everything goes to standard error; data never pass here.
"""

import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from drtools import reporting
from drtools.cli.flag_names import worded
from drtools.cli.terminal import progress_line
from drtools.escapes import escaped, escaped_json
from drtools.process_ranks import rank
from drtools.reporting import Progress, Reporter

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text


class ToolReporter(Reporter):
    """The reporter of a tool on the command line."""

    def __init__(
        self,
        tool: str,
        quiet: bool = False,
        log_json: bool = False,
        strict: bool = False,
        flags: Mapping[str, str] | None = None,
    ) -> None:
        self.tool, self.quiet, self.log_json, self.strict, self.flags = tool, quiet, log_json, strict, flags or {}
        self.data_on_terminal = False
        self.live: list[Progress] = []  # running work, the outermost first

    def say(self, text: str) -> None:
        """Show a line (an event of the kind `say` under `--log-json`)."""
        if self.log_json:
            self.event("say", text=self.worded(text))
        elif not self.quiet:
            super().say(text)

    def event(self, kind: str, **fields: object) -> None:
        """Write one JSON line, only with `--log-json`."""
        if self.log_json and not self.quiet and rank() == 0:
            self.write_json(kind, fields)

    def worded(self, text: str) -> str:
        """Return a message with its parameters shown as flags of the tool."""
        return worded(text, self.flags)

    def write_json(self, kind: str, fields: dict[str, object]) -> None:
        """Write an event as one JSON line."""
        record = {"event": kind, "tool": self.tool, "time": round(time.time(), 3), **fields}
        self.write(escaped_json(json.dumps(record, ensure_ascii=False, default=str)))

    def error(self, text: str) -> None:
        """Write the error line with which the tool ends, even with `--quiet`."""
        text = " ".join(self.worded(text).split())
        if rank():
            time.sleep(3)  # rank 0 reports an error that all processes have; torchrun ends the others meanwhile
        if self.log_json:
            self.write_json("error", {"text": text})
        else:
            self.write(f"drtools {self.tool}: {text}" if self.tool != "drtools" else f"drtools: {text}")

    def progressed(self, counter: Progress) -> None:
        """Show the progress of some work, as a line or an event."""
        if not self.log_json:
            self.say(counter.line())
            return
        self.event(
            "progress",
            what=counter.description,
            done=counter.done,
            total=counter.total,
            unit=counter.unit,
            per_second=round(counter.rate(), 3) if counter.is_settled() else None,
            **counter.numbers,
        )

    def can_draw(self) -> bool:
        """Return whether standard error is a terminal that can redraw lines, without data on it or on a pipe."""
        hidden = self.quiet or self.log_json or self.data_on_terminal or rank() != 0
        return not hidden and sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")

    def leave_terminal_to_data(self) -> None:
        """Turn off live lines if data is written to this terminal, or through a pipe to a tool that draws its own."""
        self.data_on_terminal = os.isatty(1) or stat.S_ISFIFO(os.fstat(1).st_mode)

    @contextmanager
    def watching(self, counter: Progress) -> Iterator[None]:
        """Draw a live line while some work is running, if there is a terminal for it."""
        if not self.can_draw():
            yield
            return
        from rich.console import Console
        from rich.live import Live

        self.live.append(counter)
        counter.is_live = True
        lines = Live(_Lines(self.live), console=Console(stderr=True), transient=True, redirect_stdout=False)
        try:
            with lines if len(self.live) == 1 else nullcontext():
                yield
        finally:
            self.live.remove(counter)


class _Lines:
    """The lines that rich draws repeatedly: one for each piece of running work."""

    def __init__(self, counters: list[Progress]) -> None:
        self.counters = counters

    def __rich_console__(self, screen: "Console", options: "ConsoleOptions") -> "Iterator[Text]":
        from rich.text import Text

        lines = [live_line(counter, options.max_width - 1, options.ascii_only) for counter in list(self.counters)]
        yield Text("\n".join(lines), no_wrap=True, overflow="crop")


def live_line(counter: Progress, width: int, ascii_only: bool) -> str:
    """Return the line of some work for a terminal of `width` columns."""
    count = f"{counter.done:,}/{counter.total:,}" if counter.total else f"{counter.done:,} {counter.unit}"
    share = counter.done / counter.total if counter.total else None
    return progress_line(width, escaped(counter.description), count, share, counter.details(), ascii_only)


_tool = ToolReporter("drtools")


def configure(
    tool: str,
    quiet: bool = False,
    log_json: bool = False,
    strict: bool = False,
    flags: Mapping[str, str] | None = None,
) -> None:
    """Set how this process reports, and forget the notices of an earlier tool.

    `flags` has the flags of the tool's parameters whose names differ from them.
    """
    global _tool
    _tool = ToolReporter(tool, quiet, log_json, strict, flags)
    reporting.install(_tool)


def error(text: str) -> None:
    """Write the error line with which the tool ends."""
    _tool.error(text)


def say_notices() -> None:
    """Show all notices."""
    for text in reporting.notices():
        reporting.say(f"note: {text}")
