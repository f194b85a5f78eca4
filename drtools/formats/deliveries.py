"""Deliveries: files of new, changed and deleted documents, and their merge into a corpus of JSON lines.

A delivery is taken as a whole or not at all. The corpus is copied line by line, so that memory grows with the
deliveries and not with the corpus.
"""

import os
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from drtools import reporting
from drtools.errors import InputError
from drtools.formats.corpora import (
    DOCUMENT_ID_KEYS,
    DOCUMENT_TEXT_KEYS,
    checked_text,
    keys_found,
    known_key,
    lines_of,
    looks_like_json,
    read_corpus,
)
from drtools.formats.json_lines import checked_id, json_line, parse_object
from drtools.formats.lines import read_lines, shown
from drtools.units import counted

NAMES = re.compile(r"\.(jsonl|tsv)(\.gz)?$", re.IGNORECASE)  # of the files that are taken from a folder
BESIDE = ".manifest.json"  # the end of the name of a file's manifest
ADVANCE = 4096  # documents between two reports of progress


class Keys(NamedTuple):
    """The keys of a corpus's id and text."""

    id: str
    text: str


class Delivered(NamedTuple):
    """What a delivery asks for an id.

    `line` is the document's line, with its end, or None for a deletion. `is_row` marks a row of a table, which has no
    other keys.
    """

    line: bytes | None
    is_row: bool = False


Delivery = dict[str, Delivered]


def files_of(deliveries: list[str]) -> tuple[list[str], list[str]]:
    """Return the files of deliveries in the order in which they are taken, and those of folders that are not read.

    A folder means its files in the order of their names. Hidden files and subfolders are ignored.
    """
    files: dict[str, str] = {}  # by real path, as a file may be given together with its folder
    unread = []
    for delivery in deliveries:
        if not os.path.isdir(delivery):
            files.setdefault(os.path.realpath(delivery), delivery)
            continue
        for name in sorted(os.listdir(delivery)):
            path = os.path.join(delivery, name)
            if name.startswith(".") or name.endswith(BESIDE) or os.path.isdir(path):
                continue
            if NAMES.search(name):
                files.setdefault(os.path.realpath(path), path)
            else:
                unread.append(path)
    return list(files.values()), unread


def keys_of_corpus(path: str) -> Keys | None:
    """Return the keys of a corpus of JSON lines, None for an empty one; InputError for a table."""
    for number, line in read_lines(path):
        if not looks_like_json(line):
            raise InputError(
                "found columns", where=f"{shown(path)}:{number}", expected="JSON lines", remedy="convert the corpus"
            )
        record = parse_object(line, path, number)
        id_key, text_key = (known_key(record, keys, path, number) for keys in (DOCUMENT_ID_KEYS, DOCUMENT_TEXT_KEYS))
        return Keys(id_key, text_key)
    return None


class Changes:
    """The changes that deliveries make to a corpus: the last delivered record of each id, in the order of arrival."""

    def __init__(self, keys: Keys | None) -> None:
        self.keys = keys
        self.of: Delivery = {}
        self.withdrawn: set[str] = set()  # deleted after an earlier delivery had them

    def take(self, path: str) -> None:
        """Take in a delivery; InputError, and nothing of it is taken, if anything in it is wrong."""
        keys, delivery = read_delivery(path, self.keys)
        self.keys = keys
        for document, delivered in delivery.items():
            before = self.of.get(document)
            if before is not None and before.line is None:
                del self.of[document]  # it arrives again, after later arrivals
            elif before is not None and delivered.line is None:
                self.withdrawn.add(document)
            self.of[document] = delivered


