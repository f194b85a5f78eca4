"""FAISS indexes against numpy's brute force, files against estimated sizes, builds against another process's builds."""

import os
import subprocess
import sys

import faiss
import numpy as np
import pytest

from drtools.errors import InputError
from drtools.search import exact, faiss_index, faiss_parts

DIMENSION = 32
ALL_KINDS = [
    "Flat",
    "SQ8",
    "SQfp16",
    "PQ8",
    "PQ8x4fs",
    "IVF16,Flat",
    "IVF16,PQ8",
    "HNSW32",
    "HNSW16,SQ8",
    "OPQ4_16,PQ4",
    "OPQ4,IVF8,PQ4",
    "PCA16,Flat",
    "IVF16_HNSW8,SQ8",
    "IVF16,PQ8x4fs,RFlat",
]


def points(count, dimension=DIMENSION, seed=0, dtype=np.float16):
    """Return normalized vectors in 40 heaps, as encoders make them."""
    generator = np.random.default_rng(seed)
    heaps = np.random.default_rng(0).standard_normal((40, dimension))
    vectors = heaps[generator.integers(0, 40, count)] + 0.5 * generator.standard_normal((count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)


@pytest.fixture(scope="module")
def vectors():
    return points(1500)


@pytest.fixture(scope="module")
def queries():
    return points(40, seed=1, dtype=np.float32)


@pytest.fixture(scope="module")
def built(vectors, tmp_path_factory):
    """Build an index of each kind once; return the path by its factory string."""
    folder = tmp_path_factory.mktemp("indexes")
    paths = {}

    def path(factory):
        if factory not in paths:
            paths[factory] = folder / f"{len(paths)}.faiss"
            faiss_index.build(vectors, factory, paths[factory], threads=1)
        return paths[factory]

    return path


def test_flat_equals_brute_force(built, vectors, queries):
    scores, rows = faiss_index.search_index(faiss_index.load(built("Flat")), queries, 20)
    products = queries @ vectors.astype(np.float32).T
    np.testing.assert_allclose(scores, -np.sort(-products)[:, :20], rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(products, rows, 1), scores, rtol=1e-5)


@pytest.mark.parametrize("factory", ALL_KINDS)
def test_every_kind_is_found_again_and_scores_inner_products(factory, built, vectors, queries):
    index = faiss_index.load(built(factory))
    scores, rows = faiss_index.search_index(index, queries, 10)
    assert (rows >= 0).all() and (np.diff(scores) <= 0).all()
    products = np.take_along_axis(queries @ vectors.astype(np.float32).T, rows, 1)
    assert (
        np.abs(scores - products).mean() < 0.2 and products.mean() > 0.5
    )  # L2 would give distances, coarse codes give noise
    assert faiss_index.recall(index, vectors, queries, 10) > 0.2


@pytest.mark.parametrize("factory", ["RQ4x4", "LSQ4x4", "PRQ2x2x4", "RQ4x4fs", "IVF16,RQ4x4", "NSG8"])
@pytest.mark.parametrize("count", [1500])
def test_the_estimated_size_of_rarer_kinds(factory, count, vectors, tmp_path):
    faiss_index.build(vectors[:count], factory, tmp_path / "index", threads=1)
    assert faiss_parts.estimate(factory, count, DIMENSION, threads=1)[0] == pytest.approx(
        os.path.getsize(tmp_path / "index"), rel=0.1
    )


@pytest.mark.parametrize("factory", ALL_KINDS)
def test_the_estimated_size_is_that_of_the_file(factory, built, vectors):
    size, seconds = faiss_parts.estimate(factory, *vectors.shape, threads=1)
    assert size == pytest.approx(os.path.getsize(built(factory)), rel=0.1) and seconds > 0


@pytest.mark.bits
def test_a_repeated_build_in_a_fresh_process_gives_the_same_bytes(vectors, tmp_path):
    np.save(tmp_path / "vectors.npy", vectors[:700])
    factories = ["Flat", "IVF16,Flat", "PQ4", "OPQ4_16,PQ4", "IVF8,PQ4", "SQ8", "PCA16,Flat", "PCAR16,IVF8,PQ4"]
    code = (
        "import sys, numpy; from drtools.search import faiss_index; folder, *factories = sys.argv[1:]\n"
        "vectors = numpy.load('vectors.npy', mmap_mode='r')\n"
        "for i, factory in enumerate(factories): faiss_index.build(vectors, factory, f'{folder}{i}', train_sample=600, "
        "seed=5, threads=2)"
    )
    for folder in "ab":
        subprocess.run(
            [sys.executable, "-c", code, folder, *factories],
            cwd=tmp_path,
            check=True,
            env={**os.environ, "OMP_WAIT_POLICY": "passive"},
        )
    for i, factory in enumerate(factories):
        assert (tmp_path / f"a{i}").read_bytes() == (tmp_path / f"b{i}").read_bytes(), factory
    faiss_index.build(vectors[:700], "PQ4", tmp_path / "other", train_sample=600, seed=6, threads=1)
    assert (tmp_path / "other").read_bytes() != (tmp_path / "a2").read_bytes()  # the seed counts


def test_blocks_and_progress(vectors, tmp_path, monkeypatch):
    faiss_index.build(vectors, "IVF16,Flat", tmp_path / "whole", threads=1)
    monkeypatch.setattr(faiss_index, "ADD_ROWS", 400)
    done = []
    faiss_index.build(vectors, "IVF16,Flat", tmp_path / "blocks", threads=1, on_progress=done.append)
    assert done == [400, 800, 1200, 1500] and (tmp_path / "whole").read_bytes() == (tmp_path / "blocks").read_bytes()


def test_few_training_vectors_are_one_note_and_no_warning(vectors, tmp_path, capfd):
    note = faiss_index.build(vectors[:400], "OPQ4,PQ4", tmp_path / "index", threads=1)
    assert note.startswith("OPQ4,PQ4 was trained on 400 vectors, but 9,984 are recommended for its 256 centroids")
    assert capfd.readouterr() == ("", "")
    assert faiss_index.build(vectors, "IVF16,Flat", tmp_path / "index", threads=1) is None


def test_rows_that_are_not_found_are_minus_one_at_the_end(built, queries):
    scores, rows = faiss_index.search_index(faiss_index.load(built("IVF16,Flat")), queries, 1500, nprobe=1)
    found = (rows >= 0).sum(1)
    assert (found < 1500).all()
    for query in range(len(queries)):
        assert (rows[query, found[query] :] == -1).all() and np.isneginf(scores[query, found[query] :]).all()
        assert np.isfinite(scores[query, : found[query]]).all()


def test_equal_scores_come_by_row(tmp_path):
    vectors = np.tile(np.eye(4, dtype=np.float32), (50, 1))
    faiss_index.build(vectors, "Flat", tmp_path / "index")
    scores, rows = faiss_index.search_index(faiss_index.load(tmp_path / "index"), np.eye(4, dtype=np.float32), 200)
    expected = exact.search(vectors, np.eye(4, dtype=np.float32), 200)
    np.testing.assert_array_equal(scores, expected[0])
    np.testing.assert_array_equal(rows, expected[1])


def test_more_effort_finds_more(built, vectors, queries):
    index = faiss_index.load(built("IVF16,Flat"))
    few, all_lists = (faiss_index.recall(index, vectors, queries, 50, nprobe=nprobe) for nprobe in (1, 16))
    assert few < all_lists == 1
    graph = faiss_index.load(built("HNSW32"))
    few, many = (faiss_index.recall(graph, vectors, queries, 50, ef_search=ef_search) for ef_search in (50, 1500))
    assert few <= many and many > 0.99
    # the setting of one search is not that of the next
    faiss_index.search_index(index, queries, 50, nprobe=1)
    assert faiss_index.recall(index, vectors, queries, 50) == 1


def test_recall_takes_any_of_rows_that_tie(queries):
    vectors = np.repeat(points(10, dtype=np.float32), 30, axis=0)
    last_first = faiss.IndexIDMap(faiss.IndexFlatIP(DIMENSION))
    last_first.add_with_ids(vectors[::-1].copy(), np.arange(300)[::-1].copy())
    _, rows = faiss_index.search_index(last_first, queries, 5)
    assert not np.isin(rows, exact.search(vectors, queries, 5)[1]).any()
    assert faiss_index.recall(last_first, vectors, queries, 5) == 1


def test_recall_by_hand(built, vectors, queries):
    index = faiss_index.load(built("PQ8"))
    _, rows = faiss_index.search_index(index, queries, 10)
    best = np.argsort(-(queries.astype(np.float64) @ vectors.astype(np.float64).T), axis=1)[:, :10]
    by_hand = np.mean(
        [len(set(mine) & set(theirs)) / 10 for mine, theirs in zip(rows.tolist(), best.tolist(), strict=True)]
    )
    assert faiss_index.recall(index, vectors, queries, 10) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    "factory",
    ["Flat", "HNSW32", "IVF16,Flat", "SQfp16", "PQ8", "PQ8x4fs", "IVF16,PQ8", "OPQ4,IVF8,PQ4", "IVF16,PQ8x4fs,RFlat"],
)
def test_reconstructed_vectors_have_the_scores_of_the_search(factory, built, queries):
    index = faiss_index.load(built(factory))
    scores, rows = faiss_index.search_index(index, queries[:5], 10)
    tolerance = 0.02 if "fs" in factory else 1e-4  # fast scan rounds its table of products to 8 bits
    for query, its_scores, its_rows in zip(queries, scores, rows, strict=False):
        np.testing.assert_allclose(faiss_index.reconstruct(index, its_rows) @ query, its_scores, atol=tolerance)
    assert faiss_index.reconstruct(index, np.empty(0, np.int64)).shape == (0, DIMENSION)


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "IVF16,PQ8", "OPQ4,IVF8,PQ4", "SQ8"])
def test_a_memory_map_finds_the_same(factory, built, queries):
    loaded, mapped = (
        faiss_index.search_index(faiss_index.load(built(factory), memory_map=mapped), queries, 10)
        for mapped in (False, True)
    )
    np.testing.assert_array_equal(loaded[1], mapped[1])


