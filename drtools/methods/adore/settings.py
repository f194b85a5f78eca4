"""ADORE's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from drtools.errors import InputError, param

EPOCHS = 6  # [code]
WARMUP_STEPS = 2000  # Zhan et al. 2021


class Metric(NamedTuple):
    """The metric that weights pairs: `rr`, `mrr` or `ndcg` with a cutoff, or `none`."""

    name: str
    cut: int

    @classmethod
    def parse(cls, word: str) -> Self:
        """Parse `rr@200`, `mrr@10`, `ndcg@10` or `none`."""
        name, at, cut = word.lower().partition("@")
        if word.lower() == "none":
            return cls("none", 0)
        if name not in ("rr", "mrr", "ndcg") or not at or not cut.isdecimal() or int(cut) < 1:
            raise InputError(where=f"{param('metric')} {word}", expected="rr@K, mrr@K, ndcg@K or none, such as rr@200")
        return cls(name, int(cut))


@dataclass(frozen=True)
class AdoreSettings:
    """The index to train against, the negatives from it, and the weight of a pair of documents."""

    vectors: str | None = None
    index: str | None = None
    depth: int = 200
    metric: str = "rr@200"
    append: Literal["if-none", "missing"] = "if-none"
    loss_vectors: Literal["exact", "decoded"] = "exact"
    negatives: Literal["live", "static", "random"] = "live"
    refresh_every_steps: int | None = None
    min_rel: int = 1
    keep_duplicates: bool = False
    nprobe: int | None = None
    ef_search: int | None = None

    def __post_init__(self) -> None:
        """Raise InputError for settings that do not go together."""
        Metric.parse(self.metric)
        if self.loss_vectors == "exact" and not self.vectors:
            raise InputError(
                "the exact vectors are needed",
                where=f"{param('loss_vectors')} exact",
                remedy=f"use {param('vectors')} VECTORS with {param('index')}, or {param('loss_vectors')} decoded",
            )
        if self.loss_vectors == "decoded" and not self.index:
            raise InputError(
                "an index is needed",
                where=f"{param('loss_vectors')} decoded",
                remedy=f"use {param('index')} INDEX, or {param('loss_vectors')} exact",
            )
        if (self.nprobe or self.ef_search) and not self.index:
            raise InputError(
                f"{param('nprobe')} and {param('ef_search')} are for a FAISS index",
                remedy=f"use {param('index')} INDEX, or leave them out: vectors are searched exactly",
            )
        if self.refresh_every_steps and self.negatives != "static":
            raise InputError(
                "only static negatives are refreshed",
                where=f"{param('refresh_every_steps')} with {param('negatives')} {self.negatives}",
                remedy="leave one of the two out",
            )
