r"""Merge deliveries of new, changed and deleted documents into a corpus.

    drtools merge-deliveries --corpus corpus.jsonl.gz arrivals/monday.jsonl -o monday.jsonl.gz
    drtools merge-deliveries --corpus corpus.jsonl.gz arrivals --quarantine refused \
        -o today.jsonl.gz
    drtools merge-deliveries --corpus corpus.jsonl.gz arrivals/monday.jsonl \
        --since corpus.jsonl.gz -o since.jsonl.gz

A delivery is a file of documents, or a folder whose .jsonl and .tsv files (may be .gz) are taken in the order of their
names. A document whose id the corpus has replaces it in its place, a new one is added at the end, and
{"_id": "d1", "deleted": true} takes one out. Where deliveries name the same id, the last counts. Lines of JSON are
copied as they are. If no document changes, the output has the bytes of the old corpus, and a line says so.

A delivery with anything wrong in it is refused as a whole, and the tool ends. With --quarantine it is left out instead,
a note names file, line and cause, and after the output is written the file is moved into that folder, with its reason
beside it as NAME.reason.txt. With --strict nothing is written or moved in such a case.

--since counts what is new, changed, deleted or missing since an earlier corpus. A document is missing if the earlier
corpus has it, the new one does not, and no delivery deletes it. If more than a tenth is missing, as when a share is not
mounted, nothing is written or moved and the exit status is 3 (--allow-dropped).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import Role
from drtools.cli.flags.outputs import FileOutput
from drtools.errors import AlreadyDone, InputError, param
from drtools.formats.corpus_changes import Documents, Watched, check_missing, counts_since, line_of_changes
from drtools.formats.deliveries import Changes, count_lines, files_of, keys_of_corpus, line_of_counts, merge
from drtools.formats.dropped import ALLOW_DROPPED
from drtools.formats.lines import reads_once
from drtools.outputs.opening import open_file
from drtools.outputs.quarantine import Refusal, check_quarantine, left_from, refusal_of, set_aside
from drtools.units import counted


@dataclass(frozen=True)
class SinceFlags:
    """What the new corpus is compared with."""

    since: Annotated[
        str | None,
        Option(help="earlier corpus, JSONL: count what has changed since, and refuse if much is missing"),
        Role.INPUT,
    ] = None
    allow_dropped: Annotated[
        float | None,
        Option(
            min=0,
            max=1,
            help=f"with --since: largest share of documents that may be missing; default: {ALLOW_DROPPED:g}",
        ),
        Role.UNRECORDED,
    ] = None

    def check(self) -> None:
        """Raise InputError for flags that do not go together."""
        if self.allow_dropped is not None and not self.since:
            raise InputError("--allow-dropped needs --since", remedy="pass --since too, or leave --allow-dropped out")


def main(
    file: FileOutput,
    deliveries: Annotated[
        list[str], Argument(help="files of documents (JSONL or TSV, may be `.gz`), or folders of them"), Role.INPUT
    ],
    corpus: Annotated[str, Option(help="corpus to merge them into: JSONL, may be `.gz`"), Role.INPUT],
    quarantine: Annotated[
        str | None,
        Option(help="folder to move bad deliveries into; default: the tool ends at a bad delivery"),
        Role.UNRECORDED,
    ] = None,
    comparing: SinceFlags = SinceFlags(),
) -> None:
    """Write the corpus with the deliveries merged into it, and set bad ones aside."""
    comparing.check()
    paths, unread = files_of(deliveries)
    _check_apart([corpus, file.output], paths)
    if quarantine is not None:
        check_quarantine(Path(quarantine), map(Path, deliveries))
    refused: list[Refusal] = []
    try:
        with open_file(file) as work:
            reporting.notice(
                len(unread),
                f"{counted(len(unread), 'file is', 'files are')} neither .jsonl nor .tsv and not read (for instance "
                f"{unread[0] if unread else ''})",
            )
            changes, lines = Changes(keys_of_corpus(corpus)), 0
            for path in paths:
                refusal = _take(changes, path, quarantine)
                if refusal:
                    refused.append(refusal)
                    lines += count_lines(path)
            counts, changed = _merge(corpus, changes, work.stream, comparing)
            counts |= {"refused_files": len(refused), "refused_documents": lines}
            reporting.say(line_of_counts(counts))
            if comparing.since:
                reporting.say(line_of_changes(comparing.since, changed))
            if not (counts["new"] or counts["changed"] or counts["deleted"]):
                reporting.say(f"no document changed: the content is that of {corpus}")
            facts = {"since": changed} if changed else {}
            work.finish(kind="corpus", counts=counts, **facts, refused=[refusal.record() for refusal in refused])
    except AlreadyDone:
        refused = left_from(Path(file.output), [Path(path) for path in paths if not reads_once(path)])
        if refused and quarantine is None:
            raise InputError(
                refused[0].message, remedy=f"mend it, or use {param('quarantine')} to set it aside"
            ) from None
        _move(quarantine, refused)
        raise
    reporting.check_strict()  # standard output has no finish that checks it
    _move(quarantine, refused)


def _take(changes: Changes, path: str, quarantine: str | None) -> Refusal | None:
    """Take in a delivery; return why it is refused, or raise InputError if it cannot be set aside."""
    try:
        changes.take(path)
    except InputError as error:
        if reads_once(path):  # a pipe cannot be moved
            raise
        if quarantine is None:
            raise _with_advice(error) from None
        reporting.notice(1, f"{error.message}; the delivery is refused as a whole")
        return refusal_of(Path(path), error)
    return None


def _merge(
    corpus: str, changes: Changes, stream: BinaryIO, comparing: SinceFlags
) -> tuple[dict[str, int], dict[str, int]]:
    """Write the new corpus; return the counts of the merge, and those of what has changed since an earlier corpus."""
    if not comparing.since:
        return merge(corpus, changes, stream), {}
    id_key = changes.keys.id if changes.keys else None
    earlier, watched = Documents.of(comparing.since, id_key), Watched(stream, "the new corpus", id_key)
    counts = merge(corpus, changes, watched)
    deletions = (document for document, delivered in changes.of.items() if delivered.line is None)
    changed, missing = counts_since(earlier, watched.documents, deletions)
    check_missing(
        earlier, changed, missing, ALLOW_DROPPED if comparing.allow_dropped is None else comparing.allow_dropped
    )
    return counts, changed


def _check_apart(others: list[str], paths: list[str]) -> None:
    """Raise InputError if the corpus or the output is one of the deliveries."""
    found = {Path(path).resolve(): path for path in paths if not reads_once(path)}
    for other in others:
        if other != "-" and Path(other).resolve() in found:
            raise InputError("is among the deliveries", where=other, remedy="keep it in another folder")


def _with_advice(error: InputError) -> InputError:
    """Return an error in a delivery with the other next move."""
    remedies = [error.remedy, f"{param('quarantine')} FOLDER sets bad deliveries aside and goes on"]
    return InputError(error.found, where=error.where, expected=error.expected, remedy="; ".join(filter(None, remedies)))


def _move(quarantine: str | None, refused: list[Refusal]) -> None:
    """Move refused deliveries into the quarantine."""
    if quarantine is None or not refused:
        return
    moved, stayed = set_aside(Path(quarantine), refused)
    if moved:
        reporting.say(f"{counted(len(moved), 'refused delivery', 'refused deliveries')} moved into {quarantine}")
    for path in stayed:
        reporting.say(f"{path}: changed while it was read, and stays; the next run reads it again")
