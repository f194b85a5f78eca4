"""Try a FAISS factory string on a few of the vectors, in a process of its own, before any work.

FAISS does not fully check factory strings. Some build an index that cannot be searched; some crash the process or never
finish. The trial finds these.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from drtools.errors import InputError, param
from drtools.search import checks, faiss_index
from drtools.search.faiss_index import read_rows, sample_rows
from drtools.search.faiss_parts import (
    EXPECTED,
    always_blas,
    clusterings,
    create,
    refusals,
    refuse_few_points,
    training_points,
)
from drtools.search.faiss_transforms import parts, refuse_lengths, train_transforms, transforms

if TYPE_CHECKING:
    import faiss

    from drtools.formats.joined_vectors import JoinedArray

VECTORS, QUERIES, HITS, LISTS = 1000, 64, 10, 256  # of a trial, at most
SECONDS = 180
SAFE_CENTROIDS = 1 << 16
BYTES = 4 << 30
LEAST_GAIN = 0.05  # [ours] of the way from random rows to the best; PQ with 1 bit per part has 0.2, chance 0 to 0.02
NO_LIMIT = 1 << 40
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent ends
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # each takes memory
ANSWER = b"trial of a factory: "
STARTED = "import sys; sys.path[:] = {path!r}; from drtools.search.faiss_trial import answer; answer()"


def refuse_unusable(
    vectors: np.ndarray | JoinedArray,
    factory: str,
    train_sample: int | None = None,
    seed: int = 42,
    ef_construction: int | None = None,
) -> None:
    """Raise InputError for a factory string that cannot index and search vectors [N, D] by their inner products.

    Takes about a second. The error has FAISS's message, or says how its process ended.
    """
    checks.refuse_empty(vectors)
    if factory == "Flat":
        return
    if least_points(factory) > SAFE_CENTROIDS:  # so many may take more memory than there is
        refuse_few_points(factory, least_points(factory), min(len(vectors), train_sample or len(vectors)))
    refuse_lengths(vectors, factory)
    sample = read_rows(vectors, sample_rows(len(vectors), min(VECTORS, len(vectors)), seed))
    refuse_fractions(sample, factory)
    task = {"factory": factory, "count": len(vectors), "train_sample": train_sample}
    stream = io.BytesIO(json.dumps({**task, "seed": seed, "ef_construction": ef_construction}).encode() + b"\n")
    stream.seek(0, io.SEEK_END)
    np.save(stream, sample)
    command = [sys.executable, "-c", STARTED.format(path=sys.path)]
    tried = f"{param('factory')} {factory}: in a trial on {len(sample):,} of the vectors, FAISS"
    try:
        done = subprocess.run(
            command, input=stream.getvalue(), capture_output=True, timeout=SECONDS, env=os.environ | ONE_THREAD
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{tried} did not finish in {SECONDS} s", expected=EXPECTED) from None
    if done.returncode < 0:
        raise InputError(f"{tried} crashed ({signal.Signals(-done.returncode).name})", expected=EXPECTED)
    if done.returncode:
        raise RuntimeError(f"the trial of a factory string failed: {done.stderr.decode(errors='replace')[-2000:]}")
    said = next(line for line in reversed(done.stdout.splitlines()) if line.startswith(ANSWER))
    refused = json.loads(said.removeprefix(ANSWER))
    if refused:
        raise InputError(refused)


def least_points(factory: str) -> int:
    """Return how many vectors a factory string needs at least for its centroids, as far as the string shows it."""
    lists = [int(count) * {"": 1, "k": 1 << 10, "M": 1 << 20}[unit] for count, unit in LISTS_IN.findall(factory)]
    bits = [min(int(count), 40) for count in BITS_IN.findall(factory)]
    return max([*lists, *(1 << count for count in bits)], default=0)


LISTS_IN = re.compile(r"\bIVF(\d+)([kM]?)")
BITS_IN = re.compile(r"\b(?:PQ|RQ|LSQ|PRQ|PLSQ)\d+(?:x\d+)?x(\d+)")


def answer() -> None:
    """Read a trial from standard input, run it, and write the reason of a refusal, or null, to standard output."""
    limit_resources()
    task = json.loads(sys.stdin.buffer.readline())
    sample = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    refused = None
    try:
        attempt(sample, **task)
    except InputError as error:
        refused = error.message
    sys.stdout.buffer.write(b"\n" + ANSWER + json.dumps(refused).encode() + b"\n")
    sys.stdout.flush()
    os._exit(0)  # FAISS may fail when its objects are destroyed, which is not part of the trial


def limit_resources() -> None:
    """Limit this process to 4 GB of memory and to half of the machine's; write no core dump.

    The process ends together with its parent, or, where that cannot be arranged, a little after it is given up.
    """
    import ctypes
    import resource

    signal.alarm(SECONDS + 30)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        wanted = min(BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if most < 0 else min(wanted, most), most))


def attempt(
    sample: np.ndarray,
    factory: str,
    count: int,
    train_sample: int | None,
    seed: int,
    ef_construction: int | None,
) -> None:
    """Build a small index of a sample [n, D] of `count` vectors and search it; raise InputError if that fails."""
    import faiss

    faiss.omp_set_num_threads(1)
    dimension = sample.shape[1]
    with refusals(factory), always_blas():
        whole = create(factory, dimension)
        faiss_index.prepare(whole, factory, seed, ef_construction)
        points = training_points(whole, factory, count, train_sample)
        del whole
        if points:
            refuse_few_points(factory, least_points(factory), points)
        index = trained(sample, factory, points, seed, ef_construction)
        index.add(sample)
        queries = sample[-QUERIES:]
        found = faiss_index.search_index(index, queries, HITS, **effort(index))[1]
        again = faiss.deserialize_index(faiss.serialize_index(index))
        faiss_index.search_index(again, queries, HITS, **effort(again))
        faiss_index.describe(again)
    refuse_chance(sample, queries, found, factory)


def trained(sample: np.ndarray, factory: str, points: int, seed: int, ef_construction: int | None) -> faiss.Index:
    """Return a small index, trained in few rounds.

    It is trained on the sample, or on as many points made from it as FAISS requires, if that is at most `points`.
    """
    wanted = 0
    while True:
        index = create(fewer_lists(factory, len(sample)), sample.shape[1])
        faiss_index.prepare(index, factory, seed, ef_construction)
        hasten(index)
        if not points:
            return index
        wanted = max([wanted, len(sample), *(clustering.centroids for clustering in clusterings(index))])
        block = repeated(sample, wanted)
        try:
            train_transforms(index, block)
            index.train(block)
        except RuntimeError as error:
            more = re.search(r"Number of training points \(\d+\).*\((\d+)\)", str(error))
            if not more or not wanted < int(more[1]) <= points:
                raise
            wanted = int(more[1])
        else:
            return index


def fewer_lists(factory: str, count: int) -> str:
    """Return a factory string with at most 256 lists, if there are enough vectors for the original number."""

    def fewer(match: re.Match[str]) -> str:
        return f"IVF{LISTS}" if least_points(match[0]) > LISTS <= count else match[0]

    return LISTS_IN.sub(fewer, factory)


def hasten(index: faiss.Index) -> None:
    """Make an index train in as few rounds as possible."""
    import faiss

    for clustering in clusterings(index):
        clustering.parameters.niter = 1
    for step in transforms(index):
        if isinstance(step, faiss.OPQMatrix):
            step.niter = step.niter_pq = step.niter_pq_0 = 1
    for quantizer in additive_quantizers(index):
        if isinstance(quantizer, faiss.ResidualQuantizer):
            quantizer.cp.niter = quantizer.niter_codebook_refine = quantizer.max_beam_size = 1
            quantizer.train_type = faiss.ResidualQuantizer.Train_default
        else:
            quantizer.train_iters = quantizer.train_ils_iters = quantizer.encode_ils_iters = 1


def additive_quantizers(index: faiss.Index) -> list[Any]:
    """Return the residual and the local search quantizers of an index, including those within product quantizers."""
    import faiss

    found = []
    for part in parts(index):
        found += [getattr(part, name) for name in ("rq", "lsq") if hasattr(part, name)]
        for product in [getattr(part, name) for name in ("prq", "plsq") if hasattr(part, name)]:
            downcast: Any = faiss.downcast_Quantizer  # type: ignore[attr-defined]  # FAISS's stubs lack it
            found += [downcast(product.subquantizer(number)) for number in range(product.nsplits)]
    return found


def repeated(sample: np.ndarray, count: int) -> np.ndarray:
    """Return at least `count` points: a sample [n, D], with further points near it if needed."""
    if count <= len(sample):
        return sample
    points = np.resize(sample, (count, sample.shape[1]))
    spread = 1e-2 * float(np.abs(sample).mean())
    points[len(sample) :] += spread * np.random.default_rng(0).standard_normal(points[len(sample) :].shape, np.float32)
    return points


class Effort(TypedDict, total=False):
    """Settings of a search."""

    nprobe: int
    ef_search: int


def effort(index: faiss.Index) -> Effort:
    """Return the settings of an exhaustive search, as far as an index has them."""
    import faiss

    kinds = [*parts(index)]
    settings: Effort = {}
    if any(isinstance(part, faiss.IndexIVF) for part in kinds):
        settings["nprobe"] = NO_LIMIT
    if any(isinstance(part, faiss.IndexHNSW) for part in kinds):
        settings["ef_search"] = VECTORS
    return settings


def refuse_fractions(sample: np.ndarray, factory: str) -> None:
    """Raise InputError for SQ8_direct, which stores only integers, if a sample [n, D] has other values."""
    found = re.search("SQ8_direct(_signed)?", factory)
    if not found:
        return
    least, most = (-128, 127) if found[1] else (0, 255)
    others = sample[(sample != np.round(sample)) | (sample < least) | (sample > most)]
    if len(others):
        raise InputError(
            f"{found[0]} stores only whole numbers from {least} to {most}, and the vectors hold {others[0]:.4g}",
            where=f"{param('factory')} {factory}",
            remedy="use SQ8, which is fitted to the vectors",
        )


def refuse_chance(sample: np.ndarray, queries: np.ndarray, found: np.ndarray, factory: str) -> None:
    """Raise InputError for an index whose hits [Q, k] have no larger inner products than random rows."""
    products = queries @ sample.T
    mean = products.mean(1)
    best = -np.sort(-products, axis=1)[:, : found.shape[1]].mean(1)
    hits = np.where(found >= 0, np.take_along_axis(products, np.maximum(found, 0), 1), mean[:, None]).mean(1)
    possible = (best - mean).sum()
    if possible > 1e-6 * np.abs(products).sum() and (hits - mean).sum() < LEAST_GAIN * possible:
        raise InputError(
            f"in a trial on {len(sample):,} of the vectors, its hits were no better than chance",
            expected=EXPECTED,
            where=f"{param('factory')} {factory}",
        )
