"""Queries and positives of training examples, to compare dev queries with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from drtools.formats.corpora import document_text

if TYPE_CHECKING:
    from drtools.training.sampling import ExampleSource


def queries_of(sources: Sequence[ExampleSource]) -> list[tuple[str, str]]:
    """Return (id, text) of every query."""
    return [pair for source in sources for pair in zip(source.examples.query_ids, source.examples.queries, strict=True)]


def positives_of(sources: Sequence[ExampleSource]) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of every positive, once for each source."""
    for source in sources:
        for row in np.unique(source.examples.positives.flat).tolist():
            document = source.store.at(row)
            yield document.id, document_text(document.title, document.text)
