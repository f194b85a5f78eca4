"""Conversion between the rows of another toolkit's training file and a corpus, queries and examples.

A text without an id gets one from its hash, 20 hexadecimal digits, so that the same text always has the same id.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import orjson

from drtools.errors import InputError
from drtools.formats.corpus_store import CorpusStore
from drtools.formats.examples import Example, read_examples
from drtools.formats.json_lines import json_line
from drtools.formats.lines import shown
from drtools.formats.toolkits import Candidate, RecordLayout, Row


def content_id(*texts: str) -> str:
    """Return the id of a text (or of a title and a text) that has none: 20 hexadecimal digits."""
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=10).hexdigest()


class KnownText(NamedTuple):
    """A document or query that was read: its id, the hashes of title and text and of the text alone, and its line."""

    id: str
    content: str
    text: str
    line: int

    @property
    def is_untitled(self) -> bool:
        """Whether it has no title."""
        return self.content == self.text


Easy = Literal["drop", "append", "fill"]


class Joined:
    """Rows joined into one example for each query. Documents and queries are written when they first occur.

    A document with a title in one record and none in another keeps the title. If the title is found after the document
    was written, `is_retitled` is True, and `retitled` corrects the written lines.

    Takes about 450 bytes of memory per document, 1 kB per query and 16 bytes per mention; texts are not kept. `counts`
    has the unusual findings; it is complete after `examples`. The documents of easy negatives are written. With `easy`
    `append` they become negatives after the others, with `fill` only for queries without others, with `drop` never.
    """

    def __init__(self, path: str | Path, documents: BinaryIO, queries: BinaryIO, easy: Easy = "drop") -> None:
        self.path, self.document_stream, self.query_stream = path, documents, queries
        self.easy = easy
        self.easy_of: dict[str, list[str]] = {}  # query -> easy negatives to fill it with
        self.documents: dict[str, KnownText] = {}
        self.queries: dict[str, KnownText] = {}
        self.by_query: dict[str, Example] = {}
        self.counts: Counter[str] = Counter()
        self.titles: dict[str, str] = {}  # of documents that were written without
        self.twins: dict[str, str] = {}  # untitled documents without an id -> the titled ones of the same text
        self.titled_elsewhere: set[str] = set()

    def add(self, number: int, row: Row) -> None:
        """Join the row of line `number`; InputError for an id that an earlier line gave to another text."""
        content = content_id(row.query)
        query_id = row.query_id or content
        if self.queries.setdefault(query_id, KnownText(query_id, content, content, number)).content != content:
            raise self._another_text("query", self.queries[query_id], number)
        if query_id not in self.by_query:
            self.query_stream.write(json_line({"_id": query_id, "text": row.query}))
            self.by_query[query_id] = Example(query_id, [], [], [], [], others=row.others)
        example = self.by_query[query_id]
        self.counts["disagreeing"] += any(
            example.others.setdefault(key, value) != value for key, value in row.others.items()
        )
        assert example.positive_scores is not None and example.negative_scores is not None, "made with lists above"
        self._mention(row.positives, example.positives, example.positive_scores, number)
        self._mention(row.negatives, example.negatives, example.negative_scores, number)
        if self.easy == "append":
            self._mention(row.easy, example.negatives, example.negative_scores, number)
            return
        named = [self._document(item, number) for item in row.easy]
        self.counts["easy"] += len(named)
        if self.easy == "fill":
            self.easy_of.setdefault(query_id, []).extend(named)

    def _mention(self, candidates: list[Candidate], ids: list[str], scores: list[float | None], number: int) -> None:
        named = [self._document(item, number) for item in candidates]
        self.counts["repeated"] += len(named) - len(set(named))
        ids += named
        scores += [item.score for item in candidates]

    def _document(self, item: Candidate, number: int) -> str:
        content = content_id(item.title, item.text)
        text = content_id("", item.text) if item.title else content
        document_id = item.id or content
        known = self.documents.get(document_id)
        if known is None:
            self.documents[document_id] = KnownText(document_id, content, text, number)
            self.document_stream.write(json_line({"_id": document_id, "title": item.title, "text": item.text}))
        elif known.content != content:
            if known.text != text or not (known.is_untitled or not item.title):
                raise self._another_text("document", known, number)
            self.titled_elsewhere.add(document_id)
            if known.is_untitled:
                self.titles[document_id] = item.title
                self.documents[document_id] = known._replace(content=content)
        return document_id

    def _another_text(self, what: str, known: KnownText, number: int) -> InputError:
        return InputError(
            f"{what} {known.id!r} has another text in line {known.line}; correct the ids, so that each has one text",
            where=f"{shown(self.path)}:{number}",
        )

    def examples(self) -> Iterator[Example]:
        """Yield the examples, each document once.

        What is a positive and a negative of a query, by text, is a positive.
        """
        self.twins = self._untitled_twins()
        self.counts["retitled"] = len(self.titled_elsewhere) + len(self.twins)
        for example in self.by_query.values():
            assert example.positive_scores is not None and example.negative_scores is not None, "made with lists by add"
            positives = self._merged(example.positives, example.positive_scores)
            relevant = {self.documents[document].content for document in positives}
            kept = self._without(relevant, self._merged(example.negatives, example.negative_scores))
            easy = self.easy_of.get(example.query_id, [])
            if easy and not kept:
                kept = self._without(relevant, self._merged(easy, [None] * len(easy)))
                self.counts["easy"] -= len(easy)
                self.counts["filled"] += 1
            self.counts["without positives"] += not positives
            self.counts["without negatives"] += not kept
            yield Example(
                example.query_id, list(positives), list(kept), _scores(positives), _scores(kept), others=example.others
            )

    def _without(self, relevant: set[str], negatives: dict[str, float | None]) -> dict[str, float | None]:
        kept = {
            document: score for document, score in negatives.items() if self.documents[document].content not in relevant
        }
        self.counts["contradictions"] += len(negatives) - len(kept)
        return kept

    def _untitled_twins(self) -> dict[str, str]:
        """Return the titled document of each untitled one with the same text, if neither was given an id."""
        untitled = {known.text for known in self.documents.values() if known.is_untitled and known.id == known.content}
        twins: dict[str, str] = {}
        for known in self.documents.values() if untitled else ():
            if not known.is_untitled and known.id == known.content and known.text in untitled:
                twins.setdefault(known.text, known.id)
        return twins

    def _merged(self, ids: list[str], scores: list[float | None]) -> dict[str, float | None]:
        merged: dict[str, float | None] = {}
        for named, score in zip(ids, scores, strict=True):
            document = self.twins.get(named, named)
            if merged.get(document) is None:
                merged[document] = score
            else:
                self.counts["disagreeing"] += score is not None and score != merged[document]
        return merged

    @property
    def is_retitled(self) -> bool:
        """Whether documents were written without a title that a later record gave. Known after `examples`."""
        return bool(self.titles or self.twins)

    def retitled(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the lines of the written documents, with the titles that were found later.

        An untitled document whose titled twin stands elsewhere in the lines is left out.
        """
        for line in lines:
            record = orjson.loads(line)
            if record["_id"] not in self.twins:
                title = self.titles.get(record["_id"])
                yield line if title is None else json_line(record | {"title": title})


