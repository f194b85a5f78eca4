"""Read examples as rows of a corpus: those that can be trained on, without ids that are not in the corpus."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from drtools.formats.dark_items import Dark, Noisy, Reinforced, documents_of
from drtools.formats.examples import read_examples
from drtools.formats.joins import IDS_MET, Join, heads_of, spellings

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.formats.examples import Example

EXAMPLES_A_READ = 256


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


class UsableRow(NamedTuple):
    """An example with rows of the corpus in place of ids. `doubtful` rows may be positives, by another spelling."""

    query_id: str
    query: str
    positives: array[int]
    negatives: array[int]
    positive_scores: array[float]
    negative_scores: array[float]
    dark: list[DarkRow]
    doubtful: list[int]


class UsableRows:
    """The examples of a file that can be trained on with queries and a corpus, in order.

    While they are read, `asked` and `found` count the queries and documents that were looked up, `counts` counts what
    else was left out, and `teachers` maps each teacher to the first query that it scored.
    """

    def __init__(self, path: str, texts: Mapping[str, str], store: CorpusStore, asked: Join, found: Join) -> None:
        self.path, self.texts, self.store, self.asked, self.found = path, texts, store, asked, found
        self.counts = Counter[str]()
        self.teachers: dict[str | None, str] = {}

    def __iter__(self) -> Iterator[UsableRow]:
        examples = read_examples(self.path)
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
            rows = self.store.rows_of(wanted)
            row_of = {document: row for document, row in zip(wanted, rows, strict=True) if row is not None}
            texts = texts_of(self.texts, [example.query_id for example in some])
            for example in some:
                row = self._usable(example, row_of, texts)
                if row is not None:
                    yield row

    def _usable(self, example: Example, row_of: dict[str, int], texts: Mapping[str, str]) -> UsableRow | None:
        lacking = [[each for each in ids if each not in row_of] for ids in (example.positives, example.negatives)]
        self.found.count(len(example.positives) + len(example.negatives), [*lacking[0], *lacking[1]])
        positives, positive_scores = _known(example.positives, example.positive_scores, row_of)
        doubtful = self._doubtful(lacking[0], positives) if positives else []
        negatives, negative_scores = _known(example.negatives, example.negative_scores, row_of, doubtful)
        self.counts["doubtful"] += len(example.negatives) - len(lacking[1]) - len(negatives)
        dark = _known_dark(example, row_of)
        self.counts["dark lacking"] += len(example.dark or ()) - len(dark)
        text = texts.get(example.query_id)
        self.asked.looked_up([example.query_id], [example.query_id] if text is None else [])
        if text is None:
            return None
        if not positives:
            self.counts["without positive"] += 1
            return None
        self.counts["without negative"] += not negatives
        self.teachers.setdefault(example.scored_by, example.query_id)
        scores = (positive_scores, negative_scores)
        return UsableRow(example.query_id, text, positives, negatives, *scores, dark, doubtful)

    @cached_property
    def _heads(self) -> list[str]:
        return heads_of(islice(self.store, IDS_MET))

    def _doubtful(self, lacking: list[str], positives: array[int]) -> list[int]:
        """Return rows that may be missing positives, since their ids differ only in spelling."""
        if not lacking:
            return []
        rows = self.store.rows_of([each for document in lacking for each in spellings(document, self._heads)])
        return [row for row in rows if row is not None and row not in positives]


def texts_of(texts: Mapping[str, str], query_ids: Sequence[str]) -> Mapping[str, str]:
    """Return the texts of some queries, those that have one; a store of queries looks up many at once."""
    at_once = getattr(texts, "of", None)
    return at_once(query_ids) if at_once else texts


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
