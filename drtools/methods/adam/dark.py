"""Texts of dark examples (Tao et al., ADAM).

Teacher and student get the same text, with the special tokens of their own tokenizers.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from drtools.errors import InputError, param
from drtools.formats.dark_items import Noisy, Reinforced, documents_of
from drtools.formats.examples import Example
from drtools.models.bodies import positions_of
from drtools.models.long_texts import head_of
from drtools.models.tokens import separator_of
from drtools.randomness import generator
from drtools.teachers.scoring import Teacher
from drtools.teachers.windows import Asked, ScoredTexts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from transformers import PreTrainedTokenizerBase

    from drtools.formats.dark_items import Dark
    from drtools.models.encoder import Encoder

    TextOf = Callable[[str], str]  # a document id -> its text

# Chinese characters as BERT's tokenizer tells them, and the kana of Japanese: such a character is a word
_ALONE = (
    "\u3041-\u309f\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ceaf\U0002f800-\U0002fa1f"
)
WORD = re.compile(f"[{_ALONE}]|[^\\s{_ALONE}]+")


class Special(NamedTuple):
    """What dark items are written with.

    A tokenizer's separator and mask token, and how many tokens both halves of a reinforced text may have.

    Without a tokenizer (`None`) nothing is cut.
    """

    separator: str = "[SEP]"
    mask: str = "[MASK]"
    tokenizer: PreTrainedTokenizerBase | None = None
    room: int = 0


def special_of(
    tokenizer: PreTrainedTokenizerBase,
    max_document_tokens: int,
    kinds: Collection[str],
    name: str,
    prompt: str = "",
    most: int | None = None,
) -> Special:
    """Return the special tokens and the length with which a tokenizer makes dark items of some kinds.

    A reinforced text has at most twice a document's tokens, including special tokens and a prompt, and at most `most`
    tokens without special ones. Raises InputError if the tokenizer has no such token; `name` is its model's.
    """
    separator, mask = separator_of(tokenizer), tokenizer.mask_token
    if "reinforced" in kinds and separator is None:
        raise InputError(
            "its tokenizer has neither a separator nor an end token, which reinforced negatives need",
            where=name,
            remedy="leave them out",
        )
    if "noisy" in kinds and mask is None:
        raise InputError(
            "its tokenizer has no mask token, which noisy positives need",
            where=name,
            remedy="leave them out, or use a model that has one",
        )
    taken = tokenizer.num_special_tokens_to_add() + count_tokens(tokenizer, prompt) + 1  # the separator
    room = 2 * max_document_tokens - taken
    return Special(separator or "", mask or "", tokenizer, room if most is None else min(room, most - 1))


def special_of_encoder(encoder: Encoder, kinds: Collection[str], name: str, otherwise: str = "") -> Special:
    """Return the same for a student, whose positions must be enough for reinforced texts.

    `otherwise` is what else can be done where they are not.
    """
    longest = positions_of(encoder.body)
    if "reinforced" in kinds and longest and reinforced_tokens(encoder) > longest:
        raise InputError(
            f"reinforced negatives are twice as long, and {name} has {longest} positions",
            where=f"{param('max_document_tokens')} {encoder.settings.max_document_tokens}",
            remedy=f"use {longest // 2} or less{otherwise}",
        )
    return special_of(
        encoder.tokenizer, encoder.settings.max_document_tokens, kinds, name, encoder.settings.document_prompt
    )


def special_of_teacher(teacher: Teacher, kinds: Collection[str], query: str, room: int | None = None) -> Special:
    """Return what dark items of some kinds are written with beside a query.

    The words of the first, and room for both halves of a reinforced text: that of a student (`room`), or that of a
    student that reads as much of a document as the teacher does; never more than each of them can read beside the
    query.
    """
    encoders = zip((scorer.encoder for scorer in teacher.scorers), teacher.rendering, strict=True)
    left = min(
        encoder.longest_pair - encoder.template.special - min(count_tokens(tokenizer, query), encoder.max_query_tokens)
        for encoder, tokenizer in encoders
    )
    # each is asked, so that each may refuse
    special, *_ = [
        special_of(
            tokenizer,
            teacher.max_document_tokens + tokenizer.num_special_tokens_to_add(),  # a student's length includes these
            kinds,
            scorer.name,
            most=left,
        )
        for scorer, tokenizer in zip(teacher.scorers, teacher.rendering, strict=True)
    ]
    return special if room is None else special._replace(room=min(room, left - 1))


def dark_asked(example: Example, texts: ScoredTexts, teacher: Teacher) -> list[Asked]:
    """List the dark items of an example for a teacher to score."""
    items = example.dark or ()
    found = {document: texts.document(document) for item in items for document in documents_of(item)}
    special = special_of_teacher(teacher, {item.kind for item in items}, texts.queries.get(example.query_id, ""))
    text_of = {document: text for document, text in found.items() if text is not None}.__getitem__
    asked = []
    for item in items:
        if any(found[document] is None for document in documents_of(item)):
            asked.append(Asked("dark_scores", None))
            continue
        text, limit = asked_text(item, example.query_id, text_of, special)
        asked.append(Asked("dark_scores", text, limit, is_cut(item, text_of, special)))
    return asked


def own_tokens(encoder: Encoder, side: str) -> int:
    """Return how many tokens of a text an encoder reads, besides special tokens and its prompt."""
    taken = encoder.tokenizer.num_special_tokens_to_add()
    taken += count_tokens(encoder.tokenizer, encoder.settings.prompt(side))
    return max(1, encoder.settings.max_tokens(side) - taken)


def reinforced_tokens(encoder: Encoder) -> int:
    """Return where a student's reinforced texts are cut, in tokens, special ones included."""
    return 2 * encoder.settings.max_document_tokens


