"""How much arithmetic a training step is, and how much of it this machine can do.

For the log's share of the matmul rate.
"""

from __future__ import annotations

import statistics
import time
from functools import cache
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

SMALL = 128  # rows of a product that no processor takes long for


def operations(body: nn.Module, lengths: np.ndarray, backward: bool = True) -> float:  # [N] tokens of each text
    """Return the multiplications and additions of a body's matrix products, forward and (if it learns) backward.

    Padding is left out. The backward pass costs twice the forward: a product for the inputs' gradient, one for the
    weights'; frozen weights need only the first. Attention is counted as if every token saw every token of its text,
    heads together as wide as a state.
    """
    products = 0
    for name, module in body.named_modules():
        if (
            isinstance(module, nn.Linear) and "pooler" not in name
        ):  # a pooler reads one token a text, and nothing reads it
            passes = 1 + backward + (backward and module.weight.requires_grad)
            products += passes * module.weight.numel()
    lengths = lengths.astype(np.float64)
    config = cast("PreTrainedConfig", body.config)  # a body is a model of Hugging Face's, also below a ranker's head
    attention = (3 if backward else 1) * 4 * config.hidden_size * config.num_hidden_layers * np.square(lengths).sum()
    return float(2 * products * lengths.sum() + attention)


@cache
def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Return the operations a second of a large square product: the median of 5, after 2 to warm up.

    On a processor of a small one where a large one would take a second: bfloat16 that is not multiplied natively is
    hundreds of times slower.
    """
    if torch.device(device).type != "cpu":  # small products would measure how long a GPU takes to begin
        return statistics.median(_rates_of_products(device, dtype, 4096, 7)[2:])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a product would be over before other threads have woken
    about = max(_rates_of_products(device, dtype, SMALL, 5))
    torch.set_num_threads(threads)
    return statistics.median(_rates_of_products(device, dtype, 2048 if 2 * 2048**3 / about < 1 else SMALL, 7)[2:])


def _rates_of_products(device: str, dtype: torch.dtype, size: int, count: int) -> list[float]:
    own = torch.Generator(device).manual_seed(0)  # the training's random numbers stay as they were
    left, right = (torch.randn(size, size, generator=own, device=device, dtype=dtype) for _ in range(2))
    return [2 * size**3 / _seconds_of_product(left, right) for _ in range(count)]


def _seconds_of_product(left: torch.Tensor, right: torch.Tensor) -> float:
    if left.is_cuda:
        torch.cuda.synchronize(left.device)
    started = time.perf_counter()
    product = left @ right
    if left.is_cuda:
        torch.cuda.synchronize(left.device)
    else:
        product[0, 0].item()  # other devices too work behind the caller's back until a number is asked for
    return time.perf_counter() - started
