"""Dropout on a processor from random bits drawn four to a number, by a generator of the thread's own.

torch draws its own dropout one number at a time and from one generator for all threads: about 10 ns a number here, and
nothing can be repeated once several threads draw. These bits cost under 1 ns, and what a thread draws depends on its
seed alone.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

LEVELS = 65536

_of_thread = threading.local()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw this thread's dropout from here on by a seed."""
    _of_thread.bits = np.random.SFC64(seed)
    yield
    del _of_thread.bits


def multipliers(shape: torch.Size, share: float, dtype: torch.dtype) -> Tensor:
    """Return a tensor of 0 with probability `share` (to the nearest of 65,536 levels) and else of 1 / (1 - share)."""
    dropped = round(share * LEVELS)
    count = math.prod(shape)
    bits = _of_thread.bits.random_raw(-(-count // 4)).view(np.int16)[:count]
    keep = torch.from_numpy(bits).view(shape) >= dropped - LEVELS // 2
    return keep.to(dtype).mul_(LEVELS / (LEVELS - dropped))


class Dropout(nn.Dropout):
    """nn.Dropout with the thread's own bits."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop values while training."""
        return input * multipliers(input.shape, self.p, input.dtype) if self.training and self.p else input


def use_own_dropout(module: nn.Module) -> None:
    """Replace every nn.Dropout in a module."""
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, Dropout(child.p))
        else:
            use_own_dropout(child)
