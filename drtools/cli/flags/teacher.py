"""Flags for cross-encoders that are language models."""

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from drtools.models.specs import ReadingSpec

PANEL = "Teachers that are language models"


@dataclass(frozen=True)
class ReadingFlags(ReadingSpec):
    """How a teacher that is a language model reads pairs. Settings that are not given are those of its files."""

    instruction: Annotated[
        str | None,
        Option(help="instruction for the teacher, instead of its own (its default prompt)", rich_help_panel=PANEL),
    ] = None
    pair_template: Annotated[
        str | None,
        Option(
            help="how the teacher reads a pair: a family (qwen3-reranker, bge-reranker-v2-gemma, mxbai-rerank-v2, "
            "monot5, rankllama), or a text with {query}, {document} and perhaps {instruction}; default: as its files "
            "or its name say",
            rich_help_panel=PANEL,
        ),
    ] = None
    score_tokens: Annotated[
        str | None,
        Option(
            help="the relevant and the irrelevant token, as yes,no; the score is the difference of their logits; one "
            "token: its logit",
            rich_help_panel=PANEL,
        ),
    ] = None
    score_layer: Annotated[
        int | None,
        Option(
            min=1,
            help="layer whose head gives the score, of a layerwise model; default: the last",
            rich_help_panel=PANEL,
        ),
    ] = None
