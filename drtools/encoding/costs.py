"""What an encoding costs, as far as its first texts tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drtools import reporting, units

if TYPE_CHECKING:
    from drtools.formats.text_sources import DocumentTexts, QueryTexts
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


def say_opening(encoder: Encoder | LexicalEncoder, texts: DocumentTexts | QueryTexts, itemsize: int) -> None:
    """Report what is about to be encoded. The progress shows the time left; no sample is encoded."""
    _, sample = texts.slice(0, SAMPLE)
    if sample:
        size = len(texts) * encoder.dimension * itemsize
        reporting.say(
            f"{count_in_words(texts)}, {tokens_in_words(encoder.tokenize(sample, texts.side))} (from the first "
            f"{len(sample)}); {units.bytes_as_words(size)} of vectors"
        )
