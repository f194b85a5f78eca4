"""Settings of rankers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drtools.errors import InputError, param
from drtools.evaluation.specs import QueryDevSpec

EPOCHS = 2  # [ours]
WARMUP_STEPS = 1000  # [ours] or a tenth of the steps, if that is less


@dataclass(frozen=True)
class RankerSettings:
    """The negatives of each query, and the loss of a list."""

    negatives: int = 7
    loss: Literal["listwise", "pointwise", "ranknet"] = "listwise"


@dataclass(frozen=True)
class RankerSpec:
    """The cross-encoder to train: its initial model, and its maximum lengths."""

    model: str
    max_query_tokens: int | None = None
    max_document_tokens: int | None = None
    dropout: float | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class RankerDevSpec(QueryDevSpec):
    """The queries to evaluate on, and the documents to re-rank: those of a run, or those of examples."""

    dev_run: str | None = None
    dev_depth: int = 100
    dev_examples: str | None = None
    dev_corpus: str | None = None

    def __post_init__(self) -> None:
        """Raise InputError unless both the documents to rank and their judgements are given."""
        if self.dev_examples and (self.dev_run or self.dev_qrels):
            raise InputError(
                "these cannot be used together",
                where=f"{param('dev_examples')} with {param('dev_run')} or {param('dev_qrels')}",
                remedy=f"use {param('dev_examples')}, or {param('dev_run')} and {param('dev_qrels')}",
            )
        if bool(self.dev_run) != bool(self.dev_qrels):
            raise InputError(
                "one of the two is missing",
                where=f"{param('dev_run')} and {param('dev_qrels')} are used together",
                remedy=f"pass both, or {param('dev_examples')}",
            )
