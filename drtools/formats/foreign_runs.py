"""Runs of others: MS MARCO's three columns, and what DPR's retriever writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from drtools.errors import InputError
from drtools.formats.json_array import read_records
from drtools.formats.json_lines import checked_id
from drtools.formats.lines import decode, read_lines, shown
from drtools.formats.questions import ANSWERS, QUESTIONS, Question

Hits = dict[str, float]


def read_msmarco_run(path: str | Path) -> Iterator[tuple[str, Hits]]:
    """Yield (query id, {document id: 1 / rank}) of lines `query<TAB>document<TAB>rank`, best first.

    MS MARCO's runs have ranks alone; the score is the rank's inverse, which gives the same order. The lines of a query
    must be together. Raises InputError with file:line for another line, and for a document or rank that occurs twice.
    """
    seen: set[str] = set()
    query, ranked, documents = "", dict[int, str](), set[str]()
    for number, line in read_lines(path):
        where, cells = f"{shown(path)}:{number}", decode(line, path, number).split()
        if len(cells) != 3 or not cells[2].isdecimal() or int(cells[2]) < 1:
            raise InputError(
                f"found {' '.join(cells)[:40]!r}", where=where, expected="query, document and rank, from 1, in columns"
            )
        if cells[0] != query:
            if query:
                yield query, _in_order(ranked)
            if cells[0] in seen:
                raise InputError(
                    f"query {cells[0]!r} occurs again after other queries",
                    where=where,
                    remedy="sort the file (`sort -s -k1,1 FILE`)",
                )
            query, ranked, documents = cells[0], {}, set()
            seen.add(query)
        if cells[1] in documents or int(cells[2]) in ranked:
            what = f"document {cells[1]}" if cells[1] in documents else f"rank {cells[2]}"
            raise InputError(f"{what} of query {query!r} occurs twice", where=where, remedy="keep one of the two")
        documents.add(cells[1])
        ranked[int(cells[2])] = cells[1]
    if query:
        yield query, _in_order(ranked)


def _in_order(ranked: dict[int, str]) -> Hits:
    return {ranked[rank]: 1 / rank for rank in sorted(ranked)}


def read_dpr_output(path: str | Path) -> Iterator[tuple[Question, Hits]]:
    """Yield (question, {passage id: score}) of what DPR's retriever writes: records with `question` and `ctxs`.

    An id is the record's own, or else the number of the question, from 0. Raises InputError with file:line.
    """
    for count, (number, record) in enumerate(read_records(path)):
        where, found = f"{shown(path)}:{number}", record.get("ctxs")
        text = next((record[key] for key in QUESTIONS if isinstance(record.get(key), str)), None)
        if text is None or not isinstance(found, list):
            raise InputError(
                f"found the keys {', '.join(record) or 'none'}", where=where, expected="`question` and a list `ctxs`"
            )
        held: list[object] = next((record[key] for key in ANSWERS if isinstance(record.get(key), list)), [])
        own = record.get("id", record.get("query_id"))
        query_id = str(count) if own is None else checked_id(own, path, number)
        hits: Hits = {}
        for context in found:
            if not isinstance(context, dict):
                raise InputError(
                    f"ctxs holds a {type(context).__name__}", where=where, expected="objects with id and score"
                )
            document = checked_id(context.get("id", context.get("docid")), path, number)
            if document in hits:
                raise InputError(f"passage {document!r} occurs twice", where=where, remedy="keep one of the two")
            hits[document] = _score(context.get("score"), where)
        yield Question(number, query_id, text, [each for each in held if isinstance(each, str)], []), hits


def _score(value: object, where: str) -> float:
    """Return a score, which DPR writes as a string."""
    try:
        score = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except ValueError:
        score = None
    if score is None or score != score:
        raise InputError(f"a score is {value!r}", where=where, expected="a number")
    return score
