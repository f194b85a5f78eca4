"""ADORE's settings."""

from typing import NamedTuple, Self

from drtools.errors import InputError, param


class Metric(NamedTuple):
    """What pairs are weighed by: `rr`, `mrr`, `ndcg` at a cut, or `none`."""

    name: str
    cut: int

    @classmethod
    def parse(cls, word: str) -> Self:
        """Read `rr@200`, `mrr@10`, `ndcg@10` or `none`."""
        name, at, cut = word.lower().partition("@")
        if word.lower() == "none":
            return cls("none", 0)
        if name not in ("rr", "mrr", "ndcg") or not at or not cut.isdecimal() or int(cut) < 1:
            raise InputError(f"{param('metric')} {word}: expected rr@K, mrr@K, ndcg@K or none, for instance rr@200")
        return cls(name, int(cut))
