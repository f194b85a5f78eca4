"""Dropout on a processor, with four multipliers from each random number of a generator of the thread.

torch draws one number at a time, from one generator for all threads. This takes about 10 ns for each multiplier here,
and cannot be repeated when several threads draw. This dropout takes less than 1 ns, and the draws of a thread depend
only on its seed.
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
    """Seed the dropout of this thread."""
    _of_thread.bits = np.random.SFC64(seed)
    yield
    del _of_thread.bits


def multipliers(shape: torch.Size, share: float, dtype: torch.dtype) -> Tensor:
    """Return a tensor that is 0 with probability `share` (of 65,536 levels), and 1 / (1 - share) elsewhere."""
    dropped = round(share * LEVELS)
    count = math.prod(shape)
    bits = _of_thread.bits.random_raw(-(-count // 4)).view(np.int16)[:count]
    keep = torch.from_numpy(bits).view(shape) >= dropped - LEVELS // 2
    return keep.to(dtype).mul_(LEVELS / (LEVELS - dropped))


class Dropout(nn.Dropout):
    """nn.Dropout with random bits of the thread."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop values in training."""
        return input * multipliers(input.shape, self.p, input.dtype) if self.training and self.p else input


def use_own_dropout(module: nn.Module) -> None:
    """Replace every nn.Dropout in a module."""
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, Dropout(child.p))
        else:
            use_own_dropout(child)
