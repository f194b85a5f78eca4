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

import dataclasses
from typing import Annotated

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import ExampleDevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, Head, ShapeFlags, StudentFlags, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.outputs import work as output

PAPER_WARMUP, PAPER_EPOCHS = 10_000, 20  # Chen et al. 2022
LONGEST = 256  # tokens, of queries and of documents


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    dev: ExampleDevFlags,
    student: StudentFlags,
    encoder_flags: EncoderFlags = EncoderFlags(max_query_tokens=LONGEST, max_document_tokens=LONGEST),
    tied: Annotated[
        bool, Option("--tied", help="one encoder for queries and documents", rich_help_panel="Encoder")
    ] = False,
    head: Head = "keep",
    hard_negatives: Annotated[int, Option(min=0, help="negatives drawn for each query at each visit")] = 1,
    mask_positives: Annotated[
        bool, Option("--mask-positives", help="a query's other positives in the batch do not count against it")
    ] = False,
    training: TrainingFlags = TrainingFlags(batch_queries=2048, learning_rate=3e-5, weight_decay=0.0, clip=2.0),
    compute: ComputeFlags = ComputeFlags(),
) -> None:
    """Compose: one folder, by the kind of encoder."""
    with output.folder(folder) as work:
        train_transformer(
            work,
            example_flags,
            dev,
            student,
            encoder_flags,
            ShapeFlags(untied=not tied, head=head),
            training,
            compute,
            hard_negatives,
            mask_positives,
        )


def train_transformer(
    work, example_flags, dev, student, encoder_flags, shape, training, compute, hard_negatives, mask_positives
) -> None:
    """Compose: examples and texts into batches, the contrastive loss, the one loop, a model folder."""
    from drtools.methods.spar.dev import dev_measure_on_examples
    from drtools.models.hub import resolve
    from drtools.models.settings import is_bare
    from drtools.training.encoder_task import EncoderTraining, read_sources

    if encoder_flags.model and encoder_flags.pooling is None and is_bare(resolve(encoder_flags.model)):
        encoder_flags = dataclasses.replace(encoder_flags, pooling="cls")
    task = EncoderTraining(work, encoder_flags, student, training, compute, shape)
    task.write_card = write_card
    sources = read_sources(example_flags)
    batches = task.pair_batches(sources, negatives=hard_negatives)
    measure = dev_measure_on_examples(
        dev,
        example_flags.queries[0],
        sources[0],
        task.model,
        task.computing,
        training.seed,
        task.trained_on(sources, positives=False),
    )
    task.fit(
        batches,
        lexical_loss(task.scale, mask_positives),
        batches.epoch_queries,
        measure,
        default_epochs=PAPER_EPOCHS,
        paper_warmup=PAPER_WARMUP,
    )
    task.finish(queries=sum(len(source.examples) for source in sources))


def lexical_loss(scale: float, mask_positives: bool = False):
    """Return the loss of a batch.

    Each query's positive among all candidates, of which its own other positives are masked only if asked.
    """
    import torch

    from drtools.losses import contrastive, scores

    def loss(query_vectors, document_vectors, batch):
        table = scores(query_vectors, document_vectors, scale)
        rows, columns = table.shape
        out = (
            torch.from_numpy(batch.relevant).to(table.device)
            if mask_positives
            else torch.eye(rows, columns, dtype=torch.bool, device=table.device)
        )
        return contrastive(table.diagonal(), table, ~out), {}

    return loss
