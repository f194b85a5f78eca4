"""Errors that end a tool, one class for each exit status, and names of parameters in messages.

A message contains parameters with `param`. The command line shows them as flags of the running tool; elsewhere they are
shown by their names.
"""

import re
from collections.abc import Callable, Mapping

_MARK = "\x1f"
_NAMED = re.compile(f"{_MARK}([^{_MARK}]*){_MARK}")


def param(name: str) -> str:
    """Name a parameter in a message."""
    return f"{_MARK}{name}{_MARK}"


def params_given(values: Mapping[str, object]) -> str:
    """Name in a message the parameters whose value is not None; empty without one."""
    return " and ".join(param(name) for name, value in values.items() if value is not None)


def names_in(text: str, spell: Callable[[str], str] = str) -> str:
    """Return a message with each parameter replaced by `spell(name)`, by default its name."""
    return _NAMED.sub(lambda found: spell(found[1]), text)


class DrtoolsError(Exception):
    """An error with a message of one line, in which parameters are marked by `param`."""

    @property
    def message(self) -> str:
        """The message as it was raised."""
        return super().__str__()

    def __str__(self) -> str:
        return names_in(self.message)


class InputError(DrtoolsError):
    """Wrong usage, or malformed or inconsistent input: exit status 2.

    The message is one line made of these parts, which callers can read: `where` the problem is (file:line, a folder, a
    parameter), what was `found`, what was `expected`, and the `remedy`, which is what to do.
    """

    def __init__(self, found: str = "", *, where: object = "", expected: str = "", remedy: str = "") -> None:
        self.where, self.found, self.expected, self.remedy = str(where), found, expected, remedy
        what = ", ".join([found] * bool(found) + [f"expected {expected}"] * bool(expected))
        super().__init__((f"{self.where}: " if self.where else "") + "; ".join(part for part in (what, remedy) if part))


class WorldError(DrtoolsError):
    """The environment failed (another process holds the output, a device is missing): exit status 1."""


class GateRefused(DrtoolsError):
    """A gate refused: exit status 3."""


class AlreadyDone(DrtoolsError):
    """The output of this request exists already: reported in one line, exit status 0."""


class DryRunDone(Exception):
    """A dry run has reported what the job costs; what was opened for it is dropped."""


class Terminated(BaseException):
    """SIGTERM was received: exit status 143."""


class HungUp(Terminated):
    """SIGHUP was received, for example when a terminal or connection was closed: exit status 129."""
