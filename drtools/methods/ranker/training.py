"""The training of a ranker: its initial model, batches of pairs, the loss of their lists, and the folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from drtools import losses
from drtools.errors import InputError
from drtools.methods.ranker.batches import RankedBatches, separation_of
from drtools.methods.ranker.dev import dev_ranking
from drtools.methods.ranker.settings import EPOCHS, WARMUP_STEPS, RankerDevSpec, RankerSettings, RankerSpec
from drtools.models.cross_encoder import KIND, new_cross_encoder, save_cross_encoder
from drtools.models.pooled_ranker import PooledRanker
from drtools.models.specs import ComputeSpec
from drtools.training.encoder_task import read_sources
from drtools.training.specs import ExamplesSpec, TrainingSpec
from drtools.training.task import Card, TrainingTask, no_card

if TYPE_CHECKING:
    from torch import Tensor

    from drtools.methods.ranker.batches import RankedBatch
    from drtools.models.cross_encoder_model import CrossEncoder
    from drtools.outputs.work import Work
    from drtools.training.gradients import Loss, Metrics
    from drtools.training.sampling import ExampleSource

LOSSES = {"listwise": losses.contrastive, "pointwise": losses.pointwise, "ranknet": losses.ranknet}


def train(
    work: Work,
    settings: RankerSettings,
    *,
    examples: ExamplesSpec,
    start: RankerSpec,
    training: TrainingSpec,
    dev: RankerDevSpec,
    compute: ComputeSpec,
    card: Card = no_card,
) -> None:
    """Train a cross-encoder on the positive of each query among its own negatives, and write its folder."""
    task = RankerTraining(work, start, training, compute)
    task.write_card = card
    sources = read_sources(examples)
    batches = task.ranked_batches(sources, settings.negatives)
    measure = dev_ranking(
        dev,
        examples.queries[0],
        sources[0].store,
        task.model,
        task.computing,
        sources[0].title_separator,
        task.trained_on(sources),
    )
    task.fit(
        batches,
        list_loss(LOSSES[settings.loss]),
        batches.epoch_queries,
        measure,
        default_epochs=EPOCHS,
        paper_warmup=WARMUP_STEPS,
        separate=separation_of,
    )
    task.finish(queries=sum(len(source.examples) for source in sources))


class RankerTraining(TrainingTask):
    """The training of a cross-encoder from a body, an encoder or another cross-encoder."""

    model: CrossEncoder

    def __init__(self, work: Work, ranker: RankerSpec, training: TrainingSpec, compute: ComputeSpec) -> None:
        """Join the other processes and load the start model.

        A new head is drawn with the seed, so that it is the same in all processes.
        """
        super().__init__(work, training, compute)
        self.ranker = ranker
        model = new_cross_encoder(ranker.model, training.seed, ranker.trust_remote_code, ranker.dropout)
        model.set_lengths(ranker.max_query_tokens, ranker.max_document_tokens)
        self.start_counts = not model.head_is_new
        assert not isinstance(model.model, PooledRanker), "a cross-encoder of modules is refused as a start"
        self.adopt(model, [model.model])  # the dropout of the head is also drawn in each thread

    def ranked_batches(self, sources: list[ExampleSource], negatives: int) -> RankedBatches:
        """Return batches of examples with this number of negatives for each query."""
        if not any(len(source.examples.negatives.flat) for source in sources):
            raise InputError(
                "no example has a negative, but a ranker is trained on negatives of each query",
                remedy="mine them with `drtools mine-negatives`",
            )
        return RankedBatches(
            sources,
            self.model,
            batch_queries=self.training.batch_queries,
            negatives=negatives,
            seed=self.training.seed,
            shares=self.world.shares,
            rank=self.world.rank,
        )

    def finish(self, **facts: object) -> None:
        """Write the model's folder with its card and manifest, and report the result."""
        self.close(lambda: self._write(facts))

    def _write(self, facts: dict[str, object]) -> None:
        fingerprint = save_cross_encoder(self.model, self.work.path)
        record = {
            "base": self.ranker.model,
            **self.record(),
            **facts,
            "max_query_tokens": self.model.max_query_tokens,
            "max_document_tokens": self.model.max_document_tokens,
            "max_pair_tokens": self.model.max_pair_tokens,
        }
        self.write_card(self.work.path, {**record, **self.card_record()})
        self.work.finish(kind=KIND, ranker_fingerprint=fingerprint, **record)


def list_loss(of_lists: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loss:
    """Turn a loss of (positive [B], candidates [B, m], keep [B, m]) into a loss of a batch."""

    def loss(logits: Tensor, batch: RankedBatch) -> tuple[Tensor, Metrics]:  # [N, 1] -> []
        lists = torch.from_numpy(batch.lists).to(logits.device)
        table = logits[:, 0][lists.clamp(min=0)]
        return of_lists(table[:, 0], table[:, 1:], lists[:, 1:] >= 0), {}

    return loss
