"""Texts -> vectors: the loop that every tool encodes with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from queue import SimpleQueue

import numpy as np
import torch

from drtools.errors import InputError, Terminated, param
from drtools.models.compute import Compute
from drtools.models.cpu.dropout import seeded
from drtools.models.cpu.rows import LEAST_ROWS
from drtools.models.encoder import Encoder
from drtools.models.length_batches import batches_by_length, batches_of_one_length
from drtools.models.lexical import LexicalEncoder
from drtools.models.protocol import Model
from drtools.models.tokens import Tokenized


def encode_tokens(
    encoder: Model,
    tokens: Tokenized,
    computing: Compute,
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
    workers: list[tuple[Model, Compute]] = [(encoder, computing)] * (threads if on_processor else 1)
    workers += [
        (own, computing._replace(device=device))
        for own, device in zip(computing.copies.of(encoder), computing.copies.devices, strict=True)
    ]
    free: SimpleQueue[tuple[Model, Compute]] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def encode(number: int) -> None:
        own, where = free.get()
        try:
            _encode_batch(own, tokens, batches[number], where, into, seed_of(number) if seed_of else None)
        finally:
            free.put((own, where))

    def done(number: int) -> None:
        if on_batch:
            on_batch(batches[number], int(lengths[batches[number]].sum()))

    if on_processor:
        torch.set_num_threads(1)
    try:
        _in_threads(encode, len(batches), len(workers), done)
    finally:
        torch.set_num_threads(threads)


def _in_threads(work: Callable[[int], None], count: int, threads: int, done: Callable[[int], None]) -> None:
    """Call `work(number)` of `count` numbers in threads, and `done(number)` here as each ends.

    At a stop those that have not begun are dropped, and `done` is called for those that had ended.
    """
    with ThreadPoolExecutor(threads) as pool:
        under_way = {pool.submit(work, number): number for number in range(count)}

        def finish(future: Future[None]) -> None:
            future.result()
            done(under_way[future])
            del under_way[future]

        try:
            for future in as_completed(under_way):
                finish(future)
        except (KeyboardInterrupt, Terminated):
            pool.shutdown(cancel_futures=True)
            for future in [future for future in under_way if not future.cancelled() and not future.exception()]:
                finish(future)
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@torch.inference_mode()
def _encode_batch(
    encoder: Model, tokens: Tokenized, rows: np.ndarray, computing: Compute, into: np.ndarray, seed: int | None
) -> None:
    missing = LEAST_ROWS - len(rows) * int(tokens.lengths[rows].max(initial=1))
    filled = np.resize(rows, len(rows) + max(0, missing))  # by the same texts again
    inputs = [
        torch.from_numpy(part).to(computing.device) if isinstance(part, np.ndarray) else part
        for part in tokens.inputs(filled)
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
        raise InputError(
            f"what it computes are not finite numbers; the weights are damaged, or try {param('precision')} fp32",
            where=encoder.folder,
        )
    into[rows] = vectors[: len(rows)]


def encode_texts(
    encoder: Encoder | LexicalEncoder, texts: Sequence[str], side: str, computing: Compute
) -> tuple[np.ndarray, Tokenized]:
    """Return float32 vectors [N, D] of texts of a side, and their tokens (which count what was cut or empty)."""
    tokens = encoder.tokenize(texts, side)
    vectors = np.empty((len(texts), encoder.dimension), np.float32)
    encode_tokens(encoder, tokens, computing, vectors)
    return vectors, tokens
