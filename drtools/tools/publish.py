"""Publish finished folders under a link, in one step: readers of the link see the old version or the new, whole.

    drtools publish index star vectors live
    drtools search --index live/index --model live/star "words typed here"
    drtools publish live.versions/00002-4f0c1be33a90 live

With several folders the version holds each by its name (live/index), with one the link is that folder. Versions lie in
LINK.versions; the one that the link names and the latest others are kept, --keep in all. The third line goes back to an
earlier version. A folder without a manifest, or with files that are not those its manifest tells of, is refused, and
the link stays. The same folders again: nothing changes. Files are hard links where the file system allows, so that a
version costs no disk.

The tools here read all inputs of a command from the version that the link named when they began; a program of your own
should ask for the link's target once (readlink -f), then read that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from drtools import reporting
from drtools.outputs import releases


def main(
    folders: Annotated[list[str], Argument(help="finished folders that belong together, or an earlier version")],
    link: Annotated[str, Argument(help="symbolic link to switch")],
    keep: Annotated[
        int, Option(min=2, help="versions to keep, the current one among them; what was current stays for its readers")
    ] = 3,
) -> None:
    """Compose: one publication, said in a line."""
    done = releases.publish([Path(folder) for folder in folders], Path(link), keep)
    removed = f"; removed {', '.join(path.name for path in done.removed)}" if done.removed else ""
    reporting.say(f"{link}: {'already published as' if done.was_current else 'now'} {done.version}{removed}")
