"""Check this machine: libraries, devices, precision, Java, the hub and disk.

    drtools doctor
    drtools doctor > machine.txt

It prints what the tools will use, and why. Each line begins with `ok`, `note` (some tools need it, or it is not as it
should be) or `bad` (every tool needs it). The exit status is 1 if any line is `bad`.
"""

from __future__ import annotations

import sys

from drtools.cli.terminal import terminal_width, wrapped
from drtools.errors import WorldError


def main() -> None:
    """Check, print, and fail if something that every tool needs is missing."""
    from drtools.cli.show.machine import findings

    width = terminal_width(sys.stdout)
    missing = []
    for finding in findings():
        print(wrapped(f"{finding.state.ljust(4)}  {finding.name.ljust(11)}  {finding.found}", width, later=" " * 19))
        sys.stdout.flush()
        if finding.state == "bad":
            missing.append(finding.name)
    if missing:
        raise WorldError(f"something that every tool needs is missing: {', '.join(missing)}")
