"""STAR: static hard negatives and in-batch negatives (Zhan et al. 2021), its paper's baselines, and ANCE's refresh.

The loss is pairwise RankNet of each query's positive against the positives of all other queries and against all hard
negatives of the batch. A refresh encodes the corpus, searches, and uses documents with high ranks that are not relevant
as negatives. Rows that the examples avoid (see training/avoided_rows) are not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.npy import create_npy, read_archive
from drtools.formats.text_sources import DocumentTexts
from drtools.methods.guard import GuardSpec, guarded, open_guard
from drtools.outputs.state_file import START_AFRESH
from drtools.search.mining import MiningRules, choose_negatives, parse_ranks

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from drtools.evaluation.specs import DevSpec
    from drtools.methods.guard import Guard
    from drtools.models.compute import Compute
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair
    from drtools.models.specs import ComputeSpec, EncoderSpec
    from drtools.outputs.work import Work
    from drtools.training.distributed import World
    from drtools.training.examples import RaggedArray
    from drtools.training.gradients import Loss, Metrics
    from drtools.training.pairs import PairBatch
    from drtools.training.sampling import ExampleSource
    from drtools.training.specs import ExamplesSpec, ShapeSpec, StudentSpec, TrainingSpec
    from drtools.training.task import Card

EPOCHS = 2  # [ours]
WARMUP_STEPS = 1000  # Zhan et al. 2021, passages
CHUNK = 16384


@dataclass(frozen=True)
class StarSettings:
    """Which negatives are used, how they are weighted, and whether they are mined again during training."""

    hard_negatives: int = 1
    negatives: Literal["static", "own", "in-batch", "random"] = "static"
    alpha: float | None = None
    refresh_every_steps: int | None = None
    refresh_ranks: str = "1-200"
    refresh_negatives: int = 30
    refresh_draw: Literal["random", "top"] = "random"
    keep_duplicates: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for settings that do not go together."""
        parse_ranks(self.refresh_ranks, param("refresh_ranks"))
        if self.alpha is not None and not 0 < self.alpha < float("inf"):
            raise InputError(where=f"{param('alpha')} {self.alpha:g}", expected="a weight above 0")
        if self.refresh_every_steps and not self.hard_negatives:
            raise InputError(
                "the mined negatives would not be used",
                where=f"{param('refresh_every_steps')} with {param('hard_negatives')} 0",
                remedy="leave one of the two out",
            )
        named = f"{param('negatives')} {self.negatives}"
        if self.alpha is not None and self.negatives != "static":
            raise InputError(
                "only static negatives have the two parts that it weights",
                where=f"{param('alpha')} {self.alpha:g} with {named}",
            )
        if self.refresh_every_steps and self.negatives in ("in-batch", "random"):
            raise InputError(
                "there are no mined negatives to refresh",
                where=f"{param('refresh_every_steps')} with {named}",
                remedy="leave one of the two out",
            )
        if not self.hard_negatives and self.negatives in ("own", "random"):
            raise InputError("nothing would be left to learn from", where=f"{param('hard_negatives')} 0 with {named}")
        if self.keep_duplicates and not self.draws:
            raise InputError(
                (
                    f"only for {param('refresh_every_steps')} and {param('negatives')} random, because the examples' "
                    "negatives are used as they are; leave it out"
                ),
                where=param("keep_duplicates"),
            )

    @property
    def draws(self) -> bool:
        """Whether negatives are mined or drawn during training."""
        return bool(self.refresh_every_steps) or self.negatives == "random"

    @property
    def avoids_duplicates(self) -> bool:
        """Whether queries' own documents and copies of positives are excluded from mined and drawn negatives."""
        return self.draws and not self.keep_duplicates


