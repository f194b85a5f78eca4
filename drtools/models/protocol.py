"""What every model is that makes rows of tokens."""

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
    """What makes rows of tokens: an encoder, its spans, a cross-encoder, a body under a masked-language head."""

    @property
    def folder(self) -> Path | None:
        """Where its weights were loaded from."""

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:  # -> [B, D]
        """Return the rows of a batch."""


class Reader(Protocol):
    """What reads texts: an encoder, or one without its weights."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""

    @property
    def settings(self) -> EncoderSettings:
        """Its prompts and lengths among others."""

    @property
    def folder(self) -> Path | None:
        """Where it was loaded from."""


class SideModel(Protocol):
    """What makes the rows of one side: an encoder, or the half of a pair."""

    @property
    def body(self) -> Module:
        """The network under its pooling and head, whose operations are counted."""

    @property
    def dimension(self) -> int:
        """The length D of a row."""

    def __call__(self, *inputs: Any) -> Tensor:  # -> [texts, D]
        """Return the rows of its inputs."""


class Learner(Protocol):
    """Whatever the loop trains: an `nn.Module` whose `of(side)` makes the rows of a side."""

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
        """Take weights by name."""

    def train(self, mode: bool = True) -> object:
        """Set whether dropout is on."""

    def eval(self) -> object:
        """Switch dropout off."""

    def to(self, device: str) -> Self:
        """Move the weights to a device."""
