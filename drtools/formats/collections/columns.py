"""Rows with named columns as documents, queries and judgements: which column holds what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drtools.errors import InputError, param
from drtools.formats.collections.parts import Judgement, Query, ReadingOptions
from drtools.formats.collections.rows import Row
from drtools.formats.corpora import DOCUMENT_COLUMNS, QUERY_COLUMNS, Document
from drtools.formats.json_lines import checked_id
from drtools.formats.other_tables import QRELS_NAMES
from drtools.formats.tsv import header_places

Names = Mapping[str, tuple[str, ...]]


def places(columns: Iterable[str], names: Names, given: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return the column of each field: the one that was `given`, or one of a usual name."""
    listed = list(columns)
    found = {what: listed[place] for what, place in header_places(listed, names).items()}
    for what, name in (given or {}).items():
        if name is not None:
            found = {other: column for other, column in found.items() if column != name}
            found[what] = name
    return found


def documents_of(rows: Iterator[Row], options: ReadingOptions) -> Iterator[tuple[str, Document]]:
    """Yield (place, document) of rows; the first row settles which columns hold id, text and title."""
    used: dict[str, str] = {}
    for row in rows:
        used = used or _settled(row, DOCUMENT_COLUMNS.names, options, ("id", "text"))
        title = _text(row, used["title"]) if "title" in used and row.values.get(used["title"]) is not None else ""
        if "url" in used and row.values.get(used["url"]):
            title = f"{row.values[used['url']]} {title}".strip()
        yield row.where, Document(_id(row, used["id"]), title, _text(row, used["text"]))


def queries_of(rows: Iterator[Row], options: ReadingOptions) -> Iterator[Query]:
    """Yield the queries of rows."""
    used: dict[str, str] = {}
    for row in rows:
        used = used or _settled(row, QUERY_COLUMNS.names, options, ("id", "text"))
        yield Query(row.where, _id(row, used["id"]), _text(row, used["text"]))


def judgements_of(rows: Iterator[Row]) -> Iterator[Judgement]:
    """Yield the judgements of rows, which have a grade each."""
    used: dict[str, str] = {}
    for row in rows:
        used = used or _settled(row, QRELS_NAMES, ReadingOptions(), tuple(QRELS_NAMES))
        grade = row.values.get(used["grade"])
        try:
            whole = int(float(grade)) if isinstance(grade, str) else int(grade)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            whole = None
        if whole is None or float(grade) != whole:  # type: ignore[arg-type]
            raise InputError(
                f"{used['grade']} is {grade!r}", where=row.where, expected="a whole number", remedy="correct the row"
            )
        yield Judgement(row.where, _id(row, used["query"]), _id(row, used["document"]), whole)


def _settled(row: Row, names: Names, options: ReadingOptions, needed: tuple[str, ...]) -> dict[str, str]:
    given = {"id": options.id_column, "text": options.text_column, "title": options.title_column}
    given = {what: name for what, name in given.items() if what in names}
    for what, name in given.items():
        if name is not None and name not in row.values:
            raise InputError(
                f"there is no column {name!r} (found {', '.join(row.values) or 'none'})",
                where=row.where,
                remedy=f"name another with {param(f'{what}_column')}",
            )
    used = places(row.values, names, given)
    missing = [what for what in needed if what not in used]
    if missing:
        remedy = f"name it with {param(f'{missing[0]}_column')}" if missing[0] in given else "rename the column"
        raise InputError(
            f"no column is called like the {missing[0]} (found {', '.join(row.values) or 'none'})",
            where=row.where,
            expected=f"one of {', '.join(names[missing[0]][:6])}",
            remedy=remedy,
        )
    return used


def _id(row: Row, column: str) -> str:
    value: Any = row.values.get(column)
    try:
        return checked_id(value.strip() if isinstance(value, str) else value, "", 0)
    except InputError as error:
        raise InputError(error.found, where=row.where, expected=error.expected, remedy=error.remedy) from None


def _text(row: Row, column: str) -> str:
    value = row.values.get(column)
    if not isinstance(value, str):
        raise InputError(f"{column} is {type(value).__name__}", where=row.where, expected="a string")
    return value
