"""Runs and judgements in the forms of other programs: JSON of BEIR and ranx, CSV, MS MARCO's three columns.

Each function returns None for a file in none of these forms, which is then read as TREC's or BEIR's columns.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from drtools import reporting
from drtools.errors import InputError
from drtools.formats.lines import LONGEST_HEAD, decode, first_line, read_lines, read_whole, shown
from drtools.formats.signatures import NAMED_COLUMNS, RUN_COLUMNS
from drtools.formats.tsv import DOCUMENT_IDS, QUERY_IDS, header_places, header_words
from drtools.units import counted

Scores = dict[str, dict[str, float]]  # query id -> {document id: score}

NESTED = re.compile(rb'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{', re.DOTALL)
QUERY_NAMES = (*QUERY_IDS[2:], "query")
RUN_NAMES = {
    "query": QUERY_NAMES,
    "document": ("docno", *DOCUMENT_IDS[2:], "document", "doc"),  # PyTerrier's docid is a row number
    "score": ("score", "scores", "similarity", "sim"),
    "rank": ("rank", "position"),
}
QRELS_NAMES = {  # in a header, compared as in a TSV of texts; `_id` and `id` mean neither of the two
    "query": QUERY_NAMES,
    "document": (*DOCUMENT_IDS[2:], "document", "doc"),
    "grade": ("score", "relevance", "rel", "label", "grade", "judgement", "judgment", "rating", "relevancy"),
}
QRELS_HEADER = ["query_id", "corpus_id", "score"]  # BEIR's, which a run does not have


class Hit(NamedTuple):
    """A line of a run; a score or a rank may be missing."""

    number: int
    query: str
    document: str
    score: float | None
    rank: int | None


def nested_json(path: str, written: str) -> dict[str, dict[str, float]] | None:
    """Return {query: {document: number}} of one JSON object; raise InputError for one that holds something else.

    `written` is how pandas writes what is read, for the error about a table in another format.
    """
    import orjson

    if not first_line(path, written).lstrip().startswith(b"{"):
        return None
    whole = read_whole(path)
    if not NESTED.match(whole[:LONGEST_HEAD]):
        return None
    where = f"{shown(path)}:1"
    try:
        found: Any = orjson.loads(whole)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"not JSON ({error})", where=where, expected="one object {query: {document: number}}"
        ) from None
    for query, documents in found.items():
        if not isinstance(documents, dict):
            raise InputError(f"query {query!r} has {str(documents)[:40]!r}", where=where, expected="{document: number}")
        for document, value in documents.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputError(
                    f"document {document!r} of query {query!r} has {str(value)[:40]!r}",
                    where=where,
                    expected="a number",
                )
    return found  # type: ignore[no-any-return]  # checked above


def comma_rows(path: str) -> Iterator[tuple[int, list[str]]] | None:
    """Return (line number, cells) of a file whose first line has three or more cells between commas, and no tabs."""
    line = first_line(path)
    if b"," not in line or b"\t" in line or len(_cells(decode(line, path, 1))) < 3:
        return None
    return ((number, _cells(decode(each, path, number))) for number, each in read_lines(path) if each.strip())


def other_judgements(path: str) -> Iterator[tuple[int, str, str, str]] | None:
    """Return (line number, query id, document id, grade as text) of judgements in JSON or CSV.

    CSV has a header, or else three columns or TREC's four.
    """
    nested = nested_json(path, NAMED_COLUMNS)
    if nested is not None:
        return (
            (1, query, each, str(grade)) for query, documents in nested.items() for each, grade in documents.items()
        )
    rows = comma_rows(path)
    if rows is None:
        return None
    first = next(rows)
    places = header_places(first[1], QRELS_NAMES)
    if len(places) == len(QRELS_NAMES):
        return _judgements_of(rows, places, len(first[1]), path)
    if len(first[1]) not in (3, 4) or _number(first[1][-1]) is None:
        return None
    columns = {"query": 0, "document": len(first[1]) - 2, "grade": len(first[1]) - 1}
    return _judgements_of(chain([first], rows), columns, len(first[1]), path)


def _judgements_of(
    rows: Iterable[tuple[int, list[str]]], places: dict[str, int], width: int, path: str
) -> Iterator[tuple[int, str, str, str]]:
    for number, cells in rows:
        values = [cells[places[name]] for name in ("query", "document", "grade")] if len(cells) == width else []
        if not values or not all(values):
            raise InputError(
                f"found {counted(len(cells), 'column', 'columns')}",
                where=f"{shown(path)}:{number}",
                expected=f"{width} that are not empty, as in the first line",
            )
        yield (number, values[0], values[1], values[2])


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line]), [])]


def read_other_run(path: str | Path, rank_order: bool = False) -> Scores | None:
    """Read a run of another program: {query: {document: score}}, with ranks as scores where there are no scores.

    With `rank_order`, the scores are made of ranks. Raises InputError with file:line.
    """
    nested = nested_json(str(path), RUN_COLUMNS)
    if nested is not None:
        if rank_order:
            raise InputError("a run in JSON has no ranks", where=shown(path), remedy="order it by its scores")
        return nested
    hits = _hits_with_commas(str(path)) or _hits_with_header(str(path)) or _hits_of_three(str(path))
    return None if hits is None else _collected(hits, str(path), rank_order)


def _collected(hits: Iterator[Hit], path: str, rank_order: bool) -> Scores:
    scores: Scores = {}
    for hit in hits:
        where = f"{shown(path)}:{hit.number}"
        value = 1 / hit.rank if hit.rank and (rank_order or hit.score is None) else hit.score
        if value is None or math.isnan(value) or (rank_order and not hit.rank):
            raise InputError("found no rank" if rank_order else "found no score", where=where)
        documents = scores.setdefault(hit.query, {})
        if hit.document in documents:
            raise InputError(
                f"document {hit.document} is already listed for query {hit.query}", where=where, remedy="keep one"
            )
        documents[hit.document] = value
    return scores


def _hits_with_commas(path: str) -> Iterator[Hit] | None:
    rows = comma_rows(path)
    if rows is None:
        return None
    _, first = next(rows)
    places = header_places(first, RUN_NAMES)
    if _names_run(places):
        return _hits_of(rows, places, len(first), path)
    if len(first) == 6 and _number(first[4]) is not None:  # TREC's columns
        return _hits_of(comma_rows(path) or rows, {"query": 0, "document": 2, "rank": 3, "score": 4}, 6, path)
    return None


def _hits_with_header(path: str) -> Iterator[Hit] | None:
    """Read tab-separated columns with a header, as pandas and PyTerrier write them."""
    cells = decode(first_line(path), path, 1).rstrip("\r\n").split("\t")
    places = header_places(cells, RUN_NAMES)
    if not _names_run(places) or header_words(cells) == QRELS_HEADER:
        return None
    lines = read_lines(path)
    next(lines)
    rows = ((number, decode(line, path, number).rstrip("\r\n").split("\t")) for number, line in lines)
    return _hits_of(rows, places, len(cells), path)


def _names_run(places: dict[str, int]) -> bool:
    return {"query", "document"} <= places.keys() and bool({"score", "rank"} & places.keys())


def _hits_of(rows: Iterator[tuple[int, list[str]]], places: dict[str, int], width: int, path: str) -> Iterator[Hit]:
    for number, cells in rows:
        where = f"{shown(path)}:{number}"
        if len(cells) != width:
            raise InputError(f"found {len(cells)} columns", where=where, expected=f"{width}, as in the first line")
        score = _number(cells[places["score"]]) if "score" in places else None
        if "score" in places and score is None:
            raise InputError(f"found {cells[places['score']][:40]!r}", where=where, expected="a score, a number")
        rank = cells[places["rank"]] if "rank" in places else ""
        if rank and not rank.isdecimal():
            raise InputError(f"found {rank[:40]!r}", where=where, expected="a rank, a whole number")
        # PyTerrier counts ranks from 0
        yield Hit(number, cells[places["query"]], cells[places["document"]], score, int(rank) + 1 if rank else None)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _hits_of_three(path: str) -> Iterator[Hit] | None:
    """Read query, document and a rank or score: ranks if those of each query are 1, 2, 3 ... in the file's order."""
    first = decode(first_line(path), path, 1).split()
    if len(first) != 3 or _number(first[2]) is None:
        return None
    hits: list[Hit] = []
    counts: dict[str, int] = {}
    are_ranks, are_whole, deepest = True, True, 0
    for number, line in read_lines(path):
        cells = decode(line, path, number).split()
        value = _number(cells[2]) if len(cells) == 3 else None
        if value is None:
            raise InputError(
                f"found {' '.join(cells)[:40]!r}",
                where=f"{shown(path)}:{number}",
                expected="query, document and a rank or a score, as in the first line",
            )
        counts[cells[0]] = counts.get(cells[0], 0) + 1
        deepest = max(deepest, counts[cells[0]])
        are_ranks = are_ranks and value == counts[cells[0]]
        are_whole = are_whole and cells[2].isdecimal()
        hits.append(Hit(number, cells[0], cells[1], value, counts[cells[0]]))
    if are_whole and not (are_ranks and deepest > 1):
        raise InputError(
            "found three columns with whole numbers that are not the ranks 1, 2, 3 ... of each query in order, which "
            "may be ranks, scores or grades",
            where=f"{shown(path)}:1",
            expected="a run",
            remedy="write it with six columns (query Q0 document rank score tag)",
        )
    reporting.say(f"{shown(path)}: read as query, document, {'rank' if are_ranks else 'score'}")
    return iter([hit._replace(score=None) if are_ranks else hit._replace(rank=None) for hit in hits])
