"""Joins of two files by ids: how many ids are missing in one of them, reported with an id of each side.

Ids are compared literally. If two files spell the same ids differently (`Q1` and `q1`, `0012` and `12`), nothing fails
by itself: measures are 0, and positives are not recognized. So all lookups of one file's ids in another use a `Join`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

from drtools import reporting
from drtools.errors import InputError
from drtools.units import counted

ENDS_IN_A_NUMBER = re.compile(r"(.*?)([0-9]+)(?:\.0)?")
SHOWN = 5  # missing ids that are kept, to find one that the other file spells differently
IDS_A_LOOK = 500
IDS_MET = 1000  # that are remembered, so that an id which only the other file has is shown
QUERIES_LOOKED_AT = 100  # for judged documents by another spelling of their ids
LONGEST_GRADE = 2  # digits
FEW, LEAST_HITS = 0.05, 100  # [ours] of as many hits or more, what two retrievers of one collection share at least
COLUMNS = "are the columns of the judgements query, 0, document, grade?"


class KnownIds(Protocol):
    """Ids that can be looked up and listed: the keys of a dict, a set, a corpus, the rows of vectors."""

    def __contains__(self, item: object, /) -> bool:
        """Return whether an id is there."""

    def __iter__(self) -> Iterator[str]:
        """Yield the ids."""


class Join:
    """Ids that one file names, looked up in another, which has the ids `known` and is called `name` in messages.

    `asked` counts the ids that were looked up, `missing` those that are not in the other file.
    """

    def __init__(self, known: KnownIds, name: str, ids: Iterable[str] = ()) -> None:
        self.known, self.name = known, name
        self.asked = self.missing = 0
        self.first: list[str] = []
        self.met: set[str] = set()
        self.look_up(ids)

    def look_up(self, ids: Iterable[str]) -> list[str]:
        """Look up ids, and return those that are not in the other file."""
        wanted = list(ids)
        lacking = missing_from(wanted, self.known)
        self.looked_up(wanted, lacking)
        return lacking

    def looked_up(self, wanted: Sequence[str], lacking: Sequence[str]) -> None:
        """Count ids that were looked up elsewhere as `look_up` does, and those that were missing."""
        if len(self.met) < IDS_MET:
            self.met.update(wanted[:IDS_MET])
        self.count(len(wanted), lacking)

    def count(self, asked: int, lacking: Sequence[str]) -> None:
        """Count ids that were looked up elsewhere, and those that were missing."""
        self.asked += asked
        self.missing += len(lacking)
        self.first += lacking[: SHOWN - len(self.first)]

    @property
    def is_empty(self) -> bool:
        """Whether ids were looked up and none was found."""
        return 0 < self.asked == self.missing

    def refuse_empty(self, words: str) -> None:
        """Raise InputError if the two files have nothing in common."""
        if self.is_empty:
            raise InputError(f"{words} {self.pair()}")

    def require_one(self, ids: Iterable[str], words: str) -> None:
        """Raise InputError if the other file has none of the ids. Lookup stops at the first one found."""
        left = iter(ids)
        while some := list(islice(left, IDS_A_LOOK)):
            lacking = self.look_up(some)
            if len(lacking) < len(some):
                return
        self.refuse_empty(words)

    def note(self, words: str) -> None:
        """Report the missing ids, if there are any."""
        if self.missing:
            reporting.notice(self.missing, f"{words} {self.pair()}")

    def check(self, none: str, some: str) -> None:
        """Raise InputError if the two files have nothing in common, and report missing ids otherwise."""
        self.refuse_empty(none)
        self.note(some)

    def alike(self, heads: Sequence[str] = ()) -> tuple[str, str] | None:
        """Return a missing id and the other file's spelling of it, if there is one (`heads`: see `spellings`)."""
        found = (
            (each, spelling) for each in self.first for spelling in spellings(each, heads) if spelling in self.known
        )
        return next(found, None)

    def pair(self) -> str:
        """Return a missing id and one of the other file in brackets, two that look alike if possible."""
        if not self.first:
            return ""
        known = list(islice(self.known, IDS_MET))
        other = next((each for each in known if each not in self.met), None)
        missing, shown = self.alike(heads_of(known)) or (self.first[0], other)
        return f"(for instance {missing!r}" + (f"; {self.name} has {shown!r})" if shown is not None else ")")


def missing_from(ids: Sequence[str], known: KnownIds) -> list[str]:
    """Return the ids that are not known, in order; a corpus and an index look up many at once."""
    at_once = getattr(known, "missing", None)
    return at_once(ids) if at_once else [item for item in ids if item not in known]


