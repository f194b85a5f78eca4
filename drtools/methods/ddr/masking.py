"""Crop documents and mask tokens, for masked language modelling.

A visit to a document takes one random crop or one of its windows, and masks new random tokens. 15% of the tokens are
predicted; of these, 80% become the mask token, 10% a random token, and 10% do not change (Devlin et al. 2019, 3.1). All
draws depend on (seed, epoch, document) and the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from drtools.errors import InputError, param
from drtools.formats.corpora import document_text
from drtools.methods.ddr.token_file import FileTokens, KeptTokens, TextTokens, TokenFile
from drtools.methods.ddr.whole_words import drawn_by_word
from drtools.models.bodies import positions_of
from drtools.models.long_texts import token_arrays
from drtools.models.masked import IGNORED
from drtools.models.tokens import Enriched, Rows, Tokenized, Tokens, padding_of
from drtools.randomness import generator
from drtools.training.distributed import Shares, single_share
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.formats.corpus_store import CorpusStore
    from drtools.models.encoder import Encoder

HIDDEN, REPLACED = 0.8, 0.1  # shares of the predicted tokens
BLOCK = 1024  # documents that are next to each other on the disk
BLOCKS_A_GROUP = 64  # blocks whose documents are shuffled together
COUNTED_DOCUMENTS = 4096  # [ours] enough for the shares of the words that matter: a million tokens


class Masked(Tokenized, Protocol):
    """Tokens of texts with labels, masked once or more often by the objective."""

    @property
    def labels(self) -> np.ndarray:
        """The labels of the encoder, int32 [total], IGNORED for tokens that are not predicted."""

    @property
    def every(self) -> list[MaskedTokens]:
        """The texts as each objective masks them."""


@dataclass(frozen=True)
class MaskedTokens(Enriched[Tokens]):
    """Masked token ids of N texts, and their labels.

    `labels` int32 [total] belong to `tokens.flat`, and are IGNORED for tokens that are not predicted.
    """

    labels: np.ndarray
    body_learns: bool = True

    @property
    def every(self) -> list[MaskedTokens]:
        """The texts as the one objective masks them."""
        return [self]

    @property
    def backward(self) -> bool:
        """Whether a training step backpropagates through the body for them."""
        return self.body_learns

    def inputs(self, rows: Rows) -> tuple[np.ndarray | bool, ...]:
        """Return the model's inputs for some rows: token ids, mask, labels, whether the body is trained."""
        labels, _ = self.tokens._replace(flat=self.labels, padding=IGNORED).padded(rows)
        return *self.tokens.padded(rows), labels, self.body_learns


