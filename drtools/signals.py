"""SIGINT, SIGTERM and SIGHUP raise an error, or in trainings set a note that is read between two steps.

Signals are remembered, since a library may turn the error of a signal into another error. If the interpreter drops the
error (in a finalizer or the callback of a weak reference), it is raised again.
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
    """Make the signals that stop a tool raise KeyboardInterrupt, Terminated and HungUp.

    A signal that the parent process ignores stays ignored.
    """
    _came.clear()
    _handle(_raise)
    atexit.register(_raise_no_more)
    sys.unraisablehook = _raising_later(sys.unraisablehook)


@contextmanager
def noted(answer: Callable[[int], None] = lambda number: None) -> Iterator[list[int]]:
    """Record signals in the yielded list instead of raising errors, also one that was dropped before.

    `answer` is called with the first one. After it, Ctrl-C raises its error.
    """
    _raise_no_more()
    asked = [*_came]
    answered: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        answered.append(number)
        if len(answered) == 1:
            answer(number)
        elif number == signal.SIGINT:
            _came.append(number)
            raise error_of(number)

    before = _handle(note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def error_of(number: int) -> BaseException:
    """Return the error for a signal."""
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return HungUp() if number == signal.SIGHUP else Terminated()


def status_of(error: BaseException) -> int:
    """Return the exit status of a tool that was stopped by a signal: 128 + its number, as in shells."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return 128 + (signal.SIGHUP if isinstance(error, HungUp) else signal.SIGTERM)


def came() -> BaseException | None:
    """Return the error of the first signal, None if there was none."""
    return error_of(_came[0]) if _came else None


def end(status: int) -> None:
    """Make later signals end the process at once with this status, since a tool that is ending raises no more errors.

    If the tool has done its work, a signal does not change its status.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    _handle((lambda number, frame: os._exit(status)) if status else (lambda number, frame: None))


def behind(error: BaseException) -> BaseException:
    """Return the error of a signal if a library has turned it into another error.

    Errors of the system, such as a full disk, are returned unchanged.
    """
    if not _came or (isinstance(error, OSError) and error.errno is not None):
        return error
    return error_of(_came[0])


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Handler]:
    """Set a handler for each signal that is not ignored. Returns the earlier handlers."""
    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def _raise(number: int, frame: FrameType | None) -> None:
    _came.append(number)
    raise error_of(number)


def _raise_again(number: int, frame: FrameType | None) -> None:
    raise error_of(_came[0])


def _raise_no_more() -> None:
    """Cancel errors that would be raised again.

    When the interpreter ends, the handler is removed, and SIGALRM would kill the process.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)


def _raising_later(otherwise: Hook) -> Hook:
    """Return a hook for errors that the interpreter drops.

    The error of a signal is raised a little later. All others are passed to the earlier hook.
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
