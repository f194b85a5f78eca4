"""The record of a training run: a JSON line a record and, if it is wanted, the same numbers for TensorBoard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from drtools.errors import InputError, param

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Log:
    """Write records to `path`, and their numbers into the TensorBoard folder `tensorboard` under their names.

    To continue, give the byte `position` of the last checkpoint: what was written beyond it is cut off. TensorBoard
    forgets what an earlier process showed at `first_step`, the step of the first record to come, and later.
    """

    def __init__(self, path: Path, position: int = 0, tensorboard: str | None = None, first_step: int = 0) -> None:
        self.board = _board(tensorboard, first_step) if tensorboard else None
        self.stream = open(path, "r+b" if position else "wb")  # noqa: SIM115 closed by close
        self.stream.seek(position)
        self.stream.truncate()

    def write(self, record: dict[str, Any]) -> None:
        """Add a record; it holds a `step`."""
        self.stream.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        if self.board is not None:
            for name, value in record.items():
                if name != "step" and isinstance(value, int | float):
                    self.board.add_scalar(name, value, record["step"])

    def position(self) -> int:
        """Return the bytes written so far, which are on the disk then."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        if self.board is not None:
            self.board.flush()
        return self.stream.tell()

    def close(self) -> None:
        """Write out what is left."""
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
