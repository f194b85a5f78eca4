"""Tokenize long texts with memory that grows with the tokens that are kept, not with the text.

Tokenizers need about 30 bytes for each character. So texts are tokenized a million characters at a time. If only the
first tokens of a text are kept, only its head is read: up to a space after a letter or digit, with far more characters
than the tokens should need, and more again if the head has too few tokens.

Heads are used only if no token depends on the text after such a space, so that the tokens of the head are the first
tokens of the text. This holds if the normalizer looks only at characters and their neighbours, the pre-tokenizer
matches from left to right, and either it splits at the space or no token of the vocabulary contains one. Other
tokenizers read whole texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

CHARACTERS_A_TOKEN = 16  # [ours] in a first head; English has 4 to 5
FURTHER = 8  # [ours] factor for the next head
CHARACTERS_A_BATCH = 1 << 20
CUT = re.compile(r"[^\W_](?= )")
NORMALIZERS = {
    *("BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled"),
    *("Lowercase", "StripAccents", "Strip", "Prepend", "ByteLevel"),
}
BLANKS = (" {2,}", r"\s+")  # expressions of a Replace that only match white space
PRE_TOKENIZERS = {
    *("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Metaspace", "ByteLevel"),
    *("Split", "Punctuation", "Digits"),
}
LOOKS_FURTHER = re.compile(r"\$|\\[zZG]|\(\?(?!i?:)")  # in a pattern: end of text, lookahead and lookbehind
AT_THE_END = r"\s+(?!\S)"  # looks ahead by one character, only after white space
BEGIN = re.compile(r"^(\(\?i?:)?( \?|\\s[*+]|\[\^[^\]]*\]\?)?")  # the start of an alternative
NO_SPACE = re.compile(r"\[\^\\s[^\]]*\]")  # a class that excludes white space
MAY_BE_A_SPACE = re.compile(r" |\.|\\[sWDHPX]|\\p\{\^?Z|\[\^(?!\\s)")
MARKS = ("▁", "Ġ")  # a space in vocabularies
OVER_A_SPACE = re.compile(r"[^\sĊčĉĠ▁][Ġ▁ ]")  # in a token; ĊčĉĠ are white space in byte-level vocabularies


def encode_each(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    longest: int | None,
    special: bool = True,
    with_offsets: bool = False,
) -> Iterator[tuple[Encoding, bool]]:
    """Yield the encoding of each text by a fast tokenizer, cut at `longest` tokens if given, and whether it was cut.

    Without `with_offsets`, encodings do not have the positions of tokens in the text, which is faster.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    if longest is None:
        backend.no_truncation()
    else:
        backend.enable_truncation(longest, direction=tokenizer.truncation_side)
    encode = backend.encode_batch if with_offsets else backend.encode_batch_fast
    first = None if longest is None else CHARACTERS_A_TOKEN * longest
    if first is not None and not (any(len(text) > 2 * first for text in texts) and reads_heads(tokenizer)):
        first = None
    for part in batches_of(texts, first):
        heads = [_head(text, first) for text in part]
        encodings = encode(heads, add_special_tokens=special)
        for text, head, encoding in zip(part, heads, encodings, strict=True):
            is_cut = bool(encoding.overflowing)
            while not is_cut and len(head) < len(text):  # the head has too few tokens
                head = _head(text, FURTHER * len(head))
                (encoding,) = encode([head], add_special_tokens=special)
                is_cut = bool(encoding.overflowing)
            yield encoding, is_cut


