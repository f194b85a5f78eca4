r"""Train an encoder that imitates BM25 or another retriever (SPAR's Lambda).

    drtools train-lexical --model bert-base-uncased --corpus corpus.jsonl.gz \
        --queries sentences.jsonl --examples lexical.jsonl -o lambda
    drtools train-lexical --model bert-base-uncased --corpus corpus.jsonl.gz \
        --queries sentences.jsonl --examples lexical.jsonl --tied --minutes 60 -o tied

Lambda is SPAR's name for a dense encoder that imitates a sparse retriever; concat-spar joins its vectors with those of
another encoder. make-lexical makes one without training. Queries come from sample-queries, examples from
`drtools mine-negatives --by-rank`.

Examples are labelled by the teacher's ranks only. Each visit of a query draws one positive and one negative. The loss
is the cross-entropy of the positive among all candidates of the batch, including the query's other positives. By
default there are two encoders with CLS pooling and the inner product. A stopped training continues where it was.

With --target-documents and --target-queries, the vectors of a lexical encoder (make-lexical), the loss is the squared
distance to these instead: a target for every text, where a rank is one bit for a pair. The encoder needs the same
dimension, and usually `--head none` or `projection`, so that its vectors are not normalized. A second training on ranks
can start from the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from drtools.cli.flags.common import Role
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import ExampleDevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, Head, StudentFlags, TrainingFlags, epochs_option
from drtools.cli.model_card import write_card
from drtools.methods.spar.settings import TWIN_EPOCHS, TWIN_TOKENS, TargetSpec, TwinSettings
from drtools.outputs.opening import open_folder


@dataclass(frozen=True)
class TwinFlags(TwinSettings):
    """Changes to the encoder before it is trained, and its negatives."""

    tied: Annotated[
        bool, Option("--tied", help="train one encoder for both queries and documents", rich_help_panel="Encoder")
    ] = False
    head: Head = "keep"
    hard_negatives: Annotated[int, Option(min=0, help="negatives drawn for each query at each visit")] = 1
    mask_positives: Annotated[bool, Option("--mask-positives", help="mask a query's other positives in the batch")] = (
        False
    )


@dataclass(frozen=True)
class TargetFlags(TargetSpec):
    """Vectors of a lexical encoder that are learned in place of the teacher's ranks."""

    target_documents: Annotated[
        str | None,
        Option(help="vectors folder of the documents, made by a lexical encoder", rich_help_panel="Targets"),
        Role.INPUT,
    ] = None
    target_queries: Annotated[
        str | None,
        Option(help="vectors folder of the queries, made by the same encoder", rich_help_panel="Targets"),
        Role.INPUT,
    ] = None


@dataclass(frozen=True)
class LexicalTraining(TrainingFlags):
    """Length of the training, batches and learning rate, with the default number of epochs."""

    epochs: Annotated[float | None, epochs_option(TWIN_EPOCHS)] = None


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    dev: ExampleDevFlags,
    student: StudentFlags,
    encoder_flags: EncoderFlags = EncoderFlags(max_query_tokens=TWIN_TOKENS, max_document_tokens=TWIN_TOKENS),
    settings: TwinFlags = TwinFlags(),
    targets: TargetFlags = TargetFlags(),
    training: LexicalTraining = LexicalTraining(batch_queries=2048, learning_rate=3e-5, weight_decay=0.0, clip=2.0),
    compute: ComputeFlags = ComputeFlags(),
) -> None:
    """Train an encoder into the output folder."""
    example_flags.note_changes(folder.request)
    with open_folder(folder, training.dry_run) as work:
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
            targets=targets,
            card=write_card,
        )
