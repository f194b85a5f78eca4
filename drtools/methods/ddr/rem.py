"""The training of a relevance module on a frozen body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drtools import reporting
from drtools.errors import InputError, param
from drtools.methods.contrastive import OF_TEACHER, loss_named, read_sources_for, refuse_guard
from drtools.methods.ddr.settings import REM_EPOCHS, RemTrainingSettings
from drtools.methods.dev import measure_on
from drtools.methods.guard import GuardSpec, open_guard
from drtools.models.encoder import Encoder
from drtools.models.rem import add_rem, rem_parameters, train_parts
from drtools.models.rem_files import save_rem
from drtools.models.settings import weights_fingerprint
from drtools.models.specs import ComputeSpec, EncoderSpec
from drtools.training.encoder_task import EncoderTraining
from drtools.training.pairs import separation_of
from drtools.training.specs import ExamplesSpec, StudentSpec, TrainingSpec
from drtools.training.task import Card, no_card

if TYPE_CHECKING:
    from drtools.evaluation.specs import DevSpec
    from drtools.models.settings import RemSettings
    from drtools.outputs.work import Work


def train(
    work: Work,
    settings: RemTrainingSettings,
    *,
    examples: ExamplesSpec,
    start: EncoderSpec,
    training: TrainingSpec,
    dev: DevSpec,
    compute: ComputeSpec,
    guarding: GuardSpec = GuardSpec(),
    card: Card = no_card,
) -> None:
    """Train a REM on examples, and write its folder."""
    refuse_guard(settings.loss, guarding)
    task = RemTraining(work, start, settings.rem, settings.student, training, compute)
    task.write_card = card
    own, body = task.parameters()
    reporting.say(f"a REM of {own:,} parameters on a body of {body:,}")
    sources = read_sources_for(settings.loss, examples, settings.accept_scores)
    guard = open_guard(guarding, task)
    batches = task.pair_batches(sources, negatives=settings.hard_negatives, guide=guard.guide if guard else None)
    task.fit(
        batches,
        loss_named(settings.loss, task.scale, guard, settings.teacher_temperature),
        batches.epoch_queries,
        measure_on(task, dev, sources, examples.queries[0]),
        default_epochs=REM_EPOCHS[settings.loss],
        paper_warmup=0,
        separate=separation_of if settings.loss in OF_TEACHER else None,
        after_step=guard and guard.after_step,
    )
    masked = guard.facts() if guard else {}
    task.finish(queries=sum(len(source.examples) for source in sources), **masked)


class RemTraining(EncoderTraining):
    """The training of a new REM on an encoder.

    The weights of the body are frozen, but its dropout stays on.
    """

    model: Encoder

    def __init__(
        self,
        work: Work,
        encoder_flags: EncoderSpec,
        rem: RemSettings,
        student: StudentSpec,
        training: TrainingSpec,
        compute: ComputeSpec,
    ) -> None:
        """Join the other processes, load the body and add the REM to it."""
        if encoder_flags.rem:
            raise InputError(
                "a REM is trained on a body without one",
                where=f"{param('body')} with {param('rem')}",
                remedy=f"use {param('model')} BODY",
            )
        if encoder_flags.truncate_dimension:
            raise InputError(
                "the folder of a REM has no dimension of vectors",
                where=f"{param('truncate_dimension')} {encoder_flags.truncate_dimension}",
                remedy="leave it out, and cut the vectors when you encode",
            )
        self.rem = rem
        super().__init__(work, encoder_flags, student, training, compute)

    def _starting_model(self) -> Encoder:
        model = super()._starting_model()
        if not isinstance(model, Encoder):
            raise InputError(
                "a pair of encoders, which cannot take a REM",
                where=self.encoder_flags.names,
                remedy="pass one of the two",
            )
        add_rem(model, self.rem, self.training.seed)
        train_parts(model, "rem")
        return model

    def parameters(self) -> tuple[int, int]:
        """Return the number of parameters of the REM and of its body."""
        own = sum(parameter.numel() for parameter in rem_parameters(self.model).values())
        return own, sum(parameter.numel() for parameter in self.model.body.parameters()) - own

    def _write(self, facts: dict[str, object]) -> None:
        fingerprint = save_rem(self.model, self.work.path)
        own, body = self.parameters()
        assert self.model.folder is not None, "it was loaded from a folder"
        self.work.finish(
            kind="rem",
            body=self.encoder_flags.model,
            body_fingerprint=weights_fingerprint(self.model.folder),
            rem_fingerprint=fingerprint,
            parameters=own,
            body_parameters=body,
            scale=self.scale,
            **self.prefix_record(),
            **self.record(),
            **facts,
        )
