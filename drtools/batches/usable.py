"""Which examples can be trained on with a corpus and queries at hand; what cannot is counted, never dropped in silence.

Documents are kept as rows of the corpus, four bytes each: a hundred million negatives in every process must not be words.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from drtools import console
from drtools.errors import UserError
from drtools.formats.examples import read_examples
from drtools.formats.jsonl import read_queries
from drtools.formats.lines import shown

if TYPE_CHECKING:
    from drtools.formats.store import Store

EXAMPLES_A_READ = 256


@dataclass
class Lists:
    """Lists of rows of a corpus: list i is flat[starts[i]:starts[i + 1]], int32."""

    flat: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, lists: Iterable[Sequence[int]]) -> Lists:
        """Pack lists."""
        flat, starts = array("i"), array("q", [0])
        for rows in lists:
            flat.extend(rows)
            starts.append(len(flat))
        return cls(np.frombuffer(flat, np.int32) if flat else np.empty(0, np.int32), np.frombuffer(starts, np.int64))

    def __getitem__(self, at: int) -> np.ndarray:
        return self.flat[self.starts[at] : self.starts[at + 1]]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[at] for at in range(len(self)))


@dataclass
class Usable:
    """N examples: ids and texts of their queries, the rows of their positives (one at the least) and negatives."""

    query_ids: list[str]
    queries: list[str]
    positives: Lists
    negatives: Lists

    def __len__(self) -> int:
        return len(self.query_ids)


def usable_examples(path: str, queries: str, store: Store) -> Usable:
    """Return the examples whose query has a text and a positive in the corpus, without the ids that the corpus lacks.

    A lacking positive stays out of training and, being no document, needs no mask.
    """
    texts, counts = read_queries(queries), Counter()
    usable = list(_usable(path, texts, store, counts))
    for name, words in (("without text", f"examples have a query that {shown(queries)} lacks; left out"), ("without positive", "examples have no positive in the corpus; left out"),
                        ("lacking", "documents of the examples are not in the corpus; left out"), ("without negative", "examples have no negative; they train on in-batch negatives alone")):
        console.notice(counts[name], f"{counts[name]:,} {words}")
    if not usable:
        raise UserError(f"{shown(path)}: no example has both a query text and a positive in the corpus; do the files belong together?")
    query_ids = [query_id for query_id, _, _ in usable]
    return Usable(query_ids, [texts[query_id] for query_id in query_ids], Lists.of(positives for _, positives, _ in usable), Lists.of(negatives for _, _, negatives in usable))


def _usable(path: str, texts: dict[str, str], store: Store, counts: Counter) -> Iterator[tuple[str, array, array]]:
    examples = read_examples(path)
    while some := list(islice(examples, EXAMPLES_A_READ)):
        wanted = list({document for example in some for document in (*example.positives, *example.negatives)})
        row_of = {document: row for document, row in zip(wanted, store.rows_of(wanted), strict=True) if row is not None}
        for example in some:
            positives, negatives = (array("i", [row_of[document] for document in documents if document in row_of]) for documents in (example.positives, example.negatives))
            counts["lacking"] += len(example.positives) + len(example.negatives) - len(positives) - len(negatives)
            if example.query_id not in texts:
                counts["without text"] += 1
            elif not positives:
                counts["without positive"] += 1
            else:
                counts["without negative"] += not negatives
                yield example.query_id, positives, negatives
