"""Contrastive training: softmax over in-batch and hard negatives, or the margins of a teacher's scores.

The softmax is the loss of DPR and the papers' baselines, Margin-MSE that of DDR's distilled baselines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.lines import shown
from drtools.units import counted

if TYPE_CHECKING:
    from torch import Tensor

    from drtools.evaluation.specs import DevSpec
    from drtools.methods.spar.settings import BesideSpec
    from drtools.models.specs import ComputeSpec, EncoderSpec
    from drtools.outputs.work import Work
    from drtools.training.gradients import Loss, Metrics
    from drtools.training.pairs import PairBatch
    from drtools.training.sampling import ExampleSource
    from drtools.training.specs import ExamplesSpec, ShapeSpec, StudentSpec, TrainingSpec
    from drtools.training.task import Card

EPOCHS = {"contrast": 2, "margin-mse": 20}  # [ours]; Zhan et al., DDR, on MS MARCO
WARMUP_STEPS = 1000  # [ours] or a tenth of the steps, if that is less


@dataclass(frozen=True)
class ContrastiveSettings:
    """The loss (None: contrast), its negatives, and whether it accepts scores from any source."""

    loss: Literal["contrast", "margin-mse"] | None = None
    hard_negatives: int = 1
    accept_scores: bool = False

    def __post_init__(self) -> None:
        check_negatives(self.loss, self.hard_negatives)


def check_negatives(loss: str | None, hard_negatives: int) -> None:
    """Raise InputError for Margin-MSE without negatives."""
    if loss == "margin-mse" and not hard_negatives:
        raise InputError(
            "margins need negatives",
            where=f"{param('loss')} margin-mse with {param('hard_negatives')} 0",
            remedy="use 1 or more",
        )


def train(
    work: Work,
    settings: ContrastiveSettings,
    *,
    examples: ExamplesSpec,
    start: EncoderSpec,
    shape: ShapeSpec,
    student: StudentSpec,
    training: TrainingSpec,
    dev: DevSpec,
    compute: ComputeSpec,
    beside: BesideSpec,
    card: Card,
) -> None:
    """Train an encoder on examples, alone or together with vectors of another encoder, and write its folder."""
    from drtools.methods.dev import measure_on
    from drtools.methods.spar.joint import open_beside
    from drtools.training.encoder_task import EncoderTraining
    from drtools.training.pairs import separation_of

    if student.matryoshka and beside.beside_documents:
        raise InputError(
            "the fixed vectors of the other encoder have no prefixes to train",
            where=f"{param('matryoshka')} with {param('beside_documents')}",
            remedy="leave one of the two out",
        )
    loss = settings.loss or "contrast"
    task = EncoderTraining(work, start, student, training, compute, shape)
    task.write_card = card
    sources = read_sources_for(loss, examples, settings.accept_scores)
    vectors, joint = open_beside(beside, task.model, task.computing.device)
    batches = task.pair_batches(sources, negatives=settings.hard_negatives, beside=vectors)
    task.fit(
        batches,
        LOSSES[loss](task.scale),
        batches.epoch_queries,
        measure_on(task, dev, sources, examples.queries[0], joint, vectors),
        default_epochs=EPOCHS[loss],
        paper_warmup=WARMUP_STEPS,
        learner=joint,
        separate=separation_of if loss == "margin-mse" else None,
    )
    learnt = {} if joint is None else {"mu": joint.mu.item()}
    task.finish(queries=sum(len(source.examples) for source in sources), **learnt)


def contrastive_loss(scale: float) -> Loss:
    """Return the softmax loss of a batch: each query's positive among all documents that are not relevant to it."""
    import torch

    from drtools.losses import contrastive, scores

    def loss(query_vectors: Tensor, document_vectors: Tensor, batch: PairBatch) -> tuple[Tensor, Metrics]:
        table = scores(query_vectors, document_vectors, scale)
        return contrastive(table.diagonal(), table, ~torch.from_numpy(batch.relevant).to(table.device)), {}

    return loss


def margin_mse_loss(scale: float) -> Loss:
    """Return the Margin-MSE loss of a batch.

    It compares the positive of each query with its own negatives, if both have a teacher's score.
    """
    import torch

    from drtools.losses import margin_mse, scores

    def loss(query_vectors: Tensor, document_vectors: Tensor, batch: PairBatch) -> tuple[Tensor, Metrics]:
        table = scores(query_vectors, document_vectors, scale)
        teacher, owner = (torch.from_numpy(part).to(table.device) for part in (batch.scores, batch.owner))
        count = len(table)  # the first documents are the queries' positives
        own = table[owner, torch.arange(len(owner), device=table.device)]
        margins, theirs = own[owner[count:]] - own[count:], teacher[owner[count:]] - teacher[count:]
        scored = ~theirs.isnan()
        return margin_mse(margins[scored], theirs[scored]), {}

    return loss


LOSSES = {"contrast": contrastive_loss, "margin-mse": margin_mse_loss}


def read_sources_for(loss: str, example_flags: ExamplesSpec, accept_scores: bool) -> list[ExampleSource]:
    """Open the examples for a loss in LOSSES. margin-mse needs a teacher's scores.

    With `accept_scores`, scores may be from any source.
    """
    from drtools.training.encoder_task import read_sources
    from drtools.training.examples import Scores

    if loss != "margin-mse":
        return read_sources(example_flags)
    sources = read_sources(example_flags, Scores.ANY if accept_scores else Scores.TEACHER)
    check_scored(sources)
    return sources


def check_scored(sources: list[ExampleSource]) -> None:
    """Report documents without a score, whose pairs Margin-MSE leaves out.

    Raises InputError if a source has no pair left.
    """
    import numpy as np

    for source in sources:
        examples = source.examples
        of_positives, of_negatives = examples.positive_scores, examples.negative_scores
        assert of_positives is not None and of_negatives is not None, "sources are read with their scores"
        unscored = sum(int(np.isnan(scores.flat).sum()) for scores in (of_positives, of_negatives))
        name = shown(source.store.corpus)
        reporting.notice(
            unscored,
            f"{counted(unscored, 'document of the examples has', 'documents of the examples have')} no "
            "score; pairs with "
            "them are left out",
        )
        if not any(
            not np.isnan(positive).all() and not np.isnan(negative).all()
            for positive, negative in zip(of_positives, of_negatives, strict=True)
            if len(negative)
        ):
            raise InputError(
                f"the examples of {name}: no query has both a positive and a negative with a score",
                remedy=f"run teacher-score on them, or use {param('loss')} contrast",
            )
