"""Put the scores of a run, from any other ranker, into examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.examples import read_examples
from drtools.formats.lines import local, shown
from drtools.formats.stored_run import open_run
from drtools.outputs.fingerprints import file_fingerprint
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.outputs.work import Work


def put_scores(work: Work, path: str, scores: str) -> None:
    """Write examples with the scores that a run has for their positives and negatives; others get none.

    `scored_by` is the run's file name with its fingerprint. Raises InputError for dark items, which no run can score,
    and if the run has no score for any example.
    """
    from drtools.methods.fgd.piece_scores import drop_pieces

    run = open_run(scores)
    name = f"{Path(shown(scores)).name}@{file_fingerprint(Path(local(scores)))}"
    counts = Counter[str]()
    assert work.stream is not None, "a file is written"
    for example in read_examples(path):
        if example.dark:
            raise InputError(
                f"query {example.query_id} has dark items, whose scores no run has",
                where=shown(path),
                remedy=f"use {param('teacher')}, or examples without dark items",
            )
        found = run.get(example.query_id, {})
        example.positive_scores = _scores(found, example.positives)
        example.negative_scores = _scores(found, example.negatives)
        counts["dropped"] += drop_pieces(example, name)
        example.scored_by = name
        both = [*example.positive_scores, *example.negative_scores]
        without = sum(score is None for score in both)
        counts.update({"examples": 1, "pairs": len(both) - without, "lacking": without, "lacking queries": not found})
        work.stream.write(example.line())
    if not counts["pairs"]:
        raise InputError(
            f"it has no score for any of {counted(counts['examples'], 'example')}; do the files belong together?",
            where=shown(scores),
        )
    reporting.say(f"{counted(counts['pairs'], 'pair')} with a score of {shown(scores)}")
    reporting.notice(
        counts["lacking"],
        f"{counted(counts['lacking'], 'document of the examples is', 'documents of the examples are')} not in "
        f"{shown(scores)} for their query; without a score"
        + (
            f" ({counted(counts['lacking queries'], 'query', 'queries')} not at all)"
            if counts["lacking queries"]
            else ""
        ),
    )
    dropped = counted(counts["dropped"], "example had pieces", "examples had pieces")
    reporting.notice(counts["dropped"], f"{dropped} that another teacher scored; left out")
    work.finish(kind="examples", scored_by=name, counts=dict(counts))


def _scores(found: Mapping[str, float], documents: Sequence[str]) -> list[float | None]:
    return [found.get(document) for document in documents]
