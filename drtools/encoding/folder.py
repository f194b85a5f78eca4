"""Encode texts into a vectors folder, chunk by chunk.

The next chunk is tokenized in a thread. Each chunk is written through a memory map and flushed to the disk.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from drtools import reporting
from drtools.encoding.chunks import EncodedTexts, Prepared, Workers, encode_tokenized
from drtools.encoding.costs import open_forecast
from drtools.encoding.loop import encode_tokens
from drtools.encoding.on_ray import RaySpec, RayWorkers
from drtools.encoding.pieces import PieceEncoding
from drtools.encoding.specs import VectorsSpec
from drtools.encoding.update import OldVectors, check_missing
from drtools.formats.joins import Join
from drtools.formats.npy import span_of_rows
from drtools.formats.piece_vectors import PieceVectors, joined
from drtools.formats.row_digests import TEXT, TEXTS, create_texts, digests_of_texts, open_texts
from drtools.formats.vectors import ARRAY, IDS, Counts, EncodedManifest, create_array, open_array, open_vectors
from drtools.models import loader
from drtools.models.compute import CHUNK, Compute, promises_bits, settle
from drtools.models.specs import ComputeSpec, EncoderSpec, Precision
from drtools.models.tokens import Tokenized
from drtools.outputs.checksums import Span
from drtools.outputs.states import State

if TYPE_CHECKING:
    from drtools.costs import Forecast
    from drtools.formats.text_sources import DocumentTexts, QueryTexts
    from drtools.models.encoder import Encoder
    from drtools.models.lexical import LexicalEncoder
    from drtools.outputs.work import Work


@dataclass(kw_only=True)
class EncodingState(State):
    """The state of a stopped encoding: texts that are done, and the bytes and pieces that were written."""

    done: int
    counts: Counts
    id_bytes: int
    precision: Precision
    pieces: int = 0


class FolderEncoding:
    """Encodes texts into the folder of `work`, with the pieces of documents if `pieces` is given.

    Vectors of texts that `old` has are reused. `counts` holds truncated and empty texts, tokens, and reused vectors.
    """

    def __init__(
        self,
        encoder: Encoder | LexicalEncoder,
        texts: DocumentTexts | QueryTexts,
        computing: Compute,
        dtype: str,
        chunk: int,
        work: Work,
        pieces: PieceEncoding | None = None,
        old: OldVectors | None = None,
        forecast: Forecast | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.encoder, self.texts, self.computing, self.dtype = encoder, texts, computing, dtype
        self.chunk, self.work, self.pieces, self.old, self.forecast = chunk, work, pieces, old, forecast
        self.workers = workers
        state = EncodingState.of(work)
        self.counts: Counts = state.counts if state else {"truncated": 0, "empty": 0, "tokens": 0, "taken": 0}
        self.done, self.id_bytes = (state.done, state.id_bytes) if state else (0, 0)
        self.encoded_tokens = 0
        if not self.done:
            create_array(work.path, len(texts), encoder.dimension, dtype)
            create_texts(work.path, len(texts))

    def run(self) -> Counts:
        """Encode the remaining texts. Returns the counts."""
        with (
            reporting.progress("encoding", len(self.texts), f"{self.texts.side}s", self.done) as progress,
            open(self.work.path / IDS, "r+b" if self.done else "wb") as id_file,
        ):
            id_file.truncate(self.id_bytes)
            id_file.seek(0, 2)
            for start, part in self._prepared_by_workers(self.workers) if self.workers else self._prepared():
                self._encode(part, start, progress)
                id_file.write("".join(f"{text_id}\n" for text_id in part.ids).encode())
                id_file.flush()
                os.fsync(id_file.fileno())
                state = EncodingState(
                    done=start + len(part.ids),
                    counts=self.counts,
                    id_bytes=id_file.tell(),
                    precision=self.computing.precision,
                    pieces=self.pieces.writer.written if self.pieces else 0,
                )
                state.save(self.work, self._spans(state))
        if self.pieces:
            self.pieces.writer.finish()
        return self.counts

    def _spans(self, state: EncodingState) -> dict[str, Span]:
        """Return the bytes that do not change any more in this state."""
        folder = self.work.path
        spans = {
            ARRAY: span_of_rows(open_array(folder / ARRAY), state.done),
            TEXTS: span_of_rows(open_texts(folder), state.done),
            IDS: Span(0, state.id_bytes),
        }
        return spans | (self.pieces.writer.spans() if self.pieces else {})

    def _prepared(self) -> Iterator[tuple[int, Prepared]]:
        """Yield the start of each chunk and the chunk. The next one is tokenized in a thread."""
        with ThreadPoolExecutor(1) as ahead:
            prepared = ahead.submit(self._prepare, self.done)
            for start in range(self.done, len(self.texts), self.chunk):
                part = prepared.result()
                if start + self.chunk < len(self.texts):
                    prepared = ahead.submit(self._prepare, start + self.chunk)
                yield start, part

    def _prepare(self, start: int) -> Prepared:
        part, chosen = self._choose(start)
        tokens = self.pieces.tokenize(chosen) if self.pieces else self.encoder.tokenize(chosen, self.texts.side)
        return _with_tokens(part, tokens, tokens.cut, tokens.blank)

    def _prepared_by_workers(self, workers: Workers) -> Iterator[tuple[int, Prepared]]:
        """Yield the start of each chunk and the chunk, encoded by workers elsewhere."""
        waiting: deque[tuple[int, Prepared]] = deque()

        def chunks() -> Iterator[list[str]]:
            for start in range(self.done, len(self.texts), self.chunk):
                part, chosen = self._choose(start)
                waiting.append((start, part))
                yield chosen

        for made in workers.encode(chunks()):
            start, part = waiting.popleft()
            yield start, _with_tokens(part, made, made.cut, made.blank)

    def _choose(self, start: int) -> tuple[Prepared, list[str]]:
        """Return a chunk without tokens, and the texts to encode."""
        ids, wanted = self.texts.slice(start, start + self.chunk)
        texts = np.zeros(len(ids), np.dtype(TEXT))
        rows, tried = np.full(len(ids), -1, np.int64), np.empty(0, np.int64)
        if self.old:
            texts["digest"], rows = self.old.find(wanted)
            tried = self.old.choose(rows)
            texts[rows >= 0] = self.old.texts[rows[rows >= 0]]
        else:
            texts["digest"] = digests_of_texts(wanted)
        places = np.concatenate([np.flatnonzero(rows < 0), tried])
        nothing = np.empty(0)
        part = Prepared(ids, texts, EncodedTexts(nothing, nothing, nothing, nothing, None), places, rows, tried)
        return part, [wanted[place] for place in places]

    def _encode(self, part: Prepared, start: int, progress: reporting.Progress) -> None:
        def told(rows: np.ndarray, tokens: int) -> None:
            self.encoded_tokens += tokens
            progress.advance(len(rows), tokens=self.encoded_tokens)
            if self.forecast:
                self.forecast.note(self.encoded_tokens)

        stop, taken = start + len(part.ids), part.rows >= 0
        array = open_array(
            self.work.path / ARRAY, "r+"
        )  # opened for each chunk, so that at most one chunk is in memory
        texts = open_texts(self.work.path, "r+")
        if not self.pieces and not self.old and not isinstance(part.tokens, EncodedTexts):
            encode_tokens(self.encoder, part.tokens, self.computing, array[start:stop], told, one_length=True)
        else:
            made, pieces = self._made(part.tokens, told)
            new = len(part.new)
            array[start + part.new] = made[:new]
            if self.old:
                self.old.compare(
                    part.rows[part.tried],
                    made[new:],
                    promises_bits(self.computing),
                    pieces.take(np.arange(new, len(made))) if pieces else None,
                )
                array[start + np.flatnonzero(taken)] = self.old.array[part.rows[taken]]
                progress.advance(int(taken.sum()) - len(part.tried))
            if self.pieces and pieces:
                taken_over = self.old.pieces if self.old else None
                self.pieces.writer.add(self._in_order(part, pieces, taken_over) if taken_over else pieces)
        texts[start:stop] = part.texts
        self.counts["truncated"] += int(part.texts["cut"].sum())
        self.counts["empty"] += int(part.texts["empty"].sum())
        self.counts["tokens"] += int(part.texts["tokens"].sum())
        self.counts["taken"] += int(taken.sum())
        array.flush()
        texts.flush()

    def _made(
        self, tokens: Tokenized | EncodedTexts, told: Callable[[np.ndarray, int], None]
    ) -> tuple[np.ndarray, PieceVectors | None]:
        """Return the vectors of texts [N, D], and those of their pieces if requested."""
        if not isinstance(tokens, EncodedTexts):
            return encode_tokenized(self.encoder, tokens, self.computing, self.dtype, self.pieces, told)
        told(np.arange(len(tokens.lengths)), int(tokens.lengths.sum()))
        return tokens.vectors, tokens.pieces

    def _in_order(self, part: Prepared, made: PieceVectors, old: PieceVectors) -> PieceVectors:
        """Return the pieces of all texts of a chunk in order, both reused and new."""
        taken = part.rows >= 0
        order = np.empty(len(part.rows), np.int64)
        order[part.new], order[taken] = np.arange(len(part.new)), len(part.places) + np.arange(taken.sum())
        return joined([made, old.take(part.rows[taken])]).take(order)


def _with_tokens(part: Prepared, tokens: Tokenized | EncodedTexts, cut: np.ndarray, blank: np.ndarray) -> Prepared:
    texts, places = part.texts, part.places
    texts["tokens"][places], texts["cut"][places], texts["empty"][places] = tokens.lengths, cut, blank
    return part._replace(tokens=tokens)


def encode_folder(
    work: Work,
    texts: DocumentTexts | QueryTexts,
    model: EncoderSpec,
    compute: ComputeSpec,
    spec: VectorsSpec,
    ray: RaySpec | None = None,
) -> EncodedManifest:
    """Encode texts into the folder of `work`, continuing stopped work. Returns the manifest of the vectors.

    With `ray` the tasks of a cluster encode them.
    """
    if spec.update:
        check_missing(spec.update, texts, spec.allow_dropped)
    state = EncodingState.of(work)
    if state:  # keeps the precision it began with, even on another device
        compute = replace(compute, precision=state.precision)
    workers = RayWorkers(ray, model, compute, spec, texts.side) if ray else None
    computing = workers.computing if workers else settle(compute, spec.batch_tokens, several=True)
    here = Compute("cpu", "fp32", computing.batch_tokens) if workers else computing
    encoder = loader.load_for_encoding(model, here, texts.side)
    if workers:
        workers.expect(encoder)
    if texts.side == "document":
        loader.check_title_separator(encoder, spec.title_separator)
    pieces = piece_encoding_of(encoder, spec)
    made = manifest_of(encoder, texts, model, computing, spec, pieces)
    old = OldVectors(spec.update, made) if spec.update else None
    forecast = open_forecast(encoder, texts, state.done if state else 0, computing, spec.dtype)
    if pieces:
        pieces.write_to(work.path, len(texts), *((state.done, state.pieces) if state else ()))
    counts = FolderEncoding(
        encoder,
        texts,
        computing,
        spec.dtype,
        spec.chunk or CHUNK[computing.kind] * len(computing.devices),
        work,
        pieces,
        old,
        None if old else forecast,  # the texts to reuse are found on the way
        workers,
    ).run()
    note_counts(counts, made)
    if spec.update and len(texts) and not counts["taken"]:
        note_nothing_reused(spec.update, texts)
    if pieces:
        made = replace(made, pieces={"count": pieces.writer.written, **pieces.facts()})
    return replace(made, counts=counts, updated=spec.update)


def note_counts(counts: Counts, made: EncodedManifest) -> None:
    """Report texts that were cut or empty."""
    reporting.notice(
        counts["truncated"],
        f"{counts['truncated']:,} of {made.count:,} texts were longer than {made.max_tokens} tokens and were cut",
    )
    reporting.notice(counts["empty"], f"{counts['empty']:,} of {made.count:,} texts were empty")


def piece_encoding_of(encoder: Encoder | LexicalEncoder, spec: VectorsSpec) -> PieceEncoding | None:
    """Return an encoder for pieces of documents, None if pieces are not encoded."""
    if not spec.pieces:
        return None
    return PieceEncoding(encoder.of("document"), spec.pieces.sizes, spec.pieces.spans, spec.dtype)


def manifest_of(
    encoder: Encoder | LexicalEncoder,
    texts: DocumentTexts | QueryTexts,
    model: EncoderSpec,
    computing: Compute,
    spec: VectorsSpec,
    pieces: PieceEncoding | None,
) -> EncodedManifest:
    """Return the manifest of the vectors, without what is known only at the end."""
    known = encoder.side_fingerprints()
    return EncodedManifest(
        side=texts.side,
        count=len(texts),
        dimension=encoder.dimension,
        dtype=spec.dtype,
        normalized=encoder.settings.normalized,
        model=model.start(),
        document_model=model.document_model,
        rem=model.rem,
        corpus=texts.path,
        title_separator=spec.title_separator,
        max_tokens=encoder.settings.max_tokens(texts.side),
        precision=computing.precision,
        pieces=pieces.facts() if pieces else None,
        query_fingerprint=known["query"],
        document_fingerprint=known["document"],
        truncate_dimension=encoder.truncated,
    )


def note_nothing_reused(update: str, texts: DocumentTexts | QueryTexts) -> None:
    """Note that an earlier folder has none of these texts, which may mean that it is of another collection."""
    pair = Join(open_vectors(update).ids, update, texts.slice(0, 1)[0]).pair()
    reporting.notice(1, f"{update}: none of its texts is in {texts.path}, so no vector was reused {pair}".rstrip())
