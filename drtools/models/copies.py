"""Copies of a model on other devices, so that the threads of one process compute with all of them."""

import copy
from collections.abc import Sequence
from typing import Protocol
from weakref import WeakKeyDictionary


class Movable(Protocol):
    """A model, or what has one."""

    def to(self, device: str) -> "Movable": ...


class Copies:
    """The copies on some devices of models whose weights stay as they are, made when one is first asked for."""

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)
        self._made: WeakKeyDictionary[Movable, list[Movable]] = WeakKeyDictionary()

    def of(self, model: Movable) -> list[Movable]:
        """Return the model's copies, one for each device, in their order."""
        if model not in self._made:
            self._made[model] = [copy.deepcopy(model).to(device) for device in self.devices]
        return self._made[model]
