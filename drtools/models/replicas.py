"""Copies of a model on other devices, so that the threads of one process compute with all of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

Model = TypeVar("Model")


class Copies:
    """The copies on some devices of models whose weights stay as they are, made when one is first asked for."""

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)
        self._made: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()

    def of(self, model: Model) -> list[Model]:
        """Return the model's copies, one for each device, in their order."""
        if model not in self._made:
            self._made[model] = [_copy_of(model, device) for device in self.devices]
        return self._made[model]


def _copy_of(model: Model, device: str) -> Model:
    """Copy a model, its weights straight to a device; its tokenizer, which another thread may be using, is the same."""
    tokenizer = getattr(model, "tokenizer", None)
    made: dict[int, object] = {id(tokenizer): tokenizer}
    for module in [
        part for part in (model, *vars(model).values()) if isinstance(part, nn.Module)
    ]:  # spans are no module, but have some
        made |= {id(buffer): buffer.to(device, copy=True) for buffer in module.buffers()}
        made |= {
            id(weight): nn.Parameter(weight.detach().to(device, copy=True), weight.requires_grad)
            for weight in module.parameters()
        }
    return copy.deepcopy(model, made)
