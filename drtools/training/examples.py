"""Select the examples that can be trained on with a corpus and queries. What is left out is counted and reported.

Documents are kept as rows of the corpus, four bytes each, so that a hundred million negatives fit into memory.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.corpora import read_queries
from drtools.formats.dark_items import Dark, Noisy, Reinforced, documents_of
from drtools.formats.examples import read_examples
from drtools.formats.joins import IDS_MET, Join, heads_of, spellings
from drtools.formats.lines import shown

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.formats.examples import Example

EXAMPLES_A_READ = 256


class Scores(Enum):
    """The scores that a loss may learn from: none, only a teacher's, or any."""

    UNREAD = "unread"
    TEACHER = "teacher"
    ANY = "any"


@dataclass
class RaggedArray:
    """Lists of rows of a corpus (int32) or of scores (float32). List i is flat[starts[i]:starts[i + 1]]."""

    flat: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, lists: Iterable[Sequence[float]], kind: str = "i") -> RaggedArray:
        """Pack lists: of rows with kind `i`, of scores with kind `f`."""
        flat: array[float] = array(kind)
        starts = array("q", [0])
        for values in lists:
            flat.extend(values)
            starts.append(len(flat))
        dtype = np.dtype(kind)
        return cls(np.frombuffer(flat, dtype) if flat else np.empty(0, dtype), np.frombuffer(starts, np.int64))

    @property
    def lengths(self) -> np.ndarray:
        """The length of each list [N]."""
        return np.diff(self.starts)

    def __getitem__(self, at: int) -> np.ndarray:
        return self.flat[self.starts[at] : self.starts[at + 1]]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[at] for at in range(len(self)))


class DarkRow(NamedTuple):
    """A dark item with rows of a corpus and the teacher's score, nan if there is none.

    The negative of a noisy positive is -1.
    """

    positive: int
    negative: int
    ratio: float
    seed: int
    score: float

    @property
    def kind(self) -> str:
        """`reinforced` or `noisy`."""
        return "noisy" if self.negative < 0 else "reinforced"

    def item(self, ids_at: Callable[[list[int]], list[str]]) -> Dark:
        """Return the item with ids in place of rows."""
        if self.kind == "noisy":
            return Noisy(ids_at([self.positive])[0], self.ratio, self.seed)
        return Reinforced(*ids_at([self.positive, self.negative]))


@dataclass
class DarkRows:
    """The dark items of N examples, stored as arrays."""

    fields: list[RaggedArray]

    @classmethod
    def of(cls, examples: Sequence[Sequence[DarkRow]]) -> DarkRows:
        """Pack the items of each example."""
        return cls(
            [
                RaggedArray.of(([item[place] for item in items] for items in examples), kind)
                for place, kind in enumerate("iidqf")
            ]
        )

    def __getitem__(self, at: int) -> list[DarkRow]:
        return [DarkRow(*values) for values in zip(*(lists[at].tolist() for lists in self.fields), strict=True)]


@dataclass
class TrainingExamples:
    """N examples: ids and texts of their queries, the rows of their positives (at least one) and negatives.

    Scores, if requested, are parallel to the rows; a document without a score has nan. `scored_by` is the teacher of
    all scores. `dark` is None if no example has dark items. `avoided` are rows that are neither mined nor drawn as
    negatives although they are not known positives.
    """

    query_ids: list[str]
    queries: list[str]
    positives: RaggedArray
    negatives: RaggedArray
    positive_scores: RaggedArray | None = None
    negative_scores: RaggedArray | None = None
    scored_by: str | None = None
    dark: DarkRows | None = None
    avoided: RaggedArray | None = None

    def __len__(self) -> int:
        return len(self.query_ids)


def usable_examples(path: str, queries: str, store: CorpusStore, scores: Scores = Scores.UNREAD) -> TrainingExamples:
    """Return the examples whose query has a text and a positive in the corpus, without ids that are not in the corpus.

    A positive that is not in the corpus is left out and needs no mask. Raises InputError for scores of several
    teachers, and for scores of a retriever if `scores` requires a teacher.
    """
    texts = read_queries(queries)
    counts: Counter[str] = Counter()
    teachers: dict[str | None, str] = {}
    asked, found = Join(texts, shown(queries)), Join(store, shown(store.corpus))
    usable = list(_usable(path, asked, found, store, counts, teachers))
    if not usable:
        raise InputError(
            (
                "no example has both a query text and a positive in the corpus; do the files belong together? "
                f"{(asked if asked.is_empty else found).pair()}"
            ),
            where=shown(path),
        )
    asked.note(f"{asked.missing:,} examples have a query that is not in {shown(queries)}; left out")
    for name, words in (
        ("without positive", "examples have no positive in the corpus; left out"),
        ("dark lacking", "dark items have a document that is not in the corpus; left out"),
        ("without negative", "examples have no negative of their own"),
        ("doubtful", "negatives may be a positive whose id is spelled differently in the corpus; left out"),
    ):
        reporting.notice(counts[name], f"{counts[name]:,} {words}")
    found.note(f"{found.missing:,} documents of the examples are not in the corpus; left out")
    query_ids = [row.query_id for row in usable]
    kept = TrainingExamples(
        query_ids,
        [texts[query_id] for query_id in query_ids],
        RaggedArray.of(row.positives for row in usable),
        RaggedArray.of(row.negatives for row in usable),
    )
    if any(row.dark for row in usable):
        kept.dark = DarkRows.of([row.dark for row in usable])
    if any(row.doubtful for row in usable):
        kept.avoided = RaggedArray.of(row.doubtful for row in usable)
    if scores is not Scores.UNREAD:
        kept.scored_by = _one_teacher(path, teachers, scores)
        kept.positive_scores = RaggedArray.of((row.positive_scores for row in usable), "f")
        kept.negative_scores = RaggedArray.of((row.negative_scores for row in usable), "f")
    return kept


