"""SIGINT, SIGTERM and SIGHUP: an error where the tool stands, or, in a training, a note that is read between two steps.

That one came is remembered: a library may make another error of the one that a signal raises inside it. Where the
interpreter drops it (in a finalizer, or as a weak reference's callback runs) it is raised once more.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from drtools.errors import HungUp, Terminated

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_TO_THE_NEXT = 0.05
Handler = Callable[[int, FrameType | None], Any] | int | None  # int: SIG_DFL or SIG_IGN, None: not set by Python
Hook = Callable[["sys.UnraisableHookArgs"], Any]
_came: list[int] = []


def listen() -> None:
    """Let the signals that stop a tool raise KeyboardInterrupt, Terminated and HungUp.

    One that its parent has it ignore stays ignored.
    """
    _came.clear()
    _handle(_raise)
    atexit.register(_raise_no_more)
    sys.unraisablehook = _raising_later(sys.unraisablehook)


@contextmanager
def noted() -> Iterator[list[int]]:
    """Let signals only be noted, in the list that this gives; one that came and was dropped is noted."""
    _raise_no_more()
    asked = [*_came]

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = _handle(note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def error_of(number: int) -> BaseException:
    """Return what a tool that this signal stops ends with."""
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return HungUp() if number == signal.SIGHUP else Terminated()


def status_of(error: BaseException) -> int:
    """Return the exit status of a tool that a signal has stopped: 128 and its number, as in shells."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return 128 + (signal.SIGHUP if isinstance(error, HungUp) else signal.SIGTERM)


def came() -> BaseException | None:
    """Return the error of the signal that came first, None if none came."""
    return error_of(_came[0]) if _came else None


def end(status: int) -> None:
    """Let a signal from now on end the process at once, with this status: a tool that ends raises no more errors.

    After a tool that did its work a signal changes nothing.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    _handle((lambda number, frame: os._exit(status)) if status else (lambda number, frame: None))


def behind(error: BaseException) -> BaseException:
    """Return the signal's own error where a library has made another of it.

    The system's (disk full) stay what they are.
    """
    if not _came or (isinstance(error, OSError) and error.errno is not None):
        return error
    return error_of(_came[0])


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Handler]:
    """Set a handler for each signal that is not ignored; return those before."""
    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def _raise(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    raise error_of(number)


def _raise_again(number: int, frame: FrameType | None) -> None:
    raise error_of(_came[0])


def _raise_no_more() -> None:
    """Forget what was to be raised again.

    As the interpreter ends, its handler is gone and SIGALRM would kill the process.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)


def _raising_later(otherwise: Hook) -> Hook:
    """Return a hook for what the interpreter drops.

    A signal's error is raised a little later, all else is left to the hook before.
    """

    def dropped(what: "sys.UnraisableHookArgs") -> None:
        if _came and isinstance(what.exc_value, type(error_of(_came[0]))):
            if sys.is_finalizing():
                return
            signal.signal(signal.SIGALRM, _raise_again)
            signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_THE_NEXT)
        else:
            otherwise(what)

    return dropped
