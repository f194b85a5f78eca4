"""Questions with answers as others publish them: DPR's qa.csv, NQ-open and PAQ's lines, EntityQuestions' arrays."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from drtools.errors import InputError
from drtools.formats.answers import listed_answers
from drtools.formats.json_array import read_records
from drtools.formats.json_lines import checked_id
from drtools.formats.lines import decode, first_line, read_lines, shown

EXPECTED = "a question and its answers: question<TAB>['answer', ...], or an object with `question` and `answers`"
QUESTIONS, ANSWERS = ("question", "query"), ("answers", "answer", "canonical_answer")


class Question(NamedTuple):
    """A question, its answers, and the passages that a file names for it."""

    number: int
    id: str
    text: str
    answers: list[str]
    passages: list[str]


def read_questions(path: str | Path) -> Iterator[Question]:
    """Yield the questions of a file. An id is that of the record, or else the number of the question, from 0.

    PAQ's metadata names for each question the passages that hold its answers. Raises InputError with file:line.
    """
    found = _of_records(path) if first_line(path).lstrip()[:1] in (b"{", b"[") else _of_columns(path)
    count = 0
    for number, query_id, text, answers, passages in found:
        if not text.strip() or not answers or not all(isinstance(each, str) and each.strip() for each in answers):
            raise InputError("no question with answers was found", where=f"{shown(path)}:{number}", expected=EXPECTED)
        yield Question(number, query_id or str(count), text, answers, passages)
        count += 1
    if not count:
        raise InputError("no questions", where=f"{shown(path)}:1", expected=EXPECTED)


Found = tuple[int, str | None, str, list[Any], list[str]]


def _of_records(path: str | Path) -> Iterator[Found]:
    for number, record in read_records(path):
        text = next((record[key] for key in QUESTIONS if isinstance(record.get(key), str)), "")
        held: Any = next((record[key] for key in ANSWERS if isinstance(record.get(key), str | list)), [])
        passages: list[str] = []
        if isinstance(held, list) and held and all(isinstance(each, dict) for each in held):  # PAQ's metadata
            passages = [checked_id(each.get("passage_id"), path, number) for each in held]
            one = next((record[key] for key in ANSWERS[1:] if key in record), None)
            texts = one if isinstance(one, list) else [one] if one is not None else [each.get("text") for each in held]
            held = list(dict.fromkeys(texts)) if all(isinstance(each, str) for each in texts) else []
        answers = [held] if isinstance(held, str) else held
        own = record.get("id", record.get("_id"))
        yield (
            number,
            None if own is None else checked_id(own, path, number),
            text,
            answers,
            list(dict.fromkeys(passages)),
        )


def _of_columns(path: str | Path) -> Iterator[Found]:
    """Yield DPR's rows, whose columns have CSV's quotes where they hold quotes, tabs or line breaks."""
    lines = (decode(line, path, number) + "\n" for number, line in read_lines(path, with_blank=True))
    rows, begun = csv.reader(lines, delimiter="\t", strict=True), 1
    while True:
        number = begun
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise InputError(
                f"not CSV with tabs ({error})", where=f"{shown(path)}:{number}", expected=EXPECTED
            ) from None
        begun = rows.line_num + 1
        if cells is None:
            return
        if cells:
            answers = listed_answers(cells[1]) if len(cells) == 2 else None
            yield number, None, cells[0], answers if isinstance(answers, list) else [], []