def spellings(text_id: str, heads: Sequence[str] = ()) -> list[str]:
    """Return other spellings of an id, without the id itself.

    Case, zeros before a number, `.0` after it, `_` and `-`, and the word before the number, or one of `heads` there.
    """
    made = [text_id, text_id.lstrip("0"), text_id.replace("_", "").replace("-", ""), f"{text_id}.0"]
    head, digits = _split(text_id)
    if digits:
        number = digits.lstrip("0") or "0"
        for beginning in dict.fromkeys((head, "", *heads) if _is_word(head) else (head,)):
            made.append(f"{beginning}{digits}")
            made += [f"{beginning}{number.zfill(width)}" for width in range(len(number), len(number) + 8)]
    every = [each for text in made for each in (text, text.lower(), text.upper(), text.capitalize())]
    return [each for each in dict.fromkeys(every) if each and each != text_id]


def heads_of(ids: Iterable[str]) -> list[str]:
    """Return the first few different prefixes of ids before a number: `d` for `d7`, nothing for `page7-3`."""
    found = dict.fromkeys(head for head, digits in map(_split, ids) if digits and _is_word(head))
    return list(found)[:SHOWN]


def _is_word(head: str) -> bool:
    """Return whether a head has no number; one with a number (`page7-`) distinguishes documents."""
    return not any(each.isdigit() for each in head)


def _split(text_id: str) -> tuple[str, str]:
    """Return what stands before an id's last number, and that number; ("", "") for an id that does not end in one."""
    found = ENDS_IN_A_NUMBER.fullmatch(text_id)
    return (found[1], found[2]) if found else ("", "")


def note_nothing_relevant(qrels: Mapping[str, Mapping[str, int]], name: str, least: int = 1) -> None:
    """Report judgements without any document of the lowest relevant grade, with which every measure would be 0."""
    if not any(grade >= least for grades in qrels.values() for grade in grades.values()):
        reporting.notice(1, f"{name}: no judgement has grade {least} or more, so nothing is relevant; {COLUMNS}")


def note_nothing_judged(
    name: str, run: Mapping[str, Mapping[str, float]], qrels: Mapping[str, Mapping[str, int]], judged_by: str
) -> None:
    """Report the queries of a run without any judged document, if that is all of them.

    Or if a judged document is listed in another spelling.
    """
    both = [query for query in qrels if run.get(query)]
    without = [query for query in both if not any(document in run[query] for document in qrels[query])]
    joins = [Join(run[query], name, islice(qrels[query], SHOWN)) for query in without[:QUERIES_LOOKED_AT]]
    alike = next((join for join in joins if join.alike()), None)
    if joins and len(without) == len(both):
        documents = (document for query in without for document in qrels[query])
        reporting.notice(
            len(both),
            f"{name}: {judged_by} judges none of its documents {(alike or joins[0]).pair()}; do the two belong "
            f"together?{columns_in_question(documents)}",
        )
    elif alike:
        reporting.notice(
            len(without),
            f"{name}: {judged_by} judges no document that is listed for {counted(len(without), 'query', 'queries')}, "
            f"but it judges some that are spelled differently {alike.pair()}",
        )


def note_little_in_common(
    name: str, run: Mapping[str, Mapping[str, float]], other: str, its: Mapping[str, Mapping[str, float]]
) -> None:
    """Report two runs that have few documents in common for the same queries, or some only in another spelling."""
    shared = {query: len(run[query].keys() & its[query].keys()) for query in run if run[query] and its.get(query)}
    most = sum(min(len(run[query]), len(its[query])) for query in shared)
    found = sum(shared.values())
    looked_at = sorted(shared, key=lambda query: shared[query] / len(run[query]))[:QUERIES_LOOKED_AT]
    alike = [pair for query in looked_at for pair in _alike_in_lists(run[query], its[query])]
    if alike:
        one, as_other = alike[0]
        reporting.notice(
            len(alike),
            f"{name} and {other} list {counted(found, 'document')} in common, and in "
            f"{counted(len(looked_at), 'query', 'queries')} {len(alike):,} more whose ids differ only in their "
            f"spelling (for instance {one!r}; {other} has {as_other!r}); use the same spelling",
        )
    elif shared and (not found or (most >= LEAST_HITS and found < FEW * most)):
        pair = Join(its[looked_at[0]], other, run[looked_at[0]]).pair()
        how_many = f"only {found:,} of {most:,} documents" if found else "no document"
        reporting.notice(1, f"{name} and {other} list {how_many} in common {pair}; are they of the same collection?")


def _alike_in_lists(one: Mapping[str, float], other: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return pairs of ids that two lists spell differently, if each list is consistent."""
    keys = {_key(each): each for each in one}
    others = {_key(each): each for each in other}
    if len(keys) < len(one) or len(others) < len(other):
        return []
    return [(each, others[key]) for key, each in keys.items() if key in others and others[key] != each]


def _key(text_id: str) -> str:
    """Return an id in a normal form: without case, leading zeros and trailing `.0` of numbers, and with `-` for `_`."""
    return re.sub(r"(?<![0-9.])0+(?=[0-9])", "", text_id.lower().replace("-", "_").removesuffix(".0"))


def columns_in_question(documents: Iterable[str]) -> str:
    """Return a question about the columns if all judged documents look like grades."""
    return f" Or {COLUMNS}" if all(each.isdecimal() and len(each) <= LONGEST_GRADE for each in documents) else ""
