"""Conversion between other toolkits' training records and rows, which hold a query with its candidates' texts.

Each format has a pair of functions, which follow the toolkit's own reader. Tevatron and DPR have document ids and
titles; FlagEmbedding and sentence-transformers have only texts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from drtools.errors import InputError
from drtools.formats.corpora import document_text
from drtools.formats.examples import KEYS
from drtools.formats.json_lines import checked_id
from drtools.formats.lines import shown

LABELS = ("label", "labels", "score", "scores")  # columns that sentence-transformers does not take for texts
IDS_OF_OURS = ("dark", "dark_scores", "pieces")  # further keys of an example that name our documents

Record = dict[str, Any]  # a JSON object, as a toolkit writes it


class Candidate(NamedTuple):
    """A document of a row; `id` is None where the format has none, `score` where the file has none."""

    id: str | None
    title: str
    text: str
    score: float | None = None


@dataclass
class Row:
    """The content of one record: a query with its candidates.

    `negatives` are hard ones, or of unknown origin. `easy` are those that the format itself calls easy. `others` holds
    the keys that are not the format's own.
    """

    query_id: str | None
    query: str
    positives: list[Candidate]
    negatives: list[Candidate]
    others: Record = field(default_factory=dict)
    easy: list[Candidate] = field(default_factory=list)


class RecordLayout(NamedTuple):
    """What every record of a file to be written has.

    A row of sentence-transformers has `size` negatives, and a query has at most `most_rows` rows.
    """

    negatives: bool
    scores: bool
    title_separator: str = " "
    size: int = 1
    most_rows: int | None = None


def from_tevatron(record: Record, path: str | Path, number: int) -> Row:
    """Read {query_id, query, positive_passages: [{docid, title, text, score}], negative_passages}.

    Titles and scores are optional.
    """
    if "positive_document_ids" in record:
        raise InputError(
            "ids without texts (positive_document_ids) were found",
            where=f"{shown(path)}:{number}",
            expected="positive_passages with their texts",
        )
    return Row(
        _id(record, ("query_id",), path, number),
        _text(record, "query", path, number),
        _passages(record, "positive_passages", ("docid",), path, number),
        _passages(record, "negative_passages", ("docid",), path, number),
        _others(record, ("query_id", "query", "positive_passages", "negative_passages"), path, number),
    )


def to_tevatron(row: Row, layout: RecordLayout) -> list[Record]:
    """Write a row; scores as Tevatron's distillation reads them, in the passages."""
    return [
        row.others
        | {
            "query_id": row.query_id,
            "query": row.query,
            "positive_passages": [_passage(item, "docid") for item in row.positives],
            "negative_passages": [_passage(item, "docid") for item in row.negatives],
        }
    ]


def from_dpr(record: Record, path: str | Path, number: int) -> Row:
    """Read {question, positive_ctxs: [{title, text, score, passage_id or psg_id}], hard_negative_ctxs, negative_ctxs}.

    `negative_ctxs` are easy: DPR's own training takes none of them by default.
    """
    contexts = ("positive_ctxs", "hard_negative_ctxs", "negative_ctxs")
    positives, hard, easy = (_passages(record, key, ("passage_id", "psg_id", "id"), path, number) for key in contexts)
    return Row(
        _id(record, ("query_id",), path, number),
        _text(record, "question", path, number),
        positives,
        hard,
        _others(record, ("query_id", "question", *contexts), path, number),
        easy,
    )


def to_dpr(row: Row, layout: RecordLayout) -> list[Record]:
    """Write a row; every negative is a hard one. `query_id` is a key that DPR does not read."""
    return [
        {"question": row.query, "answers": []}
        | row.others
        | {
            "question": row.query,
            "query_id": row.query_id,
            "positive_ctxs": [_passage(item, "passage_id") for item in row.positives],
            "negative_ctxs": [],
            "hard_negative_ctxs": [_passage(item, "passage_id") for item in row.negatives],
        }
    ]


def from_flagembedding(record: Record, path: str | Path, number: int) -> Row:
    """Read {query, pos: [text], neg: [text], pos_scores, neg_scores}; all but query and pos are optional."""
    return Row(
        _id(record, ("query_id",), path, number),
        _text(record, "query", path, number),
        _texts(record, "pos", "pos_scores", path, number),
        _texts(record, "neg", "neg_scores", path, number),
        _others(record, ("query_id", "query", "pos", "neg", "pos_scores", "neg_scores"), path, number),
    )


