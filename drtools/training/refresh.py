"""Negatives mined anew inside a run (ANCE): encode the corpus, search, and take what ranks high and is not relevant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from drtools import console
from drtools.batches.tokens import tokenize
from drtools.retrieval.encoding import encode_tokens
from drtools.retrieval.exact import search
from drtools.retrieval.mining import MiningFlags, choose_negatives, parse_ranks
from drtools.retrieval.texts import DocumentTexts

if TYPE_CHECKING:
    from drtools.batches.pairs import Source
    from drtools.models.encoder import Encoder
    from drtools.models.pair import EncoderPair
    from drtools.retrieval.encoding import Computing
    from drtools.training.processes import World

CHUNK = 16384


class MinedAnew:
    """Replaces the negatives of all examples by what the model as it stands ranks high. Processes share a file system."""

    at_start = False  # the examples' own negatives are those of the start

    def __init__(self, sources: Sequence[Source], model: Encoder | EncoderPair, computing: Computing, world: World,
                 every_steps: int, ranks: str, negatives: int) -> None:
        self.sources, self.model, self.world, self.every_steps = sources, model, world, every_steps
        self.computing = computing._replace(autocast=computing.precision == "bf16")
        self.flags = MiningFlags(ranks=ranks, negatives=negatives)
        self.depth = parse_ranks(ranks)[1]

    def make(self, path: Path) -> None:
        """Write one line for each source: the negatives of its examples, in their order."""
        lines = []
        for number, source in enumerate(self.sources):
            vectors = self._document_vectors(source, path.with_name(f"{path.name}-{number}.npy"))
            if self.world.is_first:
                lines.append(orjson.dumps(self._negatives(source, vectors)))
        if self.world.is_first:
            path.write_bytes(b"\n".join(lines))

    def load(self, path: Path) -> None:
        """Train with these negatives from here on."""
        for source, line in zip(self.sources, path.read_bytes().split(b"\n"), strict=True):
            for example, negatives in zip(source.examples, orjson.loads(line), strict=True):
                example.negatives = negatives

    def _document_vectors(self, source: Source, path: Path) -> np.ndarray:
        """Encode the corpus, each process its share of the rows, into one file; return it [N, D]."""
        encoder, texts = self.model.of("document"), DocumentTexts(source.store, source.title_separator)
        if self.world.is_first:
            np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(len(texts), encoder.dimension)).flush()
        self.world.wait()
        array = np.load(path, mmap_mode="r+")
        own = self.world.shares(len(texts))[self.world.rank]
        with console.progress("refreshing negatives", own.stop - own.start, "documents") as progress:
            for start in range(own.start, own.stop, CHUNK):
                stop = min(start + CHUNK, own.stop)
                tokens = tokenize(encoder, texts.slice(start, stop)[1], "document")
                encode_tokens(encoder, tokens, self.computing, array[start:stop], lambda count, _: progress.advance(count))
        array.flush()
        self.world.wait()
        return array

    def _negatives(self, source: Source, vectors: np.ndarray) -> list[list[str]]:
        encoder = self.model.of("query")
        tokens = tokenize(encoder, [source.query_texts[example.query_id] for example in source.examples], "query")
        queries = np.empty((len(source.examples), encoder.dimension), np.float32)
        encode_tokens(encoder, tokens, self.computing, queries)
        scores, rows = search(vectors, queries, self.depth, device=self.computing.device)
        chosen = []
        for example, row_scores, row_numbers in zip(source.examples, scores, rows, strict=True):
            hits = dict(zip(source.store.ids_at(row_numbers), row_scores.tolist(), strict=True))
            chosen.append(list(choose_negatives(example.query_id, hits, set(example.positives), None, self.flags, Counter())))
        return chosen
