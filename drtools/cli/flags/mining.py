"""Flags for mining negatives."""

from dataclasses import dataclass, fields
from typing import Annotated

from typer import Option

from drtools.cli.flags.common import given_flags
from drtools.errors import InputError
from drtools.search.mining import MiningRules, parse_ranks

PANEL = "Filters"


@dataclass(frozen=True)
class MiningFlags(MiningRules):
    """The rules for which documents may become negatives."""

    ranks: Annotated[str, Option(help="ranks to take negatives from; positives count as ranks too")] = "1-200"
    negatives: Annotated[int, Option(min=1, help="maximum number of negatives for each query")] = 30
    draw: Annotated[str, Option(help="top: take the highest ranks; random: draw from all ranks")] = "top"
    absolute_margin: Annotated[
        float | None,
        Option(help="a negative must score at least this much below the lowest positive", rich_help_panel=PANEL),
    ] = None
    relative_margin: Annotated[
        float | None, Option(help="the same, as a fraction of the lowest positive's score", rich_help_panel=PANEL)
    ] = None
    max_score: Annotated[float | None, Option(help="highest score of a negative", rich_help_panel=PANEL)] = None
    min_score: Annotated[float | None, Option(help="lowest score of a negative", rich_help_panel=PANEL)] = None
    seed: Annotated[int, Option(help="random seed")] = 42
    keep_duplicates: Annotated[
        bool,
        Option(
            "--keep-duplicates",
            help="allow the document with the query's id, and documents with the same text as a positive, as negatives",
            rich_help_panel=PANEL,
        ),
    ] = False

    @property
    def by_score(self) -> list[str]:
        """The flags of the score filters that were given."""
        return given_flags(
            {name: getattr(self, name) for name in ("absolute_margin", "relative_margin", "max_score", "min_score")}
        )

    @property
    def flags_given(self) -> list[str]:
        """The flags, except the seed, whose value is not the default."""
        return given_flags(
            {
                each.name: getattr(self, each.name) if getattr(self, each.name) != each.default else None
                for each in fields(self)
                if each.name != "seed"
            }
        )

    def check(self) -> None:
        """Raise InputError for an invalid value."""
        if self.draw not in ("top", "random"):
            raise InputError(where=f"--draw {self.draw}", expected="top or random")
        for name in ("absolute_margin", "relative_margin"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError(where=f"--{name.replace('_', '-')} {value}", expected="0 or more")


def parse_by_rank(text: str) -> tuple[int, tuple[int, int]]:
    """Parse `P:N1-N2` into (P, (N1, N2))."""
    head, colon, ranks = text.partition(":")
    if not colon or not head.isdecimal() or int(head) < 1:
        raise InputError(
            where=f"--by-rank {text}",
            expected="P:N1-N2, for instance 10:46-50 (ranks 1 to 10 positive, 46 to 50 negative)",
        )
    first, last = parse_ranks(ranks, "--by-rank")
    if first <= int(head):
        raise InputError(
            f"rank {first} cannot be both positive and negative", where=f"--by-rank {text}", expected="N1 above P"
        )
    return int(head), (first, last)
