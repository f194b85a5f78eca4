"""Tune a query encoder against the very index that serves: hard negatives retrieved live at each step (ADORE).

Document vectors and their index stay as they are. Each step encodes queries, searches, and weighs every pair of a
relevant and another document by what their order is worth. The result encodes queries alone, for this index and no
other: `search` takes it, `encode --documents` refuses it. A stopped training continues where it was.
"""

from __future__ import annotations

from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.common import MinRel, Queries, Role
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import QueryDevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import StudentFlags, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.errors import InputError
from drtools.methods.adore.settings import Metric
from drtools.outputs import work as output
from drtools.outputs.request import add_change
from drtools.search.mining import NO_DUPLICATES

PAPER_WARMUP = 2000  # Zhan et al. 2021
PAPER_EPOCHS = 6  # [code]
# what 0.1.0 computed otherwise for the same arguments
RANDOM_CHANGE = "random negatives and relevant documents are weighed by their ranks in the corpus"


def main(
    folder: FolderOutput,
    queries: Queries,
    qrels: Annotated[str, Option(help="their judgements: BEIR TSV or TREC"), Role.INPUT],
    encoder_flags: EncoderFlags,
    student: StudentFlags,
    dev: QueryDevFlags,
    vectors: Annotated[
        str | None,
        Option(help="vectors folder of the documents: searched exactly, and what scores are made of"),
        Role.INPUT,
    ] = None,
    index: Annotated[str | None, Option(help="FAISS index of the documents to search instead"), Role.INPUT] = None,
    depth: Annotated[int, Option(min=1, help="hits retrieved for each query")] = 200,
    metric: Annotated[str, Option(help="what a pair is weighed by: rr@K, mrr@K, ndcg@K, none")] = "rr@200",
    append: Annotated[
        Literal["if-none", "missing"],
        Option(help="relevant documents put after the retrieved: all if none was retrieved, or each that is missing"),
    ] = "if-none",
    loss_vectors: Annotated[
        Literal["exact", "decoded"], Option(help="score by the exact vectors, or by those that the index has kept")
    ] = "exact",
    negatives: Annotated[
        Literal["live", "static", "random"],
        Option(
            help="live: retrieved at each step; static: by the starting encoder; random: drawn from the corpus (in the "
            "paper with --metric none, all of one weight)"
        ),
    ] = "live",
    refresh_every_steps: Annotated[int | None, Option(min=1, help="retrieve static negatives anew so often")] = None,
    min_rel: MinRel = 1,
    keep_duplicates: Annotated[
        bool,
        Option(
            "--keep-duplicates",
            help="negatives may be the query's own document (of the query's id) and documents with a relevant one's "
            "text",
        ),
    ] = False,
    nprobe: Annotated[
        int | None, Option(min=1, help="IVF: lists visited for each query", rich_help_panel="Index")
    ] = None,
    ef_search: Annotated[
        int | None, Option(min=1, help="HNSW: candidates kept for each query", rich_help_panel="Index")
    ] = None,
    training: TrainingFlags = TrainingFlags(learning_rate=5e-6),
    compute: ComputeFlags = ComputeFlags(precision="fp32"),
) -> None:
    """Compose: query batches, the live index, ADORE's loss, the one loop, an encoder bound to the index."""
    wanted = Metric.parse(metric)
    if loss_vectors == "exact" and not vectors:
        raise InputError(
            "--loss-vectors exact: the exact vectors are needed; say --vectors VECTORS beside --index, or "
            "--loss-vectors decoded"
        )
    if loss_vectors == "decoded" and not index:
        raise InputError("--loss-vectors decoded: an index is needed; say --index INDEX, or --loss-vectors exact")
    if (nprobe or ef_search) and not index:
        raise InputError(
            "--nprobe and --ef-search are for a FAISS index; say --index INDEX, or leave them out: vectors are "
            "searched exactly"
        )
    if refresh_every_steps and negatives != "static":
        raise InputError(
            f"--refresh-every-steps with --negatives {negatives}: only static negatives are refreshed; leave one of "
            "the two out"
        )
    if negatives == "random":
        add_change(folder.request, RANDOM_CHANGE)
    if not keep_duplicates:
        add_change(folder.request, NO_DUPLICATES)
    with output.folder(folder) as work:
        from drtools.methods.adore.batches import query_batches
        from drtools.methods.adore.dev import dev_measure_on_index
        from drtools.methods.adore.judged import avoid_copies, judged_rows, trained_on
        from drtools.methods.adore.live_index import LiveIndex
        from drtools.methods.adore.loss import AdoreLoss, StaticLists
        from drtools.models.encoder import Encoder
        from drtools.models.loader import known_fingerprints
        from drtools.training.encoder_task import EncoderTraining
        from drtools.training.loop import LOG_EVERY_STEPS
        from drtools.training.plan import UNKNOWN_STEPS

        task = EncoderTraining(work, encoder_flags, student, training, compute, side="query")
        task.write_card = write_card
        encoder = task.model
        assert isinstance(encoder, Encoder), "that of one side"
        live = LiveIndex(vectors, index, task.computing.device, task.world, nprobe, ef_search)
        live.check(known_fingerprints(encoder, encoder_flags), encoder.dimension, encoder_flags.names)
        texts, judged, avoided = judged_rows(queries, qrels, live, min_rel)
        if not keep_duplicates:
            avoid_copies(avoided, judged, live, vectors)
        loss = AdoreLoss(
            live,
            judged,
            depth=depth,
            metric=wanted,
            append_missing=append == "missing",
            decoded=loss_vectors == "decoded",
            scale=task.scale,
            negatives=negatives,
            seed=training.seed,
            note_every_steps=LOG_EVERY_STEPS,
            avoided=avoided,
        )
        refresh = (
            StaticLists(loss, texts, encoder, task.computing, refresh_every_steps or UNKNOWN_STEPS)
            if negatives == "static"
            else None
        )
        encoder.settings.inherited = {"document": live.record["document_fingerprint"]}
        task.trained = trained_on(texts, judged, live) if task.world.is_first else None
        task.fit(
            query_batches(task, texts),
            loss,
            len(texts),
            dev_measure_on_index(
                dev,
                queries,
                live.search_alone,
                live.ids,
                encoder,
                task.computing,
                task.trained,
            ),
            default_epochs=PAPER_EPOCHS,
            paper_warmup=PAPER_WARMUP,
            refresh=refresh,
        )
        task.finish(queries=len(texts), documents=len(live))
