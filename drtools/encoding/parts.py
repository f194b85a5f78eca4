"""Encode a part of texts on one machine, and put the parts of several machines together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from drtools import reporting
from drtools.encoding.folder import EncodingState, note_counts
from drtools.errors import InputError, param
from drtools.formats.npy import span_of_rows
from drtools.formats.piece_vectors import PieceWriter, open_pieces
from drtools.formats.row_digests import TEXTS, create_texts, open_texts
from drtools.formats.vectors import (
    ARRAY,
    IDS,
    Counts,
    EncodedManifest,
    create_array,
    open_array,
    open_vectors,
    write_shards,
)
from drtools.models.compute import BATCH_TOKENS, CHUNK
from drtools.models.device import choose_devices, device_kind
from drtools.models.specs import ComputeSpec
from drtools.outputs import manifest
from drtools.outputs.checksums import Span
from drtools.outputs.parts import FinishedPart, Part, PartRecord, summed_counts
from drtools.outputs.records import DAMAGED, checked_fields
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.encoding.specs import VectorsSpec
    from drtools.formats.text_sources import DocumentTexts, QueryTexts
    from drtools.outputs.work import Work

ROWS_A_BLOCK = 65536  # copied and made durable together: 200 MB of 1,536 dimensions in float16


def part_of(
    texts: DocumentTexts | QueryTexts, part: Part, compute: ComputeSpec, spec: VectorsSpec
) -> tuple[DocumentTexts | QueryTexts, PartRecord, str]:
    """Return the texts of a part, its place in the whole, and what a request says of it.

    On GPUs the bits of a vector depend on its batch, so there parts are cut at multiples of the chunk, and chunk and
    batch tokens belong to the request.
    """
    devices = choose_devices(compute.device)
    kind = device_kind(devices[0])
    what = "queries" if texts.side == "query" else "documents"
    words, unit = str(part), 1
    if kind != "cpu":
        unit = spec.chunk or CHUNK[kind] * len(devices)
        words += f" of chunks of {unit} texts and batches of {spec.batch_tokens or BATCH_TOKENS[kind]} tokens"
    rows = part.rows(len(texts), unit, what)
    return texts.only(rows), part.record(rows, len(texts)), words


def gather_shards(work: Work, parts: Sequence[FinishedPart]) -> EncodedManifest:
    """Write ids, digests of texts and the names of the parts, whose vectors stay where they are."""
    gathered = GatheredVectors(work, parts)
    if gathered.has_pieces:
        raise InputError(
            "vectors of pieces cannot stay in shards", where=param("shards"), remedy="leave it out, to copy them"
        )
    create_texts(work.path, gathered.total)
    texts = open_texts(work.path, "r+")
    with open(work.path / IDS, "wb") as id_file:
        for part, opened in zip(parts, gathered.opened, strict=True):
            texts[part.part["first"] : part.part["last"]] = open_texts(part.path)
            id_file.write((opened.path / IDS).read_bytes())
    texts.flush()
    write_shards(work.path, gathered.opened, work.target)
    return gathered.finished()


class GatheredVectors:
    """Copies the parts of vectors into the folder of `work`, block by block.

    The state is that of an encoding, since the request is that of the whole: a stopped gathering can be continued by
    encoding, and a stopped encoding by gathering.
    """

    def __init__(self, work: Work, parts: Sequence[FinishedPart]) -> None:
        self.work, self.parts, self.total = work, parts, parts[0].part["total"]
        self.opened = [open_vectors(part.path, part=True) for part in parts]
        for part, opened in zip(parts, self.opened, strict=True):
            rows = part.part["last"] - part.part["first"]
            if len(opened.array) != rows or len(open_texts(part.path)) != rows:
                raise InputError(
                    f"{counted(len(opened.array), 'vector')}, but {part.name} has {rows:,}",
                    where=part.path,
                    remedy="the folder was damaged, make it again",
                )
        record, where = parts[0].record, manifest.beside(parts[0].path)
        values = checked_fields(record, EncodedManifest, where, DAMAGED)
        self.made = EncodedManifest(**{**values, "count": self.total, "part": None, "pieces": None})
        self.has_pieces = bool(record.get("pieces"))
        self.counts: Counts = {"truncated": 0, "empty": 0, "tokens": 0, "taken": 0}

    def run(self) -> EncodedManifest:
        """Copy what is not there yet. Returns the manifest of the whole."""
        state = EncodingState.of(self.work)
        done, id_bytes, pieces = (state.done, state.id_bytes, state.pieces) if state else (0, 0, 0)
        if state:
            self.counts = state.counts
        else:
            create_array(self.work.path, self.total, self.made.dimension, self.made.dtype)
            create_texts(self.work.path, self.total)
        writer = (
            PieceWriter(self.work.path, self.total, self.made.dimension, self.made.dtype, done, pieces)
            if self.has_pieces
            else None
        )
        with (
            reporting.progress("gathering", self.total, f"{self.made.side}s", done) as progress,
            open(self.work.path / IDS, "r+b" if done else "wb") as id_file,
        ):
            id_file.truncate(id_bytes)
            id_file.seek(0, os.SEEK_END)
            for number, part in enumerate(self.parts):
                first, last = part.part["first"], part.part["last"]
                for start in range(max(first, done), last, ROWS_A_BLOCK):
                    stop = min(last, start + ROWS_A_BLOCK)
                    ids = self._copy(number, start, stop, writer)
                    id_file.write("".join(f"{text_id}\n" for text_id in ids).encode())
                    id_file.flush()
                    os.fsync(id_file.fileno())
                    self._save(stop, id_file.tell(), writer)
                    progress.advance(stop - start)
        if writer:
            writer.finish()
            facts = {**self.parts[0].record["pieces"], "count": writer.written}
            self.made = replace(self.made, pieces=facts)
        return self.finished()

    def finished(self) -> EncodedManifest:
        """Report texts that were cut or empty, and return the manifest of the whole.

        Raises InputError if the digests of texts that were written do not have the counts of the parts.
        """
        total, texts = summed_counts(self.parts), open_texts(self.work.path)
        self.counts = {
            "truncated": int(texts["cut"].sum()),
            "empty": int(texts["empty"].sum()),
            "tokens": int(texts["tokens"].sum()),
            "taken": total["taken"],
        }
        if dict(self.counts) != total:
            raise InputError(
                f"texts.npy of the parts counts {dict(self.counts)}, their manifests {total}",
                where=self.parts[0].path.parent,
                remedy="a part was damaged, make it again",
            )
        note_counts(self.counts, self.made)
        return replace(self.made, counts=self.counts)

    def _copy(self, number: int, start: int, stop: int, writer: PieceWriter | None) -> list[str]:
        """Copy rows `start` to `stop` of the whole, which one part has. Returns their ids."""
        part, opened = self.parts[number], self.opened[number]
        own = slice(start - part.part["first"], stop - part.part["first"])
        array, texts = open_array(self.work.path / ARRAY, "r+"), open_texts(self.work.path, "r+")
        array[start:stop] = opened.array[own]
        rows = open_texts(part.path)[own]
        texts[start:stop] = rows
        if writer:
            pieces = open_pieces(part.path, len(opened.array))
            writer.add(pieces.take(np.arange(own.start, own.stop)))
        self.counts["truncated"] += int(rows["cut"].sum())
        self.counts["empty"] += int(rows["empty"].sum())
        self.counts["tokens"] += int(rows["tokens"].sum())
        array.flush()
        texts.flush()
        return [opened.ids[row] for row in range(own.start, own.stop)]

    def _save(self, done: int, id_bytes: int, writer: PieceWriter | None) -> None:
        folder = self.work.path
        state = EncodingState(
            done=done,
            counts=self.counts,
            id_bytes=id_bytes,
            precision=self.parts[0].record["precision"],
            pieces=writer.written if writer else 0,
        )
        spans = {
            ARRAY: span_of_rows(open_array(folder / ARRAY), done),
            TEXTS: span_of_rows(open_texts(folder), done),
            IDS: Span(0, id_bytes),
        }
        state.save(self.work, spans | (writer.spans() if writer else {}))
