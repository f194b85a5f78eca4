"""FAISS on GPUs: k-means, assignment to lists, and search there; the index itself stays one of the processor.

An index is built in the processor's memory. The GPUs run its clusterings and find each vector's list, which is nearly
all of the work, so an index may be larger than a GPU's memory. To search, an index is copied onto the GPUs. Several
GPUs share the rows. FAISS has Flat, IVF,Flat, IVF,SQ and IVF,PQ for GPUs, also after OPQ or PCA; it searches other
indexes on the processor. GPUs add up in another order than processors, so the last bits of scores and the bytes of a
trained index differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from drtools import reporting
from drtools.errors import InputError, WorldError, param
from drtools.process_ranks import local_rank
from drtools.search.faiss_parts import reason
from drtools.search.faiss_transforms import chain, parts, transforms

if TYPE_CHECKING:
    import faiss

    from drtools.models.specs import ComputeSpec

LARGEST_K = 2048  # of hits and of visited lists, in FAISS's kernels
# Tables of 256 float32 products for each part of a code must fit into the 48 KiB that every GPU has for a block.
LARGEST_FLOAT32_TABLES = 48
DEVICE = re.compile(r"auto|cpu|mps|cuda|cuda:all|cuda:\d+(,cuda:\d+)*")
INSTALL = "install faiss-gpu, pip install 'drtools[gpu]'"


def gpus(device: str, wanted: bool = False) -> list[int]:
    """Return the numbers of the GPUs that FAISS uses for a device; none if it uses the processor.

    `auto` and `cuda` are one GPU, of a process of torchrun its own. With `wanted`, a GPU that FAISS does not have
    raises WorldError; otherwise it is reported. Raises InputError for a device or a GPU that does not exist.
    """
    import faiss

    if not DEVICE.fullmatch(device.replace(" ", "")):
        raise InputError(
            where=f"{param('device')} {device}", expected="auto, cpu, cuda, cuda:N, cuda:all or cuda:0,cuda:1"
        )
    count, own = faiss.get_num_gpus(), local_rank() or 0
    if device in ("cpu", "mps") or (device == "auto" and not count):
        return []
    if not count:
        words = f"{param('device')} {device}: FAISS has no GPU here; {INSTALL}"
        if wanted:
            raise WorldError(f"{words}, or use {param('device')} cpu")
        reporting.say(f"note: {words}; it searches on the processor")
        return []
    if device == "cuda:all":
        return list(range(count))
    names = device.replace(" ", "").split(",")
    numbers = [own if name in ("auto", "cuda") else int(name.removeprefix("cuda:")) for name in names]
    if max(numbers) >= count or len(set(numbers)) < len(numbers):
        raise InputError(
            f"FAISS has the GPUs cuda:0 to cuda:{count - 1}",
            where=f"{param('device')} {device}",
            remedy="use these, each once",
        )
    return numbers


def one_device(compute: ComputeSpec) -> ComputeSpec:
    """Return where queries are encoded: on the first of several GPUs."""
    first = compute.device.split(",")[0].strip()
    return replace(compute, device="cuda:0" if first == "cuda:all" else first)


def copied(index: faiss.Index, numbers: Sequence[int], shard: bool = False) -> faiss.Index:
    """Return a copy of an index on GPUs; with `shard` each has a share of the rows, otherwise each has all."""
    import faiss

    options = faiss.GpuMultipleClonerOptions()
    options.shard = shard and len(numbers) > 1
    options.useFloat16 = any(
        isinstance(part, faiss.IndexIVFPQ) and part.pq.M > LARGEST_FLOAT32_TABLES for part in parts(index)
    )
    return faiss.index_cpu_to_gpus_list(index, co=options, gpus=list(numbers))


def searched_part(index: faiss.Index) -> Any:
    """Return an index without its transforms of vectors, with its own type."""
    import faiss

    index = faiss.downcast_index(index)
    return searched_part(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def has_kernels(index: faiss.Index) -> bool:
    """Return whether FAISS can search an index on a GPU."""
    import faiss

    part = searched_part(index)
    if type(part) is faiss.IndexIVFPQ:
        return bool(part.by_residual and part.pq.nbits == 8)
    return isinstance(part, faiss.IndexFlat) or has_lists(part)


@dataclass
class OnGpus:
    """A copy of an index on GPUs. Reasons to search on the processor instead are each reported once."""

    index: faiss.Index
    said: set[str] = field(default_factory=set)

    def search(
        self, queries: np.ndarray, depth: int, nprobe: int | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return scores [Q, k] and rows [Q, k] as the index finds them, or None if a GPU cannot find so many."""
        import faiss

        for name, number in (("depth", depth), ("nprobe", nprobe or 0)):
            if number > LARGEST_K:
                self._say(f"FAISS finds at most {LARGEST_K:,} on a GPU, so {param(name)} {number:,} is searched")
                return None
        if nprobe:
            faiss.GpuParameterSpace().set_index_parameter(self.index, "nprobe", nprobe)
        scores, rows = self.index.search(np.ascontiguousarray(queries), depth)
        return scores, rows

    def _say(self, words: str) -> None:
        if words not in self.said:
            self.said.add(words)
            reporting.say(f"note: {words} on the processor")


