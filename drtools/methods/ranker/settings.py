"""Settings of rankers."""

from __future__ import annotations

from dataclasses import dataclass

from drtools.evaluation.specs import QueryDevSpec


@dataclass(frozen=True)
class RankerSpec:
    """The cross-encoder that is trained: what it starts from, and how much of a pair it reads."""

    model: str
    max_query_tokens: int | None = None
    max_document_tokens: int | None = None
    dropout: float | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class RankerDevSpec(QueryDevSpec):
    """The same, with what is ranked: the first documents of a run, or the positives and negatives of examples."""

    dev_run: str | None = None
    dev_depth: int = 100
    dev_examples: str | None = None
    dev_corpus: str | None = None
