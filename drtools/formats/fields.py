"""Fields of a corpus' documents besides title and text, such as a language or a date, by the rows of vectors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.corpora import DOCUMENT_ID_KEYS, known_key, lines_of
from drtools.formats.json_lines import checked_id, parse_object
from drtools.formats.lines import shown

if TYPE_CHECKING:
    from drtools.formats.ids import Ids

FieldValue = str | int | float | bool
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
TAKEN = ("id", "vector", "terms")
DOCUMENTS_A_BLOCK = 10_000


class Fields(NamedTuple):
    """The types of fields, and the values of each by row."""

    kinds: dict[str, type]
    values: dict[str, list[FieldValue]]

    def rows(self, rows: Sequence[int]) -> dict[str, list[FieldValue]]:
        """Return the values of some rows."""
        return {name: [values[row] for row in rows] for name, values in self.values.items()}


NO_FIELDS = Fields({}, {})


def parse_names(text: str | None) -> list[str]:
    """Parse `lang,date`. Raises InputError for a name that is not a plain word, or is taken."""
    names = [name.strip() for name in text.split(",")] if text else []
    for name in names:
        if not NAME.fullmatch(name) or name in TAKEN or names.count(name) > 1:
            raise InputError(
                f"found {name!r}",
                where=f"{param('fields')} {text}",
                expected=f"different keys of letters, digits and _, other than {', '.join(TAKEN)}",
            )
    return names


def read_fields(corpus: str, names: Sequence[str], ids: Ids) -> Fields:
    """Read fields of the documents of `ids` from a corpus of JSON lines, at the top or in `metadata`.

    A text that is missing is "". Raises InputError for a field that no document has, for a number that is missing, for
    two types of one field, and for an id that the corpus does not have.
    """
    values: dict[str, list[Any]] = {name: [None] * len(ids) for name in names}
    kinds: dict[str, type] = {}
    seen, absent = 0, dict.fromkeys(names, 0)
    left = _documents(corpus, names, kinds)
    while block := list(islice(left, DOCUMENTS_A_BLOCK)):
        rows = ids.rows_of([document_id for document_id, _ in block]).tolist()
        for row, (_, found) in zip(rows, block, strict=True):
            if row >= 0:
                seen += 1
                for name in names:
                    values[name][row] = found[name]
                    absent[name] += found[name] is None
    if seen < len(ids):
        raise InputError(
            f"{len(ids) - seen:,} of the {len(ids):,} documents with vectors are not in it",
            where=shown(corpus),
            remedy=f"pass the corpus that was encoded as {param('corpus')}",
        )
    for name in names:
        kind = kinds.get(name)
        if kind is None or (absent[name] and kind is not str):
            what = "no document has it" if kind is None else f"{absent[name]:,} documents lack this number"
            raise InputError(what, where=f"{param('fields')} {name}", expected=f"a value for each line of {corpus}")
        reporting.notice(absent[name], f"{absent[name]:,} documents have no {name}, which is stored as an empty text")
        values[name] = ["" if value is None else kind(value) for value in values[name]]
    return Fields(kinds, values)


def _documents(corpus: str, names: Sequence[str], kinds: dict[str, type]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (id, {field: value or None}), and note the type of each field."""
    lines, is_json = lines_of(corpus)
    if not is_json:
        raise InputError("found TSV", where=shown(corpus), expected="JSON lines, which can have fields")
    id_key = ""
    for number, line in lines:
        record = parse_object(line, corpus, number)
        id_key = id_key or known_key(record, DOCUMENT_ID_KEYS, corpus, number)
        inner = record.get("metadata")
        found = {name: record.get(name, inner.get(name) if isinstance(inner, dict) else None) for name in names}
        for name, value in found.items():
            if value is not None:
                kinds[name] = _common(kinds.get(name), value, name, f"{shown(corpus)}:{number}")
        yield checked_id(record.get(id_key), corpus, number), found


def _common(kind: type | None, value: object, name: str, where: str) -> type:
    own = type(value)
    if own not in (str, int, float, bool):
        raise InputError(f"{name} is {own.__name__}", where=where, expected="a text, a number, true or false")
    if kind in (None, own):
        return own
    if {kind, own} == {int, float}:
        return float
    raise InputError(f"{name} is {own.__name__}", where=where, expected=f"{kind.__name__}, as before" if kind else "")
