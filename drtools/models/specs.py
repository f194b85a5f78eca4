"""Which encoder, where and how exactly it computes, and how documents are cut into pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

from drtools.errors import InputError, param

Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class ComputeSpec:
    """Where and how exactly to compute."""

    device: str = "auto"
    precision: Literal["auto"] | Precision = "auto"
    threads: int = 0


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder and what may be set about it; what is not set is read from the model's files."""

    model: str | None = None
    document_model: str | None = None
    body: str | None = None
    rem: str | None = None
    pooling: str | None = None
    max_query_tokens: int | None = None
    max_document_tokens: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.document_model and not self.model:
            raise InputError(
                f"it names the encoder of documents beside {param('model')}, that of queries",
                where=f"{param('document_model')} alone",
                remedy="pass both",
            )

    @property
    def given(self) -> list[str]:
        """The names of what is set."""
        return [each.name for each in fields(EncoderSpec) if getattr(self, each.name) not in (None, False)]

    @property
    def names(self) -> str:
        """The name of the encoder, or of both of a pair, for messages."""
        return f"{self.start()} with {self.document_model}" if self.document_model else self.start()

    def or_of(self, record: Mapping[str, Any]) -> EncoderSpec:
        """Return the same, with the encoder that a manifest of vectors or of an index names if this names none."""
        if self.model or self.body or self.rem:
            return self
        if rem := record.get("rem"):
            return replace(self, body=record["model"], rem=rem)
        return replace(self, model=record["model"])

    def start(self) -> str:
        """Return the name of the encoder, or of the body that `rem` is put on.

        InputError if none is named, or too many.
        """
        if self.model and (self.body or self.rem):
            raise InputError(
                "an encoder is either of the two",
                where=f"{param('model')} beside {param('body')} or {param('rem')}",
                remedy=f"use {param('model')} ENCODER, or {param('body')} BODY {param('rem')} REM",
            )
        if bool(self.body) != bool(self.rem):
            raise InputError(
                "a body and a REM belong together",
                where=f"{param('body' if self.body else 'rem')} alone",
                remedy=f"use {param('body')} BODY {param('rem')} REM, or {param('model')} for an encoder by itself",
            )
        start = self.model or self.body
        if not start:
            raise InputError(
                "no encoder was named",
                remedy=f"use {param('model')} FOLDER or a hub name, or {param('body')} BODY {param('rem')} REM",
            )
        return start


@dataclass(frozen=True)
class PieceSizes:
    """How documents are cut into passages and sentences, in the encoder's own tokens (FGD).

    What is not said is as the encoder was trained, else usual.
    """

    passage_tokens: int | None = None
    sentence_tokens: int | None = None
    least_piece_tokens: int | None = None
    usual: ClassVar[dict[str, int]] = {"passage_tokens": 128, "sentence_tokens": 64, "least_piece_tokens": 16}

    def settled(self, trained: dict[str, Any]) -> PieceSizes:
        """Return them without gaps.

        As said, else as an encoder was `trained` (its settings' `pieces`), else as usual.
        """
        return replace(
            self,
            **{name: trained.get(name, usual) for name, usual in self.usual.items() if getattr(self, name) is None},
        )
