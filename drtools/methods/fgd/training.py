"""FGD's distillation: training of an encoder on batches of scored documents with pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drtools import reporting
from drtools.errors import InputError, param
from drtools.methods.dev import measure_on
from drtools.methods.fgd.batches import FineGrainedBatches, read_piece_scores
from drtools.methods.fgd.graph import SpanStudent
from drtools.methods.fgd.loss import FgdLoss
from drtools.methods.fgd.settings import EPOCHS, NEGATIVE_PIECES, WARMUP_STEPS, FgdSettings
from drtools.models.pieces import cut_of, layout_of
from drtools.training.encoder_task import EncoderTraining, read_sources
from drtools.training.examples import Scores
from drtools.training.pairs import separation_of
from drtools.training.task import Card, no_card
from drtools.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drtools.evaluation.specs import DevSpec
    from drtools.models.spans import SpanKind
    from drtools.models.specs import ComputeSpec, EncoderSpec, PieceSizes
    from drtools.outputs.work import Work
    from drtools.training.pairs import PairBatches
    from drtools.training.sampling import ExampleSource
    from drtools.training.specs import ExamplesSpec, StudentSpec, TrainingSpec


def train(
    work: Work,
    settings: FgdSettings,
    *,
    examples: ExamplesSpec,
    start: EncoderSpec,
    pieces: PieceSizes,
    student: StudentSpec,
    training: TrainingSpec,
    dev: DevSpec,
    compute: ComputeSpec,
    card: Card = no_card,
) -> None:
    """Distill the scores of documents and of their pieces into an encoder, and write its folder."""
    task = EncoderTraining(work, start, student, training, compute)
    task.write_card = card
    sources = read_sources(examples, Scores.ANY if settings.accept_scores else Scores.TEACHER)
    unscored = unscored_documents(sources) if "document" in settings.chosen_levels else 0
    if unscored and unscored == count_documents(sources):
        raise InputError(
            "no document of the examples has a score",
            where=f"{param('levels')} {settings.levels}",
            remedy=f"run teacher-score without {param('only_pieces')}, or leave out the level document",
        )
    reporting.notice(
        unscored,
        f"{counted(unscored, 'document of the examples has', 'documents of the examples have')} no score and "
        f"{'is' if unscored == 1 else 'are'} left out of the documents' KL",
    )
    passages, learner = 0, None
    batches: PairBatches | FineGrainedBatches
    if settings.has_pieces:
        batches, passages, learner = with_pieces(
            task, sources, examples.examples, pieces, settings.spans or "attention", settings.hard_negatives
        )
    else:
        batches = task.pair_batches(sources, negatives=settings.hard_negatives)
    loss = FgdLoss(
        settings.chosen_levels,
        passages,
        task.scale,
        weight=settings.contrastive_weight,
        negative_pieces=settings.negative_pieces or NEGATIVE_PIECES,
        direction=settings.kl,
    )
    task.fit(
        batches,
        loss,
        batches.epoch_queries,
        measure_on(task, dev, sources, examples.queries[0]),
        default_epochs=EPOCHS,
        paper_warmup=WARMUP_STEPS,
        learner=learner,
        separate=None if settings.contrastive_weight else separation_of,  # contrast is across the batch
    )
    task.finish(queries=sum(len(source.examples) for source in sources), scored_by=sources[0].examples.scored_by)


def with_pieces(
    task: EncoderTraining,
    sources: list[ExampleSource],
    paths: list[str],
    sizes: PieceSizes,
    spans: SpanKind,
    hard_negatives: int,
) -> tuple[FineGrainedBatches, int, SpanStudent]:
    """Return batches of documents with pieces, the number of passages in a row, and the student with its spans.

    The encoder's settings record the kind of spans.
    """
    document = task.model.of("document")
    layout = layout_of(document, sizes)
    document.settings.pieces = {"spans": spans, **vars(layout.sizes)}
    learner = SpanStudent(task.model, layout.passages, layout.sentences, spans, task.training.seed)
    scores = [
        read_piece_scores(path, source.examples, source.store, cut_of(document, layout, source.title_separator))
        for path, source in zip(paths, sources, strict=True)
    ]
    batches = FineGrainedBatches(
        sources,
        scores,
        task.model,
        layout,
        batch_queries=task.training.batch_queries,
        negatives=hard_negatives,
        seed=task.training.seed,
        shares=task.world.shares,
        rank=task.world.rank,
    )
    return batches, layout.passages, learner


def count_documents(sources: Sequence[ExampleSource]) -> int:
    """Count the positives and negatives of the examples."""
    lists = (each for source in sources for each in (source.examples.positives, source.examples.negatives))
    return sum(len(each.flat) for each in lists)


def unscored_documents(sources: Sequence[ExampleSource]) -> int:
    """Count the documents of the examples without a score."""
    return sum(
        int(np.isnan(lists.flat).sum())
        for source in sources
        for lists in (source.examples.positive_scores, source.examples.negative_scores)
        if lists is not None
    )
