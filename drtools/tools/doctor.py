"""Look at this machine: libraries, devices, precision, Java, the hub, disk; say what will be used, and why.

Lines begin with `ok`, `note` (some tools miss it, or it is not as it should be) or `bad` (every tool needs it); with one `bad` the exit status is 1.
"""

from __future__ import annotations

import shutil
import sys
import textwrap

from drtools.errors import WorldError


def main() -> None:
    """Compose: look, print, and fail if something that every tool needs is missing."""
    from drtools.showing.machine import findings

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    missing = []
    for finding in findings():
        print(textwrap.fill(f"{finding.state.ljust(4)}  {finding.name.ljust(11)}  {finding.found}", width, subsequent_indent=" " * 19, break_long_words=False, break_on_hyphens=False))
        sys.stdout.flush()
        if finding.state == "bad":
            missing.append(finding.name)
    if missing:
        raise WorldError(f"every tool needs what is missing here: {', '.join(missing)}")