def put_on_gpus(index: faiss.Index, device: str) -> OnGpus | None:
    """Copy an index onto the GPUs of a device; return None, and report it, if it is searched on the processor."""
    numbers = gpus(device)
    if not numbers:
        return None
    kind = type(searched_part(index)).__name__.removeprefix("Index").removesuffix("IP")
    if not has_kernels(index):
        reporting.say(f"note: FAISS has no {kind} for GPUs, so this index is searched on the processor")
        return None
    try:
        return OnGpus(copied(index, numbers, shard=True))
    except RuntimeError as error:  # too little memory, or sizes of codes for which there is no kernel
        reporting.say(f"note: {kind} does not go onto the GPU ({reason(error)}); it is searched on the processor")
        return None


@contextmanager
def clusterings_on(index: faiss.Index, numbers: Sequence[int]) -> Iterator[None]:
    """Let the clusterings of an index's training, also those of OPQ and PQ, find nearest centroids on GPUs."""
    import faiss

    lists = [part for part in parts(index) if isinstance(part, faiss.IndexIVF)] if numbers else []
    codes = [part.pq for part in parts(index) if hasattr(part, "pq")] if numbers else []
    opq = [step.pq for step in transforms(index) if isinstance(step, faiss.OPQMatrix) and step.pq] if numbers else []
    kept = []  # FAISS keeps pointers only
    try:
        for part in lists:
            by_distance = part.quantizer_trains_alone == "\x02"  # of normalized centroids, as those of a graph
            metric = faiss.METRIC_L2 if by_distance else part.quantizer.metric_type
            kept.append(copied(faiss.IndexFlat(part.d, metric), numbers))
            part.clustering_index = kept[-1]
        for quantizer in (*codes, *opq):
            kept.append(copied(faiss.IndexFlatL2(quantizer.dsub), numbers))
            quantizer.assign_index = kept[-1]
        yield
    finally:
        for part in lists:
            part.clustering_index = None  # type: ignore[assignment]  # FAISS's stubs know no null pointers
        for quantizer in (*codes, *opq):
            quantizer.assign_index = None


class Adding:
    """Addition of rows to a trained index; GPUs find the list of each, if it has lists and there are GPUs."""

    def __init__(self, index: faiss.Index, numbers: Sequence[int] = ()) -> None:
        self.index, part = index, searched_part(index)
        self.quantizer = copied(part.quantizer, numbers) if numbers and has_lists(part) else None

    def add(self, block: np.ndarray, numbers: np.ndarray | None = None) -> None:
        """Add rows float32 [C, D], with their numbers [C] if the index does not count."""
        import faiss

        if self.quantizer is None:
            self.index.add(block) if numbers is None else self.index.add_with_ids(block, numbers)
            return
        outer: Any = faiss.downcast_index(self.index)
        layers = []
        while isinstance(outer, faiss.IndexPreTransform):
            layers.append(outer)
            for step in chain(outer):
                block = step.apply(block)
            outer = faiss.downcast_index(outer.index)
        block = np.ascontiguousarray(block)
        places = np.ascontiguousarray(self.quantizer.search(block, 1)[1], np.int64)
        ids = None if numbers is None else np.ascontiguousarray(numbers, np.int64)
        outer.add_core(
            len(block), faiss.swig_ptr(block), None if ids is None else faiss.swig_ptr(ids), faiss.swig_ptr(places)
        )
        for layer in layers:
            layer.ntotal = outer.ntotal


def has_lists(part: Any) -> bool:
    """Return whether FAISS can find the lists of an index's rows on a GPU."""
    import faiss

    kinds = (faiss.IndexIVFFlat, faiss.IndexIVFPQ, faiss.IndexIVFScalarQuantizer)
    return type(part) in kinds and isinstance(faiss.downcast_index(part.quantizer), faiss.IndexFlat)
