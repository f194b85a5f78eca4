"""Select the examples that can be trained on with a corpus and queries. What is left out is counted and reported.

Documents are kept as rows of the corpus, four bytes each, in files that are memory-mapped.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.lines import shown
from drtools.formats.query_store import open_queries
from drtools.training.example_files import DARK, open_example_files
from drtools.training.usable_rows import DarkRow

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore

LISTS_A_READ = 1 << 20


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

    def count_shorter(self, length: int) -> int:
        """Return how many lists have something, and less than `length`; in memory that does not grow with them."""
        count = 0
        for first in range(0, len(self), LISTS_A_READ):
            lengths = np.diff(self.starts[first : first + LISTS_A_READ + 1])
            count += int(((lengths > 0) & (lengths < length)).sum())
        return count

    def __getitem__(self, at: int) -> np.ndarray:
        return self.flat[self.starts[at] : self.starts[at + 1]]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[at] for at in range(len(self)))


@dataclass
class DarkRows:
    """The dark items of N examples, stored as arrays."""

    fields: list[RaggedArray]

    def __getitem__(self, at: int) -> list[DarkRow]:
        return [DarkRow(*values) for values in zip(*(lists[at].tolist() for lists in self.fields), strict=True)]


@dataclass
class TrainingExamples:
    """N examples: ids and texts of their queries, the rows of their positives (at least one) and negatives.

    Scores, if requested, are parallel to the rows; a document without a score has nan. `scored_by` is the teacher of
    all scores. `dark` is None if no example has dark items. `avoided` are rows that are neither mined nor drawn as
    negatives although they are not known positives.
    """

    query_ids: Sequence[str]
    queries: Sequence[str]
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
    files = open_example_files(path, queries, store)
    arrays, counts, teachers = files.arrays, files.facts["counts"], files.facts["teachers"]
    assert isinstance(counts, dict) and isinstance(teachers, list), "as they were written"
    asked = files.join("asked", {}, shown(queries))
    if asked.missing:
        asked.known = open_queries(queries)
    found = files.join("found", store, shown(store.corpus))
    asked.note(f"{asked.missing:,} examples have a query that is not in {shown(queries)}; left out")
    for name, words in (
        ("without positive", "examples have no positive in the corpus; left out"),
        ("dark lacking", "dark items have a document that is not in the corpus; left out"),
        ("without negative", "examples have no negative of their own"),
        ("doubtful", "negatives may be a positive whose id is spelled differently in the corpus; left out"),
    ):
        reporting.notice(counts.get(name, 0), f"{counts.get(name, 0):,} {words}")
    found.note(f"{found.missing:,} documents of the examples are not in the corpus; left out")
    kept = TrainingExamples(
        files.texts("query_ids"),
        files.texts("queries"),
        RaggedArray(arrays["positives"], arrays["positives_starts"]),
        RaggedArray(arrays["negatives"], arrays["negatives_starts"]),
    )
    if "dark_starts" in arrays:
        kept.dark = DarkRows([_ragged(arrays, name, "dark") for name in DARK])
    if "avoided_starts" in arrays:
        kept.avoided = RaggedArray(arrays["avoided"], arrays["avoided_starts"])
    if scores is not Scores.UNREAD:
        kept.scored_by = _one_teacher(path, dict(teachers), scores)
        kept.positive_scores = _ragged(arrays, "positive_scores", "positives")
        kept.negative_scores = _ragged(arrays, "negative_scores", "negatives")
    return kept


def _ragged(arrays: dict[str, np.ndarray], name: str, lists: str) -> RaggedArray:
    """Return an array that has the lists of another; one that is not there would hold nothing but nan."""
    values = arrays.get(name, np.broadcast_to(np.float32(np.nan), (len(arrays.get(lists, ())),)))
    return RaggedArray(values, arrays[f"{lists}_starts"])


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
