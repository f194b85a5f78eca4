"""Several processes that train one model, started by torchrun.

Each process holds the same weights, encodes its share of each batch, and takes the same step. Vectors are gathered, and
gradients of parameters are summed.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, distributed, nn

from drtools.process_ranks import rank, world_size

if TYPE_CHECKING:
    from drtools.outputs.work import Work

Value = TypeVar("Value")
Shares = Callable[[int], list[slice]]  # number of items -> the share of each process
PATIENCE = datetime.timedelta(hours=24)  # the other processes wait while rank 0 evaluates or writes


def single_share(count: int) -> list[slice]:
    """Return the share of a single process: all items."""
    return [slice(0, count)]


class World:
    """The processes of this training. With a single process, exchanges do nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        """Whether this process has rank 0, which reports and writes."""
        return self.rank == 0

    def shares(self, count: int) -> list[slice]:
        """Return the share of each process of `count` items, as consecutive slices in the order of ranks."""
        return [slice(count * rank // self.size, count * (rank + 1) // self.size) for rank in range(self.size)]

    def gather(self, own: Tensor, counts: Sequence[int]) -> Tensor:  # [n, D] -> [sum of counts, D]
        """Return the rows of all processes in the order of ranks. `counts` has the number of rows of each process."""
        if self.size == 1:
            return own
        longest = max(counts)
        padded = own.new_zeros(longest, own.shape[1])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients over all processes. A parameter without a gradient in any process keeps none."""
        if self.size == 1:
            return
        device = parameters[0].device
        has = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32, device=device)
        distributed.all_reduce(has, distributed.ReduceOp.MAX)
        reached = [parameter for parameter, anybody in zip(parameters, has.tolist(), strict=True) if anybody]
        flat = torch.cat(
            [
                (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).flatten()
                for parameter in reached
            ]
        )
        distributed.all_reduce(flat)
        for parameter, summed in zip(reached, flat.split([parameter.numel() for parameter in reached]), strict=True):
            parameter.grad = summed.view_as(parameter)

    def agree(self, asked: bool, seconds: float) -> tuple[bool, float]:
        """Return whether any process was asked to stop, and the seconds on the clock of rank 0."""
        if self.size == 1:
            return asked, seconds
        told = torch.tensor([float(asked), seconds if self.is_first else 0.0], dtype=torch.float64)
        if distributed.get_backend() == "nccl":
            told = told.cuda()
        distributed.all_reduce(told)
        return bool(told[0] > 0), float(told[1])

    def broadcast(self, value: Value) -> Value:
        """Return the value of rank 0 in every process."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Wait until every process has reached this call."""
        if self.size > 1:
            distributed.barrier()

    def leave(self) -> None:
        """Leave the process group."""
        if self.size > 1:
            distributed.destroy_process_group()


def join_processes(work: Work, device: str) -> World:
    """Join the other processes of this torchrun, if there are any.

    Rank 0 sends them the saved state of an earlier process.
    """
    size = world_size()
    if size == 1:
        return World()
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    world = World(rank(), size)
    work.state = world.broadcast(work.state)
    return world
