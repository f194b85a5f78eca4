"""Texts -> vectors: the loop that every tool encodes with."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, overload

import numpy as np
import torch

from drtools import reporting
from drtools.errors import Terminated, UserError
from drtools.models.bodies import positions_of
from drtools.models.cpu.attention import use_sliced_attention
from drtools.models.cpu.dropout import seeded
from drtools.models.cpu.rows import LEAST_ROWS, make_rows_independent
from drtools.models.cross_encoder import CrossEncoder
from drtools.models.device import choose_devices, kind_of, native_precision, set_threads
from drtools.models.encoder import Encoder, load_encoder
from drtools.models.hub import resolve
from drtools.models.length_batches import batches_by_length, batches_of_one_length
from drtools.models.lexical import LexicalEncoder, load_lexical
from drtools.models.pair import EncoderPair, halves
from drtools.models.rem import fold_rem
from drtools.models.replicas import Copies
from drtools.models.settings import SIDES, check_side, fingerprints, is_lexical, read_settings
from drtools.models.sides import load_sides, side_folders
from drtools.models.tokens import Tokenized, tokenize

if TYPE_CHECKING:
    from torch import Tensor, nn

    from drtools.cli.flags.common import ComputeFlags, EncoderFlags

# cuda: an H200 trains all-MiniLM-L6-v2 on texts of mixed lengths at 1.17 million tokens/s in batches of 65,536, at 1.05
# in twice as large ones, more of them padding
BATCH_TOKENS = {"cpu": 4096, "cuda": 65536, "mps": 16384}
CHUNK = {
    "cpu": 2048,
    "cuda": 16384,
    "mps": 16384,
}  # texts: a minute or two of a slow processor's work, seconds of a GPU's
# oneDNN keeps compiled products for 1,024 shapes, which here grow to 300 MB; sorted texts need those of a few lengths
# at a time
KEPT_SHAPES = "16"


class Model(Protocol):
    """What makes rows of tokens: an encoder, its spans, a cross-encoder, a body under a masked-language head."""

    @property
    def tokenizer(self) -> Any:
        """What knows the token that fills a batch up (`pad_token_id`)."""

    @property
    def folder(self) -> Path | None:
        """Where its weights were loaded from."""

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:  # -> [B, D]
        """Return the rows of a batch."""


class Computing(NamedTuple):
    """Where and how exactly texts are encoded."""

    device: str
    precision: str
    batch_tokens: int
    autocast: bool = False  # for float32 weights that are being trained
    copies: Copies = Copies(())  # on further devices

    @property
    def kind(self) -> str:
        """The device without its number: cpu, cuda or mps."""
        return kind_of(self.device)

    @property
    def devices(self) -> tuple[str, ...]:
        """All of them."""
        return self.device, *self.copies.devices

    @property
    def in_training(self) -> Computing:
        """The same, for a model that is being trained."""
        return self._replace(autocast=self.precision == "bf16")


def choose_computing(flags: ComputeFlags, batch_tokens: int | None = None, several: bool = False) -> Computing:
    """Settle the device, the precision, the processor threads and the tokens in a batch.

    `several` devices are refused unless said.
    """
    set_threads(flags.threads)
    device, *others = choose_devices(flags.device)
    if others and not several:
        raise UserError(
            f"--device {flags.device}: encode and teacher-score compute on several GPUs, and trainings by torchrun; "
            "say one here"
        )
    slow = next((each for each in (device, *others) if native_precision(each) != "bf16"), None)
    precision = flags.precision if flags.precision != "auto" else "fp32" if slow else "bf16"
    if precision == "bf16" and slow:
        reporting.say(
            f"note: --precision bf16: this device ({slow}) does not multiply bfloat16 natively, and may take hundreds "
            "of times as long; --precision auto chooses fp32 here"
        )
    return Computing(device, precision, batch_tokens or BATCH_TOKENS[kind_of(device)], copies=Copies(others))


@overload
def load_for_encoding(flags: EncoderFlags, computing: Computing, side: str) -> Encoder | LexicalEncoder: ...
@overload
def load_for_encoding(
    flags: EncoderFlags, computing: Computing, side: None = None
) -> Encoder | EncoderPair[Encoder] | EncoderPair[LexicalEncoder]: ...
def load_for_encoding(
    flags: EncoderFlags, computing: Computing, side: str | None = None
) -> Encoder | LexicalEncoder | EncoderPair[Encoder] | EncoderPair[LexicalEncoder]:
    """Load the encoder that flags name, with what they set about it, on its device and in its precision.

    With a `side` (`query` or `document`) only that side's encoder of a pair is read. An encoder made for the other side
    is refused.
    """
    name = flags.start()
    if computing.device == "cpu":
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KEPT_SHAPES)
    folder = resolve(name)
    if is_lexical(folder) and not flags.document_model:
        if computing.copies.devices:
            raise UserError(f"{name}: a lexical encoder computes on one device; say --device cpu, or one GPU")
        return _load_lexical(folder, flags, computing, side)
    encoder = load_named(flags, side)
    apply_flags(encoder, flags)
    if flags.rem:
        assert isinstance(encoder, Encoder), "no REM is put on a pair"
        fold_rem(encoder)
    place(encoder, computing)
    return encoder


def load_named(
    flags: EncoderFlags, side: str | None = None, dropout: float | None = None
) -> Encoder | EncoderPair[Encoder]:
    """Load the encoder that flags name as its files have it, or one side of it; one made for the other is refused."""
    name = flags.start()
    if flags.rem:
        encoder = load_encoder(name, flags.pooling, flags.trust_remote_code, dropout, flags.rem)
    else:
        folders = side_folders(name, flags.document_model)
        encoder = load_sides(folders, side, flags.pooling, flags.trust_remote_code, dropout)
    for needed in (side,) if side else SIDES:
        check_side(encoder.of(needed).settings, needed, name)
    return encoder


def known_fingerprints(encoder: Encoder | LexicalEncoder, flags: EncoderFlags) -> dict[str, str]:
    """Return the fingerprints, by side, by which an encoder of queries is known to belong to vectors of documents.

    An encoder that names another one for its documents belongs to vectors of that one alone. A query prompt of the
    flags is left out: who searches with another prompt than the encoder's own still searches with that encoder.
    """
    known = encoder.side_fingerprints()
    if "document" in encoder.settings.inherited:
        return {"document": known["document"]}
    if flags.query_prompt is None or flags.rem or not isinstance(encoder, Encoder):
        return known
    assert encoder.folder is not None, "it was loaded from one"
    own = read_settings(encoder.folder, flags.pooling).query_prompt
    settings = dataclasses.replace(encoder.settings, query_prompt=own)
    return known | {"query": fingerprints(encoder.folder, settings)["query"]}


def check_title_separator(encoder: Encoder | LexicalEncoder, title_separator: str) -> None:
    """Refuse to give a lexical encoder other texts of documents than those that were counted for it."""
    if isinstance(encoder, LexicalEncoder) and encoder.terms.title_separator != title_separator:
        made = encoder.terms.title_separator
        raise UserError(
            f"{encoder.folder}: made of texts with {made!r} between title and text, not {title_separator!r}; say "
            f"--title-separator {made!r}, or make the encoder again"
        )


def _load_lexical(
    folder: Path, flags: EncoderFlags, computing: Computing, side: str | None
) -> LexicalEncoder | EncoderPair[LexicalEncoder]:
    """Load a lexical encoder with Lucene's analyzer; what flags set about a body's encoder has no meaning for it."""
    from drtools.methods.spar.corpus_terms import Analyzer
    from drtools.models.terms import TermKeys

    for name in ("rem", "pooling", "max_query_tokens", "max_document_tokens", "query_prompt", "document_prompt"):
        if getattr(flags, name) is not None:
            raise UserError(
                f"--{name.replace('_', '-')}: {flags.start()} is a lexical encoder, which has no such setting; leave "
                "the flag out"
            )
    known = TermKeys()
    if side:
        return load_lexical(folder, side, Analyzer, known).to(computing.device)
    query, document = (load_lexical(folder, each, Analyzer, known) for each in SIDES)
    return EncoderPair(query, document, folder).to(computing.device)


def apply_flags(encoder: Encoder | EncoderPair[Encoder], flags: EncoderFlags) -> None:
    """Set lengths and prompts that the flags name; a length beyond the body's positions, or of no text, is refused."""
    for half in halves(encoder):
        longest, special = positions_of(half.body), half.tokenizer.num_special_tokens_to_add()
        for name in ("max_query_tokens", "max_document_tokens", "query_prompt", "document_prompt"):
            value = getattr(flags, name)
            if value is None:
                continue
            flag = f"--{name.replace('_', '-')} {value}"
            if name.startswith("max") and longest and value > longest:
                raise UserError(f"{flag}: this body has {longest} positions; say {longest} or less")
            if name.startswith("max") and value <= special:
                raise UserError(
                    f"{flag}: the special tokens of a text alone are {special}; expected {special + 1} or more"
                )
            setattr(half.settings, name, value)


