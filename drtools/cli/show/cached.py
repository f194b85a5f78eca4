"""Display of the cache: what is in it, and what is removed from it."""

import time
from collections.abc import Sequence

from drtools import units
from drtools.cli.terminal import aligned
from drtools.outputs.cache_contents import REMOVED, Entry

WORDS = {
    "texts": "texts of",
    "scores": "scores of",
    "models": "weights of",
    "examples": "rows of",
    "fingerprints": "fingerprints of files",
    "places": "places of inputs",
    "others": "other files",
}


WHOSE = {"texts": "corpus", "scores": "teacher", "models": "model", "examples": "examples"}


def entry_words(entry: Entry) -> str:
    """Describe an entry and what it belongs to: `texts of /data/corpus.jsonl`."""
    words = WORDS[entry.kind]
    if entry.kind not in REMOVED:
        return words
    if not entry.belongs_to:
        return f"{words} an unknown {WHOSE[entry.kind]} ({entry.name})"
    more = f" and {len(entry.belongs_to) - 1:,} more" if len(entry.belongs_to) > 1 else ""
    precision = f", {entry.name.rpartition('-')[2]}" if entry.kind == "scores" else ""
    return f"{words} {entry.belongs_to[0]}{more}{precision}"


def cache_table(entries: Sequence[Entry], width: int | None) -> str:
    """Return the entries as a table, the most recently used first, with the total below."""
    rows = [["what", "size", "last used"]]
    rows += [[entry_words(entry), units.bytes_as_words(entry.size), day_of(entry)] for entry in reversed(entries)]
    rows.append(["total", units.bytes_as_words(size_of_all(entries)), ""])
    return aligned(rows, width)


def size_of_all(entries: Sequence[Entry]) -> int:
    """Return the bytes of all entries."""
    return sum(entry.size for entry in entries)


def day_of(entry: Entry) -> str:
    """Return when an entry was last used, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