def to_flagembedding(row: Row, layout: RecordLayout) -> list[Record]:
    """Write a row, titles joined into the texts. `query_id` is a key that FlagEmbedding does not read."""
    record = row.others | {"query": row.query, "query_id": row.query_id}
    for key, candidates in (("pos", row.positives), ("neg", row.negatives)):
        record[key] = [document_text(item.title, item.text, layout.title_separator) for item in candidates]
        if layout.scores:
            record[f"{key}_scores"] = [item.score for item in candidates]
    return [record]


def from_sentence_transformers(record: Record, path: str | Path, number: int) -> Row:
    """Read what mine_hard_negatives writes.

    Pair, triplet or n-tuple (with or without scores), labeled-pair, labeled-list.

    The columns that are neither labels nor named negative… are the anchor and the positive: in this order, as there,
    unless one is named positive. Scores of a tuple are the positive's, then each negative's.
    """
    labelled = [key for key in record if key in LABELS]
    label = labelled[0] if labelled else None
    negatives = [key for key in record if key.startswith("negative")]
    columns = [key for key in record if key not in LABELS and key not in negatives]
    if len(columns) != 2 or len(labelled) > 1:
        found = ", ".join(map(repr, record)) or "none"
        raise InputError(
            (
                f"expected the keys anchor, positive, negative or negative_1 …, and at most one of "
                f"{', '.join(LABELS)}; found {found}"
            ),
            where=f"{shown(path)}:{number}",
        )
    anchor, other = columns if columns[0] != "positive" else columns[::-1]
    query = _text(record, anchor, path, number)
    if label is not None and not negatives:
        texts = record[other] if isinstance(record[other], list) else [record[other]]
        labels = record[label] if isinstance(record[label], list) else [record[label]]
        if label.startswith("score") or len(labels) != len(texts) or any(value not in (0, 1) for value in labels):
            raise InputError(
                f"{label} does not say which text is a positive",
                where=f"{shown(path)}:{number}",
                expected="`label` or `labels` of 0 and 1, one for each text",
            )
        candidates = [Candidate(None, "", _text({other: text}, other, path, number)) for text in texts]
        positives, others = (
            [item for item, value in zip(candidates, labels, strict=True) if value == kind] for kind in (1, 0)
        )
        return Row(None, query, positives, others)
    texts = [_text(record, key, path, number) for key in (other, *negatives)]
    scores = _scores(record, label, len(texts), path, number) if label else [None] * len(texts)
    first, *rest = [Candidate(None, "", text, score) for text, score in zip(texts, scores, strict=True)]
    return Row(None, query, [first], rest)


def to_sentence_transformers(row: Row, layout: RecordLayout) -> list[Record]:
    """Write a row as n-tuples of a positive and `layout.size` negatives (pairs if no row of the file has negatives).

    The positives take turns, and so do the negatives: each stands in a tuple at least, unless there are more tuples
    than `layout.most_rows`. A row with too few negatives for a tuple repeats them.
    """

    def text(item: Candidate) -> str:
        return document_text(item.title, item.text, layout.title_separator)

    count = tuples_of(len(row.positives), len(row.negatives), layout)
    if not layout.negatives:
        return [{"anchor": row.query, "positive": text(positive)} for positive in row.positives[:count]]
    names = ["negative"] if layout.size == 1 else [f"negative_{place + 1}" for place in range(layout.size)]
    records = []
    for number in range(count):
        positive = row.positives[number % len(row.positives)]
        places = range(number * layout.size, (number + 1) * layout.size)
        negatives = [row.negatives[place % len(row.negatives)] for place in places]
        record = {"anchor": row.query, "positive": text(positive)}
        record |= {name: text(negative) for name, negative in zip(names, negatives, strict=True)}
        scores = {"scores": [positive.score, *(negative.score for negative in negatives)]} if layout.scores else {}
        records.append(record | scores)
    return records


def tuples_of(positives: int, negatives: int, layout: RecordLayout) -> int:
    """Return the number of sentence-transformers rows for a query with these numbers of positives and negatives."""
    count = positives
    if layout.negatives:
        count = max(positives, math.ceil(negatives / layout.size)) if negatives else 0
    return count if layout.most_rows is None else min(count, layout.most_rows)


