"""Refuse to publish a version with far fewer documents than the current one.

Documents can be missing by mistake: a share was not mounted, or one day's delivery took the place of the corpus.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from drtools import reporting
from drtools.errors import GateRefused, InputError, param
from drtools.outputs import manifest

ALLOW_SHRINKING = 0.1  # [ours] share of the current documents that a new version may lack


class Part(NamedTuple):
    """A folder of a version: its name, which is empty if the folder is the whole version, its kind and its side."""

    name: str
    kind: str
    side: str


def check_shrinking(records: Mapping[Path, Mapping[str, Any]], link: Path, current: Path, allowed: float) -> None:
    """Raise GateRefused if a folder lacks more than a share `allowed` of the documents in the version `current`.

    `records` are the manifests of the folders to publish. Folders of the same name, kind and side are compared. A
    folder that is published alone has no name in its version, so that only kind and side count.
    """
    try:
        before = _counts_in(current)
    except (InputError, OSError) as error:  # otherwise a damaged version could not be replaced
        return reporting.notice(1, f"{current}: its documents could not be counted, so nothing was compared ({error})")
    now = _counts((folder.name if len(records) > 1 else "", record) for folder, record in records.items())
    lacking = {key: (count - now[key]) / count for key, count in before.items() if count > now.get(key, count)}
    refused = [key for key, share in lacking.items() if not share <= allowed]
    if refused:
        clauses = [
            f"{key.name or next(iter(records))} has {now[key]:,} {'queries' if key.side == 'query' else 'documents'}, "
            f"where the current version has {before[key]:,}"
            for key in refused
        ]
        raise GateRefused(
            f"{link}: {', '.join(clauses)}; a share of at most {allowed:g} may be missing, so nothing was published; "
            f"pass {param('allow_shrinking')} {math.ceil(max(lacking.values()) * 100) / 100:g} if this is meant"
        )


def _counts_in(version: Path) -> dict[Part, int]:
    record = manifest.read_manifest(version / manifest.NAME)
    if record.get("kind") != "release":
        return _counts([("", record)])
    places = sorted(version.glob(f"*/{manifest.NAME}"))
    return _counts((place.parent.name, manifest.read_manifest(place)) for place in places)


def _counts(records: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[Part, int]:
    return {
        Part(name, str(record.get("kind")), record.get("side") or "document"): record["count"]
        for name, record in records
        if "count" in record
    }
