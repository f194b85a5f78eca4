"""Train an encoder on static hard negatives and in-batch negatives (STAR), or on one of its paper's baselines.

Pairwise RankNet over every query and every other query's positive, and every query and all hard negatives of the batch;
what is relevant to a query is masked. `--alpha` weighs the paper's two parts; `--negatives` chooses a baseline; with
`--refresh-every-steps` negatives are mined anew inside the run (ANCE). Examples come from mine-negatives. The result is
a folder that every tool here, Hugging Face and sentence-transformers load. A stopped training continues where it was;
`torchrun -m drtools train-star` trains on several devices.
"""

from __future__ import annotations

from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import DevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.mining import MiningFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, ShapeFlags, StudentFlags, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.errors import InputError
from drtools.outputs import work as output
from drtools.outputs.request import add_change
from drtools.search.mining import NO_DUPLICATES, parse_ranks

PAPER_WARMUP = 1000  # Zhan et al. 2021, passages
REFRESH = "Refreshed negatives"


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    encoder_flags: EncoderFlags,
    shape: ShapeFlags,
    student: StudentFlags,
    training: TrainingFlags,
    dev: DevFlags,
    compute: ComputeFlags,
    hard_negatives: Annotated[int, Option(min=0, help="negatives drawn for each query at each visit")] = 1,
    negatives: Annotated[
        Literal["static", "own", "in-batch", "random"],
        Option(
            help="static: other queries' positives and the batch's hard negatives (STAR); own: a query's own hard "
            "negatives alone; "
            "in-batch: other queries' positives alone; random: documents of the corpus, drawn anew at each visit, alone"
        ),
    ] = "static",
    alpha: Annotated[
        float | None,
        Option(help="weight of the other rows' documents beside a query's own hard negatives (the paper's Eq. 13)"),
    ] = None,
    refresh_every_steps: Annotated[
        int | None,
        Option(min=1, help="encode the corpus and mine the negatives anew so often", rich_help_panel=REFRESH),
    ] = None,
    refresh_ranks: Annotated[
        str, Option(help="raw ranks that refreshed negatives come from", rich_help_panel=REFRESH)
    ] = "1-200",
    refresh_negatives: Annotated[
        int, Option(min=1, help="refreshed negatives kept for each query", rich_help_panel=REFRESH)
    ] = 30,
    refresh_draw: Annotated[
        Literal["random", "top"],
        Option(
            help="which of these ranks: any, drawn anew at each refresh (ANCE's program), or the best",
            rich_help_panel=REFRESH,
        ),
    ] = "random",
    keep_duplicates: Annotated[
        bool,
        Option(
            "--keep-duplicates",
            help="refreshed and random negatives may be the query's own document (of the query's id) and documents "
            "with a positive's text",
        ),
    ] = False,
) -> None:
    """Compose: examples and texts into batches, STAR's loss, the one loop, a model folder."""
    parse_ranks(refresh_ranks, "--refresh-ranks")
    if alpha is not None and not 0 < alpha < float("inf"):
        raise InputError(f"--alpha {alpha:g}: expected a weight above 0")
    if refresh_every_steps and not hard_negatives:
        raise InputError(
            "--refresh-every-steps with --hard-negatives 0: none of what is mined would be trained on; leave one of "
            "the two out"
        )
    if alpha is not None and negatives != "static":
        raise InputError(
            f"--alpha {alpha:g} with --negatives {negatives}: only static negatives have the two parts that it weighs"
        )
    if refresh_every_steps and negatives in ("in-batch", "random"):
        raise InputError(
            f"--refresh-every-steps with --negatives {negatives}: there are no mined negatives to refresh; leave one "
            "of the two out"
        )
    if not hard_negatives and negatives in ("own", "random"):
        raise InputError(f"--hard-negatives 0 with --negatives {negatives}: nothing would be left to learn from")
    draws = bool(refresh_every_steps) or negatives == "random"
    if keep_duplicates and not draws:
        raise InputError(
            "--keep-duplicates: for --refresh-every-steps and --negatives random; the examples' negatives are taken as "
            "they are, leave it out"
        )
    if draws and not keep_duplicates:
        add_change(folder.request, NO_DUPLICATES)
    with output.folder(folder) as work:
        from drtools.methods.dev import measure_on
        from drtools.methods.star import MinedAnew
        from drtools.training.encoder_task import EncoderTraining, read_sources

        task = EncoderTraining(work, encoder_flags, student, training, compute, shape)
        task.write_card = write_card
        sources = read_sources(example_flags, avoiding=draws and not keep_duplicates)
        batches = task.pair_batches(
            sources, negatives=0 if negatives == "in-batch" else hard_negatives, random_negatives=negatives == "random"
        )
        mining = MiningFlags(ranks=refresh_ranks, negatives=refresh_negatives, draw=refresh_draw, seed=training.seed)
        refresh = (
            MinedAnew(sources, task.model, task.computing, task.world, refresh_every_steps, mining)
            if refresh_every_steps
            else None
        )
        task.fit(
            batches,
            star_loss(task.scale, negatives, alpha),
            batches.epoch_queries,
            measure_on(task, dev, sources, example_flags.queries[0]),
            default_epochs=2,
            paper_warmup=PAPER_WARMUP,
            refresh=refresh,
        )
        task.finish(queries=sum(len(source.examples) for source in sources))


def star_loss(scale: float, negatives: str = "static", alpha: float | None = None):
    """Return STAR's loss of a batch, or a baseline's.

    RankNet of each query's positive against what the form lets it see.
    """
    import torch

    from drtools.losses import ranknet, scores, star_weighted

    def loss(query_vectors, document_vectors, batch):
        table = scores(query_vectors, document_vectors, scale)
        keep = ~torch.from_numpy(batch.relevant).to(table.device)
        owner = torch.from_numpy(batch.owner).to(table.device)
        rows = torch.arange(len(table), device=table.device)
        drawn = torch.arange(len(owner), device=table.device) >= len(
            table
        )  # the first B documents are the queries' positives
        own = keep & drawn & (owner == rows[:, None])
        if alpha is not None:
            return star_weighted(table.diagonal(), table, own, keep & (owner != rows[:, None]), alpha), {}
        kept = {"static": keep, "own": own, "in-batch": keep & ~drawn, "random": keep & drawn}[negatives]
        return ranknet(table.diagonal(), table, kept), {}

    return loss
