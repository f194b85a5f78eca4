"""Templates of text around a query and a document, as language models that score pairs read them.

A template is a list of segments. Each segment is tokenized by itself, and their tokens are joined: some programs
tokenize the whole text, others its parts. Only the texts of a query and a document are ever cut, never the template.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from drtools.errors import InputError, param
from drtools.models.loading import without_truncation

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

QUERY, DOCUMENT = "{query}", "{document}"
SLOTS = re.compile(r"(\{query\}|\{document\})")
ENCODED_AT_ONCE = 256  # pairs; an encoding with the positions of its tokens takes about 200 bytes a token
FILLERS = (("0", "0"), ("1 2 3 4", "1 2 3 4"))  # texts whose last tokens differ
MARKS = ("QUERY7f3a9", "DOCUMENT7f3a9")  # texts by which the places of a query and a document are found
PROBES = (("alpha", "bravo"), ("who was it", "a b\n\nc"))  # (query, document)


class Filled(NamedTuple):
    """The tokens of a pair in a template, and the first and the end of those of its query and its document.

    `query_ends` has the place of each token of the query in the query's text.
    """

    ids: list[int]
    query: tuple[int, int]
    document: tuple[int, int]
    query_ends: list[tuple[int, int]]


class TextTemplate:
    """Text around a query and a document.

    `segments` contain `{query}` and `{document}` once each, in any of them. With `special`, the tokenizer adds its
    special tokens to each segment.
    """

    def __init__(self, segments: Sequence[str], tokenizer: PreTrainedTokenizerBase, special: bool = False) -> None:
        self.segments, self.adds_special = tuple(segments), special
        self.backend = without_truncation(tokenizer).backend_tokenizer
        self.backend.no_truncation()
        self.backend.no_padding()
        self._parts = [SLOTS.split(segment) for segment in segments]
        self._fixed = [
            self._encode([segment])[0].ids if SLOTS.search(segment) is None else None for segment in segments
        ]
        one, other = (filled.ids for filled in self.fill(FILLERS))
        alike = next((at for at, (a, b) in enumerate(zip(one[::-1], other[::-1], strict=False)) if a != b), 0)
        # the tokens after the document, which its last token may otherwise join
        self.tail: list[int] | None = one[len(one) - alike :] if self._document_is_last else None
        self.special = len(self.fill([("", "")])[0].ids)

    @property
    def _document_is_last(self) -> bool:
        order = [part for parts in self._parts for part in parts if part in (QUERY, DOCUMENT)]
        return order[-1] == DOCUMENT

    def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        found: list[Encoding] = self.backend.encode_batch(list(texts), add_special_tokens=self.adds_special)
        return found

    def fill(self, pairs: Sequence[tuple[str, str]]) -> list[Filled]:
        """Return the tokens of (query, document) in the template, none of them cut."""
        found: list[Filled] = []
        for start in range(0, len(pairs), ENCODED_AT_ONCE):
            found += self._fill(pairs[start : start + ENCODED_AT_ONCE])
        return found

    def _fill(self, pairs: Sequence[tuple[str, str]]) -> list[Filled]:
        ids: list[list[int]] = [[] for _ in pairs]
        places: list[dict[str, tuple[int, int]]] = [{} for _ in pairs]
        ends: list[list[tuple[int, int]]] = [[] for _ in pairs]
        for parts, fixed in zip(self._parts, self._fixed, strict=True):
            if fixed is not None:
                for tokens in ids:
                    tokens += fixed
                continue
            texts, spans = zip(*(_filled(parts, pair) for pair in pairs), strict=True)
            for row, encoding in enumerate(self._encode(texts)):
                offsets, before = encoding.offsets, len(ids[row])
                for slot, (first, end) in spans[row].items():
                    inside = [at for at, (a, b) in enumerate(offsets) if b > first and a < end and b > a]
                    at = inside[0] if inside else _first_from(offsets, first)
                    places[row][slot] = before + at, before + at + len(inside)
                    if slot == QUERY:
                        ends[row] = [(max(0, offsets[at][0] - first), offsets[at][1] - first) for at in inside]
                ids[row] += encoding.ids
        return [
            Filled(tokens, place[QUERY], place[DOCUMENT], end)
            for tokens, place, end in zip(ids, places, ends, strict=True)
        ]

    def cut_document(self, filled: Filled, limit: int | None, longest: int, from_left: bool) -> tuple[list[int], bool]:
        """Return the tokens of a pair with at most `limit` tokens of the document and `longest` in all, and if cut."""
        first, end = filled.document
        after = filled.ids[end:]
        room = longest - first - len(after)
        keep = room if limit is None else min(room, limit)
        if end - first <= keep:
            return filled.ids, False
        if from_left:
            return [*filled.ids[:first], *filled.ids[end - max(0, keep) : end], *after], True
        if self.tail is not None:
            after = self.tail
            keep = longest - first - len(after) if limit is None else min(longest - first - len(after), limit)
        return [*filled.ids[: first + max(0, keep)], *after], True

    def as_json(self) -> list[object]:
        """Return what identifies the template."""
        return [list(self.segments), self.adds_special]


def _filled(parts: Sequence[str], pair: tuple[str, str]) -> tuple[str, dict[str, tuple[int, int]]]:
    """Return a segment with its texts, and the places of these texts in it."""
    text, spans = "", dict[str, tuple[int, int]]()
    for part in parts:
        put = {QUERY: pair[0], DOCUMENT: pair[1]}.get(part, part)
        if part in (QUERY, DOCUMENT):
            spans[part] = len(text), len(text) + len(put)
        text += put
    return text, spans


def _first_from(offsets: Sequence[tuple[int, int]], place: int) -> int:
    """Return the first token that starts at a place in the text or after it."""
    return next((at for at, (start, end) in enumerate(offsets) if start >= place and end > start), len(offsets))


def check_segments(segments: Sequence[str], where: object) -> None:
    """Raise InputError unless a query and a document have one place each."""
    for slot in (QUERY, DOCUMENT):
        count = "".join(segments).count(slot)
        if count != 1:
            raise InputError(f"{slot} is in the template {count} times", where=where, expected="once")


def chat_segments(
    tokenizer: PreTrainedTokenizerBase, form: str | None, prompt: str, settings: dict[str, Any], folder: Path
) -> tuple[str, ...]:
    """Return a chat template around a query and a document as one segment.

    As in sentence-transformers, the template gets messages of the roles `query` and `document`, and a prompt as a
    message of the role `system`. `form` is `flat` or `structured`, or None to take the one that carries both texts.
    Raises InputError for a template that does not carry both texts, or changes them.
    """
    failure = "the tokenizer has no chat template"
    for each in [form] if form in ("flat", "structured") else ["flat", "structured"]:

        def render(query: str, document: str, each: str = str(each)) -> str:
            roles = [*([("system", prompt)] if prompt else []), ("query", query), ("document", document)]
            messages: list[dict[str, Any]] = [
                {"role": role, "content": text if each == "flat" else [{"type": "text", "text": text}]}
                for role, text in roles
            ]
            return str(tokenizer.apply_chat_template(messages, tokenize=False, **settings))

        if tokenizer.chat_template is None:
            break
        try:
            text = render(*MARKS)
            counts = [text.count(mark) for mark in MARKS]
            if counts != [1, 1]:
                failure = f"it shows the query {counts[0]} times and the document {counts[1]} times"
                continue
            whole = text.replace(MARKS[0], QUERY).replace(MARKS[1], DOCUMENT)
            if text.count(QUERY) + text.count(DOCUMENT) or any(
                _filled(SLOTS.split(whole), pair)[0] != render(*pair) for pair in PROBES
            ):
                failure = "it changes the texts"
                continue
        except Exception as error:  # templates raise errors of their own
            failure = f"it raises {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        return (whole,)
    raise InputError(
        f"its chat template cannot be used for a query and a document: {failure}",
        where=folder,
        remedy=f"use {param('pair_template')} with the name of a family or a text with {QUERY} and {DOCUMENT}",
    )
