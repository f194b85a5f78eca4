"""Optimizers, and the parameters to which they apply weight decay."""

from typing import Any

import torch
from torch import nn

from drtools.models.protocol import Learner

BETAS = (0.9, 0.999)
EPSILON = 1e-8
LARGEST_NORM = 10.0  # [code] limit of a weight's norm in LAMB's trust ratio


class FastScalar(nn.Module):
    """A parameter [1], initially 0, with `rate` times the learning rate. Its gradient is not clipped."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate, self.value = rate, nn.Parameter(torch.zeros(1))


def parameter_groups(model: Learner, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into groups.

    Weight decay applies to matrices, but not to biases and norms, which have one dimension. Each FastScalar is a group
    of its own. A group's learning rate is multiplied by its `rate`.
    """
    quick = [module for module in model.modules() if isinstance(module, FastScalar)]
    own = {module.value for module in quick}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter not in own]
    return [
        {
            "params": [parameter for parameter in trained if parameter.ndim > 1],
            "weight_decay": weight_decay,
            "rate": 1.0,
        },
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0, "rate": 1.0},
        *({"params": [module.value], "weight_decay": 0.0, "rate": module.rate} for module in quick),
    ]


def adamw(model: Learner, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW with betas .9 and .999, eps 1e-8. The learning rate is set at each step."""
    # fused: one pass over the weights instead of a dozen, which on a processor take longer than a short batch
    return torch.optim.AdamW(parameter_groups(model, weight_decay), lr=0.0, betas=BETAS, eps=EPSILON, fused=True)


def lamb(model: Learner, weight_decay: float) -> "Lamb":
    """Return LAMB with betas .9 and .999, eps 1e-8. The learning rate is set at each step."""
    return Lamb(parameter_groups(model, weight_decay))


class Lamb(torch.optim.Optimizer):
    """LAMB as STAR's authors run it [code] (You et al. 2020, without its bias correction).

    For every tensor w with gradient g, m and v the running means of g and g * g:
    u = m / (sqrt(v) + eps) + weight_decay * w, w -= lr * trust * u, trust = min(|w|, 10) / |u|, or 1 if either is 0.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float = 0.0) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # torch's `step` also takes a closure
        """Take one step. Parameters without a gradient do not change."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._step_group(weights, group["lr"], group["weight_decay"])

    def _step_group(self, weights: list[torch.Tensor], rate: float, weight_decay: float) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]  # all have one
        means, squares = self._moments(weights)
        torch._foreach_lerp_(means, gradients, 1 - BETAS[0])
        torch._foreach_mul_(squares, BETAS[1])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - BETAS[1])
        updates = torch._foreach_sqrt(squares)
        torch._foreach_add_(updates, EPSILON)
        updates = torch._foreach_div(means, updates)
        if weight_decay:
            torch._foreach_add_(updates, weights, alpha=weight_decay)
        weight_norms = torch.stack(torch._foreach_norm(weights)).clamp(max=LARGEST_NORM)
        update_norms = torch.stack(torch._foreach_norm(updates))
        either_is_zero = (weight_norms == 0) | (update_norms == 0)
        trusts = torch.where(either_is_zero, 1.0, weight_norms / update_norms)
        torch._foreach_mul_(updates, list(trusts.unbind()))  # scalar tensors: no wait for the device
        torch._foreach_add_(weights, updates, alpha=-rate)

    def _moments(self, weights: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] = {"mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
        return [self.state[weight]["mean"] for weight in weights], [self.state[weight]["square"] for weight in weights]


OPTIMIZERS = {"adamw": adamw, "lamb": lamb}
