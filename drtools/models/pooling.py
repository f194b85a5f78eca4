"""The pooling modes of sentence-transformers, as functions of (states, mask) that return one vector."""

import torch
from torch import Tensor


def cls(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Take the first token that is not masked."""
    return states[torch.arange(len(states), device=states.device), mask.int().argmax(dim=1)]


def last(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Take the last token that is not masked."""
    from_the_end = mask.int().flip(1).argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), mask.shape[1] - 1 - from_the_end]


def summed(states: Tensor, weights: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Compute the weighted sum over tokens.

    This is not a matrix product, since its last bits depend on the number of texts on some processors.
    """
    return (states * weights.unsqueeze(-1)).sum(dim=1)


def mean_pooling(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Average over the tokens that are not masked."""
    weights = mask.to(states.dtype)
    return summed(states, weights) / weights.sum(dim=1, keepdim=True).clamp(min=1e-9)


def mean_sqrt(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Sum over the tokens that are not masked, divided by the square root of their number."""
    weights = mask.to(states.dtype)
    return summed(states, weights) / weights.sum(dim=1, keepdim=True).clamp(min=1e-9).sqrt()


def weighted_mean(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Average with weights that are the positions of tokens, from 1."""
    weights = mask.to(states.dtype) * torch.arange(1, mask.shape[1] + 1, device=states.device, dtype=states.dtype)
    return summed(states, weights) / weights.sum(dim=1, keepdim=True).clamp(min=1e-9)


def maximum(states: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """Take the maximum of each dimension over the tokens that are not masked."""
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
    """Pool in float32 with each mode, and concatenate the results in this order."""
    states = states.float()
    return torch.cat([POOLING[mode](states, mask) for mode in modes], dim=1)
