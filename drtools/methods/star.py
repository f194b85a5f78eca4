"""Negatives mined anew inside a run (ANCE): encode the corpus, search, and take what ranks high and is not relevant.

What the examples avoid (see training/avoided) is not taken either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from drtools import reporting
from drtools.encoding.loop import encode_texts, encode_tokens
from drtools.errors import InputError, param
from drtools.formats.text_sources import DocumentTexts
from drtools.search.exact import search
from drtools.search.mining import MiningRules, choose_negatives, parse_ranks
from drtools.training.examples import Lists

if TYPE_CHECKING:
    from drtools.models.compute import Compute
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair
    from drtools.training.distributed import World
    from drtools.training.sampling import Source

CHUNK = 16384


class MinedAnew:
    """Replaces the negatives of all examples by what the model as it stands ranks high.

    Processes share a file system.
    """

    at_start = False  # the examples' own negatives are those of the start

    def __init__(
        self,
        sources: Sequence[Source],
        model: Encoder | EncoderPair[Encoder],
        computing: Compute,
        world: World,
        every_steps: int,
        flags: MiningRules,
    ) -> None:
        self.sources, self.model, self.world, self.every_steps, self.flags = sources, model, world, every_steps, flags
        self.computing = computing.in_training
        self.depth = parse_ranks(flags.ranks)[1]

    def make(self, path: Path, step: int, heed: Callable[[], None]) -> None:
        """Write each source's negatives: rows of its corpus, and where each example's begin.

        Called in every process; `heed` raises at a stop.
        """
        found: dict[str, np.ndarray] = {}
        for number, source in enumerate(self.sources):
            vectors = self._document_vectors(source, path.with_name(f"{path.name}-{number}.npy"), heed)
            if self.world.is_first:
                negatives = self._negatives(source, vectors, step)
                found |= {f"flat-{number}": negatives.flat, f"starts-{number}": negatives.starts}
        if self.world.is_first:
            with open(path, "wb") as stream:
                np.savez(stream, allow_pickle=False, **found)

    def load(self, path: Path) -> None:
        """Train with these negatives from here on."""
        with np.load(path, allow_pickle=False) as found:
            for number, source in enumerate(self.sources):
                source.examples.negatives = Lists(found[f"flat-{number}"], found[f"starts-{number}"])

    def _document_vectors(self, source: Source, path: Path, heed: Callable[[], None]) -> np.ndarray:
        """Encode the corpus, each process its share of the rows, into one file; return it [N, D]."""
        encoder, texts = self.model.of("document"), DocumentTexts(source.store, source.title_separator)
        if self.world.is_first:
            np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(len(texts), encoder.dimension)).flush()
        self.world.wait()
        array = np.load(path, mmap_mode="r+")
        own = self.world.shares(len(texts))[self.world.rank]
        with reporting.progress("refreshing negatives", own.stop - own.start, "documents") as progress:
            for start in range(own.start, own.stop, CHUNK):
                heed()
                stop = min(start + CHUNK, own.stop)
                tokens = encoder.tokenize(texts.slice(start, stop)[1], "document")
                encode_tokens(
                    encoder, tokens, self.computing, array[start:stop], lambda rows, _: progress.advance(len(rows))
                )
        array.flush()
        self.world.wait()
        return array

    def _negatives(self, source: Source, vectors: np.ndarray, step: int) -> Lists:
        encoder, examples = self.model.of("query"), source.examples
        queries, _ = encode_texts(encoder, examples.queries, "query", self.computing)
        scores, rows = search(vectors, queries, self.depth, device=self.computing.device)
        flags = replace(self.flags, seed=self.flags.seed + step)  # drawn anew each time
        removed: Counter[str] = Counter()
        mined = Lists.of(
            cast(
                "list[int]",  # rows stand in for ids
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
        without = int((mined.lengths == 0).sum())
        if without == len(mined):
            raise InputError(
                f"{param('refresh_ranks')} {flags.ranks}: no query has a negative among these ranks of "
                f"{len(vectors):,} documents; say others"
            )
        reporting.notice(
            without, f"{without:,} of {len(mined):,} queries had no negative after the refresh at step {step:,}"
        )
        return mined
