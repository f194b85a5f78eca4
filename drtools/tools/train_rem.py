"""Train a relevance module (REM): LoRA and a parallel adapter on a body that stays as it is (DDR).

It is trained once, on labels of any domain, and then put on bodies adapted to other domains by mlm-adapt, without
labels there: `--body DAM --rem REM` stands wherever an encoder is asked for. `--loss contrast` is the softmax over
in-batch and hard negatives, `margin-mse` learns the margins of a teacher's scores. A REM is a small folder that names
its body; a body of another family, depth or tokenizer is refused. A stopped training continues where it was; `torchrun
-m drtools train-rem` trains on several devices.

    drtools train-rem --model source-dam --corpus c.jsonl.gz --queries q.jsonl.gz --examples e.jsonl -o rem
    drtools encode --body target-dam --rem rem --documents target.jsonl.gz -o vectors
"""

from __future__ import annotations

from typing import Annotated, Literal

from typer import Option

from drtools import reporting
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import DevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, StudentFlags, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.errors import InputError
from drtools.methods.contrastive import check_negatives
from drtools.outputs import work as output

PAPER_EPOCHS = {"contrast": 5, "margin-mse": 20}  # Zhan et al., DDR, on MS MARCO
PANEL = "Relevance module"


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    encoder_flags: EncoderFlags,
    dev: DevFlags,
    compute: ComputeFlags,
    training: TrainingFlags = TrainingFlags(
        batch_queries=128, learning_rate=2e-5, schedule="constant", weight_decay=0.0
    ),
    lora_rank: Annotated[
        int, Option(min=0, help="rank of LoRA on queries and values of every layer; 0: none", rich_help_panel=PANEL)
    ] = 192,
    adapter_size: Annotated[
        int,
        Option(min=0, help="bottleneck of the adapter beside every feed-forward block; 0: none", rich_help_panel=PANEL),
    ] = 192,
    adapter_scale: Annotated[
        float, Option(help="what the adapter's output is multiplied by", rich_help_panel=PANEL)
    ] = 4.0,
    dropout: Annotated[
        float | None,
        Option(min=0, max=0.9, help="share of activations dropped; default: the body's own", rich_help_panel="Encoder"),
    ] = None,
    scale: Annotated[
        float | None,
        Option(
            help="factor on scores in the loss; default: 20 for normalized encoders, else 1", rich_help_panel="Encoder"
        ),
    ] = None,
    loss: Annotated[
        Literal["contrast", "margin-mse"], Option(help="softmax over the batch, or a teacher's margins")
    ] = "contrast",
    hard_negatives: Annotated[int, Option(min=0, help="hard negatives drawn for each query at each visit")] = 3,
    accept_scores: Annotated[
        bool, Option("--accept-scores", help="margin-mse: learn from whatever scored the examples, a retriever too")
    ] = False,
) -> None:
    """Compose: examples and texts into batches, the loss, the one loop, a REM folder."""
    if not lora_rank and not adapter_size:
        raise InputError("--lora-rank 0 with --adapter-size 0: nothing would be left to train")
    check_negatives(loss, hard_negatives)
    with output.folder(folder) as work:
        from drtools.methods.contrastive import LOSSES, read_sources_for
        from drtools.methods.ddr.rem import RemTraining
        from drtools.methods.dev import measure_on
        from drtools.models.settings import RemSettings

        task = RemTraining(
            work,
            encoder_flags,
            RemSettings(lora_rank, adapter_size, adapter_scale),
            StudentFlags(dropout=dropout, scale=scale),
            training,
            compute,
        )
        task.write_card = write_card
        own, body = task.parameters()
        reporting.say(f"a REM of {own:,} numbers on a body of {body:,}")
        sources = read_sources_for(loss, example_flags, accept_scores)
        batches = task.pair_batches(sources, negatives=hard_negatives)
        task.fit(
            batches,
            LOSSES[loss](task.scale),
            batches.epoch_queries,
            measure_on(task, dev, sources, example_flags.queries[0]),
            default_epochs=PAPER_EPOCHS[loss],
            paper_warmup=0,
        )
        task.finish(queries=sum(len(source.examples) for source in sources))
