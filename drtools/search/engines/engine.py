"""What index, search and publish need of an engine.

An engine is one class with these functions. It raises WorldError if the server is down, slow or fails, and InputError
for what the user can mend: a filter, a token, a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

FieldValue = str | int | float | bool


@dataclass(frozen=True)
class Facts:
    """What a collection says of itself: the fingerprint and the count of its content, and whether it is whole.

    `state` is WHOLE, or what is being done to it.
    """

    fingerprint: str
    count: int
    state: str


WHOLE, LOADING, UPDATING = "whole", "loading", "updating to "


@dataclass(frozen=True)
class IndexSettings:
    """The kind of an approximate index, and the parameters of its build."""

    kind: str = "HNSW"
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Effort:
    """How much a search visits. `nprobe` is the number of lists, `ef_search` that of candidates in a graph."""

    nprobe: int | None = None
    ef_search: int | None = None


class Engine(Protocol):
    """A server with collections of documents: an id, a vector and fields to filter by."""

    most_hits: int
    most_dimensions: int

    def version(self) -> str:
        """Return the server's version."""

    def facts(self, collection: str) -> Facts | None:
        """Return what a collection says of itself; None if there is no such collection."""

    def create(self, collection: str, dimension: int, fields: Mapping[str, type], facts: Facts) -> None:
        """Create an empty collection. Nothing happens if it exists."""

    def note(self, collection: str, facts: Facts) -> None:
        """Replace what a collection says of itself."""

    def upsert(
        self, collection: str, ids: Sequence[str], vectors: np.ndarray, fields: Mapping[str, Sequence[FieldValue]]
    ) -> None:
        """Add documents, or replace those with the same ids. Doing it twice is the same as once."""

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        """Delete documents by their ids, whatever characters these have."""

    def build(self, collection: str, settings: IndexSettings, on_progress: Callable[[int], None]) -> None:
        """Make what was written durable, build the index, and load it for searches. Returns when searches can run."""

    def load(self, collection: str) -> None:
        """Get a built collection ready for searches. Nothing happens if it is."""

    def count(self, collection: str) -> int:
        """Return the number of documents, with everything that was written before."""

    def search(
        self, collection: str, settings: IndexSettings, queries: np.ndarray, depth: int, where: str, effort: Effort
    ) -> list[list[tuple[str, float]]]:
        """Return the (id, inner product) of the nearest documents of each query [Q, D], best first.

        `where` is a filter in the engine's language; "" is none. A list may be shorter than `depth`.
        """

    def vectors_of(self, collection: str, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the vectors of documents by id. Ids that are not there are left out."""

    def named(self, alias: str) -> str | None:
        """Return the collection that an alias names; None if there is no such alias."""

    def name(self, alias: str, collection: str) -> None:
        """Make an alias name a collection, in one step for all readers."""

    def drop(self, collection: str) -> None:
        """Remove a collection. Nothing happens if there is none."""
