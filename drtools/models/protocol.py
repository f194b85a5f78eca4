"""Protocols of models that turn tokens into rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter
    from torch.nn.modules.module import _IncompatibleKeys
    from transformers import PreTrainedTokenizerBase

    from drtools.models.settings import EncoderSettings


class Model(Protocol):
    """A model that turns tokens into rows: an encoder, its spans, a cross-encoder, a masked language model."""

    @property
    def folder(self) -> Path | None:
        """The folder of its weights."""

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:  # -> [B, D]
        """Return the rows of a batch."""


class Reader(Protocol):
    """An object that tokenizes texts: an encoder, or one without its weights."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""

    @property
    def settings(self) -> EncoderSettings:
        """Its settings, such as prompts and lengths."""

    @property
    def folder(self) -> Path | None:
        """Its folder."""


class SideModel(Protocol):
    """A model of one side: an encoder, or one encoder of a pair."""

    @property
    def body(self) -> Module:
        """The network below pooling and head, whose operations are counted."""

    @property
    def dimension(self) -> int:
        """The length D of a row."""

    def __call__(self, *inputs: Any) -> Tensor:  # -> [texts, D]
        """Return the rows of a batch of inputs."""


class Learner(Protocol):
    """A model that the loop can train: an `nn.Module` whose `of(side)` returns the model of a side."""

    def of(self, side: str) -> SideModel:
        """Return the module of a side."""

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield all parameters."""

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield all parameters with their names."""

    def modules(self) -> Iterator[Module]:
        """Yield all modules in it."""

    def state_dict(self) -> dict[str, Any]:
        """Return all weights by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> _IncompatibleKeys:
        """Load weights by name."""

    def train(self, mode: bool = True) -> object:
        """Turn dropout on or off."""

    def eval(self) -> object:
        """Turn dropout off."""

    def to(self, device: str) -> Self:
        """Move the weights to a device."""
