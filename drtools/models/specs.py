"""Specifications of encoders, of computing, and of pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

from drtools.errors import InputError, param, params_given

Precision = Literal["bf16", "fp16", "fp32", "int8"]


@dataclass(frozen=True)
class ComputeSpec:
    """Device, precision and batch size."""

    device: str = "auto"
    precision: Literal["auto"] | Precision = "auto"
    threads: int = 0


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder and its settings. Settings that are None are read from the model's files."""

    model: str | None = None
    document_model: str | None = None
    body: str | None = None
    rem: str | None = None
    pooling: str | None = None
    max_query_tokens: int | None = None
    max_document_tokens: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    query_instruction: str | None = None
    trust_remote_code: bool = False
    truncate_dimension: int | None = None

    def __post_init__(self) -> None:
        if self.query_instruction is not None and self.query_prompt is not None:
            raise InputError(
                "an instruction is put into a prompt",
                where=f"{param('query_instruction')} with {param('query_prompt')}",
                remedy="leave one of the two out",
            )
        if self.document_model and not self.model:
            raise InputError(
                f"it is the encoder of documents, and needs {param('model')} for queries",
                where=f"{param('document_model')} alone",
                remedy="pass both",
            )

    @property
    def given(self) -> list[str]:
        """The names of the settings that are not None."""
        return [each.name for each in fields(EncoderSpec) if getattr(self, each.name) not in (None, False)]

    @property
    def names(self) -> str:
        """The name of the encoder, or of both of a pair, for messages."""
        return f"{self.start()} with {self.document_model}" if self.document_model else self.start()

    def or_from(self, record: Mapping[str, Any]) -> EncoderSpec:
        """Return this specification, with the encoder in a manifest of vectors or an index if it has none."""
        if self.model or self.body or self.rem:
            return self
        if rem := record.get("rem"):
            return replace(self, body=record["model"], rem=rem)
        return replace(self, model=record["model"])

    def start(self) -> str:
        """Return the name of the encoder, or of the body to which `rem` is added.

        Raises InputError if there is none, or both.
        """
        if self.model and (self.body or self.rem):
            raise InputError(
                "only one of the two can be given",
                where=f"{param('model')} with {param('body')} or {param('rem')}",
                remedy=f"use {param('model')} ENCODER, or {param('body')} BODY {param('rem')} REM",
            )
        if bool(self.body) != bool(self.rem):
            raise InputError(
                "a body and a REM must be given together",
                where=f"{param('body' if self.body else 'rem')} alone",
                remedy=f"use {param('body')} BODY {param('rem')} REM, or {param('model')} for an encoder by itself",
            )
        start = self.model or self.body
        if not start:
            raise InputError(
                "no encoder was given",
                remedy=f"use {param('model')} FOLDER or a hub name, or {param('body')} BODY {param('rem')} REM",
            )
        return start


@dataclass(frozen=True)
class ReadingSpec:
    """How a cross-encoder that is a language model reads pairs, where its files do not say or another way is wanted.

    `score_tokens` are the relevant and the irrelevant token, separated by a comma, or only the first.
    """

    instruction: str | None = None
    pair_template: str | None = None
    score_tokens: str | None = None
    score_layer: int | None = None

    def refuse_without_teacher(self) -> None:
        """Raise InputError for settings that were given although no teacher reads anything."""
        given = params_given({each.name: getattr(self, each.name) for each in fields(ReadingSpec)})
        if given:
            raise InputError(f"this needs {param('teacher')}", where=given, remedy="pass it too, or leave this out")


@dataclass(frozen=True)
class PieceSizes:
    """The sizes of passages and sentences, in tokens of the encoder (FGD).

    Sizes that are None are those of the encoder's training, or the defaults.
    """

    passage_tokens: int | None = None
    sentence_tokens: int | None = None
    least_piece_tokens: int | None = None
    usual: ClassVar[dict[str, int]] = {"passage_tokens": 128, "sentence_tokens": 64, "least_piece_tokens": 16}

    def settled(self, trained: dict[str, Any]) -> PieceSizes:
        """Return complete sizes.

        Missing sizes are taken from `trained` (the `pieces` in an encoder's settings), or are the defaults.
        """
        return replace(
            self,
            **{name: trained.get(name, usual) for name, usual in self.usual.items() if getattr(self, name) is None},
        )