def token_arrays(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], with_words: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the tokens int32 [T] of each whole text by a fast tokenizer, without special tokens around them.

    With `with_words`, also yields the number of each token's word int64 [T], in ascending order. A special token in a
    text is a word with a number below 0. Long texts are read in parts if this gives the same tokens and words.
    """
    joins = any(len(text) > 2 * CHARACTERS_A_BATCH for text in texts) and reads_parts(tokenizer)
    parts = [_parts_of(text) if joins else [text] for text in texts]
    given = [part for each in parts for part in each]
    read = encode_each(tokenizer, given, None, special=False, with_offsets=with_words)
    for each in parts:
        ids, words, place, count = [], [], 0, 0
        for _, (encoding, _) in zip(each, read, strict=False):  # zip advances `each` first, and then stops
            ids.append(np.array(encoding.ids, np.int32))
            if with_words:
                numbers = (
                    -1 - at if word is None else word + count for at, word in enumerate(encoding.word_ids, place)
                )
                words.append(np.fromiter(numbers, np.int64, len(encoding.ids)))
                place, count = place + len(encoding.ids), max(count, int(words[-1].max(initial=-1)) + 1)
        yield np.concatenate(ids), np.concatenate([*words, np.empty(0, np.int64)])


def _parts_of(text: str) -> list[str]:
    """Split a text into parts of about the same size. All parts but the last end with a letter or digit."""
    parts, begin = [], 0
    while len(text) - begin > 2 * CHARACTERS_A_BATCH and (found := CUT.search(text, begin + CHARACTERS_A_BATCH)):
        parts.append(text[begin : found.end()])
        begin = found.end()
    return [*parts, text[begin:]]


def batches_of(texts: Sequence[str], first: int | None = None) -> Iterator[Sequence[str]]:
    """Yield texts in batches of limited size. A text counts with at most twice `first` characters."""
    begin = size = 0
    for at, text in enumerate(texts):
        if size > CHARACTERS_A_BATCH:
            yield texts[begin:at]
            begin, size = at, 0
        size += len(text) if first is None else min(len(text), 2 * first)
    if begin < len(texts):
        yield texts[begin:]


def head_of(tokenizer: PreTrainedTokenizerBase, text: str, longest: int) -> str:
    """Return the head of a text with more than `longest` tokens, without special ones, or the text if there is none."""
    size = CHARACTERS_A_TOKEN * (longest + 1)
    if len(text) <= 2 * size or not tokenizer.is_fast or not reads_heads(tokenizer):
        return text
    while len(head := _head(text, size)) < len(text):
        ((_, is_cut),) = encode_each(tokenizer, [head], longest, special=False)
        if is_cut:
            break
        size *= FURTHER
    return head


def _head(text: str, size: int | None) -> str:
    """Return the start of a text, up to the first possible cut after `size` characters."""
    if size is None or len(text) <= 2 * size:
        return text
    found = CUT.search(text, size)
    return text[: found.end()] if found else text


def reads_heads(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a fast tokenizer gives the same first tokens for the head of a text as for the text."""
    backend = tokenizer.backend_tokenizer
    if tokenizer.truncation_side != "right":
        return False
    if any(" " in token.content for token in backend.get_added_tokens_decoder().values()):
        return False
    try:
        normalizers, pre_tokenizers = _parts(backend.normalizer), _parts(backend.pre_tokenizer)
    except Exception:  # a component in user code has no description
        return False
    if not all(map(_normalizes_locally, normalizers)) or not all(map(_matches_from_the_left, pre_tokenizers)):
        return False
    kind = type(backend.model).__name__
    if _are_words_apart(normalizers, pre_tokenizers):
        return kind in ("BPE", "Unigram", "WordPiece", "WordLevel")
    return kind in ("BPE", "Unigram") and _no_token_over_a_space(backend)


def reads_parts(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a fast tokenizer gives the same tokens for the parts of a text as for the text.

    In addition to the condition for heads, the space at the start of a part must not change its tokens.
    """
    if not reads_heads(tokenizer):
        return False
    backend = tokenizer.backend_tokenizer
    normalizers, pre_tokenizers = _parts(backend.normalizer), _parts(backend.pre_tokenizer)
    if any(part["type"] == "Prepend" or part.get("strip_left") for part in normalizers):
        return False
    return _are_words_apart(normalizers, pre_tokenizers)


def _parts(part: Any) -> list[dict[str, Any]]:
    """Return the description of a normalizer or pre-tokenizer, or of each in a sequence."""
    return [] if part is None else _flat(json.loads(part.__getstate__()))


def _flat(part: dict[str, Any]) -> list[dict[str, Any]]:
    if part["type"] != "Sequence":
        return [part]
    return [one for inner in part.get("normalizers") or part.get("pretokenizers") or () for one in _flat(inner)]


def _normalizes_locally(part: dict[str, Any]) -> bool:
    if part["type"] != "Replace":
        return part["type"] in NORMALIZERS
    pattern = part["pattern"]
    if pattern.get("Regex") in BLANKS or pattern.get("String") == " ":
        return part["content"] in (" ", "▁")
    return " " not in pattern.get("String", " ")


def _matches_from_the_left(part: dict[str, Any]) -> bool:
    if part["type"] != "Split":
        return part["type"] in PRE_TOKENIZERS
    return not LOOKS_FURTHER.search(part["pattern"].get("Regex", "").replace(AT_THE_END, ""))


def _are_words_apart(normalizers: list[dict[str, Any]], pre_tokenizers: list[dict[str, Any]]) -> bool:
    """Return whether no word contains a space between letters or digits."""
    spaces_stay = all(part["type"] != "ByteLevel" and part.get("content", " ") == " " for part in normalizers)
    return any(_splits_at_spaces(part) and (spaces_stay or part["type"] == "Metaspace") for part in pre_tokenizers)


def _splits_at_spaces(part: dict[str, Any]) -> bool:
    kind = part["type"]
    if kind == "Split":
        return bool(part["behavior"] == ("Removed" if part["invert"] else "Isolated")) and _begins_at_spaces(part)
    if kind in ("Metaspace", "ByteLevel"):
        return bool(part.get("split" if kind == "Metaspace" else "use_regex", True))
    return kind in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")


def _begins_at_spaces(split: dict[str, Any]) -> bool:
    """Return whether a match of a Split's expression can have a space only at its start, as in GPT's expressions.

    Each alternative starts with a class of white space or one optional character, and has no space after it.
    """
    pattern = split["pattern"].get("Regex", ".").replace(AT_THE_END, r"\s+")
    pattern = NO_SPACE.sub("x", pattern)
    return not any(MAY_BE_A_SPACE.search(BEGIN.sub("", alternative)) for alternative in pattern.split("|"))


@lru_cache(maxsize=8)  # checking a quarter of a million tokens takes a tenth of a second
def _no_token_over_a_space(backend: Tokenizer) -> bool:
    vocabulary = backend.get_vocab(with_added_tokens=False)
    return any(mark in vocabulary for mark in MARKS) and not any(map(OVER_A_SPACE.search, vocabulary))
