"""Dark examples (Tao et al., ADAM).

They lie between a positive and a negative. The file describes how each is made, and does not hold its text.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drtools.errors import InputError, param
from drtools.formats.json_lines import checked_id
from drtools.formats.lines import shown

KINDS = ("reinforced", "noisy")


class Reinforced(NamedTuple):
    """A reinforced negative: a negative read after a positive."""

    positive: str
    negative: str
    kind: str = "reinforced"


class Noisy(NamedTuple):
    """A noisy positive: a positive with a share of its words masked; the seed determines which ones."""

    positive: str
    ratio: float
    seed: int
    kind: str = "noisy"


Dark = Reinforced | Noisy
FIELDS = {"reinforced": {"kind", "positive", "negative"}, "noisy": {"kind", "positive", "ratio", "seed"}}


def parse_dark(value: object, path: str | Path, number: int) -> list[Dark] | None:
    """Check the dark items of the example on a line; None if it has none.

    InputError with file:line names the item, from 1.
    """
    if value is None:
        return None
    if not isinstance(value, list):
        raise InputError(
            f"dark is {type(value).__name__}, expected a list of items; make-dark-examples writes it",
            where=f"{shown(path)}:{number}",
        )
    items = [_parse_item(item, place, path, number) for place, item in enumerate(value, start=1)]
    if len(set(items)) < len(items):
        raise InputError("dark has an item twice; make-dark-examples writes each once", where=f"{shown(path)}:{number}")
    return items


def _parse_item(item: object, place: int, path: str | Path, number: int) -> Dark:
    where = f"{shown(path)}:{number}: dark item {place}"
    if not isinstance(item, dict) or item.get("kind") not in KINDS:
        raise InputError(f"{where} is {_told(item)}", expected=f"an object of kind {' or '.join(KINDS)}")
    fields = FIELDS[item["kind"]]
    if set(item) != fields:
        raise InputError(
            f"{item['kind']} has {', '.join(sorted(item))}", where=where, expected=", ".join(sorted(fields))
        )
    positive = checked_id(item["positive"], path, number)
    if item["kind"] == "reinforced":
        return Reinforced(positive, checked_id(item["negative"], path, number))
    ratio, seed = item["ratio"], item["seed"]
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        raise InputError(f"its ratio is {ratio!r}", where=where, expected="a share of words above 0, up to 1")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"its seed is {seed!r}", where=where, expected="a whole number, 0 or more")
    return Noisy(positive, float(ratio), seed)


def _told(item: object) -> str:
    return f"of kind {item.get('kind')!r}" if isinstance(item, dict) else f"a {type(item).__name__}"


def documents_of(item: Dark) -> tuple[str, ...]:
    """Return the documents from which an item is made."""
    return (item.positive, item.negative) if isinstance(item, Reinforced) else (item.positive,)


def dark_records(items: Sequence[Dark]) -> list[dict[str, Any]]:
    """Return the JSON objects of dark items, their kind first."""
    return [
        {"kind": item.kind} | {name: value for name, value in item._asdict().items() if name != "kind"}
        for item in items
    ]


def parse_ratios(words: str) -> list[float]:
    """Parse `0.15,0.25` into shares of words: distinct, above 0 and below 1."""
    try:
        ratios = [float(word) for word in words.split(",")] if words.strip() else []
    except ValueError:
        raise InputError(
            where=f"{param('ratios')} {words}", expected="numbers separated by commas, for instance 0.15,0.25"
        ) from None
    if any(math.isnan(ratio) or not 0 < ratio < 1 for ratio in ratios) or len(set(ratios)) < len(ratios):
        raise InputError(where=f"{param('ratios')} {words}", expected="shares above 0 and below 1, each once")
    return ratios
