"""SQuAD's JSON: articles with paragraphs, their questions and answers. Paragraphs become documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from drtools.errors import InputError
from drtools.formats.collections.parts import Answers, Judgement, Parts, Query
from drtools.formats.corpora import Document
from drtools.formats.json_lines import checked_id
from drtools.formats.lines import read_whole, shown
from drtools.formats.toolkit_rows import content_id
from drtools.units import counted

EXPECTED = '{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}'


class _Question(NamedTuple):
    where: str
    id: str
    text: str
    answers: list[str]
    document_id: str


def squad_parts(path: str, split: str) -> Parts:
    """Return the parts of a file in SQuAD's form, which is read whole.

    A paragraph's id is the hash of its title and text, so that equal paragraphs are one document, and a question's
    document is its own paragraph. Questions without an answer (SQuAD 2.0's impossible ones) have no judgement.
    Raises InputError with the place for anything else.
    """

    @cache
    def read() -> tuple[list[tuple[str, Document]], list[_Question]]:
        return _read(path)

    def documents() -> Iterator[tuple[str, Document]]:
        first: dict[str, tuple[str, Document]] = {}
        for where, document in read()[0]:
            first.setdefault(document.id, (where, document))
        yield from first.values()

    def queries() -> Iterator[Query]:
        return (Query(each.where, each.id, each.text) for each in read()[1])

    def judgements() -> Iterator[Judgement]:
        return (Judgement(each.where, each.id, each.document_id, 1) for each in read()[1] if each.answers)

    def answers() -> Iterator[Answers]:
        return (Answers(each.id, each.answers) for each in read()[1] if each.answers)

    without = sum(not each.answers for each in read()[1])
    caution = f"{shown(path)}: {counted(without, 'question has', 'questions have')} no answer, and so no judgement"
    return Parts((documents,), (queries,), ((split, judgements),), (answers,), None, (caution,) * bool(without))


def _read(path: str) -> tuple[list[tuple[str, Document]], list[_Question]]:
    documents: list[tuple[str, Document]] = []
    questions: list[_Question] = []
    seen: dict[str, str] = {}
    data = _value(_whole(path), "data", list, shown(path))
    for article, held in enumerate(data, 1):
        place = f"{shown(path)}: article {article}"
        title = held.get("title") or "" if isinstance(held, dict) else ""
        for number, paragraph in enumerate(_value(held, "paragraphs", list, place), 1):
            where = f"{place}, paragraph {number}"
            text = _value(paragraph, "context", str, where)
            document = Document(content_id(str(title), text), str(title), text)
            documents.append((where, document))
            for question in _value(paragraph, "qas", list, where):
                found = _question(question, document.id, where, path)
                if found.id in seen:
                    raise InputError(
                        f"the question id {found.id!r} is also at {seen[found.id]}",
                        where=where,
                        remedy="give each question an id of its own",
                    )
                seen[found.id] = where
                questions.append(found)
    return documents, questions


def _question(question: Any, document_id: str, where: str, path: str) -> _Question:
    text = _value(question, "question", str, where)
    try:
        query_id = checked_id(question.get("id"), path, 0)
    except InputError as error:
        raise InputError(error.found, where=where, expected=error.expected, remedy=error.remedy) from None
    given = question.get("answers") or []
    if not isinstance(given, list):
        raise InputError(f"answers is {type(given).__name__}", where=where, expected=EXPECTED)
    answers = [] if question.get("is_impossible") else [_value(each, "text", str, where) for each in given]
    return _Question(where, query_id, text, list(dict.fromkeys(answers)), document_id)


def _value(held: Any, key: str, kind: type, where: str) -> Any:
    """Return an object's value of a key; raise InputError if it is not of its kind."""
    value = held.get(key) if isinstance(held, dict) else None
    if not isinstance(value, kind):
        found = f"{key} is {type(value).__name__}" if isinstance(held, dict) else f"found a {type(held).__name__}"
        raise InputError(found, where=where, expected=EXPECTED)
    return value


def _whole(path: str | Path) -> Any:
    try:
        return json.loads(read_whole(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"not JSON ({error.msg})", where=f"{shown(path)}:{error.lineno}", remedy="is the file whole?"
        ) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not JSON ({error})", where=shown(path), expected=EXPECTED) from None
