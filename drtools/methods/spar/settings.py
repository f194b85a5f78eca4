"""Settings of SPAR."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BesideSpec:
    """Another encoder's vectors, which stay, and the weight of its scores, which learns (SPAR's joint training)."""

    beside_documents: str | None = None
    beside_queries: str | None = None
    mu: float | None = None


@dataclass(frozen=True)
class ExampleDevSpec:
    """Examples to measure on while training, labelled by rank."""

    dev_examples: str | None = None
    dev_queries: str | None = None
