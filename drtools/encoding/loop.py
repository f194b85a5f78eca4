"""The encoding loop of every tool."""

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
from drtools.models.tokens import Tokenized, on_device


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

    `on_batch(rows, tokens)` is called after each batch, and also for batches that had ended when the work was stopped.

    On a processor, each core encodes its own batches in one thread. Cores do not wait for each other at every product,
    and vectors do not depend on the number of cores. With several GPUs, each takes the next batch with its own copy of
    the encoder.

    With `one_length`, batches on a processor have texts of one length. The vector of a text is then the same, bit for
    bit, whatever else is encoded, since products of at least `LEAST_ROWS` rows sum up each row alike. The exception is
    bfloat16 with AMX, where the order depends on the number of rows (`promises_bits`).

    `seed_of` returns the dropout seed for the number of a batch, for an encoder in training mode with our own dropout.
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
    """Call `work(number)` for `count` numbers in threads, and `done(number)` in this thread after each.

    When stopped, calls that have not begun are dropped, and `done` is called for those that had ended.
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
    filled = np.resize(rows, len(rows) + max(0, missing))  # repeats the same texts
    inputs = on_device(tokens.inputs(filled), computing.device)
    if seed is not None and computing.device != "cpu":
        torch.manual_seed(seed)
    current = (
        torch.cuda.device(computing.device) if computing.device.startswith("cuda:") else nullcontext()
    )  # the device on which some kernels are launched
    with (
        current,
        torch.autocast(computing.kind, computing.autocast_type, enabled=computing.autocast),
        nullcontext() if seed is None else seeded(seed),
    ):
        vectors = encoder(*inputs).cpu().numpy()
    if not np.isfinite(vectors).all():
        raise InputError(
            f"its vectors are not finite; the weights may be damaged, or try {param('precision')} fp32",
            where=encoder.folder,
        )
    into[rows] = vectors[: len(rows)]


def encode_texts(
    encoder: Encoder | LexicalEncoder, texts: Sequence[str], side: str, computing: Compute
) -> tuple[np.ndarray, Tokenized]:
    """Return float32 vectors [N, D] of texts of a side, and their tokens, which count truncated and empty texts."""
    tokens = encoder.tokenize(texts, side)
    vectors = np.empty((len(texts), encoder.dimension), np.float32)
    encode_tokens(encoder, tokens, computing, vectors)
    return vectors, tokens
