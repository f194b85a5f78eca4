"""Linear layers on a processor whose output rows do not depend on the number of rows.

A text's vector must have the same bits whatever else is encoded. A product must therefore sum up each row in the same
order for any number of rows. Most kernels do so for at least 16 rows. MKL's kernels for AVX2 do not: they take rows in
blocks of six, and sum up one to three remaining rows in another order. The kernels of this machine are measured. Where
needed, products are computed in whole blocks.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Fewer float32 rows (up to 3, on some processors up to 15) are multiplied by another kernel. With at least this many,
# each row is summed up alike, or `Blocks` are needed.
LEAST_ROWS = 16
MULTIPLES = (12, 24, 48)
LEASTS = (60, 96, 192)
MEASURED = 400  # rows
WIDEST = 96  # outputs in a measurement; kernels compute more of them in tiles


class Blocks(NamedTuple):
    """Products of at least `least` rows, in multiples of `multiple`, sum up each row alike."""

    multiple: int
    least: int


def make_rows_independent(module: nn.Module) -> None:
    """Make the linear layers of a float32 module on a processor compute each row alike, where kernels do not."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
            blocks = blocks_of(layer.in_features, min(layer.out_features, WIDEST))
            if blocks:  # by its class, since a head's own `forward` may compute around that of its class
                layer.__class__, layer.blocks = _InBlocks, blocks  # type: ignore[assignment]  # torch's stub


@cache
def blocks_of(inputs: int, outputs: int) -> Blocks | None:
    """Measure which blocks a product of these sizes needs on this machine, in one thread. None if it needs none."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer, rows = nn.Linear(inputs, outputs), torch.randn(MEASURED + 1, inputs)
            whole = layer(rows)

            def alike(count: int) -> bool:
                """Whether products of `count` rows, from the first and the second row on, equal the whole product."""
                return torch.equal(layer(rows[:count]), whole[:count]) and torch.equal(
                    layer(rows[1 : count + 1].clone()), whole[1 : count + 1]
                )

            if all(alike(count) for count in (*range(LEAST_ROWS, 41), 47, 53, 95, 97, 131)):
                return None
            for least in LEASTS:
                for multiple in MULTIPLES:
                    first = -(-least // multiple) * multiple
                    if all(alike(count) for count in range(first, MEASURED, multiple)):
                        return Blocks(multiple, first)
    finally:
        torch.set_num_threads(threads)
    return None  # no blocks are known to help


class _InBlocks(nn.Linear):
    """A linear layer that computes whole blocks of rows."""

    blocks: Blocks

    def forward(self, states: Tensor) -> Tensor:  # [..., D] -> [..., D']
        """Compute whole blocks, then the remaining rows in a block that is filled up with copies of the last row."""
        rows = states.reshape(-1, self.in_features)
        if torch.is_grad_enabled() or not len(rows) or states.dtype != torch.float32:
            return nn.functional.linear(states, self.weight, self.bias)
        blocks = self.blocks
        bulk = len(rows) // blocks.multiple * blocks.multiple
        if bulk < blocks.least:
            bulk = 0
        made = rows.new_empty(len(rows), self.out_features)
        if bulk:
            made[:bulk] = nn.functional.linear(rows[:bulk], self.weight, self.bias)
        if bulk < len(rows):
            left = rows[bulk:]
            size = max(blocks.least, -(-len(left) // blocks.multiple) * blocks.multiple)
            filled = torch.cat([left, left[-1:].expand(size - len(left), -1)])
            made[bulk:] = nn.functional.linear(filled, self.weight, self.bias)[: len(left)]
        return made.view(*states.shape[:-1], self.out_features)