def read_delivery(path: str, keys: Keys | None) -> tuple[Keys | None, Delivery]:
    """Return the changes of a delivery, and the keys of the corpus (of the first document if it is empty)."""
    _notice_mark(path)
    delivery: Delivery = {}
    numbers: dict[str, int] = {}
    lines, is_json = lines_of(path)
    if is_json:
        keys, entries = _entries_of_json(lines, path, keys)
    else:
        keys = keys or Keys(DOCUMENT_ID_KEYS[0], DOCUMENT_TEXT_KEYS[0])
        entries = _entries_of_table(path, keys)
    for number, document, delivered in entries:
        if document not in delivery:
            delivery[document], numbers[document] = delivered, number
        elif not _is_same(delivery[document], delivered):
            raise InputError(
                f"the id {document!r} is also on line {numbers[document]}, with different content",
                where=f"{shown(path)}:{number}",
                remedy="keep one of them",
            )
    if not delivery:
        raise InputError("no documents", where=f"{shown(path)}:1", expected="JSON lines, or columns with tabs between")
    return keys, delivery


def _notice_mark(path: str) -> None:
    first = next(read_lines(path, as_stored=True), (1, b""))[1]
    marked = first.startswith(BOM_UTF8)
    reporting.notice(marked, f"{shown(path)}: the byte-order mark at its beginning is left out")


def _entries_of_json(
    lines: Iterator[tuple[int, bytes]], path: str, keys: Keys | None
) -> tuple[Keys | None, Iterable[tuple[int, str, Delivered]]]:
    entries = []
    for number, line in lines:
        record = parse_object(line, path, number)
        if _is_deletion(record, path, number):
            key = known_key(record, tuple(dict.fromkeys([*(keys or ())[:1], *DOCUMENT_ID_KEYS])), path, number)
            entries.append((number, checked_id(record[key], path, number), Delivered(None)))
            continue
        keys = keys or Keys(
            known_key(record, DOCUMENT_ID_KEYS, path, number), known_key(record, DOCUMENT_TEXT_KEYS, path, number)
        )
        _check_document(record, keys, path, number)
        entries.append((number, checked_id(record[keys.id], path, number), Delivered(line + b"\n")))
    return keys, entries


def _is_deletion(record: dict[str, Any], path: str, number: int) -> bool:
    deleted = record.get("deleted", False)
    if not isinstance(deleted, bool):
        raise InputError(
            f"'deleted' is {deleted!r}", where=f"{shown(path)}:{number}", expected="true, or false for a document"
        )
    return deleted


def _check_document(record: dict[str, Any], keys: Keys, path: str, number: int) -> None:
    """Raise InputError for a document that the corpus cannot hold, or that has no text."""
    for key, known in zip(keys, (DOCUMENT_ID_KEYS, DOCUMENT_TEXT_KEYS), strict=True):
        first = next((name for name in known if name in record), None)
        if first != key:  # as the first line of a corpus it would give all others another key
            found = f"no {key!r}" if key not in record else f"{first!r} beside {key!r}"
            raise InputError(
                f"{found} among the keys ({keys_found(record)})",
                where=f"{shown(path)}:{number}",
                remedy=f"give each document {keys.id!r} and {keys.text!r}, as the corpus has them",
            )
    title = checked_text(record.get("title") or "", "title", path, number)
    _check_text(title, checked_text(record[keys.text], keys.text, path, number), path, number)


def _check_text(title: str, text: str, path: str, number: int) -> None:
    if not title.strip() and not text.strip():
        raise InputError(
            "the document has no text", where=f"{shown(path)}:{number}", remedy="give it one, or take it out"
        )


def _entries_of_table(path: str, keys: Keys) -> Iterator[tuple[int, str, Delivered]]:
    for number, document in read_corpus(path):
        _check_text(document.title, document.text, path, number)
        title = {"title": document.title} if document.title else {}
        line = json_line({keys.id: document.id, **title, keys.text: document.text})
        yield number, document.id, Delivered(line, is_row=True)


def _is_same(one: Delivered, other: Delivered) -> bool:
    """Return whether two lines of a delivery ask for the same."""
    if one.line is None or other.line is None:
        return one.line == other.line
    return one.line == other.line or _are_equal(parse_object(one.line, "", 0), parse_object(other.line, "", 0))


