"""Parts of an output that several machines make: which rows each has, and whether given parts make up the whole."""

import gzip
import re
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from drtools import reporting
from drtools.errors import InputError, param
from drtools.outputs import manifest
from drtools.outputs.disk import is_gzip_name
from drtools.outputs.records import DAMAGED, checked
from drtools.outputs.request import differences, same
from drtools.outputs.specs import Request
from drtools.outputs.work import FileWork


class PartRecord(TypedDict):
    """The place of a part in the whole, as manifests say it: part `number` of `of`, rows `first` to `last` of `total`.

    `last` is the row after the last one. `torch` is the version that computed it.
    """

    number: int
    of: int
    first: int
    last: int
    total: int
    torch: str


class Part(NamedTuple):
    """Part `number` of `of`, from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Parse `2/3`."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        part = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= part.number <= part.of:
            raise InputError(where=f"{param('part')} {text}", expected="I/N, part I of N parts, for instance 1/3")
        return part

    def rows(self, total: int, unit: int = 1, what: str = "row") -> range:
        """Return the rows of this part of `total` rows. Parts begin at multiples of `unit`.

        Raises InputError for a part without a row, where there are more parts than units.
        """
        units = -(-total // unit)
        if units < self.of:
            each = f", and parts are cut at multiples of {unit:,}" if unit > 1 else ""
            raise InputError(
                f"there are only {total:,} {what}{each}",
                where=f"{param('part')} {self}",
                remedy=f"use at most {units:,} {'part' if units == 1 else 'parts'}",
            )
        first, last = (units * number // self.of * unit for number in (self.number - 1, self.number))
        return range(first, min(last, total))

    def record(self, rows: range, total: int) -> PartRecord:
        """Return what the manifest of this part says of its place in the whole."""
        from importlib.metadata import version  # slow to import, and not needed for --help

        return {
            "number": self.number,
            "of": self.of,
            "first": rows.start,
            "last": rows.stop,
            "total": total,
            "torch": version("torch"),
        }

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class FinishedPart(NamedTuple):
    """A finished part: its path, its manifest, and its place in the whole."""

    path: Path
    record: dict[str, Any]
    part: PartRecord

    @property
    def name(self) -> str:
        """The part in words: `part 2 of 3`."""
        return f"part {self.part['number']} of {self.part['of']}"

    @property
    def cut(self) -> str:
        """What its request says of the part, beside its number: chunk and batch tokens where bits depend on them."""
        return str(self.record["request"]["arguments"].get("part")).partition(" ")[2]

    @property
    def advice(self) -> str:
        """How to make a part that fits the others."""
        number, of, tool = self.part["number"], self.part["of"], self.record["tool"]
        return f"make it again as the others were made, with `drtools {tool} {param('part')} {number}/{of}`"


def refuse_part(record: dict[str, Any], where: Path) -> None:
    """Raise InputError if a manifest is that of a part, where the whole is needed."""
    if "part" in record:
        found = FinishedPart(where, record, checked(record["part"], PartRecord, manifest.beside(where), DAMAGED))
        raise InputError(
            f"found only {found.name}",
            where=where,
            expected="the whole",
            remedy="put the parts together with `drtools gather`",
        )


def open_parts(paths: Sequence[str]) -> list[FinishedPart]:
    """Return the parts of a whole in order.

    Raises InputError for a path that is no part, a part of another whole, one that was given twice, and one that is
    missing.
    """
    parts = [_opened(Path(path)) for path in paths]
    first = parts[0]
    for part in parts[1:]:
        _refuse_foreign(part, first)
    parts.sort(key=lambda part: part.part["number"])
    for part, following in pairwise(parts):
        if part.part["number"] == following.part["number"]:
            raise InputError(f"is {part.name}, and so is {part.path}", where=following.path, remedy="pass one of them")
    missing = sorted({*range(1, first.part["of"] + 1)} - {part.part["number"] for part in parts})
    if missing:
        few = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise InputError(
            f"{'part' if len(missing) == 1 else 'parts'} {few} of {first.part['of']} {_is(missing)} missing",
            where=" ".join(paths[:3]) + (" ..." if len(paths) > 3 else ""),
            remedy=f"make {'it' if len(missing) == 1 else 'them'} with `drtools {first.record['tool']} {param('part')} "
            f"{missing[0]}/{first.part['of']}`{'' if len(missing) == 1 else ' and so on'}, and pass all parts",
        )
    _check_rows(parts)
    return parts


def _is(missing: Sequence[int]) -> str:
    return "is" if len(missing) == 1 else "are"


def _opened(path: Path) -> FinishedPart:
    record = manifest.read(path)
    if "part" not in record:
        raise InputError("is no part of an output", where=path, expected="what a tool writes with part I/N")
    return FinishedPart(path, record, checked(record["part"], PartRecord, manifest.beside(path), DAMAGED))


def _refuse_foreign(part: FinishedPart, first: FinishedPart) -> None:
    """Raise InputError if two parts are not of the same whole."""
    own, other = part.part, first.part
    if own["of"] != other["of"] or own["total"] != other["total"]:
        difference = f"{part.name}, of {own['total']:,} rows; {first.path} is {first.name}, of {other['total']:,}"
    elif not same(whole_request([part]), whole_request([first])):
        difference = differences(whole_request([first]), whole_request([part]))
    else:
        values = [("drtools", first.record.get("version"), part.record.get("version"))]
        values += [(param("part"), first.cut, part.cut), ("torch", other["torch"], own["torch"])]
        values += [(name, first.record.get(name), part.record.get(name)) for name in _facts(first, part)]
        difference = "; ".join(f"{name}: {then} then, {now} now" for name, then, now in values if then != now)
    if difference:
        raise InputError(
            f"is a part of another output than {first.path} ({difference})", where=part.path, remedy=part.advice
        )


OF_EACH = {"tool", "version", "created", "seconds", "request", "notices", "files", "fingerprint", "part"}


def _facts(*parts: FinishedPart) -> list[str]:
    """Return the keys of manifests that are the same in every part of a whole."""
    return sorted({name for part in parts for name in part.record} - OF_EACH - {"count", "counts", "pieces"})


def _check_rows(parts: Sequence[FinishedPart]) -> None:
    """Raise InputError if the rows of parts overlap or leave gaps: they were then cut at other places."""
    ends = [0, *(part.part["last"] for part in parts)]
    for part, end in zip(parts, ends, strict=False):
        if part.part["first"] != end or not part.part["first"] < part.part["last"] <= part.part["total"]:
            raise InputError(
                f"{part.name} begins at row {part.part['first']:,}, but the part before it ends at row {end:,}",
                where=part.path,
                remedy=part.advice,
            )
    part = parts[-1]
    if ends[-1] != parts[0].part["total"]:
        raise InputError(
            f"{part.name} ends at row {ends[-1]:,} of {part.part['total']:,}",
            where=part.path,
            remedy=part.advice,
        )


def whole_request(parts: Sequence[FinishedPart]) -> Request:
    """Return the request of the whole: that of its parts without the part."""
    request: Request = deepcopy(parts[0].record["request"])
    request["arguments"]["part"] = None
    return request


def replace_request(request: Request, whole: Request) -> None:
    """Have an output be made by the request of the whole, as if one machine made it."""
    for name in [*request]:
        request.pop(name)  # type: ignore[misc]
    request.update(whole)


def summed_counts(parts: Sequence[FinishedPart]) -> dict[str, int]:
    """Return the counts of all parts, in the order in which the parts name them."""
    total: Counter[str] = Counter()
    for part in parts:
        for name, count in part.record.get("counts", {}).items():
            total[name] += count
    return dict(total)


def origins(parts: Sequence[FinishedPart]) -> list[dict[str, Any]]:
    """Return what the manifest of the whole says of each part."""
    kept = ("fingerprint", "created", "seconds")
    return [
        {"part": str(Part(part.part["number"], part.part["of"])), **{name: part.record[name] for name in kept}}
        for part in parts
    ]


def gather_file(work: FileWork, parts: Sequence[FinishedPart]) -> None:
    """Write the content of files one after the other, and finish the work with the facts and counts of all.

    An output that an earlier process has begun is continued: its bytes are the first ones of the whole.
    """
    skipped = work.stream.tell() if work.offset else 0
    for part in parts:
        with gzip.open(part.path) if is_gzip_name(part.path) else open(part.path, "rb") as stream:
            while block := stream.read(1 << 20):
                work.stream.write(block[skipped:])
                skipped = max(0, skipped - len(block))
        for notice in part.record.get("notices", []):
            reporting.notice(1, f"{part.name}: {notice}")
    kept = {name: value for name, value in parts[0].record.items() if name not in OF_EACH}
    work.finish(**{**kept, "counts": summed_counts(parts)}, gathered=origins(parts))
