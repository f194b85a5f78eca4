"""Tokenize texts: cut at the lengths of the settings, counted, and stored in one flat array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from drtools.models.long_texts import encode_each

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from drtools.models.settings import EncoderSettings

Rows = Sequence[int] | np.ndarray
# (side, ids) -> float32 [N, D]: an additional vector for each text
VectorsBeside = Callable[[str, list[str]], np.ndarray]


class Tokenized(Protocol):
    """N tokenized texts in the form for their model: tokens, terms, pairs, pieces."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text [N]."""

    @property
    def truncated(self) -> int:
        """How many were cut."""

    @property
    def empty(self) -> int:
        """How many are blank."""

    @property
    def backward(self) -> bool:
        """Whether a step over them goes back through the body."""

    def inputs(self, rows: Rows) -> tuple[np.ndarray | int, ...]:
        """Return the model's inputs for some rows. Arrays are moved to its device."""


class Tokens(NamedTuple):
    """Token ids of N texts: `flat` int32 [total], where text i is flat[starts[i]:starts[i + 1]].

    `cut` and `blank`, bool [N], are true for texts that were cut and texts that are blank.
    """

    flat: np.ndarray
    starts: np.ndarray
    cut: np.ndarray
    blank: np.ndarray
    prompt_tokens: int  # number of tokens at the start that are read but not pooled
    padding: int = 0  # the id of the padding token

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text [N]."""
        return np.diff(self.starts)

    @property
    def truncated(self) -> int:
        """How many were cut."""
        return int(self.cut.sum())

    @property
    def backward(self) -> bool:
        """Whether a step over them goes back through the body."""
        return True

    @property
    def empty(self) -> int:
        """How many are blank."""
        return int(self.blank.sum())

    def padded(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Return (token ids int64 [B, T], mask int64 [B, T]) of some rows, padded to the longest of them."""
        lengths = self.lengths[rows]
        ids = pad(self.flat, self.starts, rows, self.padding)
        return ids, (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)

    def inputs(self, rows: Rows) -> tuple[np.ndarray | int, ...]:
        """Return the model's inputs for some rows: token ids, mask, prompt tokens."""
        return *self.padded(rows), self.prompt_tokens


Inner = TypeVar("Inner", bound="Tokens | Enriched[Any]")


@dataclass(frozen=True)
class Enriched(Generic[Inner]):
    """Tokens of N texts with additional inputs for their model."""

    tokens: Inner

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text [N]."""
        return self.tokens.lengths

    @property
    def cut(self) -> np.ndarray:
        """Which texts were cut, bool [N]."""
        return self.tokens.cut

    @property
    def blank(self) -> np.ndarray:
        """Which texts are blank, bool [N]."""
        return self.tokens.blank

    @property
    def truncated(self) -> int:
        """How many texts were cut."""
        return self.tokens.truncated

    @property
    def empty(self) -> int:
        """The number of blank texts."""
        return self.tokens.empty

    @property
    def backward(self) -> bool:
        """Whether a step over them goes back through the body."""
        return self.tokens.backward


@dataclass(frozen=True)
class TokensWithVectors(Enriched[Tokens]):
    """Tokens of N texts with a vector for each, float32 [N, D], as an additional input of the model."""

    vectors: np.ndarray

    def inputs(self, rows: Rows) -> tuple[np.ndarray | int, ...]:
        """Return the model's inputs for some rows: token ids, mask, prompt tokens, vectors."""
        return *self.tokens.inputs(rows), self.vectors[rows]


def pad(
    flat: np.ndarray, starts: np.ndarray, rows: Rows, padding: float, dtype: type = np.int64
) -> np.ndarray:  # -> [B, T]
    """Return the lists flat[starts[i]:starts[i + 1]] of some rows, padded to the longest with `padding`."""
    lengths = np.diff(starts)[rows]
    padded: np.ndarray = np.full((len(rows), max(1, int(lengths.max()))), padding, dtype)
    for at, row in enumerate(rows):
        padded[at, : lengths[at]] = flat[starts[row] : starts[row + 1]]
    return padded


def on_device(inputs: Sequence[np.ndarray | int], device: str) -> list[Tensor | int]:
    """Return a model's inputs with arrays moved to a device.

    They go to a GPU from page-locked memory, so that this thread goes on while they are copied.
    """
    import torch

    moved: list[Tensor | int] = []
    for part in inputs:
        if not isinstance(part, np.ndarray):
            moved.append(part)
        elif device.startswith("cuda"):
            moved.append(torch.from_numpy(part).pin_memory().to(device, non_blocking=True))
        else:
            moved.append(torch.from_numpy(part).to(device))
    return moved


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings, texts: Sequence[str], side: str
) -> Tokens:
    """Tokenize texts of a side (`query` or `document`) with its prompt, cut at its length."""
    prepared = [prepare(text, tokenizer, settings) for text in texts]
    return tokenize_prepared(tokenizer, settings, prepared, side, settings.max_tokens(side))


def prepare(text: str, tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings) -> str:
    """Return a text in the form that its encoder's tokenizer gets.

    It is stripped, and lower-cased if the encoder requires it and the tokenizer does not do it.
    """
    return lowered(text.strip(), tokenizer, settings)


def lowered(text: str, tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings) -> str:
    """Return a text in lower case if the encoder requires it and its tokenizer cannot do it."""
    return text.lower() if settings.lower_case and not tokenizer.is_fast else text


def tokenize_prepared(
    tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings, texts: Sequence[str], side: str, longest: int
) -> Tokens:
    """Tokenize prepared texts of a side with its prompt, cut at `longest` tokens including special tokens."""
    prompt = lowered(settings.prompt(side), tokenizer, settings)
    blank = np.array([not text for text in texts], bool)
    lists, cut = token_lists(tokenizer, [prompt + text for text in texts] if prompt else list(texts), longest)
    starts = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(ids) for ids in lists], out=starts[1:])
    flat = np.fromiter((token for ids in lists for token in ids), np.int32, int(starts[-1]))
    unpooled = 0
    if prompt and not settings.include_prompt:
        unpooled = len(token_lists(tokenizer, [prompt], longest)[0][0]) - 1  # without the end token
    return Tokens(flat, starts, cut, blank, unpooled, padding_of(tokenizer))


def padding_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the padding token, which the tokenizer of a loaded encoder always has."""
    assert isinstance(tokenizer.pad_token_id, int), "the loader refuses a tokenizer without a padding token"
    return tokenizer.pad_token_id


def token_lists(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], longest: int, special: bool = True
) -> tuple[list[list[int]], np.ndarray]:
    """Return the token ids of texts, cut at `longest`, and which were cut, bool [N].

    `special` adds special tokens.
    """
    if not tokenizer.is_fast:
        whole = [
            tokenizer(text, truncation=False, verbose=False, add_special_tokens=special)["input_ids"] for text in texts
        ]
        cut = [
            ids
            if len(ids) <= longest
            else tokenizer(text, truncation=True, max_length=longest, add_special_tokens=special)["input_ids"]
            for text, ids in zip(texts, whole, strict=True)
        ]
        return cut, np.array([len(ids) > longest for ids in whole], bool)
    read = [(encoding.ids, is_cut) for encoding, is_cut in encode_each(tokenizer, texts, longest, special)]
    return [ids for ids, _ in read], np.array([is_cut for _, is_cut in read], bool)


def separator_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the token between two texts: the separator, or the end token if the tokenizer has none."""
    separator: str | None = tokenizer.sep_token or tokenizer.eos_token
    return separator
