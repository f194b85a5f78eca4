"""Count the arithmetic of a training step, and measure how much this machine can do per second.

The log's share of the matmul rate is computed from both.
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

SMALL = 128  # rows of a product that is fast on any processor


def operations(body: nn.Module, lengths: np.ndarray, backward: bool = True) -> float:  # [N] tokens of each text
    """Return the multiplications and additions of a body's matrix products, forward and (if it is trained) backward.

    Padding is not counted. The backward pass costs twice the forward pass: one product for the gradient of inputs, one
    for that of weights. Frozen weights need only the first. Attention is counted as if each token attends to all tokens
    of its text, with heads that together are as wide as a hidden state.
    """
    products = 0
    for name, module in body.named_modules():
        if (
            isinstance(module, nn.Linear) and "pooler" not in name
        ):  # a pooler reads one token of a text, and its output is not used
            passes = 1 + backward + (backward and module.weight.requires_grad)
            products += passes * module.weight.numel()
    lengths = lengths.astype(np.float64)
    config = cast("PreTrainedConfig", body.config)  # a body is a Hugging Face model, also below the head of a ranker
    attention = (3 if backward else 1) * 4 * config.hidden_size * config.num_hidden_layers * np.square(lengths).sum()
    return float(2 * products * lengths.sum() + attention)


@cache
def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Return the operations per second of a large square product: the median of 5, after 2 for warming up.

    A processor measures a small product if a large one would take a second, since bfloat16 without native support is
    hundreds of times slower.
    """
    if torch.device(device).type != "cpu":  # small products would measure the launch time of a GPU
        return statistics.median(_rates_of_products(device, dtype, 4096, 7)[2:])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such a small product would end before other threads have started
    about = max(_rates_of_products(device, dtype, SMALL, 5))
    torch.set_num_threads(threads)
    return statistics.median(_rates_of_products(device, dtype, 2048 if 2 * 2048**3 / about < 1 else SMALL, 7)[2:])


def _rates_of_products(device: str, dtype: torch.dtype, size: int, count: int) -> list[float]:
    own = torch.Generator(device).manual_seed(0)  # does not change the random numbers of the training
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
        product[0, 0].item()  # other devices compute asynchronously until a number is read
    return time.perf_counter() - started
