"""Train an encoder on static hard negatives and in-batch negatives (STAR).

Pairwise RankNet over every query and every other query's positive, and every query and all hard negatives of the batch;
what is relevant to a query is masked. Examples come from mine-negatives. The result is a folder that every tool here,
Hugging Face and sentence-transformers load. A stopped training continues where it was.
"""

from __future__ import annotations

from typing import Annotated

from typer import Option

from drtools import console, flags, output
from drtools.errors import UserError
from drtools.retrieval.dev import DevFlags
from drtools.training.settings import TrainingFlags

PAPER_WARMUP = 1000  # Zhan et al. 2021, passages


def main(
    folder: flags.FolderOutput,
    corpus: flags.Documents,
    queries: flags.Queries,
    examples: Annotated[str, Option(help="training examples: JSONL, `.gz` or `-`"), flags.Role.INPUT],
    encoder_flags: flags.EncoderFlags,
    training: TrainingFlags,
    dev: DevFlags,
    compute: flags.ComputeFlags,
    hard_negatives: Annotated[int, Option(min=0, help="static hard negatives drawn for each query at each visit")] = 1,
    scale: Annotated[float | None, Option(help="factor on scores in the loss; default: 20 for normalized encoders, else 1")] = None,
    dropout: Annotated[float | None, Option(min=0, max=0.9, help="share of activations dropped; default: the body's own")] = None,
    title_separator: flags.TitleSeparator = " ",
) -> None:
    """Compose: examples and texts into batches, STAR's loss, the one loop, a model folder."""
    with output.folder(folder) as work:
        from drtools.batches.pairs import PairBatches
        from drtools.formats.store import open_store
        from drtools.models.encoder import save_encoder
        from drtools.retrieval.dev import dev_measure
        from drtools.retrieval.encoding import choose_computing
        from drtools.training.loop import Run, fit
        from drtools.training.settings import plan
        from drtools.batches.usable import usable_examples

        computing = choose_computing(compute)
        store = open_store(corpus)
        usable, query_texts = usable_examples(examples, queries, store)
        encoder = load_for_training(encoder_flags, computing, dropout)
        factor = encoder.settings.default_scale if scale is None else scale
        batches = PairBatches(usable, query_texts, store, encoder, batch_queries=training.batch_queries, hard_negatives=hard_negatives,
                              seed=training.seed, title_separator=title_separator)
        steps = plan(training, len(usable), default_epochs=2, paper_warmup=PAPER_WARMUP)
        measure = dev_measure(dev, queries, store, encoder, computing, training.seed, title_separator)
        run = Run(encoder, steps, training, work, computing)
        fit(run, batches, star_loss(factor), measure)
        fingerprints = save_encoder(encoder, work.path)
        work.finish(kind="encoder", base=encoder_flags.model, scale=factor, steps=run.step, queries=len(usable), precision=computing.precision,
                    best=run.best, evaluations=run.evaluations, title_separator=title_separator, training_seconds=round(run.seconds(), 1),
                    **{f"{side}_fingerprint": value for side, value in fingerprints.items()})
    console.say(f"{folder.output}: trained for {run.step:,} steps" + (f"; best dev {run.best['measure']} {run.best['value']:.4f} at step {run.best['step']:,}" if run.best else ""))


def load_for_training(encoder_flags: flags.EncoderFlags, computing, dropout: float | None):
    """Load the starting encoder in float32 on its device."""
    from drtools.models.encoder import load_encoder
    from drtools.retrieval.encoding import apply_flags

    if encoder_flags.model is None:
        raise UserError("no starting encoder was named; say --model FOLDER or a hub name")
    encoder = load_encoder(encoder_flags.model, encoder_flags.pooling, encoder_flags.trust_remote_code, dropout).to(computing.device)
    apply_flags(encoder, encoder_flags)
    return encoder


def star_loss(scale: float):
    """Return STAR's loss of a batch: RankNet of each query's positive against every candidate that is not relevant to it."""
    import torch

    from drtools.losses import ranknet, scores

    def loss(query_vectors, document_vectors, batch):
        table = scores(query_vectors, document_vectors, scale)
        keep = ~torch.from_numpy(batch.relevant).to(table.device)
        return ranknet(table.diagonal(), table, keep)

    return loss
