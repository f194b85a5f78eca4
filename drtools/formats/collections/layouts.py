"""Collections whose files need a reader of their own: LoTTE, cMedQA v2, DuReader and DuReader-Retrieval."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from drtools.errors import InputError
from drtools.formats.collections.parts import Judgement, Parts, Query, ReadingOptions
from drtools.formats.collections.rows import Row, read_csv, read_json_rows
from drtools.formats.corpora import Document
from drtools.formats.json_lines import checked_id
from drtools.formats.lines import decode, read_lines, shown
from drtools.formats.packing import members_of

LOTTE = {"qid", "query", "answer_pids"}  # the keys of qas.forum.jsonl and qas.search.jsonl


def of_folder(path: str, options: ReadingOptions) -> Parts | None:
    """Return the parts of a folder whose layout is known; None for any other folder."""
    folder = Path(path)
    if _named(folder, "question.csv") and _named(folder, "answer.csv"):
        return _cmedqa_parts(folder, options.split)
    if (folder / "passage-collection").is_dir():
        return _dureader_retrieval_parts(folder)
    if _dureader_files(folder):
        return _dureader_parts(folder, options.split)
    return None


def lotte_parts(path: str, split: str) -> Parts:
    """Return the queries and judgements of LoTTE's qas.forum.jsonl or qas.search.jsonl."""
    return Parts(queries=(partial(_lotte_queries, path),), judgements=((split, partial(_lotte_judgements, path)),))


def _lotte_queries(path: str) -> Iterator[Query]:
    for row in read_json_rows(path):
        yield Query(row.where, _id(row, "qid"), _typed(row, "query", str))


def _lotte_judgements(path: str) -> Iterator[Judgement]:
    for row in read_json_rows(path):
        for document_id in dict.fromkeys(map(str, _typed(row, "answer_pids", list))):
            yield Judgement(row.where, _id(row, "qid"), document_id, 1)


def _typed(row: Row, key: str, kind: type) -> Any:
    value = row.values.get(key)
    if not isinstance(value, kind):
        expected = {str: "a string", list: "a list", int: "a number"}[kind]
        raise InputError(f"{key} is {type(value).__name__}", where=row.where, expected=expected)
    return value


def _id(row: Row, key: str) -> str:
    try:
        return checked_id(row.values.get(key), "", 0)
    except InputError as error:
        raise InputError(f"{key}: {error.found}", where=row.where, expected=error.expected) from None


# cMedQA v2: question.csv (question_id, content), answer.csv (ans_id, question_id, content) and SPLIT_candidates.txt


def _named(folder: Path, name: str) -> str | None:
    """Return a file of a name, plain or in the archive that is published; None if there is neither."""
    if (folder / name).is_file():
        return str(folder / name)
    archive = (folder / name).with_suffix(".zip")
    held = [each for each in members_of(archive) if each.endswith(name)] if archive.is_file() else []
    return held[0] if held else None


def _cmedqa_parts(folder: Path, split: str | None) -> Parts:
    questions, answers = _named(folder, "question.csv"), _named(folder, "answer.csv")
    assert questions is not None and answers is not None, "of_folder has looked for them"
    named = {
        each: _named(folder, f"{each}_candidates.txt") for each in ([split] if split else ["train", "dev", "test"])
    }
    judged = tuple((each, partial(_cmedqa_judgements, path)) for each, path in named.items() if path)
    if not judged:
        raise InputError(
            "no candidates were found", where=folder, expected="train_candidates.txt, dev_candidates.txt or the like"
        )
    return Parts((partial(_cmedqa_documents, answers),), (partial(_cmedqa_queries, questions),), judged)


def _cmedqa_documents(path: str) -> Iterator[tuple[str, Document]]:
    for row in read_csv(path):
        yield row.where, Document(_id(row, "ans_id"), "", _typed(row, "content", str))


def _cmedqa_queries(path: str) -> Iterator[Query]:
    for row in read_csv(path):
        yield Query(row.where, _id(row, "question_id"), _typed(row, "content", str))


def _cmedqa_judgements(path: str) -> Iterator[Judgement]:
    """Yield each positive once: of pos_ans_id in the training file, of label 1 in the others."""
    seen: set[tuple[str, str]] = set()
    for row in read_csv(path):
        is_training = "pos_ans_id" in row.values
        pair = _id(row, "question_id"), _id(row, "pos_ans_id" if is_training else "ans_id")
        if not is_training and row.values.get("label") not in ("0", "1"):
            raise InputError(f"label is {row.values.get('label')!r}", where=row.where, expected="0 or 1")
        if pair not in seen and (is_training or row.values["label"] == "1"):
            seen.add(pair)
            yield Judgement(row.where, *pair, 1)


# DuReader: {train,dev}set/{search,zhidao}.{train,dev}.json, one question a line with the paragraphs of five documents


def _dureader_files(folder: Path) -> list[tuple[str, str]]:
    return [
        (split, str(path))
        for split in ("train", "dev")
        for topic in ("search", "zhidao")
        for path in [folder / f"{split}set" / f"{topic}.{split}.json"]
        if path.is_file()
    ]