class Masker:
    """Crops and masks texts for one tokenizer.

    A crop has at most `crop_tokens` tokens including special ones. A `share` of the others is predicted.

    Crops start at multiples of `stride` tokens; the last one ends with the text. With `whole_words`, the tokens of a
    word are predicted together, with the same share of all tokens.
    """

    def __init__(
        self,
        encoder: Encoder,
        crop_tokens: int,
        share: float,
        stride: int = 1,
        whole_words: bool = False,
    ) -> None:
        self.tokenizer, self.share = encoder.tokenizer, share
        self.lower_case = encoder.settings.lower_case and not self.tokenizer.is_fast  # a fast tokenizer does it
        self.stride, self.whole_words = stride, whole_words
        if self.tokenizer.mask_token_id is None:
            raise InputError(
                "its tokenizer has no mask token, so it cannot be adapted by masked language modelling",
                where=encoder.folder,
                remedy="use another encoder, such as BERT",
            )
        if whole_words and not self.tokenizer.is_fast:
            raise InputError(
                "its tokenizer does not say which tokens make a word",
                where=encoder.folder,
                remedy=f"pass {param('mask_unit')} token",
            )
        self.crop_tokens = crop_tokens
        longest = positions_of(encoder.body)
        if longest and crop_tokens > longest:
            raise InputError(
                f"this body has {longest} positions",
                where=f"{param('crop_tokens')} {crop_tokens}",
                remedy=f"use {longest} or less",
            )
        self.before, self.after = self._special_tokens()
        self.special = sorted(
            {*self.tokenizer.all_special_ids} - {self.tokenizer.unk_token_id}
        )  # texts may contain them; the unknown token is a word
        self.room = crop_tokens - len(self.before) - len(self.after)
        if self.room < 1:
            raise InputError(
                f"there are already {crop_tokens - self.room} special tokens",
                where=f"{param('crop_tokens')} {crop_tokens}",
                remedy="use more",
            )

    def _special_tokens(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the special tokens before and after a text."""
        plain, whole = (self.tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
        start = next(at for at in range(len(whole)) if whole[at : at + len(plain)] == plain)
        return np.array(whole[:start], np.int32), np.array(whole[start + len(plain) :], np.int32)

    def _token_lists(self, texts: Sequence[str]) -> list[np.ndarray]:
        texts = [text.lower() for text in texts] if self.lower_case else list(texts)
        if not self.tokenizer.is_fast:
            return [
                np.array(
                    self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"],
                    np.int32,
                )
                for text in texts
            ]
        return [ids for ids, _ in token_arrays(self.tokenizer, texts)]

    def _word_lists(self, texts: Sequence[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the tokens of each text, and the number of each token's word. A special token is a word."""
        texts = [text.lower() for text in texts] if self.lower_case else list(texts)
        read = list(token_arrays(self.tokenizer, texts, with_words=True))
        return [ids for ids, _ in read], [words for _, words in read]

    def read(self, texts: Sequence[str]) -> TextTokens:
        """Tokenize texts."""
        return TextTokens(*(self._word_lists(texts) if self.whole_words else (self._token_lists(texts), None)))

    def windows(self, tokens: TextTokens) -> list[int]:
        """Return the number of windows of each text: one at each multiple of the stride. The last ends the text."""
        spare = [max(0, length - self.room) for length in tokens.lengths()]
        return [1 + -(-tokens // self.stride) for tokens in spare]

    def __call__(
        self,
        texts: Sequence[str] | KeptTokens,
        randoms: Sequence[np.random.Generator],
        body_learns: bool = True,
        windows: Sequence[int] | None = None,
    ) -> Masked:
        """Crop and mask each text, given as text or by its tokens, with its own generator.

        `windows` selects the window of each; else it is drawn.
        """
        crops, words = self._crops(texts, randoms, windows)
        return self._masked(crops, words, randoms, body_learns, self.share)

    def _crops(
        self, texts: Sequence[str] | KeptTokens, randoms: Sequence[np.random.Generator], windows: Sequence[int] | None
    ) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
        """Return the tokens of the crop of each text and, for whole words, the number of each token's word."""
        tokens = texts if isinstance(texts, TextTokens | FileTokens) else self.read(texts)
        parts: list[np.ndarray] = []
        words: list[np.ndarray] = []
        for at, (length, random) in enumerate(zip(tokens.lengths(), randoms, strict=True)):
            ids, numbers = tokens.cut(at, self._crop(length, random, None if windows is None else windows[at]))
            parts.append(ids)
            words += [] if numbers is None else [numbers]
        return parts, words if self.whole_words else None

    def _crop(self, length: int, random: np.random.Generator, window: int | None) -> slice:
        spare = max(0, length - self.room)
        if window is None:
            window = int(random.integers(-(-spare // self.stride) + 1)) if spare else 0
        start = min(spare, self.stride * window)
        return slice(start, start + self.room)

    def _masked(
        self,
        crops: Sequence[np.ndarray],
        words: Sequence[np.ndarray] | None,
        randoms: Sequence[np.random.Generator],
        body_learns: bool,
        share: float,
    ) -> MaskedTokens:
        parts, chances, swaps = [], [], []
        special = np.isin(np.concatenate(crops), self.special)
        ends = np.cumsum([len(crop) for crop in crops])
        for at, (crop, random, end) in enumerate(zip(crops, randoms, ends, strict=True)):
            chance = np.ones(
                len(self.before) + len(crop) + len(self.after), np.float32
            )  # special tokens are never predicted
            drawn = random.random(len(crop), np.float32) if words is None else drawn_by_word(words[at], share, random)
            drawn[special[end - len(crop) : end]] = 1
            chance[len(self.before) : len(self.before) + len(crop)] = drawn
            parts += [self.before, crop, self.after]
            chances.append(chance)
            swaps.append(random.integers(len(self.tokenizer), size=int(_replaced(chance, share).sum()), dtype=np.int32))
        starts = np.concatenate([[0], np.cumsum([len(chance) for chance in chances])]).astype(np.int64)
        flat, chance = np.concatenate(parts), np.concatenate(chances)
        labels = np.where(chance < share, flat, np.int32(IGNORED))
        flat[chance < HIDDEN * share] = self.tokenizer.mask_token_id
        flat[_replaced(chance, share)] = np.concatenate(swaps)
        none = np.zeros(len(crops), bool)
        return MaskedTokens(Tokens(flat, starts, none, none, 0, padding_of(self.tokenizer)), labels, body_learns)

    def token_shares(self, store: CorpusStore, title_separator: str) -> np.ndarray:  # -> [V]
        """Return each token's share of the corpus, estimated from evenly spread documents, with add-one smoothing."""
        rows = np.unique(np.linspace(0, len(store) - 1, min(COUNTED_DOCUMENTS, len(store))).astype(int)).tolist()
        lists = self._token_lists(corpus_texts(store, rows, title_separator))
        counts = np.bincount(np.concatenate(lists), minlength=len(self.tokenizer)) + 1.0
        shares: np.ndarray = counts / counts.sum()
        return shares


def _replaced(chance: np.ndarray, share: float) -> np.ndarray:
    return (chance >= HIDDEN * share) & (chance < (HIDDEN + REPLACED) * share)


class MaskedBatch(NamedTuple):
    """The documents of a batch.

    `tokens` and `counts` are those of the loop: this process's share, and the number of each process.
    """

    tokens: dict[str, Masked]
    counts: dict[str, Sequence[int]]


class MaskedBatches:
    """The endless sequence of batches of a corpus, a function of (seed, step). Texts are not kept in memory.

    An epoch visits groups of random blocks of the corpus, each group in random order. It visits each document once or,
    with the numbers of `windows` [N], each window once. `tokens` are those of the corpus, if they are kept. `held_out`
    rows are not visited. In the first `head_steps` steps, only the head is trained.
    """

    def __init__(
        self,
        store: CorpusStore,
        masker: Masker,
        *,
        batch_documents: int,
        seed: int,
        held_out: np.ndarray,
        head_steps: int = 0,
        title_separator: str = " ",
        shares: Shares = single_share,
        rank: int = 0,
        windows: np.ndarray | None = None,
        tokens: TokenFile | None = None,
    ) -> None:
        self.tokens = tokens
        self.store, self.masker, self.batch_documents, self.seed = store, masker, batch_documents, seed
        self.head_steps, self.title_separator, self.shares, self.rank = head_steps, title_separator, shares, rank
        self.by_window = windows is not None
        self.visits_of = np.ones(len(store), np.int32) if windows is None else windows.astype(np.int32)
        self.visits_of[held_out] = 0
        self.epoch_documents = len(store) - len(held_out)
        self.epoch_visits = int(self.visits_of.sum(dtype=np.int64))
        self._most = int(self.visits_of.max(initial=1))
        self._groups = lru_cache(maxsize=2)(self._groups_of)
        self._visits = lru_cache(maxsize=2)(self._visits_in)

    def _groups_of(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the blocks of each group of an epoch, and the first visit of each group."""
        blocks = generator(self.seed, "blocks", epoch).permutation(-(-len(self.store) // BLOCK))
        sizes = np.add.reduceat(self.visits_of, np.arange(0, len(self.store), BLOCK), dtype=np.int64)[blocks]
        firsts = range(0, len(blocks), BLOCKS_A_GROUP)
        return [blocks[first : first + BLOCKS_A_GROUP] for first in firsts], np.concatenate([[0], np.cumsum(sizes)])[
            list(firsts)
        ]

    def _visits_in(self, epoch: int, group: int) -> np.ndarray:
        """Return a group's visits in order, each as row * (maximum number of windows of a document) + window."""
        blocks = self._groups(epoch)[0][group]
        rows = np.concatenate([np.arange(block * BLOCK, min((block + 1) * BLOCK, len(self.store))) for block in blocks])
        counts = self.visits_of[rows]
        windows = np.arange(counts.sum(dtype=np.int64)) - np.repeat(np.cumsum(counts, dtype=np.int64) - counts, counts)
        return generator(self.seed, "documents", epoch, group).permutation(
            np.repeat(rows, counts) * self._most + windows
        )

    def visit(self, place: int) -> tuple[int, int, int]:
        """Return (epoch, row, window) of a visit. Visits are counted from the start of the training, windows from 0."""
        epoch, at = divmod(place, self.epoch_visits)
        starts = self._groups(epoch)[1]
        group = int(np.searchsorted(starts, at, side="right")) - 1
        return epoch, *divmod(int(self._visits(epoch, group)[at - starts[group]]), self._most)

    def __call__(self, step: int) -> MaskedBatch:
        """Read, crop and mask this process's share of the documents of a step."""
        parts = self.shares(self.batch_documents)
        first = step * self.batch_documents
        visits = [self.visit(first + place) for place in range(parts[self.rank].start, parts[self.rank].stop)]
        seeds: list[tuple[int, ...]] = [visit if self.by_window else visit[:2] for visit in visits]
        tokens = self.masker(
            self._texts([row for _, row, _ in visits]),
            [generator(self.seed, "mask", *seed) for seed in seeds],
            step >= self.head_steps,
            [window for _, _, window in visits] if self.by_window else None,
        )
        return MaskedBatch({"text": tokens}, {"text": [part.stop - part.start for part in parts]})

    def _texts(self, rows: list[int]) -> list[str] | KeptTokens:
        """Return documents, or their tokens if these are kept."""
        return self.tokens.read(rows) if self.tokens else corpus_texts(self.store, rows, self.title_separator)


def corpus_texts(store: CorpusStore, rows: Sequence[int], title_separator: str) -> list[str]:
    """Return the texts of documents by row."""
    documents = (store.at(row) for row in rows)
    return [document_text(document.title, document.text, title_separator) for document in documents]


def hold_out(store: CorpusStore, count: int | None, seed: int) -> np.ndarray:
    """Return the rows of `count` documents that are held out for dev (None: 1%, at most 1,000 [ours])."""
    count = min(1000, len(store) // 100) if count is None else count
    if count > len(store) // 2:
        raise InputError(
            f"the corpus has {counted(len(store), 'document')}",
            where=f"{param('dev_documents')} {count}",
            remedy="hold out at most half of them",
        )
    return np.sort(generator(seed, "held out").choice(len(store), count, replace=False))