@pytest.mark.parametrize(
    ("factory", "count", "words"),
    [
        ("Bogus", 300, "could not parse index string Bogus, expected an index of inner products such as"),
        ("", 300, "could not parse"),
        ("LSH", 300, "it only supports distances"),
        ("PQ5", 300, "multiple of the number of subquantizers"),
        ("IDMap,Flat", 300, "IDMap"),
        ("PQ8", 100, "found 100 vectors to train on, expected at least 256"),
        ("OPQ4_16,PQ4x4", 100, "expected at least 256"),
        ("IVF500,Flat", 300, "found 300 vectors to train on, expected at least 500"),
        ("PCAW16,Flat", 300, "PCAW scales each direction by a different factor"),
        ("PCAWR16,IVF4,Flat", 300, "PCAW scales each direction by a different factor"),
        ("ITQ16,Flat", 300, "ITQ subtracts the mean"),
        ("PCA64,Flat", 300, "found PCA to 64 dimensions, expected 1 to 32"),
        ("PCA0,Flat", 300, "found PCA to 0 dimensions, expected 1 to 32"),
        ("Flat", 0, "found no row"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(factory, count, words, vectors, tmp_path):
    with pytest.raises(InputError, match=words) as refused:
        faiss_index.build(vectors[:count], factory, tmp_path / "index", threads=1)
    assert "\n" not in str(refused.value) and not (tmp_path / "index").exists()


def test_vectors_that_are_not_finite_are_named(vectors, tmp_path):
    broken = vectors.copy()
    broken[321, 3] = np.nan
    for factory in ("Flat", "IVF16,Flat"):
        with pytest.raises(InputError, match="row 321 "):
            faiss_index.build(broken, factory, tmp_path / "index", threads=1)


def test_settings_that_an_index_lacks_are_refused(built, vectors, queries, tmp_path):
    flat = faiss_index.load(built("Flat"))
    with pytest.raises(InputError, match="nprobe: the index is FlatIP, 1,500 vectors of 32 dimensions, 128 bytes each"):
        faiss_index.search_index(flat, queries, 5, nprobe=4)
    with pytest.raises(InputError, match="ef_search"):
        faiss_index.search_index(faiss_index.load(built("IVF16,Flat")), queries, 5, ef_search=4)
    with pytest.raises(InputError, match="ef_construction"):
        faiss_index.build(vectors, "Flat", tmp_path / "index", ef_construction=80)
    with pytest.raises(InputError, match="the queries have 31 dimensions and the index 32"):
        faiss_index.search_index(flat, queries[:, :31], 5)


def test_refining_repairs_coarse_codes(vectors, queries, tmp_path):
    found = {}
    for factory in ("PQ8x4fs", "PQ8x4fs,RFlat"):
        faiss_index.build(vectors, factory, tmp_path / "index", threads=1)
        found[factory] = faiss_index.recall(faiss_index.load(tmp_path / "index"), vectors, queries, 10)
    assert found["PQ8x4fs,RFlat"] > found["PQ8x4fs"] + 0.2


def test_settings_reach_through_a_transform(built, vectors, queries):
    index = faiss_index.load(built("OPQ4,IVF8,PQ4"))
    faiss_index.search_index(index, queries, 5, nprobe=7)
    assert faiss.extract_index_ivf(index).nprobe == 7
    faiss_index.search_index(index, queries, 5)
    assert faiss.extract_index_ivf(index).nprobe == 8


def test_files_that_are_no_index_are_refused(built, tmp_path):
    path = tmp_path / "index.faiss"
    with pytest.raises(InputError, match="No such file"):
        faiss_index.load(path)
    whole = built("HNSW32").read_bytes()
    distances = faiss.IndexFlatL2(4)
    faiss.write_index(distances, str(tmp_path / "distances"))
    for content, words in (
        (b"", "read error"),
        (b"not an index at all", "not recognized"),
        (whole[: len(whole) // 2], "read error"),
        ((tmp_path / "distances").read_bytes(), "expected one of inner products"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=words) as refused:
            faiss_index.load(path)
        assert "\n" not in str(refused.value) and str(path) in str(refused.value)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_noticed_to_the_last_byte(vectors):
    for count in (1, 1500):
        with pytest.raises(OSError, match="No space left"):
            faiss_index.build(vectors[:count], "Flat", "/dev/full")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("Flat", "FlatIP, 1,500 vectors of 32 dimensions, 128 bytes each"),
        ("HNSW32", "HNSWFlat, 1,500 vectors of 32 dimensions, 400 bytes each"),
        ("IVF16,PQ8", "IVFPQ (16 lists), 1,500 vectors of 32 dimensions, 16 bytes each"),
        ("OPQ4,IVF8,PQ4", "LinearTransform + IVFPQ (8 lists), 1,500 vectors of 32 dimensions, 12 bytes each"),
        (
            "IVF16,PQ8x4fs,RFlat",
            "RefineFlat + IVFPQFastScan (16 lists), 1,500 vectors of 32 dimensions, 140 bytes each",
        ),
    ],
)
def test_describe(factory, words, built):
    assert faiss_index.describe(faiss_index.load(built(factory))) == words


@pytest.mark.parametrize(
    "factory", ["Flat", "PCA8,Flat", "PCAR8,Flat", "L2norm,Flat", "OPQ4,PQ4x4", "IVF4,Flat", "SQ8"]
)
def test_a_document_asked_for_by_name_has_the_score_of_a_hit(vectors, tmp_path, factory):
    some = np.asarray(vectors[:600], np.float32)
    queries = some[:5] * 1.7 + 0.1
    faiss_index.build(some, factory, tmp_path / "index", threads=1)
    index = faiss_index.load(tmp_path / "index")
    scores, rows = faiss_index.search_index(index, queries, 8)
    for expected, found in zip(scores, faiss_index.scores_of_rows(index, queries, list(rows)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factory", ["IVF4,PQ4x4fs"])
def test_an_index_that_gives_no_vectors_back_is_refused(vectors, tmp_path, factory):
    some = np.asarray(vectors[:600], np.float32)
    faiss_index.build(some, factory, tmp_path / "index", threads=1)
    with pytest.raises(InputError, match="from which single vectors cannot be read"):
        faiss_index.reconstruct(faiss_index.load(tmp_path / "index"), np.array([1, 2]))
