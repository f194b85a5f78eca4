"""What an encoding costs, as far as its first texts tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drtools import reporting, units
from drtools.costs import Forecast

if TYPE_CHECKING:
    from drtools.formats.text_sources import DocumentTexts, QueryTexts
    from drtools.models.compute import Compute
    from drtools.models.encoder import Encoder
    from drtools.models.lexical import LexicalEncoder
    from drtools.models.tokens import Tokenized

SAMPLE = 256  # [ours] texts


def tokens_in_words(tokens: Tokenized) -> str:
    """Say how long texts are, and how many of them are cut."""
    share = tokens.truncated / max(1, len(tokens.lengths))
    return f"about {tokens.lengths.mean():.0f} tokens each, {share:.0%} of them cut"


def count_in_words(texts: DocumentTexts | QueryTexts) -> str:
    """Say how many texts there are: `60 documents`, `20 queries`."""
    return units.counted(len(texts), texts.side, "queries" if texts.side == "query" else "documents")


def say_texts(texts: DocumentTexts | QueryTexts, tokens: Tokenized, more: str = "") -> None:
    """Report how many texts there are, and how long they are by the tokens of the first of them."""
    reporting.say(f"{count_in_words(texts)}{more}, {tokens_in_words(tokens)} (from the first {len(tokens.lengths)})")


def place_in_words(computing: Compute) -> str:
    """Say where texts are encoded: `on cpu in bf16`."""
    return f"on {' '.join(computing.devices)} in {computing.precision}"


def bytes_of_vectors(encoder: Encoder | LexicalEncoder, count: int, dtype: str) -> float:
    """Return the size of so many vectors."""
    return count * encoder.dimension * (2 if dtype == "float16" else 4)


def open_forecast(
    encoder: Encoder | LexicalEncoder, texts: DocumentTexts | QueryTexts, done: int, computing: Compute, dtype: str
) -> Forecast | None:
    """Report what is about to be encoded, and return the forecast for what an earlier process has not done.

    No sample is encoded: the first batches tell the time. The forecast counts tokens.
    """
    _, sample = texts.slice(0, SAMPLE)
    if not sample:
        return None
    tokens = encoder.tokenize(sample, texts.side)
    if not done:
        say_texts(texts, tokens)
    total = float(tokens.lengths.mean()) * (len(texts) - done)
    return Forecast(total, bytes_of_vectors(encoder, len(texts), dtype), place_in_words(computing))
