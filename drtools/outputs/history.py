"""The history of a published link: LINK.history.jsonl, with one JSON line for each publication.

A line holds what the manifests of the published folders know: documents, vectors, judgements, measures. It is written
in one piece. If a kill or a full disk cuts it short, the next line starts after a newline, and the cut line does not
count.
"""

import datetime
import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from drtools import __version__
from drtools.errors import InputError, WorldError
from drtools.outputs import contents, manifest
from drtools.outputs.disk import flush_to_disk, read_json
from drtools.outputs.records import NUMBER, TEXT, WHOLE, as_json, map_of, object_of

SUFFIX = ".history.jsonl"
COUNTS = ("documents", "vectors", "queries", "judgements")
PUBLICATION = object_of(
    {
        **dict.fromkeys(("date", "version", "fingerprint"), TEXT),
        **dict.fromkeys((*COUNTS, "notices"), WHOLE),
        "measures": map_of(NUMBER),
        "fingerprints": map_of(TEXT),
        "measured_on": map_of(TEXT),
    },
    needed=("date", "version"),
)


MEASURED = object_of(
    {"measures": map_of(NUMBER), "queries": WHOLE, "judgements": WHOLE, "measured_on": map_of(TEXT)},
    needed=("measures", "measured_on"),
)


class History(NamedTuple):
    """The publications of a link, oldest first, and the number of lines in its file that are not publications."""

    publications: list[dict[str, Any]]
    damaged: int


def history_of(link: Path) -> History:
    """Read the history of a link; it is empty if there is no file."""
    path = link.with_name(link.name + SUFFIX)
    return read_history(path) if path.exists() else History([], 0)


def read_history(path: Path) -> History:
    """Read a file of publications, and count the lines that are not publications."""
    publications, damaged = [], 0
    for line in path.read_bytes().splitlines():
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            value = None
        if PUBLICATION.fits(value):
            publications.append(value)
        else:
            damaged += 1
    return History(publications, damaged)


def last_dates(link: Path) -> dict[str, float]:
    """Return {version name: time of its last publication, in seconds since the epoch}."""
    dates = {}
    for each in history_of(link).publications:
        with suppress(ValueError, OverflowError):
            dates[each["version"]] = datetime.datetime.fromisoformat(each["date"]).timestamp()
    return dates


def first_values(link: Path) -> dict[str, float]:
    """Return each measure's value in the first publication of a link that has it."""
    values: dict[str, float] = {}
    for each in history_of(link).publications:
        values = {**each.get("measures", {}), **values}
    return values


def note_publication(link: Path, version: Path, seconds: float, more: Mapping[str, str] | None = None) -> None:
    """Append that `link` names a version since a time (seconds since the epoch), unless the last line already does.

    `more` is recorded with it. The caller holds the lock of the link.
    """
    known = history_of(link).publications
    if known and known[-1]["version"] == version.name:
        return
    date = datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    _append(
        link.with_name(link.name + SUFFIX),
        as_json({"date": date, "version": version.name, "drtools": __version__, **(more or {}), **facts_of(version)})
        + b"\n",
    )


def _append(path: Path, line: bytes) -> None:
    """Append a line in one write."""
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except OSError as error:
        raise WorldError(
            f"{path}: {error.strerror}; {path.name.removesuffix(SUFFIX)} is published, and the next "
            "publication, or the same command again, adds the missing line"
        ) from None
    finally:
        os.close(descriptor)
    if is_new:
        flush_to_disk(path.parent)


def facts_of(version: Path) -> dict[str, Any]:
    """Return what the manifests of a version's folders know. A manifest that is damaged or missing adds nothing."""
    records = dict(_records_of(version))
    whole = records.pop("", {})
    parts = records or {"": whole}
    facts: dict[str, Any] = {"fingerprint": whole["fingerprint"]} if "fingerprint" in whole else {}
    for record in parts.values():
        for name, value in _counts_of(record).items():
            facts[name] = max(facts.get(name, 0), value)
    names = {name: f"{name} " if len(parts) > 1 else "" for name in parts}
    measures = [(names[name], *each) for name, record in parts.items() for each in _measures_of(record).items()]
    words = [measure for _, measure, _ in measures]
    facts["measures"] = {
        (part if words.count(measure) > 1 else "") + measure: value for part, measure, value in measures
    }
    facts["fingerprints"] = {name: record["fingerprint"] for name, record in records.items() if "fingerprint" in record}
    facts["notices"] = sum(len(record.get("notices", ())) for record in parts.values())
    measured = measured_in(version)
    return {**facts, **measured, "measures": facts["measures"] | measured.get("measures", {})}


def measured_in(version: Path) -> dict[str, Any]:
    """Return the measures that a version was published with; empty for a version without, or if they were damaged."""
    path = version / contents.PUBLICATION
    try:
        found = dict(read_json(path)) if path.is_file() else {}
    except InputError:
        return {}
    return found if MEASURED.fits(found) else {}


def _records_of(version: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, manifest) for a version, whose name is "", and for each folder in a release."""
    try:
        whole = manifest.read_manifest(version / manifest.NAME)
    except (OSError, InputError):
        return
    yield "", whole
    if whole.get("kind") != "release":
        return
    for part in sorted(version.iterdir()):
        try:
            if part.is_dir():
                yield part.name, manifest.read_manifest(part / manifest.NAME)
        except (OSError, InputError):
            continue


def _counts_of(record: dict[str, Any]) -> dict[str, int]:
    """Return the counts of a manifest that the history shows."""
    told = {**record, **record.get("counts", {})}
    found = {name: told[name] for name in COUNTS if WHOLE.fits(told.get(name))}
    kind, count = record.get("kind"), record.get("count")
    if WHOLE.fits(count) and kind in ("vectors", "faiss", "lucene", "milvus"):
        if kind != "lucene":
            found["vectors"] = count
        if kind == "lucene" or record.get("side") == "document":
            found["documents"] = count
    return found


def _measures_of(record: dict[str, Any]) -> dict[str, float]:
    """Return the measures in a manifest: a training's best on dev, those of an evaluation, the recall of an index."""
    found = {name: value for name, value in _map(record.get("measures")).items() if NUMBER.fits(value)}
    if record.get("best"):
        found[f"dev {record['best']['measure']}"] = record["best"]["value"]
    if record.get("recall"):
        found[f"recall of top {record['recall']['depth']}"] = record["recall"]["value"]
    return found


def _map(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
