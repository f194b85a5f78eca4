"""What ends a tool, one class for each exit status, and how messages name parameters.

A message names a parameter by `param`. The command line shows it as the flag of the running tool; everywhere else it is
the parameter's own name.
"""

import re
from collections.abc import Callable

_MARK = "\x1f"
_NAMED = re.compile(f"{_MARK}([^{_MARK}]*){_MARK}")


def param(name: str) -> str:
    """Name a parameter in a message."""
    return f"{_MARK}{name}{_MARK}"


def names_in(text: str, spell: Callable[[str], str] = str) -> str:
    """Return a message with each parameter's name as `spell` gives it, by default as it is."""
    return _NAMED.sub(lambda found: spell(found[1]), text)


class DrtoolsError(Exception):
    """An error with a message of one line; `message` names parameters by `param`."""

    @property
    def message(self) -> str:
        """The message as it was raised."""
        return super().__str__()

    def __str__(self) -> str:
        return names_in(self.message)


class InputError(DrtoolsError):
    """Wrong usage, or malformed or inconsistent input: exit status 2.

    The message is one line made of these parts, each of which a caller can read: `where` it is (file:line, a folder, a
    parameter), what was `found` there, what was `expected`, and the `remedy`, which is the next move.
    """

    def __init__(self, found: str = "", *, where: object = "", expected: str = "", remedy: str = "") -> None:
        self.where, self.found, self.expected, self.remedy = str(where), found, expected, remedy
        what = ", ".join([found] * bool(found) + [f"expected {expected}"] * bool(expected))
        super().__init__((f"{self.where}: " if self.where else "") + "; ".join(part for part in (what, remedy) if part))


class WorldError(DrtoolsError):
    """The world failed (another process holds the output, a device is absent): exit status 1."""


class GateRefused(DrtoolsError):
    """A gate refused: exit status 3."""


class AlreadyDone(DrtoolsError):
    """The output of this very request is there: reported in a line, exit status 0."""


class Terminated(BaseException):
    """SIGTERM came: exit status 143."""


class HungUp(Terminated):
    """SIGHUP came, as when a terminal or a connection is closed: exit status 129."""
