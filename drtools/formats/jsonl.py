"""Corpora and queries: BEIR JSONL, and the other forms that the field ships them in, told apart by content."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from drtools.errors import UserError
from drtools.formats.lines import decode, read_lines, shown

# the names of one thing in BEIR, Pyserini, Tevatron and MS MARCO files, the first that a line has
DOCUMENT_ID_KEYS = ("_id", "id", "docid")
DOCUMENT_TEXT_KEYS = ("text", "contents")
QUERY_ID_KEYS = ("_id", "id", "query_id", "qid")
QUERY_TEXT_KEYS = ("text", "query", "contents")
QUERY_HEADER = {"id", "_id", "qid", "query-id", "query_id", "text", "query", "question"}  # of a TSV, where none is read


class Document(NamedTuple):
    """What a corpus holds."""

    id: str
    title: str
    text: str


def document_text(title: str, text: str, separator: str = " ") -> str:
    """Return the text that encoders and BM25 see: title, separator, text, stripped."""
    return f"{title}{separator}{text}".strip() if title else text.strip()


def read_json_lines(path: str | Path) -> Iterator[tuple[int, dict]]:
    """Yield (line number, object) of a JSONL file; UserError with file:line for anything else."""
    for number, line in read_lines(path):
        yield number, parse_object(line, path, number)


def parse_object(line: bytes, path: str | Path, number: int) -> dict:
    """Parse one line as a JSON object."""
    decode(line, path, number)
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UserError(f"{shown(path)}:{number}: not JSON ({error}); expected one object a line") from None
    if not isinstance(record, dict):
        raise UserError(f"{shown(path)}:{number}: found a JSON {type(record).__name__}, expected an object")
    return record


def checked_id(value: object, path: str | Path, number: int) -> str:
    """Return an id as the string that runs and qrels can hold, or say why it cannot be one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise UserError(f"{shown(path)}:{number}: the id is {value!r}, expected a string that is not empty")
    if len(value.split()) != 1 or value.strip() != value:
        raise UserError(
            f"{shown(path)}:{number}: the id {value!r} holds white space, which TREC runs cannot; replace it, for "
            "instance by `_`"
        )
    return value


def _field(record: dict, keys: tuple[str, ...], path: str | Path, number: int) -> object:
    for key in keys:
        if key in record:
            return record[key]
    found = ", ".join(map(repr, record)) or "none"
    raise UserError(f"{shown(path)}:{number}: no {' or '.join(map(repr, keys))} among the keys (found {found})")


def _text(value: object, key: str, path: str | Path, number: int) -> str:
    if not isinstance(value, str):
        raise UserError(f"{shown(path)}:{number}: {key} is {type(value).__name__}, expected a string")
    return value


def _looks_like_json(first_line: bytes) -> bool:
    """Tell JSONL from TSV by the first line; one that is neither is reported as JSON."""
    return first_line.lstrip()[:1] in (b"{", b"[", b'"') or b"\t" not in first_line


def read_corpus(path: str | Path) -> Iterator[tuple[int, Document]]:
    """Yield (line number, document) of a corpus: BEIR, Pyserini or Tevatron JSONL, MS MARCO or DPR TSV."""
    is_json: bool | None = None
    quoted = False
    for number, line in read_lines(path):
        if is_json is None:
            is_json = _looks_like_json(line)
            if not is_json and line.split(b"\t")[0] == b"id":
                quoted = True  # DPR's psgs_w100.tsv begins with `id text title`, and is quoted as CSV is
                continue
        if is_json:
            record = parse_object(line, path, number)
            yield (
                number,
                Document(
                    checked_id(_field(record, DOCUMENT_ID_KEYS, path, number), path, number),
                    _text(record.get("title") or "", "title", path, number),
                    _text(_field(record, DOCUMENT_TEXT_KEYS, path, number), "text", path, number),
                ),
            )
        else:
            columns = decode(line, path, number).split("\t")
            yield (
                number,
                _document_of_columns([unquoted(column) for column in columns] if quoted else columns, path, number),
            )


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
            raise UserError(
                f"{shown(path)}:{number}: no {key!r} among the keys (found {', '.join(map(repr, record))}); say "
                "another --article-key"
            )
        yield document, "" if record[key] is None else str(record[key])


def unquoted(column: str) -> str:
    """Return what a column of CSV holds: quotes around it go, doubled ones within are single.

    Others are as they are.
    """
    inner = column[1:-1].replace('""', "")
    return (
        column[1:-1].replace('""', '"')
        if len(column) > 1 and column[0] == column[-1] == '"' and '"' not in inner
        else column
    )


def _document_of_columns(columns: list[str], path: str | Path, number: int) -> Document:
    if len(columns) not in (2, 3, 4):
        raise UserError(
            f"{shown(path)}:{number}: {len(columns)} columns; expected `id text` (MS MARCO passages), "
            f"`id text title` (DPR) or `id url title body` (MS MARCO documents), with tabs between"
        )
    document_id = checked_id(columns[0], path, number)
    if len(columns) == 4:
        return Document(document_id, f"{columns[1]} {columns[2]}".strip(), columns[3])
    return Document(document_id, columns[2] if len(columns) == 3 else "", columns[1])


def read_queries(path: str | Path) -> dict[str, str]:
    """Return query id -> text, in the file's order; JSONL or `qid<TAB>text`. Duplicate ids fail with both lines."""
    queries: dict[str, str] = {}
    lines: dict[str, int] = {}
    is_json: bool | None = None
    for number, line in read_lines(path):
        if is_json is None:
            is_json = _looks_like_json(line)
        if is_json:
            record = parse_object(line, path, number)
            query_id = checked_id(_field(record, QUERY_ID_KEYS, path, number), path, number)
            text = _text(_field(record, QUERY_TEXT_KEYS, path, number), "text", path, number)
        else:
            columns = decode(line, path, number).split("\t")
            if len(columns) != 2:
                raise UserError(f"{shown(path)}:{number}: {len(columns)} columns, expected `qid<TAB>text`")
            if number == 1 and columns[0].lower() in QUERY_HEADER and columns[1].lower() in QUERY_HEADER:
                raise UserError(
                    f"{shown(path)}:1: found a header ({columns[0]}, {columns[1]}), expected `qid<TAB>text` from the "
                    "first line on; take it out (tail -n +2)"
                )
            query_id, text = checked_id(columns[0], path, number), columns[1]
        if query_id in queries:
            raise UserError(
                f"{shown(path)}:{number}: the query id {query_id!r} stands on line {lines[query_id]} too; ids must be "
                "unique"
            )
        queries[query_id], lines[query_id] = text, number
    if not queries:
        raise UserError(f"{shown(path)}: no queries; expected JSONL with _id and text, or `qid<TAB>text`")
    return queries


def json_line(record: dict) -> bytes:
    """Return a record as one line of JSON."""
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