def _are_equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two records are equal; those that Python cannot compare because they are nested deep are not."""
    try:
        return one == other
    except RecursionError:
        return False


class Written(Protocol):
    """What a merge writes to."""

    def write(self, line: bytes, /) -> int:
        """Take a line."""


def merge(corpus: str, changes: Changes, stream: Written) -> dict[str, int]:
    """Write a corpus with the changes made, and return the counts.

    The documents of the corpus keep their places, and their lines unless their content changes; new ones follow.
    Raises InputError with file:line for a corpus that has a delivered id twice.
    """
    counts = dict.fromkeys(("documents", "new", "changed", "unchanged", "deleted", "unknown_deletions"), 0)
    lines_seen: dict[str, int] = {}  # of delivered ids
    last = b"\n"
    with reporting.progress("merging", None, "documents") as progress:
        for number, stored in read_lines(corpus, as_stored=True):
            what, line = _merged(corpus, number, stored, changes, lines_seen)
            if what:
                counts[what] += 1
            if line:
                stream.write(line)
                last = line
                counts["documents"] += not line.isspace()
            if number % ADVANCE == 0:
                progress.advance(ADVANCE)
    for document, delivered in changes.of.items():
        if document in lines_seen:
            continue
        if delivered.line is None:
            counts["unknown_deletions"] += document not in changes.withdrawn
            continue
        stream.write(delivered.line if last.endswith(b"\n") else b"\n" + delivered.line)
        last = delivered.line
        counts["new"] += 1
        counts["documents"] += 1
    return counts


def _merged(
    corpus: str, number: int, stored: bytes, changes: Changes, lines_seen: dict[str, int]
) -> tuple[str, bytes | None]:
    """Return what becomes of a line of the corpus, "" for one that no delivery names, and the line to write."""
    line = stored.removeprefix(BOM_UTF8) if number == 1 else stored
    if not line or line.isspace():
        return "", stored
    record = parse_object(line, corpus, number)
    assert changes.keys is not None, "a corpus with a line has keys"
    if changes.keys.id not in record:
        raise InputError(
            f"no {changes.keys.id!r} among the keys ({keys_found(record)}), which the first line has",
            where=f"{shown(corpus)}:{number}",
            remedy="use the same keys in each line",
        )
    document = checked_id(record[changes.keys.id], corpus, number)
    delivered = changes.of.get(document)
    if delivered is None:
        return "", stored
    if document in lines_seen:
        raise InputError(
            f"the id {document!r} is also on line {lines_seen[document]}; ids must be unique",
            where=f"{shown(corpus)}:{number}",
        )
    lines_seen[document] = number
    if delivered.line is None:
        return "deleted", None
    if _is_content(record, delivered, changes.keys):
        return "unchanged", stored
    return "changed", delivered.line


def _is_content(record: dict[str, Any], delivered: Delivered, keys: Keys) -> bool:
    """Return whether a record of the corpus is what was delivered; a row of a table only has title and text."""
    assert delivered.line is not None
    other = parse_object(delivered.line, "", 0)
    if not delivered.is_row:
        return _are_equal(record, other)
    return [record.get("title") or "", record.get(keys.text)] == [other.get("title", ""), other[keys.text]]


def line_of_counts(counts: dict[str, int]) -> str:
    """Return the counts of a merge as one line."""
    refused = counts["refused_files"]
    lacking = f" with {counted(counts['refused_documents'], 'line')}" if refused else ""
    return (
        f"{counted(counts['documents'], 'document')}: {counts['new']:,} new, {counts['changed']:,} changed, "
        f"{counts['unchanged']:,} delivered unchanged, {counts['deleted']:,} deleted, "
        f"{counted(counts['unknown_deletions'], 'deletion')} of unknown ids, "
        f"{counted(refused, 'delivery', 'deliveries')} refused{lacking}"
    )


def count_lines(path: str) -> int:
    """Return the lines of a delivery that can be read, up to where it is damaged."""
    count = 0
    try:
        for _ in read_lines(path):
            count += 1
    except InputError:
        pass
    return count
