"""ADAM's distillation: training of an encoder on lists from scored examples with dark items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from drtools import reporting
from drtools.errors import InputError, param
from drtools.methods.adam.batches import AdamBatches, Form, count_supply, separation_of
from drtools.methods.adam.dark import own_tokens, special_of_teacher
from drtools.methods.adam.loss import adam_loss
from drtools.methods.adam.pacing import share_of_step
from drtools.methods.adam.settings import EPOCHS, WARMUP_STEPS, AdamSettings
from drtools.methods.adam.teacher import Dropping, keep_dropout
from drtools.methods.dev import measure_on
from drtools.models.specs import ReadingSpec
from drtools.outputs import manifest
from drtools.teachers.scoring import ODDITIES, load_teacher, note_cuts
from drtools.training.encoder_task import EncoderTraining, read_sources
from drtools.training.examples import Scores
from drtools.training.task import Card, no_card

if TYPE_CHECKING:
    from drtools.evaluation.specs import DevSpec
    from drtools.methods.adam.batches import Scorer
    from drtools.methods.adam.dark import Special
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair
    from drtools.models.specs import ComputeSpec, EncoderSpec
    from drtools.outputs.work import Work
    from drtools.teachers.scoring import Teacher
    from drtools.training.sampling import ExampleSource
    from drtools.training.specs import ExamplesSpec, StudentSpec, TrainingSpec


OF_TEACHER = "teacher "  # prefix of the counts of the teacher's pairs


class Teaching(NamedTuple):
    """A teacher that scores during training.

    It has a function that returns the special tokens of dark items for a query and a student's room, and a function
    that returns the scorer of a step.
    """

    teacher: Teacher
    special_beside: Callable[[str, int], Special]
    at: Callable[[int], Scorer]


def train(
    work: Work,
    settings: AdamSettings,
    *,
    examples: ExamplesSpec,
    start: EncoderSpec,
    student: StudentSpec,
    training: TrainingSpec,
    dev: DevSpec,
    compute: ComputeSpec,
    card: Card = no_card,
    reading: ReadingSpec = ReadingSpec(),
) -> None:
    """Distill a teacher's scores of examples and their dark items into an encoder, and write its folder."""
    task = EncoderTraining(work, start, student, training, compute)
    task.write_card = card
    is_random = settings.baseline == "rand-kd"
    scores = Scores.UNREAD if settings.teacher else Scores.ANY if settings.accept_scores else Scores.TEACHER
    sources = read_sources(examples, scores, avoiding=is_random)
    form = Form(settings.kinds, settings.negatives or None, is_random)
    check_examples(sources, form, examples.examples, scored=not settings.teacher)
    queries = sum(round(source.weight * len(source.examples)) for source in sources)
    teaching = open_teacher(settings, task, form, reading, examples.examples)
    batches = AdamBatches(
        sources,
        task.model,
        form,
        name=start.start(),
        batch_queries=training.batch_queries,
        seed=training.seed,
        share_of=share_of_step(settings.pace, training, queries, EPOCHS),
        teacher=teaching and teaching.special_beside,
        shares=task.world.shares,
        rank=task.world.rank,
    )
    loss = adam_loss(
        task.scale,
        weight=settings.supervised_weight,
        with_positive=settings.with_positive,
        reverse=settings.kl == "reverse",
        reduction=settings.reduction,
        gather=task.world.gather,
        teacher_at=teaching and teaching.at,
    )
    task.fit(
        batches,
        loss,
        batches.epoch_queries,
        measure_on(task, dev, sources, examples.queries[0]),
        default_epochs=EPOCHS,
        paper_warmup=WARMUP_STEPS,
        separate=separation_of,
        after_step=counting_cuts(teaching.teacher, task) if teaching else None,
    )
    note_teachers_cuts(task)
    task.finish(
        queries=sum(len(source.examples) for source in sources),
        teacher=teaching.teacher.name if teaching else sources[0].examples.scored_by,
    )


def counting_cuts(teacher: Teacher, task: EncoderTraining) -> Callable[[int, float], None]:
    """Return a function that adds the truncated and empty pairs of a teacher to the counts of the training.

    Checkpoints keep these counts, so they do not depend on stops.
    """
    before: Counter[str] = Counter()

    def count(step: int, seconds: float) -> None:
        now = teacher.counts
        task.run.meter.total_counts.update({f"{OF_TEACHER}{name}": now[name] - before[name] for name in ODDITIES})
        before.update({name: now[name] - before[name] for name in ODDITIES})

    return count


