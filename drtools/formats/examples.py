"""Training examples: one query per line, with the ids of all its positives and of its mined negatives."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drtools.errors import InputError
from drtools.formats.dark_items import Dark, dark_records, parse_dark
from drtools.formats.json_lines import checked_id, json_line, read_json_lines
from drtools.formats.lines import shown
from drtools.formats.seen_ids import SeenIds


@dataclass
class Example:
    """One query with all its positives (which are also its false-negative mask) and its negatives.

    Scores, if there are any, are in the order of the ids; `scored_by` names the teacher that gave them, as
    name@fingerprint, and is None for a retriever's. `others` holds the keys that this version does not know.
    """

    query_id: str
    positives: list[str]
    negatives: list[str]
    positive_scores: list[float | None] | None = None
    negative_scores: list[float | None] | None = None
    scored_by: str | None = None
    others: dict[str, Any] = field(default_factory=dict)
    dark: list[Dark] | None = None
    dark_scores: list[float | None] | None = None

    def record(self) -> dict[str, Any]:
        """Return the JSON object of this example."""
        known: dict[str, object] = {"query_id": self.query_id, "positives": self.positives, "negatives": self.negatives}
        if self.positive_scores is not None:
            known["positive_scores"] = self.positive_scores
        if self.negative_scores is not None:
            known["negative_scores"] = self.negative_scores
        known |= self.dark_record()
        if self.scored_by is not None:
            known["scored_by"] = self.scored_by
        return known | self.others

    def dark_record(self) -> dict[str, Any]:
        """Return the dark items in the JSON object."""
        known = {} if self.dark is None else {"dark": dark_records(self.dark)}
        return known if self.dark_scores is None else known | {"dark_scores": self.dark_scores}

    def line(self) -> bytes:
        """Return the line of this example."""
        return json_line(self.record())


KEYS = ("query_id", "positives", "negatives", "positive_scores", "negative_scores", "dark", "dark_scores", "scored_by")


def _ids(record: dict[str, Any], key: str, path: str | Path, number: int) -> list[str]:
    value = record.get(key)
    if not isinstance(value, list):
        raise InputError(
            f"{key} is {type(value).__name__}", where=f"{shown(path)}:{number}", expected="a list of document ids"
        )
    ids = [checked_id(item, path, number) for item in value]
    if len(set(ids)) < len(ids):
        raise InputError(f"{key} names a document twice", where=f"{shown(path)}:{number}")
    return ids


def _scores(record: dict[str, Any], key: str, count: int, path: str | Path, number: int) -> list[float | None] | None:
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != count:
        found = f"{len(value)} numbers" if isinstance(value, list) else type(value).__name__
        raise InputError(
            f"{key} is {found}", where=f"{shown(path)}:{number}", expected=f"{count} numbers, one for each id"
        )
    if not all(item is None or (isinstance(item, int | float) and not isinstance(item, bool)) for item in value):
        raise InputError(f"{key} holds something that is not a number", where=f"{shown(path)}:{number}")
    return value


def parse_example(record: dict[str, Any], path: str | Path, number: int) -> Example:
    """Check one object and return it as an example."""
    query_id = checked_id(record.get("query_id"), path, number)
    positives, negatives = _ids(record, "positives", path, number), _ids(record, "negatives", path, number)
    both = set(positives) & set(negatives)
    if both:
        raise InputError(
            f"{min(both)!r} is both a positive and a negative of query {query_id!r}", where=f"{shown(path)}:{number}"
        )
    scored_by = record.get("scored_by")
    if not isinstance(scored_by, str | None):
        raise InputError(
            f"scored_by is {type(scored_by).__name__}",
            where=f"{shown(path)}:{number}",
            expected="a teacher's name@fingerprint",
        )
    dark = parse_dark(record.get("dark"), path, number)
    return Example(
        query_id,
        positives,
        negatives,
        _scores(record, "positive_scores", len(positives), path, number),
        _scores(record, "negative_scores", len(negatives), path, number),
        scored_by,
        {key: value for key, value in record.items() if key not in KEYS},
        dark,
        _scores(record, "dark_scores", len(dark or ()), path, number),
    )


def read_examples(path: str | Path) -> Iterator[Example]:
    """Yield the examples of a file; raise InputError for a query that occurs twice."""
    seen, is_empty = SeenIds(), True
    for number, record in read_json_lines(path):
        example = parse_example(record, path, number)
        is_empty = False
        if seen.add(example.query_id) and (first := _first_line_of(example.query_id, path)) < number:
            raise InputError(
                f"query {example.query_id!r} is also on line {first}; a query has one example",
                where=f"{shown(path)}:{number}",
            )
        yield example
    if is_empty:
        raise InputError("no examples; mine-negatives writes them", where=shown(path))


def _first_line_of(query_id: str, path: str | Path) -> int:
    """Return the first line of a query, which has one."""
    return next(
        number for number, record in read_json_lines(path) if checked_id(record["query_id"], path, number) == query_id
    )
