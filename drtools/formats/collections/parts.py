"""What a source of a collection holds, each part as a function that starts to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from drtools.formats.corpora import Document


class Query(NamedTuple):
    """A query; `where` is the place that an error names."""

    where: str
    id: str
    text: str


class Judgement(NamedTuple):
    """A judged document; `where` is the place that an error names."""

    where: str
    query_id: str
    document_id: str
    grade: int


class Answers(NamedTuple):
    """The answers of a question."""

    query_id: str
    answers: list[str]


Documents = Callable[[], Iterator[tuple[str, Document]]]  # (place, document)
Queries = Callable[[], Iterator[Query]]
Judgements = Callable[[], Iterator[Judgement]]


@dataclass(frozen=True)
class Parts:
    """The parts of one or more sources. `judgements` are (split, its judgements); `total` counts documents, if known.

    `cautions` are reported with the collection: what a source holds and the folder does not.
    """

    documents: tuple[Documents, ...] = ()
    queries: tuple[Queries, ...] = ()
    judgements: tuple[tuple[str, Judgements], ...] = ()
    answers: tuple[Callable[[], Iterator[Answers]], ...] = ()
    total: int | None = None
    cautions: tuple[str, ...] = ()

    def __add__(self, other: Parts) -> Parts:
        totals = [part.total for part in (self, other) if part.documents]
        return Parts(
            self.documents + other.documents,
            self.queries + other.queries,
            self.judgements + other.judgements,
            self.answers + other.answers,
            None if None in totals else sum(total for total in totals if total is not None) or None,
            self.cautions + other.cautions,
        )


class ReadingOptions(NamedTuple):
    """How native files are read: names of columns, the field of topics that is the query, and the split of qrels."""

    id_column: str | None = None
    text_column: str | None = None
    title_column: str | None = None
    topic_field: str = "title"
    split: str | None = None
