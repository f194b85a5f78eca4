"""Specifications of evaluation: during training, of finished runs, and for tuning a fusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class QueryDevSpec:
    """The queries to evaluate on while training. The first measure selects the best checkpoint."""

    dev_qrels: str | None = None
    dev_queries: str | None = None
    dev_measures: str = "nDCG@10,RR@10"


@dataclass(frozen=True)
class DevSpec(QueryDevSpec):
    """The queries to evaluate on, and the documents to search."""

    dev_corpus: str | None = None
    dev_documents: int = 2000


@dataclass(frozen=True)
class MeasuringSpec:
    """How runs are read and judged: by judgements, or by answers and the corpus in which to look for them.

    `only` are judgements that name the queries to keep. `rank_order` ranks by the rank column instead of by score.
    """

    qrels: str | None = None
    answers: str | None = None
    corpus: str | None = None
    answer_match: Literal["string", "regex"] = "string"
    min_rel: int = 1
    only: str | None = None
    rank_order: bool = False
    ignore_identical_ids: bool = False


@dataclass(frozen=True)
class FusionTuning:
    """The data to tune the second run's weight on: judgements, or answers and the corpus in which to look for them.

    `runs` are runs of the same systems for these queries; the default is the runs that are fused.
    """

    qrels: str | None = None
    answers: str | None = None
    corpus: str | None = None
    answer_match: Literal["string", "regex"] = "string"
    runs: tuple[str, ...] | None = None
    measure: str = "nDCG@10"
