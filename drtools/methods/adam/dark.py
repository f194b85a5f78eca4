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
from drtools.models.text_template import TextTemplate
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

# Chinese characters as in BERT's tokenizer, and Japanese kana: each such character is a word
_ALONE = (
    "\u3041-\u309f\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ceaf\U0002f800-\U0002fa1f"
)
WORD = re.compile(f"[{_ALONE}]|[^\\s{_ALONE}]+")


class Special(NamedTuple):
    """The special tokens and lengths for writing dark items.

    These are the separator and mask token of a tokenizer, and the maximum number of tokens of both halves of a
    reinforced text. Without a tokenizer (None), nothing is cut.
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
    """Return the same for a student. Raises InputError if it has too few positions for reinforced texts.

    `otherwise` is an alternative for the error message.
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
    """Return the special tokens and lengths with which a teacher's dark items for a query are written.

    The tokens are those of the first model. The room for both halves of a reinforced text is that of a student
    (`room`), or that of a student with the teacher's length of documents. It is never more than each model can read
    with the query. Raises InputError for dark items of a teacher that reads texts in a template.
    """
    for scorer in teacher.scorers:
        if kinds and isinstance(scorer.encoder.template, TextTemplate):
            raise InputError(
                "it reads a document in a template of text, which the special tokens of dark items would break",
                where=scorer.name,
                remedy=f"use examples without dark items, and distill-adam {param('baseline')} hard-kd",
            )
    encoders = zip((scorer.encoder for scorer in teacher.scorers), teacher.rendering, strict=True)
    left = min(
        encoder.longest_pair - encoder.template.special - min(count_tokens(tokenizer, query), encoder.max_query_tokens)
        for encoder, tokenizer in encoders
    )
    # checks each model, since each may raise an error
    special, *_ = [
        special_of(
            tokenizer,
            teacher.max_document_tokens
            + tokenizer.num_special_tokens_to_add(),  # the length of a student includes these
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
    """Return the maximum number of tokens of a text that an encoder reads, without special tokens and its prompt."""
    taken = encoder.tokenizer.num_special_tokens_to_add()
    taken += count_tokens(encoder.tokenizer, encoder.settings.prompt(side))
    return max(1, encoder.settings.max_tokens(side) - taken)


def reinforced_tokens(encoder: Encoder) -> int:
    """Return the maximum length of a student's reinforced texts in tokens, including special tokens."""
    return 2 * encoder.settings.max_document_tokens


def dark_text(item: Dark, query_id: str, text_of: TextOf, special: Special) -> str:
    """Return a dark item's text; `text_of` returns a document's text by id (in lower case for uncased models)."""
    if isinstance(item, Noisy):
        return noisy_text(text_of(item.positive), (item.seed, query_id, item.positive, item.ratio), special.mask)
    return reinforced_text(text_of(item.positive), text_of(item.negative), special)


def dark_text_for(encoder: Encoder, item: Dark, query_id: str, text_of: TextOf, special: Special) -> str:
    """Return the same for an encoder. If it lower-cases texts, only words are lower-cased, not special tokens."""
    return dark_text(item, query_id, lambda document: encoder.prepare(text_of(document)), special)


def is_cut(item: Dark, text_of: TextOf, special: Special) -> bool:
    """Return whether a reinforced text does not fit in its room, so that the end of one or both halves is cut."""
    if isinstance(item, Noisy) or special.tokenizer is None:
        return False
    return (
        sum(len(_token_ends(special.tokenizer, text_of(document), special.room)) for document in documents_of(item))
        > special.room
    )


def asked_text(item: Dark, query_id: str, text_of: TextOf, special: Special) -> tuple[str, int | None]:
    """Return the text of a dark item for a teacher, and its maximum number of tokens without special ones.

    `special` is the teacher's. The number is None for texts of the usual length.
    """
    return dark_text(item, query_id, text_of, special), special.room + 1 if isinstance(item, Reinforced) else None


def noisy_text(text: str, seed: tuple[int, str, str, float], mask: str) -> str:
    """Return a text with round(ratio x words) of its words, at least one, replaced by a mask token each.

    `seed`, which is (seed, query id, document id, ratio), determines which words. Words are separated by white space,
    and each Chinese character or kana is a word.
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
    """Return `positive[SEP]negative`, without white space between, since some tokenizers would make it a token.

    Both halves together fit in the room. If one is shorter than half of the room, the other gets the rest.
    """
    if special.tokenizer is not None:
        first, second = (_token_ends(special.tokenizer, text, special.room) for text in (positive, negative))
        more = special.room - special.room // 2  # the positive gets an odd token
        most = max(more, special.room - len(second)), max(special.room - more, special.room - len(first))
        positive, negative = _cut(positive, first, most[0]), _cut(negative, second, most[1])
    return f"{positive}{special.separator}{negative}"


def _cut(text: str, ends: list[int], tokens: int) -> str:
    return text if len(ends) <= tokens else text[: ends[tokens - 1]] if tokens > 0 else ""


def count_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Return how many tokens a text has, without special ones."""
    return len(_token_ends(tokenizer, text, None))


@lru_cache(maxsize=64)  # each negative needs its positive again
def _token_ends(tokenizer: PreTrainedTokenizerBase, text: str, most: int | None) -> list[int]:
    """Return the end of each token of a text, in characters. Without offsets, a tokenizer is called for each word.

    If a text has more than `most` tokens, some tokens after these may be left out.
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
