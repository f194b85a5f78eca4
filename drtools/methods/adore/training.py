"""The training of a query encoder against a live index (Zhan et al. 2021, ADORE)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from drtools.methods.adore.batches import query_batches
from drtools.methods.adore.dev import dev_measure_on_index
from drtools.methods.adore.judged import avoid_copies, judged_rows, trained_on
from drtools.methods.adore.live_index import LiveIndex
from drtools.methods.adore.loss import AdoreLoss, StaticLists
from drtools.methods.adore.settings import EPOCHS, WARMUP_STEPS, AdoreSettings, Metric
from drtools.models.encoder import Encoder
from drtools.models.loader import known_fingerprints
from drtools.outputs import manifest
from drtools.outputs.fingerprints import in_floats
from drtools.training.encoder_task import EncoderTraining
from drtools.training.loop import LOG_EVERY_STEPS
from drtools.training.plan import UNKNOWN_STEPS
from drtools.training.task import Card, no_card

if TYPE_CHECKING:
    from drtools.evaluation.specs import QueryDevSpec
    from drtools.models.specs import ComputeSpec, EncoderSpec
    from drtools.outputs.work import Work
    from drtools.training.specs import StudentSpec, TrainingSpec


def train(
    work: Work,
    settings: AdoreSettings,
    *,
    queries: str,
    qrels: str,
    start: EncoderSpec,
    student: StudentSpec,
    training: TrainingSpec,
    dev: QueryDevSpec,
    compute: ComputeSpec,
    card: Card = no_card,
) -> None:
    """Train a query encoder on judged queries, and write its folder, which is bound to the index."""
    task = EncoderTraining(work, cut_as(start, settings), student, training, compute, side="query")
    task.write_card = card
    encoder = task.model
    assert isinstance(encoder, Encoder), "the encoder of one side"
    live = LiveIndex(
        settings.vectors, settings.index, task.computing.device, task.world, settings.nprobe, settings.ef_search
    )
    live.check(known_fingerprints(encoder, start), encoder.dimension, start.names)
    texts, judged, avoided = judged_rows(queries, qrels, live, settings.min_rel)
    if not settings.keep_duplicates:
        avoid_copies(avoided, judged, live, settings.vectors)
    loss = AdoreLoss(
        live,
        judged,
        depth=settings.depth,
        metric=Metric.parse(settings.metric),
        append_missing=settings.append == "missing",
        decoded=settings.loss_vectors == "decoded",
        scale=task.scale,
        negatives=settings.negatives,
        seed=training.seed,
        note_every_steps=LOG_EVERY_STEPS,
        avoided=avoided,
        normalized=bool(live.record.get("normalized")),
    )
    refresh = None
    if settings.negatives == "static":
        every_steps = settings.refresh_every_steps or UNKNOWN_STEPS
        refresh = StaticLists(loss, texts, encoder, task.computing, every_steps)
    encoder.settings.inherited = {"document": in_floats(live.record["document_fingerprint"])}
    task.trained = trained_on(texts, judged, live) if task.world.is_first else None
    task.fit(
        query_batches(task, texts),
        loss,
        len(texts),
        dev_measure_on_index(dev, queries, live.search_alone, live.ids, encoder, task.computing, task.trained),
        default_epochs=EPOCHS,
        paper_warmup=WARMUP_STEPS,
        refresh=refresh,
    )
    task.finish(queries=len(texts), documents=len(live))


def cut_as(start: EncoderSpec, settings: AdoreSettings) -> EncoderSpec:
    """Return the start encoder with vectors that are cut to the dimension of the documents' vectors, if those are."""
    where = settings.index or settings.vectors
    cut = manifest.read(Path(where)).get("truncate_dimension") if where else None
    return replace(start, truncate_dimension=cut) if cut and start.truncate_dimension is None else start
