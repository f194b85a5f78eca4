"""What to measure on while training."""

from __future__ import annotations

from dataclasses import dataclass


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
