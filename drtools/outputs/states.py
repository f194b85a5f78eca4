"""States of unfinished work: dataclasses whose fields are the keys of the JSON object that is kept on the disk."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from drtools.errors import InputError
from drtools.outputs.state_file import START_AFRESH, STATE
from drtools.outputs.typed_json import checked_fields
from drtools.outputs.work import Work


@dataclass(kw_only=True)
class State:
    """What a later process continues from.

    A field with a default is one that earlier releases did not write. `version` grows when the meaning of a field
    changes; version 1 is not written, as 0.1.0 knows no versions.
    """

    version: ClassVar[int] = 1

    @classmethod
    def of(cls, work: Work) -> Self | None:
        """Return what an earlier process saved of some work, None if it saved nothing.

        InputError if it is of another version, or not of the fields' types.
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
        return cls(**checked_fields(work.state, cls, path, START_AFRESH))

    def record(self) -> dict[str, Any]:
        """Return the keys that are written."""
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        return record if self.version == 1 else {**record, "version": self.version}

    def save(self, work: Work) -> None:
        """Make what was written of some work so far durable, with this state to continue from."""
        work.save(**self.record())
