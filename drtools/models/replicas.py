"""Copies of a model on other devices, so that the threads of one process can use all devices."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

Model = TypeVar("Model")


class Copies:
    """Copies of models on some devices, made when they are first needed. The weights must not change."""

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)
        self._made: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()

    def of(self, model: Model) -> list[Model]:
        """Return the copies of a model, one for each device, in their order."""
        if model not in self._made:
            self._made[model] = [_copy_of(model, device) for device in self.devices]
        return self._made[model]


def _copy_of(model: Model, device: str) -> Model:
    """Copy a model, its weights directly to a device. The tokenizer is shared, since another thread may be using it."""
    tokenizer = getattr(model, "tokenizer", None)
    made: dict[int, object] = {id(tokenizer): tokenizer}
    for module in [
        part for part in (model, *vars(model).values()) if isinstance(part, nn.Module)
    ]:  # Spans is not a module, but has modules
        made |= {id(buffer): buffer.to(device, copy=True) for buffer in module.buffers()}
        made |= {
            id(weight): nn.Parameter(weight.detach().to(device, copy=True), weight.requires_grad)
            for weight in module.parameters()
        }
    return copy.deepcopy(model, made)
