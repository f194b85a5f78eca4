"""Training data of others that names documents by their ids, as examples: DRhard's, SimLM's, ColBERT's, MS MARCO's.

DRhard
: hard.json, `{"query": [document, ...]}`, beside the judgements of its preprocessing
SimLM
: JSON lines of `query_id`, `query`, and `positives` and `negatives` with lists `doc_id` and `score`
ColBERT
: JSON lines of `[query, positive, negative, ...]`, where each document may be `[document, score]`
MS MARCO
: qidpidtriples, `query<TAB>positive<TAB>negative`

Files are read a query at a time. The lines of a query must be together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from drtools.errors import InputError
from drtools.formats.examples import Example
from drtools.formats.json_lines import checked_id, read_json_lines
from drtools.formats.lines import decode, local, open_bytes, read_lines, shown
from drtools.formats.trec import Qrels

CHUNK = 1 << 20
ENTRY = re.compile(rb'\s*"((?:[^"\\]|\\.)*)"\s*:\s*\[([^\[\]]*)\]\s*([,}])')
LONGEST_ENTRY = 1 << 27  # bytes of one query's list in hard.json


class Named(NamedTuple):
    """A document of an example, with its score if the file has one."""

    id: str
    score: float | None = None


class Group(NamedTuple):
    """What one or more lines say of a query, and the first of them."""

    number: int
    query_id: str
    positives: list[Named]
    negatives: list[Named]
    query: str | None = None


def read_hard_json(path: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (query id, document ids) of an object of lists, an entry at a time in bounded memory."""
    held, count = b"", 0
    with open_bytes(local(str(path))) as stream:
        held = stream.read(CHUNK).lstrip()
        if not held.startswith(b"{"):
            raise InputError(
                f"found {held[:20].decode('utf-8', 'replace')!r}",
                where=f"{shown(path)}:1",
                expected='{"query": [document, ...], ...}',
                remedy="is this DRhard's hard.json?",
            )
        held = held[1:]
        while True:
            at = 0
            while (found := ENTRY.match(held, at)) is not None:
                at, count = found.end(), count + 1
                yield _entry(found[1], found[2], path, count)
                if found[3] == b"}":
                    _check_end(held[at:] + stream.read(CHUNK), path, count)
                    return
            held = held[at:]
            if not count and held.strip() == b"}":
                return
            more = stream.read(CHUNK)
            if not more or len(held) > LONGEST_ENTRY:
                raise InputError(
                    f"no list of documents follows entry {count:,}",
                    where=shown(path),
                    expected='"query": [document, ...]',
                    remedy="is the file whole?",
                )
            held += more


def _entry(key: bytes, listed: bytes, path: str | Path, count: int) -> tuple[str, list[str]]:
    try:
        query, ids = orjson.loads(b'"' + key + b'"'), orjson.loads(b"[" + listed + b"]")
    except orjson.JSONDecodeError as error:
        raise InputError(f"entry {count:,} is not JSON ({error})", where=shown(path)) from None
    try:
        return checked_id(query, path, 0), [checked_id(each, path, 0) for each in ids]
    except InputError as error:
        raise InputError(f"entry {count:,}: {error.found}", where=shown(path), expected=error.expected) from None


def _check_end(rest: bytes, path: str | Path, count: int) -> None:
    if rest.strip():
        raise InputError(f"something follows the object of {count:,} entries", where=shown(path), expected="one object")


def hard_json_groups(
    path: str | Path, qrels: Qrels, queries: Mapping[str, str] | None, documents: Mapping[str, str] | None
) -> Iterator[Group]:
    """Yield DRhard's hard negatives with the positives of the judgements; maps give the ids of its numbers."""
    for count, (query_id, negatives) in enumerate(read_hard_json(path), 1):
        positives = [document for document, grade in qrels.get(query_id, {}).items() if grade > 0]
        where = f"{shown(path)}: entry {count:,}"
        yield Group(
            count,
            _mapped(query_id, queries, "query", where),
            [Named(_mapped(each, documents, "document", where)) for each in positives],
            [Named(_mapped(each, documents, "document", where)) for each in negatives],
        )


def _mapped(number: str, ids: Mapping[str, str] | None, what: str, where: str) -> str:
    if ids is None:
        return number
    if number not in ids:
        raise InputError(
            f"{what} {number} is not in the map of {what} numbers", where=where, remedy="use the map of the same folder"
        )
    return ids[number]


def simlm_groups(path: str | Path) -> Iterator[Group]:
    """Yield the records of SimLM's files."""
    for number, record in read_json_lines(path):
        where = f"{shown(path)}:{number}"
        query = record.get("query")
        if query is not None and not isinstance(query, str):
            raise InputError(f"query is {type(query).__name__}", where=where, expected="a string")
        positives, negatives = (_simlm_list(record, key, path, number) for key in ("positives", "negatives"))
        yield Group(number, checked_id(record.get("query_id"), path, number), positives, negatives, query)


