"""SIGINT and SIGTERM in a tool.

What it ends with, whatever a library makes of the error that a signal raises inside it.
"""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from drtools import signals
from drtools.cli import main


def signalled(number: int, error: BaseException):
    """Return a tool that gets a signal in a library, which answers with an error of its own."""

    def tool(name: str, arguments: list[str]) -> None:
        try:
            os.kill(os.getpid(), number)
        except BaseException:
            raise error from None

    return tool


@pytest.fixture(autouse=True)
def heard():
    """Let both signals be heard, which a shell's background jobs ignore, and put back what was there."""
    before = {number: signal.getsignal(number) for number in signals.STOPS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "error", [ValueError("could not determine the shape"), MemoryError(), OSError("cannot load the model")]
)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_tool_as_such_whatever_error_a_library_makes_of_it(drtools, monkeypatch, number, status, error):
    monkeypatch.setattr(main, "_invoke", signalled(number, error))
    outcome = drtools("eval")
    assert (outcome.status, outcome.err) == (
        status,
        "drtools eval: stopped; the same command again continues what can be continued\n",
    )


def test_a_full_disk_is_said_after_a_signal_too(drtools, monkeypatch):
    monkeypatch.setattr(
        main, "_invoke", signalled(signal.SIGTERM, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "vectors"))
    )
    outcome = drtools("eval")
    assert outcome.status == 1 and "vectors: No space left" in outcome.err


def test_a_signal_that_the_interpreter_drops_ends_the_tool_a_little_later(drtools, monkeypatch):
    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)  # here its error is raised, and dropped

    def tool(name: str, arguments: list[str]) -> None:
        Finalized()
        time.sleep(20)
        raise AssertionError("nothing stopped it")

    monkeypatch.setattr(main, "_invoke", tool)
    outcome = drtools("eval")
    assert (outcome.status, outcome.err) == (
        143,
        "drtools eval: stopped; the same command again continues what can be continued\n",
    )


def test_a_training_notes_a_signal_that_was_dropped_before_it(drtools, monkeypatch):
    noted = []

    def tool(name: str, arguments: list[str]) -> None:
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        with signals.noted() as asked:
            noted.extend(asked)

    monkeypatch.setattr(main, "_invoke", tool)
    drtools("eval")
    assert noted == [signal.SIGTERM]


def test_the_first_signal_is_answered_at_once_and_a_second_ctrl_c_stops():
    signals.listen()
    answered = []
    with pytest.raises(KeyboardInterrupt), signals.noted(answered.append) as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert answered == [signal.SIGTERM] and asked == [signal.SIGTERM] * 2, "a scheduler's repeat stops nothing"
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("nothing stopped it")
    assert answered == [signal.SIGTERM]


def test_a_signal_of_an_earlier_command_is_forgotten(drtools, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(main, "_invoke", signalled(signal.SIGTERM, ValueError()))
        assert drtools("eval").status == 143
    assert drtools("eval", "--no-such-flag").status == 2


def test_what_a_parent_has_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell gives it to a script's background jobs
    signals.listen()
    with signals.noted() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert asked == [signal.SIGTERM] and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_signal_that_is_dropped_as_the_tool_ends_leaves_its_status():
    words = """
import os, signal, sys, time
from drtools import signals
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
signals.listen()
Finalized()
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.2)
slow = Slow()
sys.exit(143)
"""
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "")