def _dureader_parts(folder: Path, only: str | None) -> Parts:
    """Return DuReader as DDR's authors use it: each question's most related paragraph of the documents with an answer.

    Ids are the MD5 of the text, as theirs are; equal questions and paragraphs are one.
    """
    files = [(split, path) for split, path in _dureader_files(folder) if only in (None, split)]
    return Parts(
        (partial(_dureader_documents, [path for _, path in files]),),
        tuple(partial(_dureader_queries, path) for _, path in files),
        tuple((split, partial(_dureader_judgements, path)) for split, path in files),
    )


def _dureader_documents(paths: list[str]) -> Iterator[tuple[str, Document]]:
    seen: set[str] = set()
    for path in paths:
        for row in read_json_rows(path):
            for document in _related(row):
                if document.id not in seen:
                    seen.add(document.id)
                    yield row.where, document


def _dureader_queries(path: str) -> Iterator[Query]:
    for row in read_json_rows(path):
        text = _one_line(_typed(row, "question", str))
        yield Query(row.where, _md5(text), text)


def _dureader_judgements(path: str) -> Iterator[Judgement]:
    for row in read_json_rows(path):
        query_id = _md5(_one_line(_typed(row, "question", str)))
        for document in _related(row):
            yield Judgement(row.where, query_id, document.id, 1)


def _related(row: Row) -> Iterator[Document]:
    """Yield the most related paragraph of each document that has an answer."""
    documents = _typed(row, "documents", list)
    for place in _typed(row, "answer_docs", list):
        held = documents[place] if isinstance(place, int) and 0 <= place < len(documents) else None
        if not isinstance(held, dict):
            raise InputError(f"answer_docs names document {place!r} of {len(documents)}", where=row.where)
        inner = Row(row.where, row.number, held)
        paragraphs, best = _typed(inner, "paragraphs", list), _typed(inner, "most_related_para", int)
        if not (0 <= best < len(paragraphs) and isinstance(paragraphs[best], str)):
            raise InputError(f"most_related_para is {best} of {len(paragraphs)}", where=row.where)
        title, text = _one_line(_typed(inner, "title", str)), _one_line(paragraphs[best])
        yield Document(_md5(f"{title} {text}" if title else text), title, text)


def _one_line(text: str) -> str:
    return text.strip().replace("\n", " ").replace("\t", " ").replace("\r", " ")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


# DuReader-Retrieval: passage-collection/part-0N with the passage in the third column, passage2id.map.json, dev/dev.json


def _dureader_retrieval_parts(folder: Path) -> Parts:
    collection, dev = folder / "passage-collection", folder / "dev" / "dev.json"
    parts = Parts((partial(_passages, collection),))
    if dev.is_file():
        parts += Parts(queries=(partial(_dev_queries, dev),), judgements=(("dev", partial(_dev_judgements, dev)),))
    has_training = (folder / "train").is_dir()
    caution = (
        f"{shown(folder)}: train/ holds texts without ids and is not read; `drtools convert` makes examples of its "
        "dual.train.tsv, whose form is triples"
    )
    return parts + Parts(cautions=(caution,) * has_training)


def _passages(collection: Path) -> Iterator[tuple[str, Document]]:
    """Yield the passages; their ids are held in memory, about 1.5 GB for the 8 million of the collection."""
    names = collection / "passage2id.map.json"
    ids, count = Row(str(names), 0, _ids_of_passages(names)), 0
    for path in sorted(collection.glob("part-*")):
        for number, line in read_lines(path, with_blank=True):
            where, columns = f"{shown(path)}:{number}", decode(line, path, number).split("\t")
            if len(columns) != 4:
                raise InputError(
                    f"{len(columns)} columns", where=where, expected="four with tabs between, the passage in the third"
                )
            if str(count) not in ids.values:
                raise InputError(f"passage {count} has no id in {names}", where=where, remedy="fetch both again")
            yield where, Document(_id(ids, str(count)), "", columns[2])
            count += 1


def _ids_of_passages(path: Path) -> dict[str, Any]:
    """Return {number of the line: id}, which stands in one line that is longer than any line of records."""
    if not path.is_file():
        raise InputError("no such file, which has the ids of the passages", where=path)
    try:
        ids = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise InputError(f"not JSON ({error})", where=path, remedy="fetch the file again") from None
    if not isinstance(ids, dict):
        raise InputError(f"found a {type(ids).__name__}", where=path, expected="{line: id}")
    return ids


def _dev_queries(path: Path) -> Iterator[Query]:
    for row in read_json_rows(path):
        yield Query(row.where, _id(row, "question_id"), _typed(row, "question", str))


def _dev_judgements(path: Path) -> Iterator[Judgement]:
    for row in read_json_rows(path):
        for held in _typed(row, "answer_paragraphs", list):
            if not isinstance(held, dict):
                raise InputError(f"answer_paragraphs holds a {type(held).__name__}", where=row.where)
            yield Judgement(
                row.where, _id(row, "question_id"), _id(Row(row.where, row.number, held), "paragraph_id"), 1
            )
