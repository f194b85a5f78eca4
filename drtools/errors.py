"""What ends a tool, one class for each exit status."""


class UserError(Exception):
    """Wrong usage, or malformed or inconsistent input: exit status 2.

    The message is one line: file:line, what was found, what was expected, the next move.
    """


class WorldError(Exception):
    """The world failed (another process holds the output, a device is absent): exit status 1."""


class GateRefused(Exception):
    """A gate said no: exit status 3."""


class AlreadyDone(Exception):
    """The output of this very request is there: said in a line, exit status 0."""


class Terminated(BaseException):
    """SIGTERM came: exit status 143."""
