"""Copies of a model as it stood after chosen steps or minutes, for curves over the time of a training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from drtools.errors import UserError

if TYPE_CHECKING:
    from drtools.output import Work

FOLDER, FACTS = "snapshots", "snapshot.json"


def parse_times(flag: str, words: str | None) -> list[float]:
    """Read `1,2.5,10`: rising numbers above 0."""
    try:
        times = [float(word) for word in words.split(",")] if words else []
    except ValueError:
        times = [-1.0]
    if any(later <= earlier for earlier, later in zip([0.0, *times], times, strict=False)):
        raise UserError(f"{flag} {words}: expected rising numbers above 0, for instance 5,10,20")
    return times


class Snapshots:
    """Writes OUT/snapshots/STEP when a step or a minute has come; the loop tells it of each step.

    `write(folder)` writes the model. What a stopped training made after the point from where it goes on is made again.
    """

    def __init__(self, work: Work, steps: list[float], minutes: list[float], write: Callable[[Path], object]) -> None:
        self.folder, self.partial, self.steps, self.minutes, self.write = work.path / FOLDER, work.working / "snapshot", steps, minutes, write
        self.facts: list[dict] = []  # {"step", "seconds"} of each
        for facts in (json.loads(path.read_bytes()) for path in self.folder.glob(f"*/{FACTS}")):
            if facts["step"] > work.state["step"]:
                shutil.rmtree(self.folder / str(facts["step"]))
            else:
                self.facts.append(facts)

    def __call__(self, step: int, seconds: float) -> None:
        """Write a snapshot if one is due after this step."""
        last = max((facts["seconds"] for facts in self.facts), default=0.0)  # a minute is due once
        if step in self.steps or any(last < 60 * minute <= seconds for minute in self.minutes):
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir()
            self.write(self.partial)
            self.facts.append({"step": step, "seconds": seconds})
            (self.partial / FACTS).write_text(json.dumps(self.facts[-1]) + "\n")
            self.folder.mkdir(exist_ok=True)
            self.partial.replace(self.folder / str(step))
