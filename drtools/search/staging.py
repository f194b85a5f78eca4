"""Copies parts of an array in memory, or in a file, to a GPU while the GPU computes with the part before.

Each part goes through one of two page-locked halves: a thread fills one while the other is copied, on a stream of its
own. From memory that is not page-locked a copy takes twice as long, and the GPU waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from drtools.formats.joined_vectors import JoinedArray

HALF_BYTES = 64 << 20


def rows_of_half(dimension: int, dtype: np.dtype) -> int:
    """Return how many rows of an array fit into a half."""
    return max(1, HALF_BYTES // (dimension * dtype.itemsize))


def staged(
    array: np.ndarray | JoinedArray, parts: Sequence[slice | np.ndarray], device: str
) -> Iterator[tuple[int, Tensor]]:
    """Yield (number of rows, rows [n, D] on the device, in the array's type) for each part of an array [N, D].

    A part is a slice, or an array of rows. On a processor the memory is not page-locked, and nothing is asynchronous
    but the thread.
    """
    counts = [len(range(*part.indices(len(array)))) if isinstance(part, slice) else len(part) for part in parts]
    on_gpu, most = device.startswith("cuda"), max(counts, default=0)
    kind = torch.float16 if array.dtype == np.float16 else torch.float32
    halves = [torch.empty(most, array.shape[1], dtype=kind, pin_memory=on_gpu) for _ in range(2)]
    stream = torch.cuda.Stream(device) if on_gpu else None
    copied: list[torch.cuda.Event | None] = [None, None]

    def copy(place: int) -> Tensor:
        half, event = halves[place % 2], copied[place % 2]
        if event is not None:
            event.synchronize()  # the copy from this half, two parts ago
        filled = half[: counts[place]]
        filled.numpy()[:] = array[parts[place]]
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            there = filled.to(device, non_blocking=True) if on_gpu else filled.clone()
            if stream is not None:
                copied[place % 2] = stream.record_event()
        return there

    with ThreadPoolExecutor(1) as thread:
        ahead: Future[Tensor] | None = None
        for place, count in enumerate(counts):
            part = (ahead or thread.submit(copy, place)).result()
            event = copied[place % 2]
            ahead = thread.submit(copy, place + 1) if place + 1 < len(counts) else None
            if event is not None:
                own = torch.cuda.current_stream(device)
                own.wait_event(event)
                part.record_stream(own)  # its memory is not given away before that stream has read it
            yield count, part


def gathered(array: np.ndarray | JoinedArray, rows: np.ndarray, device: str) -> Tensor:
    """Return rows of an array [N, D] as float32 [len(rows), D] on the device, copied in two halves or more."""
    if not len(rows):
        return torch.empty(0, array.shape[1], device=device)
    pieces = max(2, -(-len(rows) // rows_of_half(array.shape[1], array.dtype)))
    parts = [part for part in np.array_split(rows, pieces) if len(part)]
    return torch.cat([part.float() for _, part in staged(array, parts, device)])
