"""What all trainings of encoders share: loading the start model, making batches, writing the folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.corpus_store import open_store
from drtools.models.encoder import Encoder
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_named
from drtools.models.lora import add_lora, merge_lora
from drtools.models.pair import EncoderPair, halves, untie
from drtools.models.rem import fold_rem, train_parts
from drtools.models.rem_files import save_rem
from drtools.models.settings import SIDES
from drtools.models.specs import ComputeSpec, EncoderSpec
from drtools.training.avoided_rows import avoid_copies
from drtools.training.examples import Scores, usable_examples
from drtools.training.matryoshka import matryoshka, prefixes_of
from drtools.training.pairs import PairBatches
from drtools.training.sampling import ExampleSource
from drtools.training.specs import ExamplesSpec, ShapeSpec, StudentSpec, TrainingSpec
from drtools.training.student import add_projection, drop_head
from drtools.training.task import TrainingTask

Item = TypeVar("Item")

if TYPE_CHECKING:
    from drtools.models.tokens import VectorsBeside
    from drtools.outputs.work import Work
    from drtools.training.gradients import Batch, Loss
    from drtools.training.pairs import Guide

REM_FOLDER = "rem"  # a trained REM by itself, for use with other bodies


class EncoderTraining(TrainingTask):
    """The training of an encoder. A method makes batches with it and calls `fit` with a loss.

    With a `side`, only the encoder of that side is trained. `shape` can add a head or a second encoder first.
    """

    model: Encoder | EncoderPair[Encoder]

    def __init__(
        self,
        work: Work,
        encoder_flags: EncoderSpec,
        student: StudentSpec,
        training: TrainingSpec,
        compute: ComputeSpec,
        shape: ShapeSpec | None = None,
        side: str | None = None,
    ) -> None:
        """Join the other processes and load the start model."""
        super().__init__(work, training, compute)
        self.encoder_flags, self.student, self.shape, self.side = encoder_flags, student, shape, side
        model = self._starting_model()
        self.adopt(model, [half.body for half in halves(model)])
        self.prefixes = prefixes_of(student.matryoshka, model.dimension)
        self.scale = halves(model)[0].settings.default_scale if student.scale is None else student.scale

    def _starting_model(self) -> Encoder | EncoderPair[Encoder]:
        """Load the start encoder in float32, and change its parts as specified."""
        flags = self.encoder_flags
        start = flags.start()
        if flags.rem and self.student.lora_rank:
            raise InputError(
                f"the REM has its own LoRA; {param('train')} rem trains only the REM",
                where=f"{param('lora_rank')} with {param('rem')}",
            )
        model = load_named(flags, self.side, dropout=self.student.dropout)
        if flags.rem:
            assert isinstance(model, Encoder), "a pair with a REM was refused before"
            train_parts(model, self.student.train)
        if self.shape and self.shape.head == "projection":
            for half in halves(model):
                reporting.notice(
                    not add_projection(half), f"{start} has a head already; {param('head')} projection changed nothing"
                )
        if self.shape and self.shape.head == "none":
            for half in halves(model):
                reporting.notice(
                    not drop_head(half),
                    f"{start} has no layers after its pooling; {param('head')} none changed nothing",
                )
        if self.shape and self.shape.untied and isinstance(model, Encoder):
            model = untie(model)
        if self.student.lora_rank:
            for half in halves(model):
                add_lora(half, self.student.lora_rank, self.student.lora_alpha)
        return model

    def pair_batches(
        self,
        sources: list[ExampleSource],
        *,
        negatives: int,
        random_negatives: bool = False,
        beside: VectorsBeside | None = None,
        guide: Guide | None = None,
    ) -> PairBatches:
        """Return batches of examples with `negatives` for each query. Other arguments are those of PairBatches."""
        wanted = 0 if random_negatives else negatives
        short = sum(source.examples.negatives.count_shorter(wanted) for source in sources)
        reporting.notice(
            short,
            f"{short:,} examples have fewer negatives of their own than the {wanted} to draw; they are trained with "
            "those they have",
        )
        return PairBatches(
            sources,
            self.model,
            batch_queries=self.training.batch_queries,
            negatives=negatives,
            seed=self.training.seed,
            random_negatives=random_negatives,
            shares=self.world.shares,
            rank=self.world.rank,
            beside=beside,
            guide=guide,
        )

    def fit(self, batches: Callable[[int], Batch], loss_of: Loss, *rest: Any, **more: Any) -> None:
        """Train as `TrainingTask.fit` does, with the loss summed over prefixes of the vectors if there are any."""
        if self.prefixes:
            normalized = {side: self.model.of(side).settings.normalized for side in (*SIDES, "reinforced")}
            loss_of = matryoshka(loss_of, self.prefixes, normalized)
        super().fit(batches, loss_of, *rest, **more)

    def prefix_record(self) -> dict[str, object]:
        """Return what manifest and card record about prefixes of the vectors."""
        return {"matryoshka": self.prefixes} if self.prefixes else {}

    def finish(self, **facts: object) -> None:
        """Write the folder of the model, its card and manifest, and report the result."""
        self.close(lambda: self._write(facts))

    def _write(self, facts: dict[str, object]) -> None:
        for half in halves(self.model):
            if half.rem:
                if self.student.train == "rem" and not self.side:
                    (self.work.path / REM_FOLDER).mkdir(exist_ok=True)
                    half.rem_fingerprint = save_rem(half, self.work.path / REM_FOLDER)
                fold_rem(half)
            elif self.student.lora_rank:
                merge_lora(half)
            half.settings.matryoshka = self.prefixes
        fingerprints = save_encoder(self.model, self.work.path)
        record = {
            "base": self.encoder_flags.start(),
            **({"document_base": self.encoder_flags.document_model} if self.encoder_flags.document_model else {}),
            "rem": self.encoder_flags.rem,
            "scale": self.scale,
            **self.prefix_record(),
            **self.record(),
            **facts,
        }
        self.write_card(self.work.path, {**record, **self.card_record(), **vectors_record(self.model)})
        self.work.finish(
            kind="encoder", **record, **{f"{side}_fingerprint": value for side, value in fingerprints.items()}
        )


def vectors_record(model: Encoder | EncoderPair[Encoder]) -> dict[str, object]:
    """Return what a model card shows about vectors and texts."""
    query, document = (model.of(side).settings for side in SIDES)
    return {
        "dimension": model.dimension,
        "normalized": document.normalized,
        "max_query_tokens": query.max_query_tokens,
        "max_document_tokens": document.max_document_tokens,
        "query_prompt": query.query_prompt,
        "document_prompt": document.document_prompt,
    }


def read_sources(flags: ExamplesSpec, scores: Scores = Scores.UNREAD, avoiding: bool = False) -> list[ExampleSource]:
    """Open each file of examples with its corpus and queries.

    `scores` selects the scores that a loss may learn from. With `avoiding`, queries' own documents and copies of
    positives are not used as negatives that are mined or drawn during training.
    """
    count = len(flags.examples)
    corpora, queries = (
        _for_each(f"{param('corpus')}", flags.corpus, count),
        _for_each(f"{param('queries')}", flags.queries, count),
    )
    separators = _for_each(f"{param('title_separator')}", flags.title_separator or [" "], count)
    weights = _for_each(f"{param('weight')}", flags.weight or [1.0], count)
    odd = next((weight for weight in weights if not 0 < weight < float("inf")), None)
    if odd is not None:
        raise InputError(
            where=f"{param('weight')} {odd:g}",
            expected="a number above 0",
            remedy=f"leave an {param('examples')} out instead",
        )
    stores = {corpus: open_store(corpus) for corpus in dict.fromkeys(corpora)}
    sources = []
    for path, corpus, query_path, separator, weight in zip(
        flags.examples, corpora, queries, separators, weights, strict=True
    ):
        sources.append(
            ExampleSource(
                usable_examples(path, query_path, stores[corpus], scores),
                stores[corpus],
                separator,
                weight,
                flags.batches == "one-source",
                flags.keeps_apart,
            )
        )
    if flags.visits == "equal":
        most = max(len(source.examples) for source in sources)
        for source in sources:
            source.weight = most / len(source.examples)
    for path, source in zip(flags.examples, sources, strict=True):
        if not round(source.weight * len(source.examples)):
            raise InputError(
                f"an epoch would visit none of the {len(source.examples):,} examples in {path}",
                where=f"{param('weight')} {source.weight:g}",
                remedy="use more",
            )
        one, other = sources[0].examples.scored_by, source.examples.scored_by
        if one != other:
            raise InputError(
                f"{flags.examples[0]} was scored by {one or 'a retriever'}, {path} by {other or 'a retriever'}; scores "
                "of different teachers cannot be mixed; run teacher-score on both with one teacher"
            )
    if avoiding:
        avoid_copies(sources)
    return sources


def _for_each(flag: str, values: list[Item], count: int) -> list[Item]:
    if len(values) not in (1, count):
        raise InputError(
            f"{flag} was given {len(values)} times with {count} {param('examples')}", expected="once, or once for each"
        )
    return values * count if len(values) == 1 else values
