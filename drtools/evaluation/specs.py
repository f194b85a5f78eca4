"""What to measure on: while training, of finished runs, and to tune a fusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class QueryDevSpec:
    """Which queries to measure on while training; the first measure decides what is best."""

    dev_qrels: str | None = None
    dev_queries: str | None = None
    dev_measures: str = "nDCG@10,RR@10"


@dataclass(frozen=True)
class DevSpec(QueryDevSpec):
    """The same, with the documents that are searched."""

    dev_corpus: str | None = None
    dev_documents: int = 2000


@dataclass(frozen=True)
class MeasuringSpec:
    """How runs are read and what judges them: judgements, or answers and the corpus to find them in.

    With `only`, judgements that name the queries to keep. `rank_order` ranks by the runs' rank column, not by score.
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
    """What the weight of a fusion's second run is tuned on: judgements, or answers and the corpus to find them in.

    `runs` are the same systems' runs of these queries; without them the runs that are fused.
    """

    qrels: str | None = None
    answers: str | None = None
    corpus: str | None = None
    answer_match: Literal["string", "regex"] = "string"
    runs: tuple[str, ...] | None = None
    measure: str = "nDCG@10"
