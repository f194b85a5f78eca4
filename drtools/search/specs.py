"""What is searched how: joined vectors, pieces."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class JoiningSpec:
    """How queries of vectors that concat-spar joined are weighed; what is not said is as it was joined."""

    mu: float | None = None
    mu_by_query: str | None = None
    second_model: str | None = None

    @property
    def given(self) -> list[str]:
        """The names of what is set."""
        return [each.name for each in fields(JoiningSpec) if getattr(self, each.name) is not None]


@dataclass(frozen=True)
class MultiVectorSpec:
    """Whether and how pieces are scored besides documents."""

    multi_vector: bool = False
    rescore: int | None = None
    gamma: float | None = None
    tune: str | None = None
    tune_queries: str | None = None
    tune_measure: str | None = None