def train(
    work: Work,
    settings: StarSettings,
    *,
    examples: ExamplesSpec,
    start: EncoderSpec,
    shape: ShapeSpec,
    student: StudentSpec,
    training: TrainingSpec,
    dev: DevSpec,
    compute: ComputeSpec,
    guarding: GuardSpec = GuardSpec(),
    card: Card,
) -> None:
    """Train an encoder on examples, with refreshed negatives if they are set, and write its folder."""
    from drtools.methods.dev import measure_on
    from drtools.training.encoder_task import EncoderTraining, read_sources
    from drtools.training.pairs import separation_of

    task = EncoderTraining(work, start, student, training, compute, shape)
    task.write_card = card
    sources = read_sources(examples, avoiding=settings.avoids_duplicates)
    guard = open_guard(guarding, task)
    batches = task.pair_batches(
        sources,
        negatives=0 if settings.negatives == "in-batch" else settings.hard_negatives,
        random_negatives=settings.negatives == "random",
        guide=guard.guide if guard else None,
    )
    refresh = None
    if settings.refresh_every_steps:
        rules = MiningRules(
            ranks=settings.refresh_ranks,
            negatives=settings.refresh_negatives,
            draw=settings.refresh_draw,
            seed=training.seed,
        )
        refresh = HardNegativeRefresh(
            sources, task.model, task.computing, task.world, settings.refresh_every_steps, rules
        )
    task.fit(
        batches,
        star_loss(task.scale, settings.negatives, settings.alpha, guard),
        batches.epoch_queries,
        measure_on(task, dev, sources, examples.queries[0]),
        default_epochs=EPOCHS,
        paper_warmup=WARMUP_STEPS,
        refresh=refresh,
        separate=separation_of if settings.negatives == "own" and guard is None else None,
        after_step=guard and guard.after_step,
    )
    masked = guard.facts() if guard else {}
    task.finish(queries=sum(len(source.examples) for source in sources), **masked)


def star_loss(scale: float, negatives: str = "static", alpha: float | None = None, guard: Guard | None = None) -> Loss:
    """Return STAR's loss of a batch, or a baseline's.

    It is the RankNet loss of each query's positive against the negatives that `negatives` selects.
    """
    import torch

    from drtools.losses import ranknet, scores, star_weighted

    keep_of = guarded(guard)

    def loss(query_vectors: Tensor, document_vectors: Tensor, batch: PairBatch) -> tuple[Tensor, Metrics]:
        table = scores(query_vectors, document_vectors, scale)
        keep, metrics = keep_of(table, batch)
        owner = torch.from_numpy(batch.owner).to(table.device)
        rows = torch.arange(len(table), device=table.device)
        drawn = torch.arange(len(owner), device=table.device) >= len(
            table
        )  # the first B documents are the queries' positives
        own = keep & drawn & (owner == rows[:, None])
        if alpha is not None:
            return star_weighted(table.diagonal(), table, own, keep & (owner != rows[:, None]), alpha), metrics
        kept = {"static": keep, "own": own, "in-batch": keep & ~drawn, "random": keep & drawn}[negatives]
        return ranknet(table.diagonal(), table, kept), metrics

    return loss


