"""Corpora and queries: BEIR JSONL and other common formats, which are recognized by their content.

A file's first line determines the keys or columns, and all other lines must have the same ones.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from drtools.errors import InputError, param
from drtools.formats import tsv
from drtools.formats.json_lines import checked_id, parse_object, read_json_lines
from drtools.formats.lines import read_lines, shown

# the names of one thing in BEIR, Pyserini, Tevatron and MS MARCO files; the first that a file's first line has
DOCUMENT_ID_KEYS = ("_id", "id", "docid")
DOCUMENT_TEXT_KEYS = ("text", "contents")
QUERY_ID_KEYS = ("_id", "id", "query_id", "qid")
QUERY_TEXT_KEYS = ("text", "query", "contents")
# the names of columns in the header of a TSV, and what the columns of one without a header are
DOCUMENT_COLUMNS = tsv.ColumnLayout(
    {
        "id": (*tsv.DOCUMENT_IDS, *tsv.QUERY_IDS, *tsv.ANY_IDS),
        "text": (*tsv.DOCUMENT_TEXTS, *tsv.QUERY_TEXTS),
        "title": tsv.TITLES,
        "url": ("url",),
    },
    {2: ("id", "text"), 3: ("id", "text", "title"), 4: ("id", "url", "title", "text")},
    "`id text` (MS MARCO passages), `id text title` (DPR) or `id url title body` (MS MARCO documents), with tabs "
    "between",
)
QUERY_COLUMNS = tsv.ColumnLayout(
    {"id": (*tsv.QUERY_IDS, *tsv.ANY_IDS), "text": (*tsv.QUERY_TEXTS, "title", "topic")},
    {2: ("id", "text")},
    "`qid<TAB>text`",
)
DOCUMENTS_EXPECTED = "JSONL with _id, title and text"
QUERIES_EXPECTED = "JSONL with _id and text, or `qid<TAB>text`"


class Document(NamedTuple):
    """What a corpus holds."""

    id: str
    title: str
    text: str


def document_text(title: str, text: str, separator: str = " ") -> str:
    """Return the text for encoders and BM25: title, separator and text, stripped."""
    return f"{title}{separator}{text}".strip() if title else text.strip()


def known_key(record: dict[str, Any], keys: tuple[str, ...], path: str | Path, number: int) -> str:
    """Return the first of the keys that the first record of a file has."""
    for key in keys:
        if key in record:
            return key
    raise InputError(
        f"no {' or '.join(map(repr, keys))} among the keys ({keys_found(record)})", where=f"{shown(path)}:{number}"
    )


def _value(record: dict[str, Any], key: str, path: str | Path, number: int) -> object:
    """Return a record's value of the key that the first record uses."""
    if key not in record:
        raise InputError(
            f"no {key!r} among the keys ({keys_found(record)}), which the first line has",
            where=f"{shown(path)}:{number}",
            remedy="use the same keys in each line",
        )
    return record[key]


def keys_found(record: dict[str, Any]) -> str:
    """Return the keys of a record in words."""
    return f"found {', '.join(map(repr, record)) or 'none'}"


def checked_text(value: object, key: str, path: str | Path, number: int) -> str:
    """Return a value of a record that must be a string."""
    if not isinstance(value, str):
        raise InputError(f"{key} is {type(value).__name__}", where=f"{shown(path)}:{number}", expected="a string")
    return value


def looks_like_json(first_line: bytes) -> bool:
    """Tell JSONL from TSV by the first line; a line that is neither counts as JSON."""
    return first_line.lstrip()[:1] in (b"{", b"[") or b"\t" not in first_line


def lines_of(path: str | Path) -> tuple[Iterator[tuple[int, bytes]], bool]:
    """Return the lines of a file, and whether they are JSON; an empty file counts as JSON."""
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        return iter(()), True
    if looks_like_json(first[1]):
        return itertools.chain([first], lines), True
    return read_lines(path, with_blank=True), False


def read_corpus(path: str | Path) -> Iterator[tuple[int, Document]]:
    """Yield (line number, document) of a corpus: BEIR, Pyserini or Tevatron JSONL, MS MARCO or DPR TSV."""
    lines, is_json = lines_of(path)
    yield from _documents_of_json(lines, path) if is_json else _documents_of_tsv(lines, path)