class Format(NamedTuple):
    """A format's two functions, and what it can hold: scores of some documents only, further keys.

    `draws_negatives`: its trainer draws negatives of every row and ends with an error at a row that has none.
    """

    read: Callable[[Record, str | Path, int], Row]
    write: Callable[[Row, RecordLayout], list[Record]]
    is_array: bool = False
    some_scores: bool = False
    other_keys: bool = True
    draws_negatives: bool = False


FORMATS = {
    "tevatron": Format(from_tevatron, to_tevatron, some_scores=True, draws_negatives=True),
    "dpr": Format(from_dpr, to_dpr, is_array=True, some_scores=True),
    "sentence-transformers": Format(from_sentence_transformers, to_sentence_transformers, other_keys=False),
    "flagembedding": Format(from_flagembedding, to_flagembedding, draws_negatives=True),
}


def _passage(item: Candidate, id_key: str) -> Record:
    score = {} if item.score is None else {"score": item.score}
    return {id_key: item.id, "title": item.title, "text": item.text, **score}


def _id(record: Record, keys: tuple[str, ...], path: str | Path, number: int) -> str | None:
    value = next((record[key] for key in keys if record.get(key) is not None), None)
    return None if value is None else checked_id(value, path, number)


def _text(record: Record, key: str, path: str | Path, number: int) -> str:
    if not isinstance(record.get(key), str):
        found = (
            type(record[key]).__name__
            if key in record
            else f"no such key among {', '.join(map(repr, record)) or 'none'}"
        )
        raise InputError(
            f"{key}: found {found}, expected a text; is this the format that was named?",
            where=f"{shown(path)}:{number}",
        )
    return str(record[key])


def _list(record: Record, key: str, of: str, path: str | Path, number: int) -> list[Any]:
    value = record.get(key)
    if value is None and not key.startswith("pos"):  # formats are recognized by the lists of positives
        return []
    if not isinstance(value, list):
        found = "nothing" if value is None else type(value).__name__
        raise InputError(
            f"{key}: found {found}, expected a list of {of}; is this the format that was named?",
            where=f"{shown(path)}:{number}",
        )
    return value


def _passages(record: Record, key: str, id_keys: tuple[str, ...], path: str | Path, number: int) -> list[Candidate]:
    candidates = []
    for item in _list(record, key, "objects with title and text", path, number):
        if not isinstance(item, dict):
            raise InputError(
                f"{key} holds a {type(item).__name__}",
                where=f"{shown(path)}:{number}",
                expected="objects with title and text",
            )
        title = "" if item.get("title") is None else _text(item, "title", path, number)
        candidates.append(
            Candidate(
                _id(item, id_keys, path, number),
                title,
                _text(item, "text", path, number),
                _score(item.get("score"), path, number),
            )
        )
    return candidates


def _texts(record: Record, key: str, scores_key: str, path: str | Path, number: int) -> list[Candidate]:
    texts = [_text({key: item}, key, path, number) for item in _list(record, key, "texts", path, number)]
    return [
        Candidate(None, "", text, score)
        for text, score in zip(texts, _scores(record, scores_key, len(texts), path, number), strict=True)
    ]


def _scores(record: Record, key: str, count: int, path: str | Path, number: int) -> list[float | None]:
    value = record.get(key)
    if value is None:
        return [None] * count
    if not isinstance(value, list) or len(value) != count:
        found = f"{len(value)} numbers" if isinstance(value, list) else type(value).__name__
        raise InputError(
            f"{key}: found {found}",
            where=f"{shown(path)}:{number}",
            expected=f"a list of {count} numbers, one for each text",
        )
    return [_score(item, path, number) for item in value]


def _score(value: object, path: str | Path, number: int) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    try:
        score = float(value) if isinstance(value, str) else math.nan  # DPR's own retriever writes scores as strings
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"the score is {value!r}", where=f"{shown(path)}:{number}", expected="a number")
    return score


def _others(record: Record, known: tuple[str, ...], path: str | Path, number: int) -> Record:
    taken = [key for key in record if key in (*KEYS, *IDS_OF_OURS) and key not in known]
    if taken:
        raise InputError(
            f"the key {taken[0]!r} means something else in drtools examples; is this the format that was named?",
            where=f"{shown(path)}:{number}",
        )
    return {key: value for key, value in record.items() if key not in known}
