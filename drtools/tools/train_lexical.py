r"""Train a dense twin of a sparse retriever: an encoder that ranks as BM25, or any teacher, does (SPAR's Lambda).

    drtools sample-queries --corpus corpus.jsonl.gz -o sentences.jsonl
    drtools mine-negatives --queries sentences.jsonl --index bm25 --by-rank 10:46-50 -o examples.jsonl
    drtools train-lexical --model bert-base-uncased --corpus corpus.jsonl.gz --queries sentences.jsonl \
        --examples examples.jsonl -o lambda

Examples are labelled by the teacher's ranks alone. Each visit draws one positive and one negative; the loss is the
cross-entropy of the positive among all candidates of the batch, a query's other positives among them. Two encoders, the
first token's state, inner product. concat-spar joins its vectors with a base encoder's. A stopped training continues
where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import ExampleDevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, Head, StudentFlags, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.methods.spar.settings import TWIN_TOKENS, TwinSettings
from drtools.outputs.opening import open_folder


@dataclass(frozen=True)
class TwinFlags(TwinSettings):
    """What the twin becomes before it is trained, and what it learns from."""

    tied: Annotated[bool, Option("--tied", help="one encoder for queries and documents", rich_help_panel="Encoder")] = (
        False
    )
    head: Head = "keep"
    hard_negatives: Annotated[int, Option(min=0, help="negatives drawn for each query at each visit")] = 1
    mask_positives: Annotated[
        bool, Option("--mask-positives", help="a query's other positives in the batch do not count against it")
    ] = False


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    dev: ExampleDevFlags,
    student: StudentFlags,
    encoder_flags: EncoderFlags = EncoderFlags(max_query_tokens=TWIN_TOKENS, max_document_tokens=TWIN_TOKENS),
    settings: TwinFlags = TwinFlags(),
    training: TrainingFlags = TrainingFlags(batch_queries=2048, learning_rate=3e-5, weight_decay=0.0, clip=2.0),
    compute: ComputeFlags = ComputeFlags(),
) -> None:
    """Train a twin into the output folder."""
    with open_folder(folder) as work:
        from drtools.methods.spar.twin import train

        train(
            work,
            settings,
            examples=example_flags,
            start=encoder_flags,
            student=student,
            training=training,
            dev=dev,
            compute=compute,
            card=write_card,
        )
