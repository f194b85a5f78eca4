"""Estimate the work of an encoding from a sample."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from drtools.costs import Costs, peak_bytes, say_costs
from drtools.encoding.costs import SAMPLE, bytes_of_vectors, place_in_words, say_texts
from drtools.encoding.folder import manifest_of, piece_encoding_of
from drtools.encoding.loop import encode_texts
from drtools.encoding.update import OldVectors, check_missing
from drtools.models.compute import settle
from drtools.models.loader import load_for_encoding
from drtools.models.pieces import PieceTokens
from drtools.models.replicas import Copies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drtools.encoding.specs import VectorsSpec
    from drtools.formats.text_sources import DocumentTexts, QueryTexts
    from drtools.models.compute import Compute
    from drtools.models.specs import ComputeSpec, EncoderSpec
    from drtools.models.tokens import Tokenized


def say_plan(texts: DocumentTexts | QueryTexts, model: EncoderSpec, compute: ComputeSpec, spec: VectorsSpec) -> None:
    """Report the expected work: texts, disk and time."""
    if spec.update:
        check_missing(spec.update, texts, spec.allow_dropped)
    computing = settle(compute, spec.batch_tokens, several=True)
    encoder = load_for_encoding(model, computing, texts.side)
    pieces = piece_encoding_of(encoder, spec)
    old = OldVectors(spec.update, manifest_of(encoder, texts, model, computing, spec, pieces)) if spec.update else None
    count = old.count_new(texts, 4096) if old else len(texts)
    _, sample = texts.slice(0, SAMPLE)

    def run(some: Sequence[str], computing: Compute) -> Tokenized:
        return pieces.try_out(some, computing) if pieces else encode_texts(encoder, some, texts.side, computing)[1]

    one = computing._replace(copies=Copies(()))  # the sample is too small for several devices
    run(sample[:8], one)
    started = time.perf_counter()
    tokens = run(sample, one)
    seconds = (time.perf_counter() - started) * count / len(sample) / len(computing.devices)
    found = sum(int(counts.sum()) for counts in tokens.counts()) if isinstance(tokens, PieceTokens) else 0
    cut = round(found / len(sample) * len(texts))
    reused = f"; {count:,} to encode, the others are reused" if old else ""
    say_texts(texts, tokens, f" and about {cut:,} pieces" if pieces else "")
    several = f" (from the first {len(sample)} on one)" if len(computing.devices) > 1 else ""
    disk = bytes_of_vectors(encoder, len(texts) + cut, spec.dtype)
    say_costs(
        Costs(memory=peak_bytes(), disk=disk, seconds=seconds, time=f"{place_in_words(computing)}{several}{reused}")
    )
