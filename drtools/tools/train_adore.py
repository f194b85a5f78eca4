"""Tune a query encoder against the very index that serves: hard negatives retrieved live at each step (ADORE).

Document vectors and their index stay as they are. Each step encodes queries, searches, and weighs every pair of a
relevant and another document by what their order is worth. The result encodes queries alone, for this index and no
other: `search` takes it, `encode --documents` refuses it. A stopped training continues where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.common import MinRel, Queries, Role
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import QueryDevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import StudentFlags, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.methods.adore.settings import AdoreSettings
from drtools.outputs.opening import open_folder
from drtools.outputs.request import add_change
from drtools.search.mining import NO_DUPLICATES

# what 0.1.0 computed otherwise for the same arguments
RANDOM_CHANGE = "random negatives and relevant documents are weighed by their ranks in the corpus"


@dataclass(frozen=True)
class AdoreFlags(AdoreSettings):
    """The index that is trained against, what is retrieved from it, and what a pair of documents weighs."""

    vectors: Annotated[
        str | None,
        Option(help="vectors folder of the documents: searched exactly, and what scores are made of"),
        Role.INPUT,
    ] = None
    index: Annotated[str | None, Option(help="FAISS index of the documents to search instead"), Role.INPUT] = None
    depth: Annotated[int, Option(min=1, help="hits retrieved for each query")] = 200
    metric: Annotated[str, Option(help="what a pair is weighed by: rr@K, mrr@K, ndcg@K, none")] = "rr@200"
    append: Annotated[
        Literal["if-none", "missing"],
        Option(help="relevant documents put after the retrieved: all if none was retrieved, or each that is missing"),
    ] = "if-none"
    loss_vectors: Annotated[
        Literal["exact", "decoded"], Option(help="score by the exact vectors, or by those that the index has kept")
    ] = "exact"
    negatives: Annotated[
        Literal["live", "static", "random"],
        Option(
            help="live: retrieved at each step; static: by the starting encoder; random: drawn from the corpus (in the "
            "paper with --metric none, all of one weight)"
        ),
    ] = "live"
    refresh_every_steps: Annotated[int | None, Option(min=1, help="retrieve static negatives anew so often")] = None
    min_rel: MinRel = 1
    keep_duplicates: Annotated[
        bool,
        Option(
            "--keep-duplicates",
            help="negatives may be the query's own document (of the query's id) and documents with a relevant one's "
            "text",
        ),
    ] = False
    nprobe: Annotated[int | None, Option(min=1, help="IVF: lists visited for each query", rich_help_panel="Index")] = (
        None
    )
    ef_search: Annotated[
        int | None, Option(min=1, help="HNSW: candidates kept for each query", rich_help_panel="Index")
    ] = None


def main(
    folder: FolderOutput,
    queries: Queries,
    qrels: Annotated[str, Option(help="their judgements: BEIR TSV or TREC"), Role.INPUT],
    encoder_flags: EncoderFlags,
    student: StudentFlags,
    dev: QueryDevFlags,
    settings: AdoreFlags,
    training: TrainingFlags = TrainingFlags(learning_rate=5e-6),
    compute: ComputeFlags = ComputeFlags(precision="fp32"),
) -> None:
    """Train a query encoder into the output folder."""
    if settings.negatives == "random":
        add_change(folder.request, RANDOM_CHANGE)
    if not settings.keep_duplicates:
        add_change(folder.request, NO_DUPLICATES)
    with open_folder(folder) as work:
        from drtools.methods.adore.training import train

        train(
            work,
            settings,
            queries=queries,
            qrels=qrels,
            start=encoder_flags,
            student=student,
            training=training,
            dev=dev,
            compute=compute,
            card=write_card,
        )
