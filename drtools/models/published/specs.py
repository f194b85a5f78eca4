"""What to import, and how errors name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drtools.errors import InputError


@dataclass(frozen=True)
class ImportSpec:
    """A checkpoint, and settings that are not in its files; None where they, or its layout, do.

    `tokenizer` names the model whose tokenizer it uses, and whose config.json is taken if it has none of its own.
    """

    checkpoint: str
    document_checkpoint: str | None = None
    tokenizer: str | None = None
    pooling: str | None = None
    prefix_space: bool | None = None
    lower_case: bool | None = None


@contextmanager
def said_of(name: str, staged: Path) -> Iterator[None]:
    """Report errors in a staged folder as errors of the checkpoint that the user passed."""
    try:
        yield
    except InputError as error:
        found, expected, remedy = (
            text.replace(str(staged), name) for text in (error.found, error.expected, error.remedy)
        )
        raise InputError(found, where=name, expected=expected, remedy=remedy) from None