def dark_text(item: Dark, query_id: str, text_of: TextOf, special: Special) -> str:
    """Return a dark item's text; `text_of` returns a document's text by id (in lower case for uncased models)."""
    if isinstance(item, Noisy):
        return noisy_text(text_of(item.positive), (item.seed, query_id, item.positive, item.ratio), special.mask)
    return reinforced_text(text_of(item.positive), text_of(item.negative), special)


def dark_text_for(encoder: Encoder, item: Dark, query_id: str, text_of: TextOf, special: Special) -> str:
    """Return the same for an encoder; if it lowers texts, only the documents' words are lowered, not special tokens."""
    return dark_text(item, query_id, lambda document: encoder.prepare(text_of(document)), special)


def is_cut(item: Dark, text_of: TextOf, special: Special) -> bool:
    """Return whether a dark item's text loses the end of a half or of both.

    A reinforced one that does not fit in its room.
    """
    if isinstance(item, Noisy) or special.tokenizer is None:
        return False
    return (
        sum(len(_token_ends(special.tokenizer, text_of(document), special.room)) for document in documents_of(item))
        > special.room
    )


def asked_text(item: Dark, query_id: str, text_of: TextOf, special: Special) -> tuple[str, int | None]:
    """Return a dark item's text as a teacher is asked for it, and how many tokens it may have without special ones.

    `special` is the teacher's. The number is None for a text that is cut as always.
    """
    return dark_text(item, query_id, text_of, special), special.room + 1 if isinstance(item, Reinforced) else None


def noisy_text(text: str, seed: tuple[int, str, str, float], mask: str) -> str:
    """Return a text with a share of its words masked: round(ratio x words), one at the least, one mask token for each.

    Which ones is fixed by `seed`: (seed, query id, document id, ratio). A word is what stands between white space, and
    each Chinese character or kana by itself.
    """
    words = list(WORD.finditer(text))
    if not words:
        return text
    count = max(1, round(seed[-1] * len(words)))
    masked = generator("noisy", *seed).choice(len(words), count, replace=False)
    parts, end = [], 0
    for at in sorted(masked.tolist()):
        parts += [text[end : words[at].start()], mask]
        end = words[at].end()
    return "".join([*parts, text[end:]])


def reinforced_text(positive: str, negative: str, special: Special) -> str:
    """Return `positive[SEP]negative`, without white space between, which some tokenizers would make a token of.

    Both together fit in the room; a half that is shorter than half of it gives the rest to the other.
    """
    if special.tokenizer is not None:
        first, second = (_token_ends(special.tokenizer, text, special.room) for text in (positive, negative))
        more = special.room - special.room // 2  # an odd token is the positive's
        most = max(more, special.room - len(second)), max(special.room - more, special.room - len(first))
        positive, negative = _cut(positive, first, most[0]), _cut(negative, second, most[1])
    return f"{positive}{special.separator}{negative}"


def _cut(text: str, ends: list[int], tokens: int) -> str:
    return text if len(ends) <= tokens else text[: ends[tokens - 1]] if tokens > 0 else ""


def count_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Return how many tokens a text has, without special ones."""
    return len(_token_ends(tokenizer, text, None))


@lru_cache(maxsize=64)  # a positive is read again with each negative
def _token_ends(tokenizer: PreTrainedTokenizerBase, text: str, most: int | None) -> list[int]:
    """Return where each token of a text ends, in characters; a tokenizer that does not say is asked word by word.

    Of a text with more than `most` tokens some of those behind may be left out.
    """
    text = text if most is None else head_of(tokenizer, text, most)
    if tokenizer.is_fast:
        return [
            end
            for _, end in tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
                "offset_mapping"
            ]
        ]
    return [word.end() for word in WORD.finditer(text) for _ in tokenizer.tokenize(word.group())]
