"""The log of a training: one JSON line for each record and, if requested, the same numbers for TensorBoard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from drtools.errors import InputError, param

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Log:
    """Writes records to `path`, and their numbers to the TensorBoard folder `tensorboard` under their names.

    To continue, pass the byte `position` of the last checkpoint; what was written after it is cut off. TensorBoard
    discards what an earlier process wrote from `first_step` on, which is the step of the next record.
    """

    def __init__(self, path: Path, position: int = 0, tensorboard: str | None = None, first_step: int = 0) -> None:
        self.board = _board(tensorboard, first_step) if tensorboard else None
        self.stream = open(path, "r+b" if position else "wb")  # noqa: SIM115 closed by close
        self.stream.seek(position)
        self.stream.truncate()

    def write(self, record: dict[str, Any]) -> None:
        """Append a record, which has a `step`."""
        self.stream.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        if self.board is not None:
            for name, value in record.items():
                if name != "step" and isinstance(value, int | float):
                    self.board.add_scalar(name, value, record["step"])

    def position(self) -> int:
        """Flush to the disk, and return the number of bytes written so far."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        if self.board is not None:
            self.board.flush()
        return self.stream.tell()

    def close(self) -> None:
        """Write the remaining records and close the file."""
        self.stream.close()
        if self.board is not None:
            self.board.close()


def _board(folder: str, first_step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise InputError(
            "the package tensorboard is not installed",
            where=param("tensorboard"),
            remedy="run pip install 'drtools[tensorboard]', or leave the flag out",
        ) from None
    return SummaryWriter(folder, purge_step=first_step)
