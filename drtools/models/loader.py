"""One loader for every way to name an encoder: a model, a pair, a body with a REM, a lexical encoder."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import overload

from drtools.errors import InputError, param
from drtools.models.bodies import positions_of
from drtools.models.compute import KEPT_SHAPES, Compute, place
from drtools.models.encoder import Encoder
from drtools.models.encoder_files import load_encoder
from drtools.models.hub import resolve
from drtools.models.lexical import LexicalEncoder, load_lexical
from drtools.models.pair import EncoderPair, halves
from drtools.models.rem import fold_rem
from drtools.models.settings import SIDES, check_side, fingerprints, is_lexical, read_settings
from drtools.models.sides import load_sides, side_folders
from drtools.models.specs import EncoderSpec


@overload
def load_for_encoding(flags: EncoderSpec, computing: Compute, side: str) -> Encoder | LexicalEncoder: ...
@overload
def load_for_encoding(
    flags: EncoderSpec, computing: Compute, side: None = None
) -> Encoder | EncoderPair[Encoder] | EncoderPair[LexicalEncoder]: ...
def load_for_encoding(
    flags: EncoderSpec, computing: Compute, side: str | None = None
) -> Encoder | LexicalEncoder | EncoderPair[Encoder] | EncoderPair[LexicalEncoder]:
    """Load the encoder that flags name, with what they set about it, on its device and in its precision.

    With a `side` (`query` or `document`) only that side's encoder of a pair is read. An encoder made for the other side
    is refused.
    """
    name = flags.start()
    if computing.device == "cpu":
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KEPT_SHAPES)
    folder = resolve(name)
    if is_lexical(folder) and not flags.document_model:
        if computing.copies.devices:
            raise InputError(
                "a lexical encoder computes on one device", where=name, remedy=f"use {param('device')} cpu, or one GPU"
            )
        return _load_lexical(folder, flags, computing, side)
    encoder = load_named(flags, side)
    apply_flags(encoder, flags)
    if flags.rem:
        assert isinstance(encoder, Encoder), "no REM is put on a pair"
        fold_rem(encoder)
    place(encoder, computing)
    return encoder


def load_named(
    flags: EncoderSpec, side: str | None = None, dropout: float | None = None
) -> Encoder | EncoderPair[Encoder]:
    """Load the encoder that flags name as its files have it, or one side of it; one made for the other is refused."""
    name = flags.start()
    if flags.rem:
        encoder = load_encoder(name, flags.pooling, flags.trust_remote_code, dropout, flags.rem)
    else:
        folders = side_folders(name, flags.document_model)
        encoder = load_sides(folders, side, flags.pooling, flags.trust_remote_code, dropout)
    for needed in (side,) if side else SIDES:
        check_side(encoder.of(needed).settings, needed, name)
    return encoder


def known_fingerprints(encoder: Encoder | LexicalEncoder, flags: EncoderSpec) -> dict[str, str]:
    """Return the fingerprints, by side, by which an encoder of queries is known to belong to vectors of documents.

    An encoder that names another one for its documents belongs to vectors of that one alone. A query prompt of the
    flags is left out: who searches with another prompt than the encoder's own still searches with that encoder.
    """
    known = encoder.side_fingerprints()
    if "document" in encoder.settings.inherited:
        return {"document": known["document"]}
    if flags.query_prompt is None or flags.rem or not isinstance(encoder, Encoder):
        return known
    assert encoder.folder is not None, "it was loaded from one"
    own = read_settings(encoder.folder, flags.pooling).query_prompt
    settings = dataclasses.replace(encoder.settings, query_prompt=own)
    return known | {"query": fingerprints(encoder.folder, settings)["query"]}


def check_title_separator(encoder: Encoder | LexicalEncoder, title_separator: str) -> None:
    """Refuse to give a lexical encoder other texts of documents than those that were counted for it."""
    if isinstance(encoder, LexicalEncoder) and encoder.terms.title_separator != title_separator:
        made = encoder.terms.title_separator
        raise InputError(
            f"made of texts with {made!r} between title and text, not {title_separator!r}",
            where=encoder.folder,
            remedy=f"use {param('title_separator')} {made!r}, or make the encoder again",
        )


def _load_lexical(
    folder: Path, flags: EncoderSpec, computing: Compute, side: str | None
) -> LexicalEncoder | EncoderPair[LexicalEncoder]:
    """Load a lexical encoder with Lucene's analyzer; what flags set about a body's encoder has no meaning for it."""
    from drtools.models.analyzer import Analyzer
    from drtools.models.terms import TermKeys

    for name in ("rem", "pooling", "max_query_tokens", "max_document_tokens", "query_prompt", "document_prompt"):
        if getattr(flags, name) is not None:
            raise InputError(
                f"{flags.start()} is a lexical encoder, which has no such setting",
                where=param(name),
                remedy="leave the flag out",
            )
    known = TermKeys()
    if side:
        return load_lexical(folder, side, Analyzer, known).to(computing.device)
    query, document = (load_lexical(folder, each, Analyzer, known) for each in SIDES)
    return EncoderPair(query, document, folder).to(computing.device)


def apply_flags(encoder: Encoder | EncoderPair[Encoder], flags: EncoderSpec) -> None:
    """Set lengths and prompts that the flags name; a length beyond the body's positions, or of no text, is refused."""
    for half in halves(encoder):
        longest, special = positions_of(half.body), half.tokenizer.num_special_tokens_to_add()
        for name in ("max_query_tokens", "max_document_tokens", "query_prompt", "document_prompt"):
            value = getattr(flags, name)
            if value is None:
                continue
            flag = f"{param(name)} {value}"
            if name.startswith("max") and longest and value > longest:
                raise InputError(f"this body has {longest} positions", where=flag, remedy=f"use {longest} or less")
            if name.startswith("max") and value <= special:
                raise InputError(
                    f"the special tokens of a text alone are {special}", where=flag, expected=f"{special + 1} or more"
                )
            setattr(half.settings, name, value)