def place(encoder: Encoder | EncoderPair[Encoder] | CrossEncoder, computing: Computing) -> None:
    """Move an encoder to its device, its body in the precision asked for; pooling and head stay float32."""
    encoder.to(computing.device)
    for half in [encoder] if isinstance(encoder, CrossEncoder) else halves(encoder):
        body: nn.Module = half.body  # transformers' own `to` has no type that takes a dtype
        body.to(torch.bfloat16 if computing.precision == "bf16" else torch.float32)
        if computing.device == "cpu" and computing.precision == "bf16":
            use_sliced_attention(half.body)
    if computing.device == "cpu":
        make_rows_independent(encoder)


def promises_bits(computing: Computing) -> bool:
    """Return whether `encode_tokens` with `one_length` makes a text's vector the same bits in any company."""
    return computing.device == "cpu" and (
        computing.precision == "fp32" or not torch.cpu.get_capabilities().get("amx_bf16")
    )


def encode_tokens(
    encoder: Model,
    tokens: Tokenized,
    computing: Computing,
    into: np.ndarray,
    on_batch: Callable[[np.ndarray, int], None] | None = None,
    one_length: bool = False,
    seed_of: Callable[[int], int] | None = None,
) -> None:
    """Encode tokenized texts into rows of `into` [N, D].

    `on_batch(rows, tokens)` is told of each batch as it ends, and of those that had ended at a stop.

    On a processor each core takes batches of its own, in one thread: nothing waits for the slowest at every product,
    and vectors do not depend on the number of cores. Of several GPUs each takes the next batch with its own copy of the
    encoder. With `one_length` a processor's batch has texts of one length: then a text's vector is the same, bit for
    bit, whatever else is encoded, for products of `LEAST_ROWS` rows and more add up each row alike (but bfloat16 by
    AMX, in an order that the number of rows decides: `promises_bits`). `seed_of` says what the dropout of the batch of
    a number is drawn by, for an encoder in training mode with dropout of our own.
    """
    lengths = tokens.lengths
    on_processor = computing.device == "cpu"
    batches = list(
        (batches_of_one_length if one_length and on_processor else batches_by_length)(lengths, computing.batch_tokens)
    )
    threads = torch.get_num_threads()
    workers: list[tuple[Model, Computing]] = [(encoder, computing)] * (threads if on_processor else 1)
    workers += [
        (own, computing._replace(device=device))
        for own, device in zip(computing.copies.of(encoder), computing.copies.devices, strict=True)
    ]
    free: SimpleQueue[tuple[Model, Computing]] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def encode(number: int, rows: np.ndarray) -> None:
        own, where = free.get()
        try:
            _encode_batch(own, tokens, rows, where, into, seed_of(number) if seed_of else None)
        finally:
            free.put((own, where))

    if on_processor:
        torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(len(workers)) as pool:
            under_way = {pool.submit(encode, number, rows): rows for number, rows in enumerate(batches)}

            def tell(batch: Future) -> None:
                batch.result()
                if on_batch:
                    on_batch(under_way[batch], int(lengths[under_way[batch]].sum()))
                del under_way[batch]

            try:
                for batch in as_completed(under_way):
                    tell(batch)
            except (KeyboardInterrupt, Terminated):
                pool.shutdown(cancel_futures=True)
                for batch in [batch for batch in under_way if not batch.cancelled() and not batch.exception()]:
                    tell(batch)
                raise
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def _encode_batch(
    encoder: Model, tokens: Tokenized, rows: np.ndarray, computing: Computing, into: np.ndarray, seed: int | None
) -> None:
    missing = LEAST_ROWS - len(rows) * int(tokens.lengths[rows].max(initial=1))
    filled = np.resize(rows, len(rows) + max(0, missing))  # by the same texts again
    inputs = [
        torch.from_numpy(part).to(computing.device) if isinstance(part, np.ndarray) else part
        for part in tokens.inputs(filled, encoder.tokenizer.pad_token_id)
    ]
    if seed is not None and computing.device != "cpu":
        torch.manual_seed(seed)
    current = (
        torch.cuda.device(computing.device) if computing.device.startswith("cuda:") else nullcontext()
    )  # which some kernels are launched on
    with (
        current,
        torch.autocast(computing.kind, torch.bfloat16, enabled=computing.autocast),
        nullcontext() if seed is None else seeded(seed),
    ):
        vectors = encoder(*inputs).cpu().numpy()
    if not np.isfinite(vectors).all():
        raise UserError(
            f"{encoder.folder}: what it computes are not finite numbers; the weights are damaged, or try --precision "
            "fp32"
        )
    into[rows] = vectors[: len(rows)]


def encode_texts(
    encoder: Encoder | LexicalEncoder, texts: Sequence[str], side: str, computing: Computing
) -> tuple[np.ndarray, Tokenized]:
    """Return float32 vectors [N, D] of texts of a side, and their tokens (which count what was cut or empty)."""
    tokens = tokenize(encoder, texts, side)
    vectors = np.empty((len(texts), encoder.dimension), np.float32)
    encode_tokens(encoder, tokens, computing, vectors)
    return vectors, tokens
