"""Prepare the standard streams: replace closed ones, and handle terminals without UTF-8."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO, cast


def prepare() -> None:
    """Make each stream usable, and write characters that its encoding lacks as escapes.

    A closed stream is replaced by one that fails when it is used. Otherwise the next file that is opened would get its
    number and receive what is written to the stream. Output to a closed standard error is lost.
    """
    for number, name, mode in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, cast(TextIO, open(number, "w" if number else "r", closefd=False)))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            with suppress(OSError):  # a stream that was opened again may not be seekable
                stream.reconfigure(errors="backslashreplace")


def leave_output() -> None:
    """Discard what standard output still holds, since the interpreter would write it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
