"""Answers of questions: JSONL, or DPR's `question<TAB>['answer', ...]`."""

import ast
from pathlib import Path

from drtools.errors import InputError
from drtools.formats.json_lines import checked_id, parse_object
from drtools.formats.lines import decode, read_lines, shown
from drtools.formats.tsv import unquoted

EXPECTED = """{"_id", "answers": [...]}, or DPR's `question<TAB>['answer', ...]`"""


def read_answers(path: str | Path) -> dict[str, list[str]]:
    """Return {query id: answers}, in the file's order. The ids of DPR's questions are the line numbers, from 0.

    Raises InputError with file:line for a line of neither form, a duplicate id, and an empty file.
    """
    answers: dict[str, list[str]] = {}
    is_json = None
    for number, line in read_lines(path):
        if is_json is None:  # settled by the first line: a question may begin with any sign
            is_json = line.lstrip()[:1] == b"{"
        if is_json:
            record = parse_object(line, path, number)
            query_id, given = checked_id(record.get("_id"), path, number), record.get("answers")
        else:
            query_id, given = str(number - 1), _of_columns(decode(line, path, number))
        if (
            not isinstance(given, list)
            or not given
            or not all(isinstance(answer, str) and answer.strip() for answer in given)
        ):
            raise InputError("no list of answers was found", expected=EXPECTED, where=f"{shown(path)}:{number}")
        if query_id in answers:
            raise InputError(
                f"the query id {query_id!r} occurs twice",
                where=f"{shown(path)}:{number}",
                remedy="give each question one line",
            )
        answers[query_id] = given
    if not answers:
        raise InputError("no answers", expected=EXPECTED, where=shown(path))
    return answers


def _of_columns(line: str) -> object:
    columns = line.split("\t")
    return listed_answers(unquoted(columns[1])) if len(columns) == 2 else None  # csv quotes a column with quotes in it


def listed_answers(text: str) -> object:
    """Return the value of a list of answers as Python writes it; None if it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
