"""Loss scaling for trainings in float16, whose smallest gradients would otherwise become 0.

The loss is multiplied by a large factor before the backward pass, and the gradients are divided by it after. A step
whose gradients overflow is skipped and halves the factor; 2,000 steps without an overflow double it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from drtools.errors import InputError, param

if TYPE_CHECKING:
    from drtools.models.compute import Compute
    from drtools.training.state import Scaling

LEAST_FACTOR = 2.0**-10  # gradients that overflow even at this factor have no finite values


class Scaler:
    """Scales the loss, and takes the optimizer's steps; without float16 it does nothing else."""

    def __init__(self, computing: Compute) -> None:
        self.scaler = torch.amp.GradScaler(computing.kind, enabled=computing.precision == "fp16")
        self.skipped = 0

    @property
    def used(self) -> bool:
        """Whether the loss is scaled."""
        return self.scaler.is_enabled()

    @property
    def factor(self) -> float:
        """What to multiply the loss by."""
        return float(self.scaler.get_scale())

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the factor."""
        if self.used:
            self.scaler.scale(torch.zeros((), device=_device_of(optimizer)))  # makes the tensor of the factor
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer, norm: float) -> None:
        """Take a step, or skip it if the gradients, whose norm is `norm`, have overflowed. Clears the gradients.

        Raises InputError if they overflow at every factor.
        """
        before = self.factor
        self.scaler.step(optimizer)  # which is `optimizer.step` without float16
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if not self.used:
            return
        self.skipped += self.factor < before or not math.isfinite(norm)
        if self.factor < LEAST_FACTOR:
            raise InputError(
                f"the gradients overflow float16 at every scale ({self.skipped:,} steps were skipped)",
                remedy=f"use {param('precision')} fp32",
            )

    def state(self) -> Scaling | None:
        """Return what a later process continues from."""
        if not self.used:
            return None
        values = self.scaler.state_dict()
        return {"factor": values["scale"], "steady_steps": values["_growth_tracker"], "skipped": self.skipped}

    def restore(self, state: Scaling | None) -> None:
        """Continue from a saved state."""
        if self.used and state:
            own = self.scaler.state_dict()
            self.scaler.load_state_dict({**own, "scale": state["factor"], "_growth_tracker": state["steady_steps"]})
            self.skipped = state["skipped"]

    def numbers(self) -> dict[str, float]:
        """Return numbers for the log: the factor, and all steps skipped so far."""
        return {"loss_scale": self.factor, "skipped_steps": self.skipped} if self.used else {}


def _device_of(optimizer: torch.optim.Optimizer) -> torch.device:
    device: torch.device = optimizer.param_groups[0]["params"][0].device
    return device
