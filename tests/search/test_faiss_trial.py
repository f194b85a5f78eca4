"""Factory strings that FAISS accepts and cannot use: refused in words, in a process of their own, before any work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import write_jsonl

from drtools.errors import InputError
from drtools.search import faiss_trial

DIMENSION = 32


def points(count, seed=0):
    """Return float32 [count, 32] of length 1 in 40 heaps, as encoders make them."""
    generator = np.random.default_rng(seed)
    heaps = np.random.default_rng(0).standard_normal((40, DIMENSION))
    vectors = heaps[generator.integers(0, 40, count)] + 0.5 * generator.standard_normal((count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors():
    return points(3000)


def refusal(vectors, factory, **options):
    with pytest.raises(InputError) as caught:
        faiss_trial.refuse_unusable(vectors, factory, **options)
    words = str(caught.value)
    assert words.startswith(f"factory {factory}: ") and "\n" not in words
    return words


@pytest.mark.parametrize(
    "factory",
    [
        *("HNSW0", "HNSW1", "IVF16_HNSW0,Flat"),  # abort, segmentation fault, abort within the lists
        *("PQ8x0", "RQ0x8", "OPQ4_0,Flat", "RR0,Flat", "IVF16,FlatPanorama0"),  # division by zero, segmentation fault
    ],
)
def test_a_string_that_ends_the_process_is_refused(factory, vectors):
    assert "in a trial on 1,000 of the vectors, FAISS crashed (SIG" in refusal(vectors, factory)


@pytest.mark.slow
def test_a_string_that_never_ends_is_refused(vectors, monkeypatch):
    monkeypatch.setattr(faiss_trial, "SECONDS", 8)
    assert "FAISS did not finish in 8 s" in refusal(vectors, "NSG0")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("IVF0,Flat", "FAISS refuses it: it has no lists; an IVF has one or more, expected"),
        ("IDMap,Flat", "documents are found by their row; leave it out"),
        ("IDMap2,HNSW8", "documents are found by their row; leave it out"),
        ("LSH", "FAISS refuses it: it only supports distances, expected"),
        ("IMI2x3,Flat", "it only supports distances"),
        ("MinMax,SQ8", "add not implemented"),
        ("RCQ2x4", "not applicable"),
        ("IVF64_NSG8,Flat", "cannot build a graph smaller than 100"),
        ("IVF16(PQ8),Flat", "Number of training points (16)"),
        ("HNSW32,PQ8", "FAISS always makes an index of distances"),
        ("IVF16,PCA16,SH", "FAISS always makes an index of distances"),
        ("OPQ0,Flat", "FAISS refuses it: M must be > 0"),
        ("OPQ5,Flat", "multiple of the number of subquantizers"),
        ("HNSW99999999999", "FAISS refuses it"),
        ("Falt", "could not parse index string Falt"),
        ("", "could not parse index string"),
        ("((", "unbalanced parentheses"),
    ],
)
def test_what_builds_and_cannot_search_is_refused(factory, words, vectors):
    assert words in refusal(vectors, factory)


@pytest.mark.parametrize(
    ("factory", "wanted"),
    [
        ("IVF4096,Flat", 4096),
        ("OPQ4_16,IVF4k,PQ4", 4096),
        ("IVF16_HNSW32,PQ8x12", 4096),
        ("IVF1M_HNSW32,SQ8", 1 << 20),
        ("IVF2000000000,Flat", 2_000_000_000),
        ("PQ8x12", 4096),
        ("PCA16,PQ8x24np", 1 << 24),
        ("IVF16,PQ8x14,RFlat", 1 << 14),
        ("RQ4x13", 1 << 13),
        ("PRQ2x2x12", 4096),
    ],
)
def test_too_few_vectors_for_the_centroids_are_refused_without_making_them(factory, wanted, vectors):
    assert f"found 3,000 vectors to train on, expected at least {wanted:,}" in refusal(vectors, factory)
    assert faiss_trial.least_points(factory) == wanted


def test_the_largest_number_of_centroids_is_named(vectors):
    """OPQ has a quantizer of its own, of 256 centroids, which its string does not name."""
    assert "found 100 vectors to train on, expected at least 256" in refusal(vectors[:100], "OPQ4_16,PQ4x4")
    assert "multiple of the number of subquantizers" in refusal(vectors[:100], "PQ5")


def test_centroids_that_a_string_asks_for():
    for factory in ("Flat", "HNSW32", "SQ8", "PQ8x4fs_64", "OPQ4_16,Flat", "PCA64,Flat", "RaBitQ"):
        assert faiss_trial.least_points(factory) in (0, 16)
    assert faiss_trial.fewer_lists("OPQ8,IVF4096_HNSW32,PQ8", 1000) == "OPQ8,IVF256_HNSW32,PQ8"
    assert faiss_trial.fewer_lists("IVF64k(IVF300,Flat),SQ8", 1000) == "IVF256(IVF256,Flat),SQ8"
    assert faiss_trial.fewer_lists("IVF250,Flat", 1000) == "IVF250,Flat"
    assert faiss_trial.fewer_lists("IVF280,Flat", 255) == "IVF280,Flat"


@pytest.mark.parametrize("size", [10, 120, 3000])
def test_flat_needs_no_trial_and_no_process(size, vectors, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    faiss_trial.refuse_unusable(vectors[:size], "Flat")


@pytest.mark.slow
@pytest.mark.parametrize(
    "factory",
    [
        *("HNSW32", "HNSW16,SQ8", "SQ8", "SQ4", "PQ8", "PQ8x1", "PQ8x4fs", "PQ8x11", "NSG16", "RaBitQ", "L2norm,Flat"),
        *("IVF16,Flat", "IVF2k,Flat", "IVF16_HNSW8,SQ8", "IVF500_NSG16,Flat", "IVF16,PQ8x4fs,RFlat"),
        *("OPQ4_16,PQ4", "OPQ4,IVF8,PQ4", "PCA16,Flat", "PCAR16,IVF16,PQ4", "PQ8,Refine(PCA16,Flat)", "Pad40,PQ8"),
        *("RQ2x11", "IVF16,RQ4x4", "LSQ2x4", "PRQ2x2x4", "RR16,Flat"),
    ],
)
def test_what_works_passes(factory, vectors):
    faiss_trial.refuse_unusable(vectors, factory)
    faiss_trial.refuse_unusable(np.asarray(vectors, np.float16), factory)


def test_settings_are_part_of_the_trial(vectors):
    words = refusal(vectors, "IVF64,Flat", train_sample=10)
    assert "found 10 vectors to train on, expected at least 64" in words
    with pytest.raises(InputError, match="ef_construction: factory SQ8 has no graph"):
        faiss_trial.refuse_unusable(vectors, "SQ8", ef_construction=50)


def test_vectors_that_an_index_would_change_are_refused(vectors):
    longer = np.concatenate([vectors, 1.5 * vectors[:1]])
    assert "row 3000 of the vectors has length 1.5, expected 1" in refusal(longer, "L2norm,HNSW32")
    assert "SQ8_direct stores only whole numbers from 0 to 255" in refusal(vectors, "SQ8_direct")
    assert "SQ8_direct_signed stores only whole numbers from -128 to 127" in refusal(vectors, "IVF16,SQ8_direct_signed")
    broken = vectors.copy()
    broken[:, 3] = np.nan
    with pytest.raises(InputError, match="found NaN or infinity"):
        faiss_trial.refuse_unusable(broken, "HNSW32")


def test_whole_numbers_may_be_kept_directly():
    whole = np.random.default_rng(0).integers(-100, 100, (400, DIMENSION)).astype(np.float32)
    faiss_trial.refuse_unusable(whole, "SQ8_direct_signed")


def test_hits_by_chance_are_told_from_coarse_ones(vectors):
    queries, products = vectors[:50], vectors[:50] @ vectors.T
    best = np.argsort(-products, axis=1)
    generator = np.random.default_rng(0)
    with pytest.raises(InputError, match="no better than chance"):
        faiss_trial.refuse_chance(vectors, queries, generator.integers(0, 3000, (50, 10)), "X")
    with pytest.raises(InputError, match="no better than chance"):
        faiss_trial.refuse_chance(vectors, queries, np.full((50, 10), -1), "X")
    with pytest.raises(InputError, match="no better than chance"):
        faiss_trial.refuse_chance(vectors, queries, best[:, -10:], "X")
    faiss_trial.refuse_chance(vectors, queries, best[:, :10], "X")
    coarse = np.where(generator.random((50, 10)) < 0.2, best[:, :10], generator.integers(0, 3000, (50, 10)))
    faiss_trial.refuse_chance(vectors, queries, coarse, "X")
    faiss_trial.refuse_chance(np.tile(vectors[:1], (20, 1)), queries, np.zeros((50, 10), int), "X")  # all the same


@pytest.mark.slow
def test_vectors_that_are_all_the_same_can_be_indexed():
    for factory in ("HNSW16", "SQ8", "IVF4,Flat"):
        faiss_trial.refuse_unusable(np.tile(points(1), (50, 1)), factory)


def test_more_points_are_made_where_training_needs_them(vectors):
    more = faiss_trial.repeated(vectors[:300], 1000)
    assert more.shape == (1000, DIMENSION) and (more[:300] == vectors[:300]).all()
    assert 0 < np.abs(more[300:600] - vectors[:300]).max() < 0.05 and len(np.unique(more, axis=0)) == 1000
    assert faiss_trial.repeated(vectors, 10) is vectors


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the child is found in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_trial_leaves_no_process_behind(number):
    """Stop the parent while FAISS loops for ever in the child."""
    code = (
        "import signal, sys, numpy; sys.path[:] = eval(sys.argv[1]); from drtools.search import faiss_trial\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "faiss_trial.refuse_unusable(numpy.eye(200, 32, dtype='float32') + 1, 'NSG0')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, repr(sys.path)], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    child = None
    while child is None and time.monotonic() < until:
        started = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        # the processor's seconds of a child that has begun its work
        child = next((name for name in started if processor_seconds(name) > 2), None)
        time.sleep(0.05)
    parent.send_signal(number)
    assert parent.wait(30) != 0 and child is not None
    until = time.monotonic() + 30
    while is_running(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(child)


def processor_seconds(process: str) -> float:
    """Return the seconds that a process has computed."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_running(process: str) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_the_tool_refuses_before_any_work(toy, encoder_folder, drtools):
    vectors, index = toy.folder / "vectors", toy.folder / "index"
    write_jsonl(toy.folder / "few.jsonl", toy.documents[:20])
    assert drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", vectors).status == 0
    for factory, words in (
        ("RR0,Flat", "FAISS crashed (SIG"),
        ("IDMap,Flat", "documents are found by their row; leave it out"),
        ("PCAW8,Flat", "PCAW scales each direction"),
        ("IVF64,Flat", "found 60 vectors to train on, expected at least 64"),
        ("", "could not parse index string"),
    ):
        for more in ((), ("--dry-run",)):
            outcome = drtools("index", "--vectors", vectors, "--factory", factory, "-o", index, *more)
            assert outcome.status == 2 and outcome.out == "", factory
            assert outcome.err.count("\n") == 1 and f"--factory {factory}: " in outcome.err and words in outcome.err
            assert not index.exists() and not (toy.folder / "index.partial").exists()
    assert drtools("index", "--vectors", vectors, "--factory", "IVF4,Flat", "-o", index).status == 0
