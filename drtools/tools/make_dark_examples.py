r"""Make items between positives and negatives, for a teacher to score (ADAM).

    drtools make-dark-examples examples.jsonl -o dark.jsonl
    drtools make-dark-examples examples.jsonl --negatives 4 --text --corpus corpus.jsonl.gz \
        -o dark-texts.jsonl

A reinforced negative is a negative joined with the positive. A noisy positive is the positive with a share of its words
masked; there is one for each of --ratios. If a query has several positives, one is drawn for all its dark examples.

distill-adam draws some of the listed negatives at each visit of a query, with their dark items. So every negative gets
dark items; --negatives keeps fewer negatives, which takes less time to score. The output describes how each item is
made, and each model's own tokenizer turns it into text. --text also writes the texts, for reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Argument, Option

from drtools.cli.flags.common import Role, Seed, TitleSeparator
from drtools.cli.flags.outputs import FileOutput
from drtools.methods.adam.darken import make_dark_examples
from drtools.methods.adam.settings import RATIOS, DarkSettings
from drtools.outputs.opening import open_file


@dataclass(frozen=True)
class DarkFlags(DarkSettings):
    """Which dark items are made, and whether their texts are written."""

    negatives: Annotated[
        int, Option(min=0, help="keep this many random negatives of each query, and drop the others; 0: keep all")
    ] = 0
    ratios: Annotated[str, Option(help="shares of words to mask, separated by commas; empty: no noisy positives")] = (
        RATIOS
    )
    without_reinforced: Annotated[bool, Option("--without-reinforced", help="make no reinforced negatives")] = False
    seed: Seed = 42
    text: Annotated[
        bool, Option("--text", help="also write the texts as dark_texts, with [SEP] and [MASK]; needs --corpus")
    ] = False
    corpus: Annotated[str | None, Option(help="with --text: corpus of the examples"), Role.INPUT] = None
    title_separator: TitleSeparator = " "


def main(
    file: FileOutput,
    examples: Annotated[str, Argument(help="examples: JSONL, may be `.gz`; `-`: standard input"), Role.INPUT],
    settings: DarkFlags = DarkFlags(),
) -> None:
    """Write the examples with dark items to the output."""
    with open_file(file) as work:
        make_dark_examples(work, examples, settings)
