"""Contrastive training: softmax over in-batch and hard negatives, or a teacher's scores.

The softmax is the loss of DPR and the papers' baselines, Margin-MSE that of DDR's distilled baselines, KL that of
distillation over lists. `LossName` is the list of the losses of all trainings on
examples that have a choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.lines import shown
from drtools.methods.guard import GuardSpec, guarded, open_guard
from drtools.units import counted

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from drtools.evaluation.specs import DevSpec
    from drtools.methods.guard import Guard
    from drtools.methods.spar.settings import BesideSpec
    from drtools.models.specs import ComputeSpec, EncoderSpec
    from drtools.outputs.work import Work
    from drtools.training.gradients import Loss, Metrics
    from drtools.training.pairs import PairBatch
    from drtools.training.sampling import ExampleSource
    from drtools.training.specs import ExamplesSpec, ShapeSpec, StudentSpec, TrainingSpec
    from drtools.training.task import Card

LossName = Literal["contrast", "kl", "margin-mse"]
OF_TEACHER: tuple[LossName, ...] = ("kl", "margin-mse")  # learn a teacher's scores of a query's own documents
EPOCHS = {"contrast": 2, "kl": 20, "margin-mse": 20}  # [ours]; as Margin-MSE [ours]; Zhan et al., DDR, on MS MARCO
WARMUP_STEPS = 1000  # [ours] or a tenth of the steps, if that is less


@dataclass(frozen=True)
class ContrastiveSettings:
    """The loss (None: contrast), its negatives, and whether it accepts scores from any source."""

    loss: LossName | None = None
    hard_negatives: int = 1
    accept_scores: bool = False
    teacher_temperature: float | None = None

    def __post_init__(self) -> None:
        check_loss(self.loss, self.hard_negatives, self.teacher_temperature)


def check_loss(loss: str | None, hard_negatives: int, teacher_temperature: float | None = None) -> None:
    """Raise InputError for a teacher's scores without negatives, and for a temperature that no loss uses."""
    if loss in OF_TEACHER and not hard_negatives:
        raise InputError(
            f"{'margins' if loss == 'margin-mse' else 'lists'} need negatives",
            where=f"{param('loss')} {loss} with {param('hard_negatives')} 0",
            remedy="use 1 or more",
        )
    if teacher_temperature is not None and not (loss == "kl" and 0 < teacher_temperature < math.inf):
        raise InputError(
            where=f"{param('teacher_temperature')} {teacher_temperature:g}",
            expected=f"a number above 0, with {param('loss')} kl",
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
    guarding: GuardSpec = GuardSpec(),
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
    refuse_guard(loss, guarding)
    task = EncoderTraining(work, start, student, training, compute, shape)
    task.write_card = card
    sources = read_sources_for(loss, examples, settings.accept_scores)
    guard = open_guard(guarding, task)
    vectors, joint = open_beside(beside, task.model, task.computing.device)
    batches = task.pair_batches(
        sources, negatives=settings.hard_negatives, beside=vectors, guide=guard.guide if guard else None
    )
    task.fit(
        batches,
        loss_named(loss, task.scale, guard, settings.teacher_temperature),
        batches.epoch_queries,
        measure_on(task, dev, sources, examples.queries[0], joint, vectors),
        default_epochs=EPOCHS[loss],
        paper_warmup=WARMUP_STEPS,
        learner=joint,
        separate=separation_of if loss in OF_TEACHER else None,
        after_step=guard and guard.after_step,
    )
    learnt = {} if joint is None else {"mu": joint.mu.item()}
    masked = guard.facts() if guard else {}
    task.finish(queries=sum(len(source.examples) for source in sources), **learnt, **masked)


def refuse_guard(loss: str, guarding: GuardSpec) -> None:
    """Raise InputError for a guard of a loss without in-batch negatives."""
    if guarding.given and loss in OF_TEACHER:
        raise InputError(
            "it learns a teacher's scores, and has no negatives to guard",
            where=f"{param('loss')} {loss} with {param('guide' if guarding.guide else 'self_guide')}",
            remedy="leave one of the two out",
        )


def loss_named(name: str, scale: float, guard: Guard | None = None, teacher_temperature: float | None = None) -> Loss:
    """Return a loss of `LossName`: of the batch, with a guard against false negatives, or of a teacher's scores."""
    if name == "contrast":
        return contrastive_loss(scale, guard)
    return kl_loss(scale, teacher_temperature or 1.0) if name == "kl" else margin_mse_loss(scale)


def contrastive_loss(scale: float, guard: Guard | None = None) -> Loss:
    """Return the softmax loss of a batch: each query's positive among all documents that are not relevant to it."""
    from drtools.losses import contrastive, scores

    keep = guarded(guard)

    def loss(query_vectors: Tensor, document_vectors: Tensor, batch: PairBatch) -> tuple[Tensor, Metrics]:
        table = scores(query_vectors, document_vectors, scale)
        kept, metrics = keep(table, batch)
        return contrastive(table.diagonal(), table, kept), metrics

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


def kl_loss(scale: float, temperature: float = 1.0) -> Loss:
    """Return the divergence of a batch from the teacher: of each query's positive and own negatives with a score."""
    from drtools.losses import scores

    def loss(query_vectors: Tensor, document_vectors: Tensor, batch: PairBatch) -> tuple[Tensor, Metrics]:
        table = scores(query_vectors, document_vectors, scale)
        assert batch.scores is not None, "examples are read with their scores"
        return kl_of_documents(table, batch.scores, batch.owner, temperature), {}

    return loss


def kl_of_documents(
    table: Tensor, scores: np.ndarray, owner: np.ndarray, temperature: float = 1.0, reverse: bool = False
) -> Tensor:  # [B, C], [C], [C] -> []
    """Mean over queries of KL(teacher || student) of the softmax over each query's own documents with a score.

    `scores` of documents for their `owner` are nan if there is none; they are divided by `temperature`. `reverse`:
    KL(student || teacher).
    """
    import torch

    from drtools.losses import kl_of_lists

    teacher, owners = (torch.from_numpy(part).to(table.device) for part in (scores, owner))
    listed = (owners == torch.arange(len(table), device=table.device).unsqueeze(1)) & ~teacher.isnan()
    told = (teacher.nan_to_num() / temperature).expand_as(table)
    return kl_of_lists(told, table, listed, reverse).mean()


def read_sources_for(loss: str, example_flags: ExamplesSpec, accept_scores: bool) -> list[ExampleSource]:
    """Open the examples for a loss by name. kl and margin-mse need a teacher's scores.

    With `accept_scores`, scores may be from any source.
    """
    from drtools.training.encoder_task import read_sources
    from drtools.training.examples import Scores

    if loss not in OF_TEACHER:
        return read_sources(example_flags)
    sources = read_sources(example_flags, Scores.ANY if accept_scores else Scores.TEACHER)
    check_scored(sources)
    return sources


def check_scored(sources: list[ExampleSource]) -> None:
    """Report documents without a score, which a loss of a teacher's scores leaves out.

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
