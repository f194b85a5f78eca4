"""Make dark examples for ADAM: what lies between a query's positive and its negatives, for a teacher to score.

    drtools mine-negatives ... | drtools make-dark-examples - | drtools teacher-score --examples - ... -o scored.jsonl

Each of a query's negatives joined with the positive is a reinforced negative; the positive with a share of its words
masked, for each of --ratios, a noisy positive. distill-adam draws some of the listed negatives anew at each visit of a
query, with their dark items, so all of them get one; --negatives keeps fewer, which are quicker to score. A query with
several positives has one of them drawn for all its dark examples. Items are kept by what they are made of, and become
text by each model's own tokenizer; --text writes them out for a person too.
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
    """Which dark items are made, and whether their texts are written out."""

    negatives: Annotated[
        int, Option(min=0, help="keep so many drawn negatives of each query, and drop the others; 0: keep all")
    ] = 0
    ratios: Annotated[str, Option(help="shares of words to mask, with commas between; empty: no noisy positives")] = (
        RATIOS
    )
    without_reinforced: Annotated[bool, Option("--without-reinforced", help="no reinforced negatives")] = False
    seed: Seed = 42
    text: Annotated[
        bool, Option("--text", help="write the texts too, as dark_texts, with [SEP] and [MASK]; needs --corpus")
    ] = False
    corpus: Annotated[str | None, Option(help="their corpus, for --text"), Role.INPUT] = None
    title_separator: TitleSeparator = " "


def main(
    file: FileOutput,
    examples: Annotated[str, Argument(help="examples: JSONL, `.gz` or `-`"), Role.INPUT],
    settings: DarkFlags = DarkFlags(),
) -> None:
    """Write examples with dark items to the output."""
    with open_file(file) as work:
        make_dark_examples(work, examples, settings)
