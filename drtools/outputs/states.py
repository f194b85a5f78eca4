"""States of unfinished work: dataclasses whose fields are the keys of a JSON object on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from drtools.errors import InputError
from drtools.outputs.checksums import Span
from drtools.outputs.records import checked_fields
from drtools.outputs.state_file import START_AFRESH, STATE
from drtools.outputs.work import Work


def _is_below_zero(value: object) -> bool:
    """Return whether a whole number in a value is negative. A training that begins at step -10^9 would hardly end."""
    if isinstance(value, dict | list):
        return any(map(_is_below_zero, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and value < 0


@dataclass(kw_only=True)
class State:
    """The state from which a later process continues.

    Fields that earlier releases did not write have a default. `version` increases when the meaning of a field changes.
    Version 1 is not written, since 0.1.0 had no versions.
    """

    version: ClassVar[int] = 1

    @classmethod
    def of(cls, work: Work) -> Self | None:
        """Return the state that an earlier process saved for some work, None if it saved none.

        Raises InputError if the state is of another version, or if a value does not have the type of its field.
        """
        if not work.state:
            return None
        path, found = work.path / STATE, work.state.get("version", 1)
        if found != cls.version:
            raise InputError(
                (
                    f"version {found} was found, expected {cls.version}; continue with the release of drtools that "
                    f"began the work, or {START_AFRESH}"
                ),
                where=path,
            )
        values = checked_fields(work.state, cls, path, START_AFRESH)
        below = [name for name, value in values.items() if _is_below_zero(value)]
        if below:
            raise InputError(
                f"{below[0]} is below 0", where=path, expected="numbers of what was done", remedy=START_AFRESH
            )
        return cls(**values)

    def record(self) -> dict[str, Any]:
        """Return the JSON object that is written."""
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        return record if self.version == 1 else {**record, "version": self.version}

    def save(self, work: Work, spans: Mapping[str, Span] | None = None) -> None:
        """Make the work so far durable, with this state to continue from. For `spans` see `Work.save`."""
        work.save(spans, **self.record())
