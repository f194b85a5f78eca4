"""Documents that are not used as negatives: the queries' own documents, and copies of their positives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from drtools import reporting
from drtools.formats.copies import copies_in_corpus
from drtools.training.examples import RaggedArray

if TYPE_CHECKING:
    from drtools.training.sampling import ExampleSource


def avoid_copies(sources: Sequence[ExampleSource]) -> None:
    """Exclude a query's own document (the one with its id) and copies of its positives from mined and drawn negatives.

    Their rows are added to the `avoided` rows of the examples, and their number is reported.
    """
    own = copies = 0
    for source in sources:
        examples = source.examples
        same = source.store.rows_of(examples.query_ids)
        known = copies_in_corpus(source.store, np.unique(examples.positives.flat).tolist())
        own += sum(row is not None and row not in examples.positives[at] for at, row in enumerate(same))
        copies += len({other for others in known.values() for other in others})
        if known or any(row is not None for row in same):
            examples.avoided = RaggedArray.of(_avoided(source, same, known))
    if own or copies:
        reporting.say(
            f"{own:,} queries have a document of their own id in the corpus, and {copies:,} documents are copies of a "
            "positive; they are not used as negatives of their query"
        )


def _avoided(source: ExampleSource, same: list[int | None], copies: dict[int, list[int]]) -> Iterator[list[int]]:
    examples = source.examples
    for at, (own, positives) in enumerate(zip(same, examples.positives, strict=True)):
        rows = set() if examples.avoided is None else set(examples.avoided[at].tolist())
        rows |= {own} if own is not None else set()
        rows |= {other for positive in positives.tolist() for other in copies.get(positive, ())}
        yield sorted(rows.difference(positives.tolist()))
