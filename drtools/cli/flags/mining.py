"""Flags of mining."""

from dataclasses import dataclass, fields
from typing import Annotated

from typer import Option

from drtools.cli.flags.common import given_flags
from drtools.errors import InputError
from drtools.search.mining import MiningRules, parse_ranks

PANEL = "Filters"


@dataclass(frozen=True)
class MiningFlags(MiningRules):
    """What may become a negative."""

    ranks: Annotated[str, Option(help="raw ranks to take negatives from, positives counted among them")] = "1-200"
    negatives: Annotated[int, Option(min=1, help="negatives for each query, at most")] = 30
    draw: Annotated[str, Option(help="top: the best ranked that remain; random: any of them, by --seed")] = "top"
    absolute_margin: Annotated[
        float | None,
        Option(help="a negative scores at least so much less than the lowest positive", rich_help_panel=PANEL),
    ] = None
    relative_margin: Annotated[
        float | None, Option(help="the same, as a share of the lowest positive's score", rich_help_panel=PANEL)
    ] = None
    max_score: Annotated[float | None, Option(help="no negative scores more", rich_help_panel=PANEL)] = None
    min_score: Annotated[float | None, Option(help="no negative scores less", rich_help_panel=PANEL)] = None
    seed: Annotated[int, Option(help="seed of random draws")] = 42
    keep_duplicates: Annotated[
        bool,
        Option(
            "--keep-duplicates",
            help="negatives may be the query's own document (of the query's id) and documents with a positive's text",
            rich_help_panel=PANEL,
        ),
    ] = False

    @property
    def by_score(self) -> list[str]:
        """The filters by score that were said, as flags."""
        return given_flags(
            {name: getattr(self, name) for name in ("absolute_margin", "relative_margin", "max_score", "min_score")}
        )

    @property
    def said(self) -> list[str]:
        """What is not as it usually is, but for the seed, as flags."""
        return given_flags(
            {
                each.name: getattr(self, each.name) if getattr(self, each.name) != each.default else None
                for each in fields(self)
                if each.name != "seed"
            }
        )

    def check(self) -> None:
        """Raise InputError for what cannot be meant."""
        if self.draw not in ("top", "random"):
            raise InputError(where=f"--draw {self.draw}", expected="top or random")
        for name in ("absolute_margin", "relative_margin"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError(where=f"--{name.replace('_', '-')} {value}", expected="0 or more")


def parse_by_rank(text: str) -> tuple[int, tuple[int, int]]:
    """Return (P, (N1, N2)) of `P:N1-N2`."""
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
