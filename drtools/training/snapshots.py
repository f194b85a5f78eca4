"""Copies of a model after given steps or minutes, for curves over the time of a training."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from drtools import reporting
from drtools.errors import InputError
from drtools.outputs.disk import read_json
from drtools.outputs.places import without_places
from drtools.outputs.records import checked
from drtools.outputs.state_file import START_AFRESH
from drtools.training.state import TrainingState

if TYPE_CHECKING:
    from drtools.outputs.work import Work

FOLDER, FACTS = "snapshots", "snapshot.json"


def parse_times(flag: str, words: str | None, whole: bool = False) -> list[float]:
    """Parse `1,2.5,10`: rising numbers above 0, which must be whole with `whole`."""
    try:
        times = [float(word) for word in words.split(",")] if words else []
    except ValueError:
        times = [-1.0]
    if not all(
        earlier < later < math.inf and not (whole and later % 1)
        for earlier, later in zip([0.0, *times], times, strict=False)
    ):
        raise InputError(
            where=f"{flag} {words}",
            expected=f"rising {('whole ' if whole else '')}numbers above 0, such as 5,10,20",
        )
    return times


class SnapshotFacts(TypedDict):
    """The steps and seconds of training after which a snapshot was written."""

    step: int
    seconds: float


class Snapshots:
    """Writes OUT/snapshots/STEP when a step or a minute is due. The loop calls it after each step.

    `write(folder)` writes the model and returns further facts for snapshot.json. Snapshots after the point from which a
    stopped training continues are made again.
    """

    def __init__(
        self, work: Work, steps: list[float], minutes: list[float], write: Callable[[Path], dict[str, Any]]
    ) -> None:
        self.folder, self.partial, self.steps, self.minutes, self.write = (
            work.path / FOLDER,
            work.working / "snapshot",
            steps,
            minutes,
            write,
        )
        self.facts: list[SnapshotFacts] = []
        state = TrainingState.of(work)
        for path in self.folder.glob(f"*/{FACTS}"):
            facts = checked(read_json(path, remedy=START_AFRESH), SnapshotFacts, path, START_AFRESH)
            if state is None or facts["step"] > state.step:
                shutil.rmtree(path.parent)
            else:
                self.facts.append({"step": facts["step"], "seconds": facts["seconds"]})

    def __call__(self, step: int, seconds: float) -> None:
        """Write a snapshot if one is due after this step."""
        last = max((facts["seconds"] for facts in self.facts), default=0.0)  # each minute is due once
        if step in self.steps or any(last < 60 * minute <= seconds for minute in self.minutes):
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir()
            told = self.write(self.partial)
            self.facts.append({"step": step, "seconds": seconds})
            (self.partial / FACTS).write_text(json.dumps(without_places({**self.facts[-1], **told})) + "\n")
            self.folder.mkdir(exist_ok=True)
            self.partial.replace(self.folder / str(step))

    def report_missed(self, steps: int, seconds: float) -> None:
        """Report the requested snapshots that were not due before the training ended."""
        last = max((facts["seconds"] for facts in self.facts), default=0.0)
        missed = [f"step {step:,.0f}" for step in self.steps if step > steps] + [
            f"minute {minute:g}" for minute in self.minutes if 60 * minute > last
        ]
        reporting.notice(
            len(missed),
            f"training ended after {steps:,} steps, {seconds / 60:.1f} minutes: no snapshot of {', '.join(missed)}",
        )
