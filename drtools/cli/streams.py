"""The three standard streams, whatever a parent made of them: closed ones, and terminals that do not know UTF-8."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO, cast


def prepare() -> None:
    """Let each stream be there, and let text that a stream's encoding lacks be written as escapes.

    A closed one becomes one that fails where it is used: else the next file that is opened would get its number, and
    would receive what is written to the stream. Nobody hears what is said on a closed standard error.
    """
    for number, name, mode in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, cast(TextIO, open(number, "w" if number else "r", closefd=False)))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            with suppress(OSError):  # one that was opened again has no place to go on from
                stream.reconfigure(errors="backslashreplace")


def leave_output() -> None:
    """Let what standard output still holds go nowhere, as the interpreter writes it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
