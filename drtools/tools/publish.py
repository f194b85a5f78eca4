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

--measures FILE publishes the values of eval -o FILE with the version. --fixed-measures FILE does so for a fixed first
set of queries, on which versions can be compared while queries are added. A measure that fell by more than 0.02 since
the current version (--allow-fall) or by more than 0.05 since the first (--allow-fall-since-first), and fewer judgements
(--allow-fewer-judgements) are refused with exit status 3.

If vectors or an index have over a tenth fewer documents than the folder of the same name and kind in the version that
the link names, the new version is refused with exit status 3 (--allow-shrinking), and the link stays as it is. Going
back to an earlier version by its path is not refused.

A version holds the texts of its documents too. Hits are shown with these, from any directory, after the folder was
moved, and whatever happens to the corpus. If the corpus has changed since it was indexed or encoded, or is gone, the
version is published without texts, and a note says so.

With an index in Milvus, --alias NAME makes the alias name its collection, and then switches the link. If a process dies
between the two, the same command again switches the link. With --alias, the collection of a version that is removed is
removed too, unless a version that is kept, or an alias, names it.

The tools here read all inputs of a command from the version that the link pointed to when they started. Your own
program should resolve the link once (readlink -f) and then read from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import Role
from drtools.cli.version_texts import place_texts
from drtools.errors import InputError
from drtools.outputs import releases
from drtools.outputs.publication import ALLOW_FALL, ALLOW_FALL_SINCE_FIRST, Measures, read_facts
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
    measures: Annotated[
        str | None, Option(help="measures of this version on today's queries, as eval -o writes them"), Role.INPUT
    ] = None,
    fixed_measures: Annotated[
        str | None, Option(help="measures of this version on a fixed first set of queries"), Role.INPUT
    ] = None,
    allow_fall: Annotated[
        list[str] | None,
        Option(
            help="largest fall of each measure since the current version; default: 0.02; NAME=X: that of one measure, "
            "can be repeated"
        ),
    ] = None,
    allow_fall_since_first: Annotated[
        list[str] | None,
        Option(help="largest fall since the first publication of each measure, in the same form; default: 0.05"),
    ] = None,
    allow_fewer_judgements: Annotated[
        float, Option(min=0, max=1, help="largest share of the current version's judgements that may be missing")
    ] = 0.0,
    alias: Annotated[
        str | None,
        Option(help="Milvus: alias that names the collection of the version; it is switched just before the link"),
    ] = None,
) -> None:
    """Publish the folders, and report it in one line."""
    guards = Measures(
        read_facts(measures, fixed_measures),
        parse_falls("--allow-fall", allow_fall, ALLOW_FALL),
        parse_falls("--allow-fall-since-first", allow_fall_since_first, ALLOW_FALL_SINCE_FIRST),
        allow_fewer_judgements,
    )
    if not guards.facts and (allow_fall or allow_fall_since_first or allow_fewer_judgements):
        raise InputError(
            "--allow-fall, --allow-fall-since-first and --allow-fewer-judgements need --measures or --fixed-measures",
            remedy="pass one of the two, or leave them out",
        )
    versions = [Path(folder) for folder in folders]
    done = releases.publish(
        versions, Path(link), keep, keep_days, allow_shrinking, place_texts, guards, serving_by(alias)
    )
    removed = f"; removed {', '.join(path.name for path in done.removed)}" if done.removed else ""
    reporting.say(f"{link}: {'already published as' if done.was_current else 'now'} {done.version}{removed}")


def serving_by(alias: str | None) -> releases.Serving | None:
    """Return what switches an alias of Milvus with the link, None without an alias."""
    if alias is None:
        return None
    from drtools.search.engine_publishing import AliasOfLink
    from drtools.search.engines.places import check_name

    check_name(alias, "alias")
    return AliasOfLink(alias)


def parse_falls(flag: str, given: list[str] | None, usual: float) -> dict[str, float]:
    """Parse `0.02` and `nDCG@10=0.03` into the largest fall by measure; "" stands for all others."""
    falls = {"": usual}
    for text in given or ():
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise InputError(
                where=f"{flag} {text}", expected="a difference from 0 to 1, for instance 0.02 or R@100=0.03"
            )
        falls[name.strip()] = value
    return falls