def _one_teacher(path: str, teachers: dict[str | None, str], scores: Scores) -> str | None:
    """Return the teacher of all examples. `teachers` maps each teacher to the first query that it scored."""
    if len(teachers) > 1:
        (first, query), (second, other) = list(teachers.items())[:2]
        raise InputError(
            (
                f"query {query!r} was scored by {first or 'a retriever'} and query {other!r} by "
                f"{second or 'a retriever'}; scores of different teachers cannot be mixed; run "
                "teacher-score on the whole file"
            ),
            where=shown(path),
        )
    teacher = next(iter(teachers), None)
    if teacher is None and scores is Scores.TEACHER:
        raise InputError(
            "its scores are not from a teacher (scored_by is missing)",
            where=shown(path),
            remedy=f"run teacher-score on it, or use {param('accept_scores')} to learn from these scores",
        )
    return teacher


class _Row(NamedTuple):
    query_id: str
    positives: array[int]
    negatives: array[int]
    positive_scores: array[float]
    negative_scores: array[float]
    dark: list[DarkRow]
    doubtful: list[int]


def _usable(
    path: str, asked: Join, found: Join, store: CorpusStore, counts: Counter[str], teachers: dict[str | None, str]
) -> Iterator[_Row]:
    examples = read_examples(path)
    while some := list(islice(examples, EXAMPLES_A_READ)):
        wanted = list(
            {
                document
                for example in some
                for document in (
                    *example.positives,
                    *example.negatives,
                    *(part for item in example.dark or () for part in documents_of(item)),
                )
            }
        )
        row_of = {document: row for document, row in zip(wanted, store.rows_of(wanted), strict=True) if row is not None}
        for example in some:
            lacking = [[each for each in ids if each not in row_of] for ids in (example.positives, example.negatives)]
            found.count(len(example.positives) + len(example.negatives), [*lacking[0], *lacking[1]])
            positives, positive_scores = _known(example.positives, example.positive_scores, row_of)
            doubtful = _doubtful(lacking[0], store, positives) if positives else []
            negatives, negative_scores = _known(example.negatives, example.negative_scores, row_of, doubtful)
            counts["doubtful"] += len(example.negatives) - len(lacking[1]) - len(negatives)
            dark = _known_dark(example, row_of)
            counts["dark lacking"] += len(example.dark or ()) - len(dark)
            if asked.look_up([example.query_id]):
                continue
            if not positives:
                counts["without positive"] += 1
            else:
                counts["without negative"] += not negatives
                teachers.setdefault(example.scored_by, example.query_id)
                yield _Row(example.query_id, positives, negatives, positive_scores, negative_scores, dark, doubtful)


def _doubtful(lacking: list[str], store: CorpusStore, positives: array[int]) -> list[int]:
    """Return rows that may be missing positives, since their ids differ only in spelling."""
    if not lacking:
        return []
    heads = heads_of(islice(store, IDS_MET))
    rows = store.rows_of([each for document in lacking for each in spellings(document, heads)])
    return [row for row in rows if row is not None and row not in positives]


def _known(
    documents: list[str], scores: list[float | None] | None, row_of: dict[str, int], doubtful: Sequence[int] = ()
) -> tuple[array[int], array[float]]:
    """Return the rows of documents in the corpus, without doubtful ones, and their scores, nan for none."""
    pairs = [
        (row_of[document], math.nan if score is None else score)
        for document, score in zip(documents, scores or [None] * len(documents), strict=True)
        if document in row_of and row_of[document] not in doubtful
    ]
    return array("i", [row for row, _ in pairs]), array("f", [score for _, score in pairs])


def _known_dark(example: Example, row_of: dict[str, int]) -> list[DarkRow]:
    rows, items = [], example.dark or []
    for item, score in zip(items, example.dark_scores or [None] * len(items), strict=True):
        documents = documents_of(item)
        if all(document in row_of for document in documents):
            found = [row_of[document] for document in documents]
            negative, ratio, seed = (-1, item.ratio, item.seed) if isinstance(item, Noisy) else (found[1], math.nan, 0)
            rows.append(DarkRow(found[0], negative, ratio, seed, math.nan if score is None else score))
    return rows
