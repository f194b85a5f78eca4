"""Specifications of an index in an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drtools.formats.dropped import ALLOW_DROPPED


@dataclass(frozen=True)
class EngineSpec:
    """A vectors folder to load into a collection of an engine, or the vectors that change the index `update`.

    The collection is called `collection` with twelve digits of the content's fingerprint. `fields` are read from
    `corpus` and can be filtered by.
    """

    vectors: str
    uri: str
    collection: str
    index_type: str | None = None
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)
    fields: Sequence[str] = ()
    corpus: str | None = None
    update: str | None = None
    allow_dropped: float = ALLOW_DROPPED
    check: bool = False
    check_queries: str | None = None
    check_depth: int = 100
    seed: int = 42