def _scores(scored: dict[str, float | None]) -> list[float | None] | None:
    return None if all(score is None for score in scored.values()) else list(scored.values())


def layout_of(path: str, title_separator: str) -> tuple[RecordLayout, int]:
    """Return the layout that all records of a file of examples can have, and the number of examples with scores."""
    negatives, complete, scored = False, True, 0
    for example in read_examples(path):
        scores = [
            example.positive_scores or [None] * len(example.positives),
            example.negative_scores or [None] * len(example.negatives),
        ]
        together = [score for part in scores for score in part]
        negatives = negatives or bool(example.negatives)
        complete = complete and None not in together
        scored += any(score is not None for score in together)
    return RecordLayout(negatives, complete, title_separator), scored


def rows_of(
    examples: Iterable[Example], texts: dict[str, str], store: CorpusStore, counts: Counter[str]
) -> Iterator[Row]:
    """Yield the examples with their texts; `counts` counts missing texts and examples without a positive."""
    for example in examples:
        positives = _candidates(example.positives, example.positive_scores, store, counts)
        negatives = _candidates(example.negatives, example.negative_scores, store, counts)
        relevant = {(item.title, item.text) for item in positives}
        kept = [item for item in negatives if (item.title, item.text) not in relevant]
        counts["contradictions"] += len(negatives) - len(kept)
        if example.query_id not in texts:
            counts["without text"] += 1
        elif not positives:
            counts["without positives"] += 1
        else:
            counts["without negatives"] += not kept
            yield Row(
                example.query_id, texts[example.query_id], positives, kept, example.others | example.dark_record()
            )


def _candidates(
    ids: list[str], scores: list[float | None] | None, store: CorpusStore, counts: Counter[str]
) -> list[Candidate]:
    candidates = []
    for document_id, score in zip(ids, scores or [None] * len(ids), strict=True):
        document = store.get(document_id)
        counts["lacking"] += document is None
        if document is not None:
            candidates.append(Candidate(*document, score))
    return candidates
