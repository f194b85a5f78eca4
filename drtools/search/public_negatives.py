"""MS MARCO's public hard negatives as a folder with examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from drtools import reporting
from drtools.errors import InputError
from drtools.formats.hard_negatives import read_hard_negatives, read_scores
from drtools.formats.lines import shown
from drtools.outputs.fingerprints import file_fingerprint
from drtools.outputs.opening import open_folder
from drtools.outputs.specs import OutputSpec
from drtools.units import counted


def write_public_negatives(
    folder: OutputSpec,
    source: str,
    scores: str | None,
    systems: Sequence[str] | None = None,
    per_system: int | None = None,
) -> None:
    """Write a folder with the examples of the public file, with a teacher's scores if `scores` is given.

    The texts are those of MS MARCO's collection. Negatives are those of the `systems` alone, if any are named, and
    of each the first `per_system`.
    """
    with open_folder(folder) as work:
        known = read_scores(scores) if scores else None
        teacher = f"{Path(scores).name.split('.')[0]}@{file_fingerprint(Path(scores))}" if scores else None
        counts: Counter[str] = Counter()
        with open(work.path / "examples.jsonl", "wb") as stream:
            for example in read_hard_negatives(source, known, teacher, systems, per_system):
                counts["queries"] += 1
                counts["negatives"] += len(example.negatives)
                counts["without positives"] += not example.positives
                counts["unscored"] += sum(
                    kept.count(None) for kept in (example.positive_scores, example.negative_scores) if kept
                )
                stream.write(example.line())
        if not counts["queries"]:
            raise InputError("no records", where=shown(source), expected="lines of qid, pos and neg")
        reporting.notice(
            counts["without positives"],
            f"{counted(counts['without positives'], 'query has', 'queries have')} no positive",
        )
        reporting.notice(
            counts["unscored"], f"{counted(counts['unscored'], 'document has', 'documents have')} no score in {scores}"
        )
        work.finish(kind="training", format="msmarco-hard-negatives", queries=counts["queries"], counts=dict(counts))
    reporting.say(
        f"{folder.output}: {counted(counts['queries'], 'query', 'queries')} with "
        f"{counted(counts['negatives'], 'negative')}"
    )
