"""Show what is in the cache, and remove what was not used for long.

    drtools cache
    drtools cache --prune-days 30 --dry-run
    drtools cache --prune-days 30 --max-size 50GB

Without flags it prints what is there: texts by corpus, training examples as rows of a corpus, scores by teacher, and
weights of models that are pickled on the hub, with size and last use. --prune-days removes texts, examples and weights
that were not used for so many days, --max-size the least recently used until the rest fits. They are made again when
they are needed. Teachers' scores take long to compute: they are removed only with --scores. What a process has open
stays, and so does every file that drtools did not write.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

from typer import Option

from drtools import reporting, units
from drtools.errors import InputError, param

if TYPE_CHECKING:
    from drtools.outputs.cache_contents import Entry


def main(
    prune_days: Annotated[int | None, Option(min=0, help="remove what was not used for this many days")] = None,
    max_size: Annotated[
        str | None,
        Option(help="remove the least recently used until the cache has at most this size: 500MB, 50GB"),
    ] = None,
    scores: Annotated[
        bool, Option("--scores", help="also remove teachers' scores, which take long to compute again")
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="say what would be removed, and remove nothing")] = False,
) -> None:
    """Print the table, or remove and count."""
    from drtools.cli.show.cached import cache_table
    from drtools.cli.terminal import terminal_width
    from drtools.outputs.cache import cache_path
    from drtools.outputs.cache_contents import cache_entries

    is_pruning = prune_days is not None or max_size is not None
    for name, given in {"scores": scores, "dry_run": dry_run}.items():
        if given and not is_pruning:
            raise InputError(
                "nothing is removed without another flag",
                where=param(name),
                remedy=f"add {param('prune_days')} or {param('max_size')}",
            )
    limit = size_limit(max_size)
    entries = cache_entries(cache_path())
    if is_pruning:
        return remove(entries, prune_days, limit, scores, dry_run)
    print(f"{cache_path()}{'' if entries else ': nothing is in it'}")
    if entries:
        print(cache_table(entries, terminal_width(sys.stdout)))


def size_limit(max_size: str | None) -> int | None:
    """Return the bytes that --max-size names."""
    try:
        return None if max_size is None else units.bytes_of(max_size)
    except ValueError:
        raise InputError(
            f"found {max_size!r}", where=param("max_size"), expected="a size such as 500MB, 50GB or 1TB"
        ) from None


def remove(entries: list[Entry], prune_days: int | None, limit: int | None, scores: bool, dry_run: bool) -> None:
    """Remove what the flags ask for, with a line for each entry and one for all."""
    from drtools.cli.show.cached import day_of, entry_words, size_of_all
    from drtools.outputs.cache_contents import prune

    removed = []
    verb = "would remove" if dry_run else "removed"
    kept = {"in use": "a process has it open", "scores": f"only {param('scores')} removes scores"}
    for entry, outcome in prune(entries, time.time(), prune_days, limit, scores, dry_run):
        details = f"{entry_words(entry)} ({units.bytes_as_words(entry.size)}, last used {day_of(entry)})"
        if outcome == "removed":
            removed.append(entry)
        reporting.say(f"{verb} {details}" if outcome == "removed" else f"kept {details}: {kept[outcome]}")
    gone = size_of_all(removed)
    rest = size_of_all(entries) - gone
    reporting.say(
        f"{verb} {len(removed):,} of {units.counted(len(entries), 'entry', 'entries')} "
        f"({units.bytes_as_words(gone)}); {units.bytes_as_words(rest)} remain"
    )
    if limit is not None and rest > limit:
        reporting.notice(
            1, f"{units.bytes_as_words(rest)} in the cache that could not be removed are more than {param('max_size')}"
        )
