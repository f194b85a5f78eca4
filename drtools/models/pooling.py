"""From token states to one vector: the pooling modes of sentence-transformers, as functions of (states, mask)."""

import torch
from torch import Tensor


def cls(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Take the first token that counts."""
    return states[torch.arange(len(states), device=states.device), mask.int().argmax(dim=1)]


def last(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Take the last token that counts."""
    from_the_end = mask.int().flip(1).argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), mask.shape[1] - 1 - from_the_end]


def summed(states: Tensor, weights: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Sum over the tokens by weight.

    Not as a product of matrices, which for one text alone has other last bits on some processors.
    """
    return (states * weights.unsqueeze(-1)).sum(dim=1)


def mean_pooling(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Average over the tokens that count."""
    weights = mask.to(states.dtype)
    return summed(states, weights) / weights.sum(dim=1, keepdim=True).clamp(min=1e-9)


def mean_sqrt(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Sum over the tokens that count, divided by the square root of their number."""
    weights = mask.to(states.dtype)
    return summed(states, weights) / weights.sum(dim=1, keepdim=True).clamp(min=1e-9).sqrt()


def weighted_mean(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Average with each token's position, from 1, as its weight."""
    weights = mask.to(states.dtype) * torch.arange(1, mask.shape[1] + 1, device=states.device, dtype=states.dtype)
    return summed(states, weights) / weights.sum(dim=1, keepdim=True).clamp(min=1e-9)


def maximum(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Take each dimension's maximum over the tokens that count."""
    return states.masked_fill(~mask.bool().unsqueeze(-1), float("-inf")).amax(dim=1)


POOLING = {
    "cls": cls,
    "max": maximum,
    "mean": mean_pooling,
    "mean-sqrt": mean_sqrt,
    "weighted-mean": weighted_mean,
    "last": last,
}


def pool(states: Tensor, mask: Tensor, modes: tuple[str, ...]) -> Tensor:  # [B, T, D], [B, T] -> [B, len(modes) * D]
    """Pool in float32 by each mode, joined in the order given."""
    states = states.float()
    return torch.cat([POOLING[mode](states, mask) for mode in modes], dim=1)
