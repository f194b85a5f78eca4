"""How much memory the activations of a training step take, and how much they may take.

Both depend only on the model, the request, the lengths of the texts and the device, and not on the memory that is free
at the moment. The same command therefore divides a batch always in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from drtools.models.compute import Compute
    from drtools.models.protocol import Learner, SideModel
    from drtools.models.tokens import Tokenized

GIB = 2**30
BASE_BUDGET = 4 * GIB  # a training at MiniLM's size then stays below 8 GB
BUDGET_OF_A_PARAMETER = 40  # bytes: one at BERT-base's size stays below 16 GB and still takes its longest lists at once
LAYER_STATES = 18  # numbers that a layer of BERT's keeps of a token, in states
NUMBERS_OF_A_PREDICTION = 3  # of the vocabulary's size: logits, their log-softmax, its gradient


class Separation(NamedTuple):
    """How a batch is divided for a loss that is a sum over queries (or texts).

    `owners[side]` [N] is the query of each text. `known[side]` [N, D] is what a row holds before its text is encoded,
    for losses whose denominators are in the rows; the default is 0. `beside[side]` [N] counts the numbers that are kept
    for each text besides the body's activations.
    """

    owners: Mapping[str, np.ndarray]
    known: Mapping[str, np.ndarray] = {}
    beside: Mapping[str, np.ndarray] = {}


Separate = Callable[..., Separation]  # of a batch


def text_bytes(half: SideModel, lengths: np.ndarray, computing: Compute) -> np.ndarray:  # [N] tokens -> [N]
    """Estimate the bytes that the backward pass needs of each text.

    A linear layer keeps its input if its weights learn. Its output is kept by what follows: an activation, attention,
    or dropout and a normalization. For BERT's layer the sum, 18 states, is what PyTorch keeps. Attention on a processor
    also keeps each head's probabilities and dropout's multipliers.
    """
    config = cast("PreTrainedConfig", half.body.config)
    lengths = lengths.astype(np.float64)
    if getattr(half.body, "is_gradient_checkpointing", False):  # each layer's input, and one layer while it goes back
        layers: np.ndarray = 4 * config.hidden_size * (config.num_hidden_layers + LAYER_STATES) * lengths
        return layers
    states = 0
    for name, module in (half if isinstance(half, nn.Module) else half.body).named_modules():
        if isinstance(module, nn.Linear) and "pooler" not in name:
            states += module.out_features + (module.in_features if module.weight.requires_grad else 0)
    numbers = states * lengths
    if computing.kind != "cuda":  # whose kernels compute the probabilities again
        numbers += 2 * config.num_attention_heads * config.num_hidden_layers * np.square(lengths)
    # under autocast normalizations and what they keep stay float32
    kept: np.ndarray = numbers * (4 if computing.precision == "fp32" else 3)
    return kept


def budget_of(model: Learner, computing: Compute, gigabytes: float | None = None) -> float:
    """Return the bytes that the activations of a step may take."""
    if gigabytes is not None:
        return gigabytes * 1e9
    if computing.kind == "cuda":
        return torch.cuda.get_device_properties(computing.device).total_memory / 2
    return BASE_BUDGET + BUDGET_OF_A_PARAMETER * sum(parameter.numel() for parameter in model.parameters())


def bytes_by_text(
    model: Learner, tokens: Mapping[str, Tokenized], computing: Compute, separation: Separation | None = None
) -> dict[str, np.ndarray]:
    """Return the estimated bytes of each text of a batch, by side."""
    found = {}
    for side, each in tokens.items():
        found[side] = text_bytes(model.of(side), each.lengths, computing)
        if separation and side in separation.beside:
            found[side] = found[side] + 4 * separation.beside[side]
    return found


def query_groups(costs: Sequence[float], budget: float) -> list[slice]:
    """Divide queries into runs of neighbours that fit the budget. A query that does not fit is alone."""
    groups, first, taken = [], 0, 0.0
    for at, cost in enumerate(costs):
        if at > first and taken + cost > budget:
            groups.append(slice(first, at))
            first, taken = at, 0.0
        taken += cost
    return [*groups, slice(first, len(costs))]
