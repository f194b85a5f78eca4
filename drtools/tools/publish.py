"""Publish finished folders under a link, in one step for all readers.

    drtools publish index star live
    drtools search --index live/index --model live/star "how do vaccines work"

Readers see either the old or the new version, never a mixture. With several folders a version holds each by its name
(live/index); with one folder the link points to the folder itself. Versions are stored in LINK.versions. --keep
versions are kept: the current one and the latest others. Versions that were published in the last --keep-days days stay
too. To go back, publish the folder of an earlier version under the link. Each publication adds a line to
LINK.history.jsonl, which `show LINK` prints as a table. A folder without a manifest, or whose files differ from its
manifest, is refused, and the link stays as it is. Publishing the same folders again changes nothing. Files are hard
links where the file system allows it, so that a version takes no disk space.

If vectors or an index have over a tenth fewer documents than the folder of the same name and kind in the version that
the link names, the new version is refused with exit status 3 (--allow-shrinking), and the link stays as it is. Going
back to an earlier version by its path is not refused.

A version holds the texts of its documents too. Hits are shown with these, from any directory, after the folder was
moved, and whatever happens to the corpus. If the corpus has changed since it was indexed or encoded, or is gone, the
version is published without texts, and a note says so.

The tools here read all inputs of a command from the version that the link pointed to when they started. Your own
program should resolve the link once (readlink -f) and then read from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from drtools import reporting
from drtools.cli.version_texts import place_texts
from drtools.outputs import releases
from drtools.outputs.shrinking import ALLOW_SHRINKING


def main(
    folders: Annotated[list[str], Argument(help="finished folders that belong together, or an earlier version")],
    link: Annotated[str, Argument(help="symbolic link to switch")],
    keep: Annotated[
        int,
        Option(min=2, help="number of versions to keep, with the current one; the previous one stays for its readers"),
    ] = 3,
    keep_days: Annotated[
        int, Option(min=0, help="also keep the versions published in so many days, however many they are")
    ] = 0,
    allow_shrinking: Annotated[
        float,
        Option(min=0, max=1, help="largest share of documents that a folder may lack of those in the current version"),
    ] = ALLOW_SHRINKING,
) -> None:
    """Publish the folders, and report it in one line."""
    done = releases.publish(
        [Path(folder) for folder in folders], Path(link), keep, keep_days, allow_shrinking, place_texts
    )
    removed = f"; removed {', '.join(path.name for path in done.removed)}" if done.removed else ""
    reporting.say(f"{link}: {'already published as' if done.was_current else 'now'} {done.version}{removed}")
