"""Settings of SPAR."""

from __future__ import annotations

import math
from dataclasses import dataclass

from drtools.errors import InputError, param


@dataclass(frozen=True)
class BesideSpec:
    """Another encoder's vectors, which stay, and the weight of its scores, which learns (SPAR's joint training)."""

    beside_documents: str | None = None
    beside_queries: str | None = None
    mu: float | None = None

    def __post_init__(self) -> None:
        """Refuse one half of a pair of vectors, and a mu without them."""
        alone = bool(self.beside_documents) != bool(self.beside_queries)
        if alone or (self.mu is not None and not (self.beside_documents and 0 < self.mu < math.inf)):
            raise InputError(
                f"beside another encoder: expected {param('beside_documents')} VECTORS and {param('beside_queries')} "
                f"VECTORS, and a {param('mu')} above 0 with them alone"
            )


@dataclass(frozen=True)
class ExampleDevSpec:
    """Examples to measure on while training, labelled by rank."""

    dev_examples: str | None = None
    dev_queries: str | None = None
