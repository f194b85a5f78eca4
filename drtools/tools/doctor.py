"""Look at this machine: libraries, devices, precision, Java, the hub, disk; say what will be used, and why.

Lines begin with `ok`, `note` (some tools miss it, or it is not as it should be) or `bad` (every tool needs it); with
one `bad` the exit status is 1.
"""

from __future__ import annotations

import sys

from drtools.cli.terminal import terminal_width, wrapped
from drtools.errors import WorldError


def main() -> None:
    """Compose: look, print, and fail if something that every tool needs is missing."""
    from drtools.cli.show.machine import findings

    width = terminal_width(sys.stdout)
    missing = []
    for finding in findings():
        print(wrapped(f"{finding.state.ljust(4)}  {finding.name.ljust(11)}  {finding.found}", width, later=" " * 19))
        sys.stdout.flush()
        if finding.state == "bad":
            missing.append(finding.name)
    if missing:
        raise WorldError(f"every tool needs what is missing here: {', '.join(missing)}")