def note_teachers_cuts(task: EncoderTraining) -> None:
    """Report truncated and empty pairs of a teacher that scored during training."""
    read = task.run.meter.total_counts
    note_cuts(Counter({name: read[f"{OF_TEACHER}{name}"] for name in ODDITIES}))


def check_examples(sources: Sequence[ExampleSource], form: Form, paths: Sequence[str], scored: bool) -> None:
    """Raise InputError if the examples have no requested dark items or no scores; report examples without some."""
    for source, path in zip(sources, paths, strict=True):
        if form.kinds and source.examples.dark is None:
            raise InputError(
                "no example has dark items",
                where=path,
                remedy=f"run make-dark-examples and teacher-score on it, or use {param('baseline')} hard-kd",
            )
        supply = count_supply(source.examples, form)
        for kind in form.kinds:
            if not supply.of_kind[kind]:
                raise InputError(
                    f"no example has a {kind} item",
                    where=path,
                    remedy=f"run make-dark-examples and teacher-score again, or use {param('without')} {kind}",
                )
        if form.kinds:
            reporting.notice(
                supply.without,
                f"{path}: {supply.without:,} of {len(source.examples):,} examples have none of the "
                "requested dark items",
            )
        if "reinforced" in form.kinds:
            reporting.notice(
                supply.unpaired,
                f"{path}: {supply.unpaired:,} of {supply.negatives:,} negatives have no reinforced item; "
                "make-dark-examples makes one for each",
            )
        if scored and supply.unscored:
            raise InputError(
                f"{supply.unscored:,} of {supply.items:,} items to distill have no score",
                where=path,
                remedy=f"run teacher-score on the file, or use {param('teacher')} to score during training",
            )


def own_lengths(model: Encoder | EncoderPair[Encoder]) -> tuple[int, int]:
    """Return how many tokens of a query and of a document the student reads, without special tokens and prompts."""
    return own_tokens(model.of("query"), "query"), own_tokens(model.of("document"), "document")


def note_other_lengths(paths: list[str], own: tuple[int, int]) -> None:
    """Report examples whose teacher read longer or shorter texts than the student, according to their manifests."""
    for path in paths:
        beside = manifest.beside(Path(path))
        record = manifest.read_manifest(beside) if beside.exists() else {}
        read = {
            name: (record[key], mine)
            for name, key, mine in (
                ("a query", "max_query_tokens", own[0]),
                ("a document", "max_document_tokens", own[1]),
            )
            if record.get("tool") == "teacher-score" and record.get(key)
        }
        theirs = " and ".join(f"{length} tokens of {name}" for name, (length, _) in read.items())
        students = " and ".join(str(mine) for _, mine in read.values())
        reporting.notice(
            any(length != mine for length, mine in read.values()),
            f"{path}: its teacher reads {theirs}, the student {students} (without special tokens); to score the same "
            f"text, run teacher-score with {param('max_query_tokens')} {own[0]} "
            f"{param('max_document_tokens')} {own[1]}",
        )


def open_teacher(
    settings: AdamSettings, task: EncoderTraining, form: Form, reading: ReadingSpec, paths: list[str]
) -> Teaching | None:
    """Load a teacher that reads texts as long as the student does, if there is one.

    Without one, the examples of `paths` have scores; other lengths of the teacher that gave them are reported.
    """
    if not settings.teacher:
        reading.refuse_without_teacher()
        note_other_lengths(paths, own_lengths(task.model))
        return None
    dropout = settings.teacher_dropout
    own = own_lengths(task.model)
    teacher = load_teacher(
        settings.teacher,
        task.computing,
        trust_remote_code=task.encoder_flags.trust_remote_code,
        dropout=dropout or None,
        student_tokens=own,
        reading=reading,
    )
    read = teacher.max_query_tokens, teacher.max_document_tokens
    reporting.notice(
        int(read != own),
        f"the teacher has room for {read[0]} tokens of a query and {read[1]} of a document beside it; the student "
        f"reads {own[0]} and {own[1]}",
    )
    special_beside = partial(special_of_teacher, teacher, form.kinds)
    if not dropout:
        return Teaching(teacher, special_beside, lambda step: teacher)
    keep_dropout(teacher)
    return Teaching(
        teacher,
        special_beside,
        lambda step: Dropping(teacher, (task.training.seed, "teacher", step, task.world.rank)),
    )
