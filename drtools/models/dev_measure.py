"""A measure of a model on dev, with the texts that it encodes at each evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drtools.models.tokens import Tokenized


@dataclass(frozen=True)
class DevMeasure:
    """What evaluates a model as it stands: calling it returns {measure: value}, of which the first counts.

    `tokens` are the texts that an evaluation encodes, by side. `over` says what is ranked, so that the value is not
    taken for another. `smaller(share)` returns the same measure on about that share of the texts.
    """

    measure: Callable[[], dict[str, float]]
    tokens: Mapping[str, Tokenized]
    over: str = ""
    smaller: Callable[[float], DevMeasure] | None = None

    def __call__(self) -> dict[str, float]:
        """Evaluate the model."""
        return self.measure()
