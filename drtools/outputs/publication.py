"""Measures of a published version, and guards against their fall.

The measures are those of `eval -o`. A version holds them in PUBLICATION, beside its texts, so that a later version is
compared with them and the history has them, also of a version that is published again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drtools import reporting
from drtools.errors import GateRefused, InputError, param
from drtools.outputs import manifest
from drtools.outputs.history import first_values, measured_in
from drtools.outputs.records import NUMBER, TEXT, WHOLE, map_of, object_of

KIND = "measures"  # of what eval writes
FIXED = "fixed "  # before the name of a measure on the fixed first set of queries
# [ours] a fall of one measure that is let pass, since the version before and since the first one
ALLOW_FALL, ALLOW_FALL_SINCE_FIRST = 0.02, 0.05
ROUNDING = 1e-9  # of a mean over queries
OF_EVALUATION = {"measures": map_of(NUMBER), "queries": WHOLE, "judgements": WHOLE, "qrels": TEXT}
EVALUATION = object_of(OF_EVALUATION, needed=tuple(OF_EVALUATION))


@dataclass(frozen=True)
class Measures:
    """The measures to publish with a version, and how far they may fall.

    `allow_fall` and `allow_fall_since_first` are differences by the name of a measure; "" stands for all others.
    `allow_fewer_judgements` is the share of the current version's judgements that may be missing.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    allow_fall: Mapping[str, float] = field(default_factory=dict)
    allow_fall_since_first: Mapping[str, float] = field(default_factory=dict)
    allow_fewer_judgements: float = 0.0


def read_facts(today: str | None, fixed: str | None) -> dict[str, Any]:
    """Read the files of `eval -o` on today's queries and on the fixed ones; empty without either.

    Returns the measures (those of the fixed queries under `fixed NAME`), the numbers of today's queries and judgements,
    and what was measured on.
    """
    facts: dict[str, Any] = {}
    for path, prefix in ((today, ""), (fixed, FIXED)):
        if path is None:
            continue
        record = _evaluation(path)
        named = {prefix + name: value for name, value in record["measures"].items()}
        facts["measures"] = facts.get("measures", {}) | named
        on = {f"{prefix}measures": record["fingerprint"], f"{prefix}judgements": record["qrels"]}
        facts["measured_on"] = facts.get("measured_on", {}) | on
        if not prefix:
            facts |= {"queries": record["queries"], "judgements": record["judgements"]}
    return facts


def _evaluation(path: str) -> Mapping[str, Any]:
    record = manifest.read(path)
    if record.get("kind") != KIND or not EVALUATION.fits(dict(record)):
        raise InputError(
            f"found {record.get('kind') or 'something else'}",
            where=path,
            expected="measures",
            remedy="write them with `drtools eval -o`",
        )
    manifest.check_whole(Path(path), record, "write them again with `drtools eval -o`")
    return record


def check_measures(measures: Measures, link: Path, current: Path) -> None:
    """Raise GateRefused if measures fell by more than is allowed, or if judgements are fewer.

    They are compared with those of the version `current`, and with the first ones in the history of the link.
    """
    before, now = measured_in(current), measures.facts
    if not now:
        if before:
            reporting.say(
                f"note: {current.name} has measures; without {param('measures')} nothing is compared with them"
            )
        return
    _note_other_judgements(before, now, link)
    clauses = []
    lacking = before.get("judgements", 0) - now.get("judgements", before.get("judgements", 0))
    if lacking > measures.allow_fewer_judgements * before.get("judgements", 0):
        share = math.ceil(round(lacking / before["judgements"] * 100, 6)) / 100
        clauses.append(
            f"{now['judgements']:,} judgements, {before['judgements']:,} in the current version "
            f"({param('allow_fewer_judgements')} {share:g})"
        )
    since_last = (before.get("measures", {}), measures.allow_fall, "in the current version", "allow_fall")
    since_first = (first_values(link), measures.allow_fall_since_first, "at first", "allow_fall_since_first")
    for earlier, allowed, when, flag in (since_last, since_first):
        for name, value in now["measures"].items():
            least = allowed.get(name, allowed.get(name.removeprefix(FIXED), allowed.get("", math.inf)))
            fall = earlier.get(name, value) - value
            if fall > least + ROUNDING:
                enough = math.ceil(round(fall * 1000, 6)) / 1000
                clauses.append(
                    f"{name} {value:.4f}, {earlier[name]:.4f} {when} ({param(flag)} {_quoted(f'{name}={enough:g}')})"
                )
    if clauses:
        raise GateRefused(
            f"{link}: {'; '.join(clauses)}: nothing was published; if this is meant, pass the flags in brackets"
        )


def _quoted(words: str) -> str:
    return f'"{words}"' if " " in words else words


def _note_other_judgements(before: Mapping[str, Any], now: Mapping[str, Any], link: Path) -> None:
    """Report another set of queries that are called fixed, whose measures cannot be compared."""
    key = f"{FIXED}judgements"
    then, after = (facts.get("measured_on", {}).get(key) for facts in (before, now))
    reporting.notice(
        bool(then and after and then != after),
        f"{link}: the judgements of the fixed set of queries have changed, so that its measures differ for that reason",
    )
