"""Queries and positives of training examples, to compare dev queries with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from drtools.formats.corpora import document_text

if TYPE_CHECKING:
    from drtools.training.sampling import ExampleSource


class TrainingQueries:
    """(id, text) of every query of some sources, as often as it is asked for."""

    def __init__(self, sources: Sequence[ExampleSource]) -> None:
        self.sources = sources

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for source in self.sources:
            yield from zip(source.examples.query_ids, source.examples.queries, strict=True)


def positives_of(sources: Sequence[ExampleSource]) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of every positive, once for each source."""
    for source in sources:
        for row in np.unique(source.examples.positives.flat).tolist():
            document = source.store.at(row)
            yield document.id, document_text(document.title, document.text)
