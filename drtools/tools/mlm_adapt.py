"""Adapt an encoder's body to a corpus by masked language modelling, without labels (a domain-adapted module, DAM).

Each visit to a document takes one random crop and masks tokens anew. The masked-language head is the checkpoint's own, or the one
that an earlier adaptation left; a body without one gets a new head, which first learns alone for `--head-steps`. The result is an
encoder with the start's pooling and settings, for every tool here, Hugging Face and sentence-transformers; the head lies beside
it. A stopped adaptation continues where it was.

    drtools mlm-adapt --model bert-base-uncased --pooling mean --corpus source.jsonl.gz --learning-rate 5e-5 -o source-dam
    drtools mlm-adapt --model source-dam --corpus target.jsonl.gz --minutes 30 -o target-dam
    drtools search --index index --body target-dam --rem rem "words typed here"
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from drtools import flags, output
from drtools.training.settings import PANEL, TrainingFlags
from drtools.training.snapshots import Snapshots, parse_times

PAPER_WARMUP = 1000  # Zhan et al., DDR
MASKED, SNAPSHOTS = "Masking", "Snapshots"


@dataclass
class AdaptationFlags(TrainingFlags):
    """How long and how fast; the paper's rate of 2e-5 for a target, constant after the warm-up."""

    batch_queries: Annotated[int, Option("--batch-documents", min=1, help="documents in a batch", rich_help_panel=PANEL)] = 32
    schedule: TrainingFlags.__annotations__["schedule"] = "constant"


def main(
    folder: flags.FolderOutput,
    corpus: Annotated[str, Option(help="corpus to adapt to: JSONL or TSV, `.gz` or `-`"), flags.Role.INPUT],
    encoder_flags: flags.EncoderFlags,
    training: AdaptationFlags,
    compute: flags.ComputeFlags,
    title_separator: flags.TitleSeparator = " ",
    crop_tokens: Annotated[int | None, Option(min=3, help="tokens of a crop, special ones included; default: 128, or the body's positions if fewer", rich_help_panel=MASKED)] = None,
    mask_share: Annotated[float, Option(min=0.001, max=0.9, help="of the tokens that are to be predicted", rich_help_panel=MASKED)] = 0.15,
    head_steps: Annotated[int, Option(min=0, help="steps for a new head alone, before all others; none for a checkpoint's own", rich_help_panel=MASKED)] = 300,
    head_learning_rate: Annotated[float, Option(help="learning rate of those steps", rich_help_panel=MASKED)] = 1e-3,
    dropout: Annotated[float | None, Option(min=0, max=0.9, help="share of activations dropped; default: the body's own", rich_help_panel="Encoder")] = None,
    dev_documents: Annotated[int | None, Option(min=0, help="documents held out, whose perplexity decides what is best; default: 1%, 1,000 at most; 0: none", rich_help_panel="Dev evaluation")] = None,
    snapshot_steps: Annotated[str | None, Option(help="write OUT/snapshots/STEP after these steps, for instance 100,200", rich_help_panel=SNAPSHOTS)] = None,
    snapshot_minutes: Annotated[str | None, Option(help="the same after these minutes of training, for instance 5,10,20", rich_help_panel=SNAPSHOTS)] = None,
) -> None:
    """Compose: random crops with masked tokens, the loss over them, the one loop, an encoder folder."""
    times = parse_times("--snapshot-steps", snapshot_steps), parse_times("--snapshot-minutes", snapshot_minutes)
    with output.folder(folder) as work:
        from drtools.training.adaptation import MaskedTraining, masked_loss

        task = MaskedTraining(work, encoder_flags, training, compute, dropout, head_steps)
        task.on_corpus(corpus, title_separator, crop_tokens, mask_share, dev_documents)
        snapshots = Snapshots(work, *times, task.write) if task.world.is_first else None
        batches = task.batches()
        task.fit(batches, masked_loss, batches.epoch_documents, task.measure(), default_epochs=1, paper_warmup=PAPER_WARMUP,
                 opening=(task.head_steps, head_learning_rate), after_step=snapshots)
        task.finish(snapshots=snapshots.facts if snapshots else [])
