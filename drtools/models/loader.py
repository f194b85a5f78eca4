"""The loader of encoders, for a model, a pair, a body with a REM, or a lexical encoder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, overload

from drtools.errors import InputError, param
from drtools.models.analyzer import Analyzer
from drtools.models.bodies import positions_of
from drtools.models.compute import Compute, place
from drtools.models.encoder import Encoder
from drtools.models.encoder_files import load_folder
from drtools.models.lexical import LexicalEncoder, load_lexical
from drtools.models.pair import EncoderPair, halves
from drtools.models.rem import check_folds, fold_rem
from drtools.models.rem_files import load_rem
from drtools.models.resolving import resolve
from drtools.models.settings import SIDES, is_lexical, is_pair, read_settings, side_folder
from drtools.models.sides import EncoderFiles, pair_fingerprints, read_encoder, side_folders
from drtools.models.specs import EncoderSpec, Precision
from drtools.models.terms import TermKeys
from drtools.models.truncation import truncate


def load_encoder(
    name: str,
    pooling: str | None = None,
    trust_remote_code: bool = False,
    dropout: float | None = None,
    rem: str | None = None,
) -> Encoder | EncoderPair[Encoder]:
    """Load an encoder or a pair in float32 and eval mode, from a folder or a hub name.

    It has the settings of its files, and may be an encoder of one side. Tools use `load_named`, which also applies the
    settings of a specification. `dropout` replaces the dropout of the body. With the folder of a `rem`,
    that relevance module is added but not folded in.
    """
    folder = resolve(name)
    if is_pair(folder):
        if rem:
            raise InputError(
                "a pair of encoders, on which no REM can be put",
                where=folder,
                remedy="name one of its subfolders, query or document",
            )
        query, document = (
            load_folder(half, read_settings(half, pooling), trust_remote_code, dropout)
            for half in (side_folder(folder, side) for side in SIDES)
        )
        return EncoderPair(query, document, folder).eval()
    encoder = load_folder(folder, read_settings(folder, pooling), trust_remote_code, dropout)
    if rem:
        load_rem(encoder, Path(rem))
    return encoder


@overload
def load_for_encoding(spec: EncoderSpec, computing: Compute, side: str) -> Encoder | LexicalEncoder: ...
@overload
def load_for_encoding(
    spec: EncoderSpec, computing: Compute, side: None = None
) -> Encoder | EncoderPair[Encoder] | EncoderPair[LexicalEncoder]: ...
def load_for_encoding(
    spec: EncoderSpec, computing: Compute, side: str | None = None
) -> Encoder | LexicalEncoder | EncoderPair[Encoder] | EncoderPair[LexicalEncoder]:
    """Load the encoder of a specification, also a lexical one, on its device and in its precision.

    A REM is folded into the weights as far as the body allows.
    """
    folders = side_folders(spec.start(), spec.document_model)
    if is_lexical(folders["query"]) and not spec.document_model:
        if computing.copies.devices:
            raise InputError(
                "a lexical encoder computes on one device",
                where=spec.start(),
                remedy=f"use {param('device')} cpu, or one GPU",
            )
        return _load_lexical(folders["query"], spec, computing, side)
    encoder = load_named(spec, side, rem="fold", folders=folders, precision=computing.precision)
    place(encoder, computing)
    return encoder


def load_named(
    spec: EncoderSpec,
    side: str | None = None,
    *,
    dropout: float | None = None,
    rem: Literal["fold", "must-fold", "keep"] = "keep",
    folders: dict[str, Path] | None = None,
    precision: Precision = "fp32",
) -> Encoder | EncoderPair[Encoder]:
    """Load the encoder of a specification, with its lengths, prompts and dimension, in eval mode.

    Its body is loaded in `precision`, except to be added to a REM, which is done in float32.

    With a `side` (`query` or `document`), only the encoder of that side of a pair is loaded; it keeps the fingerprint
    of the other. `dropout` replaces the dropout of the body. A REM is folded into the weights with `fold` and
    `must-fold`, and stays separate for training with `keep`. `must-fold` and `keep` raise InputError if folding does
    not give a plain body. `folders` are the folders of the sides, if the caller has already resolved the names.

    Raises InputError for an encoder that was made for the other side.
    """
    files = read_encoder(spec, side, folders)
    encoder = _load_files(files, side, spec, dropout, "fp32" if spec.rem else precision)
    if spec.rem:
        assert isinstance(encoder, Encoder), "a pair has no REM"
        load_rem(encoder, Path(spec.rem))
        if rem != "fold":
            check_folds(encoder)
    set_lengths_and_prompts(encoder, spec)
    if spec.truncate_dimension is not None:
        for half in halves(encoder):
            truncate(half, spec.truncate_dimension)
    if spec.rem and rem != "keep":
        assert isinstance(encoder, Encoder), "a pair has no REM"
        fold_rem(encoder)
    return encoder


def _load_files(
    files: EncoderFiles, side: str | None, spec: EncoderSpec, dropout: float | None, precision: Precision
) -> Encoder | EncoderPair[Encoder]:
    """Load an encoder from its files, with the settings in them."""
    folders, settings = files
    if not files.is_pair:
        return load_folder(folders["query"], next(iter(settings.values())), spec.trust_remote_code, dropout, precision)
    if side is None:
        query, document = (
            load_folder(folders[each], settings[each], spec.trust_remote_code, dropout, precision) for each in SIDES
        )
        together = folders["query"].parent == folders["document"].parent
        return EncoderPair(query, document, folders["query"].parent if together else folders["query"]).eval()
    other = SIDES[1 - SIDES.index(side)]
    settings[side].inherited = {other: pair_fingerprints(folders, spec.pooling)[other]}
    return load_folder(folders[side], settings[side], spec.trust_remote_code, dropout, precision)


def known_fingerprints(encoder: Encoder | LexicalEncoder, flags: EncoderSpec) -> dict[str, str]:
    """Return the fingerprints, by side, that show whether a query encoder belongs to vectors of documents.

    An encoder that names a separate document encoder belongs only to vectors of that one. A query prompt in the
    specification is left out, since a search with another prompt still uses the same encoder.
    """
    known = encoder.side_fingerprints()
    if "document" in encoder.settings.inherited:
        return {"document": known["document"]}
    if (
        (flags.query_prompt is None and flags.query_instruction is None)
        or flags.rem
        or not isinstance(encoder, Encoder)
    ):
        return known
    assert encoder.folder is not None, "it was loaded from a folder"
    own = read_settings(encoder.folder, flags.pooling).query_prompt
    return known | {"query": encoder.side_fingerprints(own)["query"]}


def check_title_separator(encoder: Encoder | LexicalEncoder, title_separator: str) -> None:
    """Raise InputError if a lexical encoder was made with another title separator."""
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
    """Load a lexical encoder with Lucene's analyzer. Raises InputError for settings that only dense encoders have."""
    dense = ("rem", "pooling", "max_query_tokens", "max_document_tokens", "query_prompt", "document_prompt")
    for name in (*dense, "query_instruction", "truncate_dimension"):
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


def set_lengths_and_prompts(encoder: Encoder | EncoderPair[Encoder], spec: EncoderSpec) -> None:
    """Set the lengths and prompts of a specification.

    Raises InputError for a length that is beyond the body's positions or leaves no room for a text.
    """
    for half in halves(encoder):
        longest, special = positions_of(half.body), half.tokenizer.num_special_tokens_to_add()
        for name in ("max_query_tokens", "max_document_tokens", "query_prompt", "document_prompt"):
            value = getattr(spec, name)
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
        if spec.query_instruction is not None:
            half.settings.query_prompt = with_instruction(half.settings.query_prompt, spec.query_instruction)


def with_instruction(prompt: str, instruction: str) -> str:
    """Return a model's prompt with another instruction; models without one get the form that most of them have."""
    form = re.fullmatch(r"(?s)(Instruct: ).*(\n ?Query:\s*)", prompt)
    return f"{form[1]}{instruction}{form[2]}" if form else f"Instruct: {instruction}\nQuery: "
