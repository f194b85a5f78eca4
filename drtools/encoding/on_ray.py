"""Encode chunks of texts on the workers of a Ray cluster.

The driver sends texts, keeps at most two chunks a worker under way, and takes the results in order. Ray runs a task
again whose node was lost. A worker process loads the model once.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from drtools import __version__, signals
from drtools.encoding.chunks import EncodedTexts, encode_chunk
from drtools.encoding.pieces import PieceEncoding
from drtools.encoding.specs import PiecesSpec, VectorsSpec
from drtools.errors import DrtoolsError, InputError, WorldError, param
from drtools.models import loader
from drtools.models.compute import Compute, settle
from drtools.models.encoder import Encoder
from drtools.models.lexical import LexicalEncoder
from drtools.models.specs import ComputeSpec, EncoderSpec, PieceSizes

CHUNKS_A_WORKER = 2
RETRIES = 20  # of a task whose worker process or node was lost
SECONDS_TO_CONNECT = 10.0


@dataclass(frozen=True)
class RaySpec:
    """A Ray cluster: its address (or `auto`), and the GPUs of each task. By default a task has one GPU if there are."""

    address: str
    gpus_per_task: float | None = None


@dataclass(frozen=True)
class Job:
    """What every worker has to know. Workers with other versions, another precision or another model refuse."""

    model: EncoderSpec
    compute: ComputeSpec
    batch_tokens: int | None
    dtype: str
    side: str
    pieces: PiecesSpec | None
    versions: tuple[tuple[str, str], ...]
    computing: tuple[str, str, int] | None = None
    fingerprints: tuple[tuple[str, str], ...] = ()


def _versions() -> tuple[tuple[str, str], ...]:
    return ("drtools", __version__), ("torch", version("torch"))


def settled_on_worker(job: Job) -> tuple[str, str, int]:
    """Return device, precision and batch tokens of this worker. Raises InputError for other versions."""
    own = dict(_versions())
    others = [f"{name} {own[name]}, here {wanted}" for name, wanted in job.versions if own[name] != wanted]
    if others:
        raise InputError(f"a worker has other versions ({'; '.join(others)})", where=os.uname().nodename)
    computing = settle(job.compute, job.batch_tokens)
    return computing.kind, computing.precision, computing.batch_tokens


def _in_words(settled: tuple[str, str, int]) -> str:
    """Return the device, the precision and the batch size of a worker as a message has them."""
    device, precision, batch_tokens = settled
    return f"device {device}, precision {precision} and {batch_tokens:,} tokens a batch"


@cache
def _loaded(job: Job) -> tuple[Encoder | LexicalEncoder, Compute, PieceEncoding | None]:
    """Load the model once in this process. Raises InputError for another one than the driver's."""
    node, found = os.uname().nodename, settled_on_worker(job)
    if job.computing and found != job.computing:
        raise InputError(
            f"a worker computes with {_in_words(found)}",
            where=node,
            expected=f"{_in_words(job.computing)}, like the first worker",
        )
    computing = settle(job.compute, job.batch_tokens)
    encoder = loader.load_for_encoding(job.model, computing, job.side)
    if tuple(sorted(encoder.side_fingerprints().items())) != job.fingerprints:
        raise InputError(
            f"a worker finds another encoder in {job.model.names}",
            where=node,
            remedy="copy the same model to all machines, or share its folder",
        )
    pieces = job.pieces and PieceEncoding(encoder.of("document"), job.pieces.sizes, job.pieces.spans, job.dtype)
    return encoder, computing, pieces or None


def encode_on_worker(job: Job, texts: list[str]) -> EncodedTexts:
    """Encode a chunk of texts on a worker."""
    encoder, computing, pieces = _loaded(job)
    return encode_chunk(encoder, texts, job.side, computing, job.dtype, pieces)