class HardNegativeRefresh:
    """Replaces the negatives of all examples by documents that the current model ranks high.

    Processes must share a file system.
    """

    at_start = False  # training starts with the negatives of the examples

    def __init__(
        self,
        sources: Sequence[ExampleSource],
        model: Encoder | EncoderPair[Encoder],
        computing: Compute,
        world: World,
        every_steps: int,
        flags: MiningRules,
    ) -> None:
        self.sources, self.model, self.world, self.every_steps, self.flags = sources, model, world, every_steps, flags
        self.computing = computing.in_training
        self.depth = parse_ranks(flags.ranks)[1]

    def make(self, path: Path, step: int, check_stop: Callable[[], None]) -> None:
        """Write the negatives of each source: rows of its corpus, and the start of each example's list.

        Called in every process. `check_stop` raises an exception if the training is stopped.
        """
        import numpy as np

        found: dict[str, np.ndarray] = {}
        for number, source in enumerate(self.sources):
            vectors = self._document_vectors(source, path.with_name(f"{path.name}-{number}.npy"), check_stop)
            if self.world.is_first:
                negatives = self._negatives(source, vectors, step)
                found |= {f"flat-{number}": negatives.flat, f"starts-{number}": negatives.starts}
        if self.world.is_first:
            with open(path, "wb") as stream:
                np.savez(stream, allow_pickle=False, **found)

    def load(self, path: Path) -> None:
        """Use these negatives from now on, also if an earlier process made them."""
        from drtools.training.examples import RaggedArray

        found = read_archive(path, START_AFRESH)  # 0.1.0 saved no checksum of it
        for number, source in enumerate(self.sources):
            flat, starts = (found.get(f"{name}-{number}") for name in ("flat", "starts"))
            if flat is None or starts is None:
                raise InputError(f"no negatives of corpus {number + 1}", where=path, remedy=START_AFRESH)
            source.examples.negatives = RaggedArray(flat, starts)
        step = int(path.name.rpartition("-")[2])
        for lengths in (source.examples.negatives.lengths for source in self.sources if self.world.is_first):
            without = int((lengths == 0).sum())
            reporting.notice(
                without, f"{without:,} of {len(lengths):,} queries had no negative after the refresh at step {step:,}"
            )

    def _document_vectors(self, source: ExampleSource, path: Path, check_stop: Callable[[], None]) -> np.ndarray:
        """Encode the corpus into one file, each process its share of the rows. Returns the vectors [N, D]."""
        import numpy as np

        from drtools.encoding.loop import encode_tokens

        encoder, texts = self.model.of("document"), DocumentTexts(source.store, source.title_separator)
        if self.world.is_first:
            create_npy(path, np.float16, (len(texts), encoder.dimension)).flush()
        self.world.wait()
        array: np.memmap[tuple[int, ...], np.dtype[np.float16]] = np.load(path, mmap_mode="r+")
        own = self.world.shares(len(texts))[self.world.rank]
        with reporting.progress("refreshing negatives", own.stop - own.start, "documents") as progress:
            for start in range(own.start, own.stop, CHUNK):
                check_stop()
                stop = min(start + CHUNK, own.stop)
                tokens = encoder.tokenize(texts.slice(start, stop)[1], "document")
                encode_tokens(
                    encoder, tokens, self.computing, array[start:stop], lambda rows, _: progress.advance(len(rows))
                )
        array.flush()
        self.world.wait()
        return array

    def _negatives(self, source: ExampleSource, vectors: np.ndarray, step: int) -> RaggedArray:
        from drtools.encoding.loop import encode_texts
        from drtools.search.exact import search
        from drtools.training.examples import RaggedArray

        encoder, examples = self.model.of("query"), source.examples
        queries, _ = encode_texts(encoder, list(examples.queries), "query", self.computing)
        scores, rows = search(vectors, queries, self.depth, device=self.computing.device)
        flags = replace(self.flags, seed=self.flags.seed + step)  # a new draw each time
        removed: Counter[str] = Counter()
        mined = RaggedArray.of(
            cast(
                "list[int]",  # rows in place of ids
                list(
                    choose_negatives(
                        query_id,
                        dict(zip(row_numbers.tolist(), row_scores.tolist(), strict=True)),
                        set(positives.tolist()),
                        None,
                        flags,
                        removed,
                        {} if examples.avoided is None else dict.fromkeys(examples.avoided[at].tolist(), "avoided"),
                    )
                ),
            )
            for at, (query_id, positives, row_scores, row_numbers) in enumerate(
                zip(examples.query_ids, examples.positives, scores, rows, strict=True)
            )
        )
        if not mined.lengths.any():
            raise InputError(
                f"no query has a negative among these ranks of {len(vectors):,} documents",
                where=f"{param('refresh_ranks')} {flags.ranks}",
                remedy="use other ranks",
            )
        return mined