def _simlm_list(record: dict[str, Any], key: str, path: str | Path, number: int) -> list[Named]:
    where, held = f"{shown(path)}:{number}", record.get(key)
    ids = held.get("doc_id") if isinstance(held, dict) else None
    if not isinstance(held, dict) or not isinstance(ids, list):
        raise InputError(f"{key} is {type(held).__name__}", where=where, expected='{"doc_id": [...], "score": [...]}')
    scores = held.get("score") or [None] * len(ids)
    if not isinstance(scores, list) or len(scores) != len(ids):
        raise InputError(f"{key} has {len(ids)} ids and other scores", where=where, expected="a score for each id")
    return [
        Named(checked_id(each, path, number), _score(score, where)) for each, score in zip(ids, scores, strict=True)
    ]


def colbert_groups(path: str | Path) -> Iterator[Group]:
    """Yield ColBERT's lines: the query, its positive, then negatives; each document an id, or an id with a score."""
    for number, line in read_lines(path):
        where = f"{shown(path)}:{number}"
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            decode(line, path, number)
            raise InputError(f"not JSON ({error})", where=where, expected="[query, positive, negative, ...]") from None
        if not isinstance(found, list) or len(found) < 2:
            raise InputError(
                f"found {line[:40].decode('utf-8', 'replace')}",
                where=where,
                expected="[query, positive, negative, ...]",
            )
        documents = [_colbert_document(each, path, number) for each in found[1:]]
        yield Group(number, checked_id(found[0], path, number), documents[:1], documents[1:])


def _colbert_document(held: object, path: str | Path, number: int) -> Named:
    if not isinstance(held, list):
        return Named(checked_id(held, path, number))
    if len(held) != 2:
        raise InputError(f"found {held}", where=f"{shown(path)}:{number}", expected="a document, or [document, score]")
    return Named(checked_id(held[0], path, number), _score(held[1], f"{shown(path)}:{number}"))


def _score(value: object, where: str) -> float | None:
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise InputError(f"a score is {value!r}", where=where, expected="a number")
    return value


def id_triple_groups(path: str | Path) -> Iterator[Group]:
    """Yield MS MARCO's triples of ids."""
    for number, line in read_lines(path):
        cells = decode(line, path, number).split("\t")
        if len(cells) != 3:
            raise InputError(
                f"{len(cells)} columns", where=f"{shown(path)}:{number}", expected="query<TAB>positive<TAB>negative"
            )
        query, positive, negative = (checked_id(each.strip(), path, number) for each in cells)
        yield Group(number, query, [Named(positive)], [Named(negative)])


def joined_examples(
    groups: Iterable[Group], path: str | Path, teacher: str | None, counts: Counter[str]
) -> Iterator[tuple[Example, str | None]]:
    """Yield (example, text of its query if there is one), from the groups of a query that follow one another.

    What is a positive and a negative of a query is a positive. Raises InputError for a query whose lines are apart.
    """
    seen: set[str] = set()
    held: list[Group] = []
    for group in groups:
        if held and held[0].query_id != group.query_id:
            yield _example(held, teacher, counts)
            held = []
        if not held and group.query_id in seen:
            raise InputError(
                f"query {group.query_id!r} occurs again after other queries",
                where=f"{shown(path)}:{group.number}",
                expected="the lines of a query together",
                remedy="sort the file (`sort -s -k1,1 FILE`)",
            )
        seen.add(group.query_id)
        held.append(group)
    if held:
        yield _example(held, teacher, counts)


def _example(groups: list[Group], teacher: str | None, counts: Counter[str]) -> tuple[Example, str | None]:
    positives = _merged(each for group in groups for each in group.positives)
    negatives = _merged(each for group in groups for each in group.negatives)
    kept = {each: score for each, score in negatives.items() if each not in positives}
    counts["queries"] += 1
    counts["negatives"] += len(kept)
    counts["contradictions"] += len(negatives) - len(kept)
    counts["without positives"] += not positives
    counts["without negatives"] += not kept
    counts["scored"] += any(score is not None for score in [*positives.values(), *kept.values()])
    has_scores = any(score is not None for score in [*positives.values(), *kept.values()])
    example = Example(
        groups[0].query_id,
        list(positives),
        list(kept),
        list(positives.values()) if has_scores else None,
        list(kept.values()) if has_scores else None,
        teacher if has_scores else None,
    )
    return example, groups[0].query


def _merged(named: Iterable[Named]) -> dict[str, float | None]:
    merged: dict[str, float | None] = {}
    for each in named:
        if merged.get(each.id) is None:
            merged[each.id] = each.score
    return merged