class RayWorkers:
    """The workers of a Ray cluster. `computing` says on what they compute."""

    def __init__(self, ray: RaySpec, model: EncoderSpec, compute: ComputeSpec, spec: VectorsSpec, side: str) -> None:
        self.ray, self.module = ray, _connected(ray.address)
        gpus = self.module.cluster_resources().get("GPU", 0)
        each = (1.0 if gpus else 0.0) if ray.gpus_per_task is None else ray.gpus_per_task
        if each > gpus:
            raise InputError(
                f"the cluster has {gpus:g} GPUs", where=f"{param('ray_gpus_per_task')} {each:g}", remedy="lower it"
            )
        nodes = [node["Resources"].get("CPU", 0) for node in self.module.nodes() if node["Alive"]]
        cores = compute.threads or (1 if each else max(1, int(min((count for count in nodes if count), default=1))))
        self.needed = {"num_cpus": cores, "num_gpus": each}
        pieces = spec.pieces and PiecesSpec(_plain(spec.pieces.sizes, PieceSizes), spec.pieces.spans)
        plain = replace(_plain(compute, ComputeSpec), threads=cores)
        where = {
            name: str(Path(value).resolve())
            for name in ("model", "document_model", "body", "rem")
            if (value := getattr(model, name)) and Path(value).exists()
        }
        model = replace(_plain(model, EncoderSpec), **where)
        self.job = Job(model, plain, spec.batch_tokens, spec.dtype, side, pieces or None, _versions())
        found = self._result(self._start(settled_on_worker, self.job))
        self.computing = Compute(*found)
        self.job = replace(self.job, computing=found, compute=replace(plain, precision=found[1]))

    def expect(self, encoder: Encoder | LexicalEncoder) -> None:
        """Have workers refuse another encoder than this one."""
        self.job = replace(self.job, fingerprints=tuple(sorted(encoder.side_fingerprints().items())))

    def encode(self, chunks: Iterator[list[str]]) -> Iterator[EncodedTexts]:
        """Yield what became of each chunk, in order, with at most two chunks a worker under way."""
        under_way: deque[Any] = deque()
        job = self.module.put(self.job)
        for texts in chunks:
            under_way.append(self._start(encode_on_worker, job, texts))
            while len(under_way) >= CHUNKS_A_WORKER * self._workers():
                yield self._result(under_way.popleft())
        while under_way:
            yield self._result(under_way.popleft())

    def _workers(self) -> int:
        """Return how many tasks can run at once, as nodes come and go."""
        there = self.module.cluster_resources()
        counts = [
            there.get(name, 0) / needed
            for name, needed in zip(("CPU", "GPU"), self.needed.values(), strict=True)
            if needed
        ]
        return max(1, int(min(counts)))

    def _start(self, function: Any, *arguments: object) -> Any:
        task = self.module.remote(**self.needed, max_retries=RETRIES)(function)
        return task.remote(*arguments)

    def _result(self, reference: Any) -> Any:
        """Wait for a task. Raises what it raised, or WorldError if the cluster lost it for good."""
        try:
            return self.module.get(reference)
        except self.module.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, DrtoolsError):
                raise cause from None
            raise WorldError(f"a task on the Ray cluster failed: {_line(cause or error)}") from None
        except self.module.exceptions.RayError as error:
            raise WorldError(f"the Ray cluster lost a task: {_line(error)}; run the command again") from None


def _plain(spec: Any, kind: Any) -> Any:
    """Return a specification without the flags of the command line, which workers do not need."""
    return kind(**{field.name: getattr(spec, field.name) for field in fields(kind)})


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _check_port(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT, where Ray would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()


def _connected(address: str) -> Any:
    """Connect to a cluster and return the module `ray`."""
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise InputError(
            "Ray is not installed", where=param("ray"), remedy="install it (`pip install 'drtools[ray]'`)"
        ) from None
    if not ray.is_initialized():
        try:
            _check_port(address)
            ray.init(address, log_to_driver=False, configure_logging=False)
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise WorldError(
                f"{param('ray')} {address}: no cluster was reached ({_line(error)}); start one with `ray start` "
                "and run this on one of its nodes"
            ) from None
        signals.listen()  # Ray takes the signals
    return ray
