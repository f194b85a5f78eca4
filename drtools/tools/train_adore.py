r"""Train a query encoder against a fixed index, with live hard negatives (ADORE).

    drtools train-adore --model star --vectors vectors --queries queries.jsonl.gz \
        --qrels qrels/train.tsv --dev-qrels qrels/dev.tsv -o adore
    drtools train-adore --model star --vectors vectors --index lists --queries queries.jsonl.gz \
        --qrels qrels/train.tsv --dev-qrels qrels/dev.tsv -o adore-on-lists

Document vectors and their index do not change. Each step encodes queries, searches the index, and weights every pair of
a relevant and another document by how much swapping them would change the metric. The result encodes queries only, for
this index only: `search` accepts it, `encode --corpus` refuses it. A stopped training continues where it was.
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
from drtools.cli.flags.training import StudentFlags, TrainingFlags, epochs_option
from drtools.cli.model_card import write_card
from drtools.methods.adore.settings import EPOCHS, AdoreSettings
from drtools.outputs.opening import open_folder
from drtools.outputs.request import add_change
from drtools.search.mining import NO_DUPLICATES

# what 0.1.0 computed otherwise for the same arguments
RANDOM_CHANGE = "random negatives and relevant documents are weighed by their ranks in the corpus"


@dataclass(frozen=True)
class AdoreFlags(AdoreSettings):
    """The index to train against, the negatives from it, and the weight of a pair of documents."""

    vectors: Annotated[
        str | None,
        Option(help="vectors folder of the documents: gives the scores, and is searched exactly"),
        Role.INPUT,
    ] = None
    index: Annotated[
        str | None, Option(help="FAISS index of the documents, to search instead of the vectors"), Role.INPUT
    ] = None
    depth: Annotated[int, Option(min=1, help="hits retrieved for each query")] = 200
    metric: Annotated[str, Option(help="metric that weights pairs: rr@K, mrr@K, ndcg@K or none")] = "rr@200"
    append: Annotated[
        Literal["if-none", "missing"],
        Option(
            help="relevant documents to append to the hits: if-none: all, if none was retrieved; missing: each that "
            "was not retrieved"
        ),
    ] = "if-none"
    loss_vectors: Annotated[
        Literal["exact", "decoded"], Option(help="score with the exact vectors, or with those decoded from the index")
    ] = "exact"
    negatives: Annotated[
        Literal["live", "static", "random"],
        Option(
            help="live: retrieved at each step; static: retrieved by the start encoder; random: drawn from the corpus "
            "(in the paper with --metric none)"
        ),
    ] = "live"
    refresh_every_steps: Annotated[int | None, Option(min=1, help="steps between refreshes of static negatives")] = None
    min_rel: MinRel = 1
    keep_duplicates: Annotated[
        bool,
        Option(
            "--keep-duplicates",
            help="allow the document with the query's id, and documents with the same text as a relevant one, as "
            "negatives",
        ),
    ] = False
    nprobe: Annotated[int | None, Option(min=1, help="IVF: number of lists to visit", rich_help_panel="Index")] = None
    ef_search: Annotated[
        int | None, Option(min=1, help="HNSW: number of candidates during search", rich_help_panel="Index")
    ] = None


@dataclass(frozen=True)
class AdoreTraining(TrainingFlags):
    """Length of the training, batches and learning rate, with the default number of epochs."""

    epochs: Annotated[float | None, epochs_option(EPOCHS)] = None


def main(
    folder: FolderOutput,
    queries: Queries,
    qrels: Annotated[str, Option(help="relevance judgements of the queries: BEIR TSV or TREC format"), Role.INPUT],
    encoder_flags: EncoderFlags,
    student: StudentFlags,
    dev: QueryDevFlags,
    settings: AdoreFlags,
    training: AdoreTraining = AdoreTraining(learning_rate=5e-6),
    compute: ComputeFlags = ComputeFlags(precision="fp32"),
) -> None:
    """Train a query encoder into the output folder."""
    if settings.negatives == "random":
        add_change(folder.request, RANDOM_CHANGE)
    if not settings.keep_duplicates:
        add_change(folder.request, NO_DUPLICATES)
    with open_folder(folder, training.dry_run) as work:
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