def _documents_of_json(lines: Iterator[tuple[int, bytes]], path: str | Path) -> Iterator[tuple[int, Document]]:
    id_key = text_key = ""
    for number, line in lines:
        record = parse_object(line, path, number)
        if not id_key:
            id_key, text_key = (
                known_key(record, keys, path, number) for keys in (DOCUMENT_ID_KEYS, DOCUMENT_TEXT_KEYS)
            )
        yield (
            number,
            Document(
                checked_id(_value(record, id_key, path, number), path, number),
                checked_text(record.get("title") or "", "title", path, number),
                checked_text(_value(record, text_key, path, number), "text", path, number),
            ),
        )


def note_unused_columns(path: str | Path) -> None:
    """Report the columns of a corpus that are not read, as `read_corpus` does."""
    lines, is_json = lines_of(path)
    if not is_json:
        tsv.Table(path, lines, DOCUMENT_COLUMNS)


def _documents_of_tsv(lines: Iterator[tuple[int, bytes]], path: str | Path) -> Iterator[tuple[int, Document]]:
    table = tsv.Table(path, lines, DOCUMENT_COLUMNS)
    at_id, at_text = table.places["id"], table.places["text"]
    at_title, at_url = table.places.get("title"), table.places.get("url")
    for number, cells in table.rows():
        title = "" if at_title is None else cells[at_title]
        if at_url is not None:
            title = f"{cells[at_url]} {title}".strip()
        yield number, Document(checked_id(cells[at_id], path, number), title, cells[at_text])


def read_articles(path: str | Path, key: str | None) -> Iterator[tuple[Document, str]]:
    """Yield (document, name of its article): what the field `key` holds, or with `title` the title.

    "" where there is none.
    """
    if key in (None, "title"):
        for _, document in read_corpus(path):
            yield document, document.title if key else ""
        return
    for (number, document), (_, record) in zip(read_corpus(path), read_json_lines(path), strict=True):
        if key not in record:
            raise InputError(
                f"no {key!r} among the keys (found {', '.join(map(repr, record))})",
                where=f"{shown(path)}:{number}",
                remedy=f"use another {param('article_key')}",
            )
        yield document, "" if record[key] is None else str(record[key])


def read_queries(path: str | Path) -> dict[str, str]:
    """Return {query id: text} of JSONL or `qid<TAB>text`, in the file's order; raise InputError for duplicate ids."""
    queries: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for number, query_id, text in each_query(path):
        if query_id in queries:
            raise twice("query", query_id, numbers[query_id], number, path)
        queries[query_id], numbers[query_id] = text, number
    if not queries:
        raise InputError("no queries", where=shown(path), expected=QUERIES_EXPECTED)
    return queries


def twice(what: str, text_id: str, first: int, number: int, path: str | Path) -> InputError:
    """Return the error for the id of a document or a query that two lines have."""
    if what == "query":
        return InputError(
            f"the query id {text_id!r} is also on line {first}; ids must be unique", where=f"{shown(path)}:{number}"
        )
    return InputError(
        f"the document id {text_id!r} is also on line {first}; ids must be unique", where=f"{shown(path)}:{number}"
    )


def each_query(path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, id, text) of queries."""
    return queries_of(*lines_of(path), path)


def queries_of(lines: Iterator[tuple[int, bytes]], is_json: bool, path: str | Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, id, text) of the lines of queries, as `lines_of` gives them."""
    return _queries_of_json(lines, path) if is_json else _queries_of_tsv(lines, path)


def _queries_of_json(lines: Iterator[tuple[int, bytes]], path: str | Path) -> Iterator[tuple[int, str, str]]:
    id_key = text_key = ""
    for number, line in lines:
        record = parse_object(line, path, number)
        if not id_key:
            id_key, text_key = (known_key(record, keys, path, number) for keys in (QUERY_ID_KEYS, QUERY_TEXT_KEYS))
        query_id = checked_id(_value(record, id_key, path, number), path, number)
        yield number, query_id, checked_text(_value(record, text_key, path, number), "text", path, number)


def _queries_of_tsv(lines: Iterator[tuple[int, bytes]], path: str | Path) -> Iterator[tuple[int, str, str]]:
    table = tsv.Table(path, lines, QUERY_COLUMNS)
    for number, cells in table.rows():
        yield number, checked_id(cells[table.places["id"]], path, number), cells[table.places["text"]]
