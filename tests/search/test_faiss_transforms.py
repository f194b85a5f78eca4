"""Indexes behind a transform against numpy's brute force: a rotation keeps inner products, FAISS's own PCA does not."""

import json

import faiss
import numpy as np
import pytest
from conftest import without_files

from drtools import reporting
from drtools.cli import console
from drtools.errors import InputError
from drtools.search import faiss_index, faiss_update
from drtools.search.faiss_transforms import changes_products, refuse_lengths, train_without_mean, transforms

DIMENSION = 32


def points(count, seed=0, dimension=DIMENSION, length_one=False):
    """Return float32 vectors of unequal lengths around a mean that is as large as they are, as encoders' often are."""
    generator = np.random.default_rng(seed)
    fixed = np.random.default_rng(0)
    heaps = fixed.standard_normal((40, dimension)) * np.linspace(2, 0.2, dimension)
    mean = 2 * fixed.standard_normal(dimension)
    vectors = mean + heaps[generator.integers(0, 40, count)] + 0.5 * generator.standard_normal((count, dimension))
    if length_one:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


@pytest.fixture(scope="module")
def vectors():
    return points(1500)


@pytest.fixture(scope="module")
def queries():
    return points(60, seed=1)


def built(vectors, factory, folder):
    faiss_index.build(vectors, factory, folder / "index.faiss", threads=1)
    return faiss_index.load(folder / "index.faiss")


def top(scores, depth=10):
    return np.argsort(-scores, axis=1, kind="stable")[:, :depth]


def share(found, best):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), best.tolist(), strict=True)])


def centred_by_faiss(vectors, factory):
    """Build an index as drtools 0.1.0 did: its PCA is trained by FAISS, which subtracts the mean."""
    index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return index


@pytest.mark.parametrize(
    "factory",
    [
        *("PCA32,Flat", "PCAR32,Flat", "PCA32,IVF8,Flat", "PCA32,HNSW64", "PCA32,PCA32,Flat", "OPQ4,PCA32,Flat"),
        *("OPQ4,Flat", "OPQ4_64,Flat", "RR,Flat", "RR64,Flat", "Pad40,Flat", "PCA32,SQ4,RFlat"),
    ],
)
def test_a_rotation_of_all_dimensions_keeps_inner_products(factory, vectors, queries, tmp_path):
    index = built(vectors, factory, tmp_path)
    scores, rows = faiss_index.search_index(index, queries, 10, **({"nprobe": 8} if "IVF" in factory else {}))
    products = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    assert share(rows, top(products)) == 1
    np.testing.assert_allclose(scores, np.take_along_axis(products, rows, 1), rtol=1e-5)
    assert not changes_products(index)


def test_pca_of_all_384_dimensions_finds_all_that_exact_search_finds(tmp_path):
    vectors, queries = points(2000, dimension=384, length_one=True), points(100, 1, 384, length_one=True)
    index = built(vectors, "PCA384,Flat", tmp_path)
    assert faiss_index.recall(index, vectors, queries, 10) == 1
    centred = centred_by_faiss(vectors, "PCA384,Flat")
    assert faiss_index.recall(centred, vectors, queries, 10) < 0.97  # so that this collection can tell


def test_a_normalization_behind_a_reduction_is_reported_for_it_compares_cosines(tmp_path):
    vectors = points(500, length_one=True)
    index = built(vectors, "PCA8,L2norm,Flat", tmp_path)
    (text,) = reporting.notices()
    assert (
        "after a reduction to 8 dimensions compares the reduced vectors by their cosine" in text and "--check" in text
    )
    left = vectors @ np.linalg.svd(vectors.astype(np.float64))[2][:8].T
    scaled = left / np.linalg.norm(left, axis=1, keepdims=True)
    rows = faiss_index.search_index(index, vectors, 10)[1]
    assert share(rows, top(scaled @ scaled.T)) == 1 > share(rows, top(left @ left.T))


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        ("OPQ4_8,L2norm,Flat", True),
        ("RR8,RR,L2norm,HNSW8", True),
        ("L2norm,PCA8,Flat", False),
        ("PCA32,L2norm,Flat", False),
    ],
)
def test_a_normalization_elsewhere_changes_no_order(factory, told, tmp_path):
    built(points(500, length_one=True), factory, tmp_path)
    assert any("after a reduction" in text for text in reporting.notices()) == told


@pytest.mark.parametrize("kept", [1, 8, 16, 24, 31])
@pytest.mark.parametrize("name", ["PCA", "PCAR"])
def test_fewer_dimensions_are_those_of_the_singular_vectors(name, kept, vectors, queries, tmp_path):
    index = built(vectors, f"{name}{kept},Flat", tmp_path)
    scores, rows = faiss_index.search_index(index, queries, 10)
    axes = np.linalg.svd(vectors.astype(np.float64))[2][:kept]
    products = (queries @ axes.T) @ (vectors @ axes.T).T
    np.testing.assert_allclose(scores, -np.sort(-products, axis=1)[:, :10], rtol=1e-4, atol=1e-3)
    best = top(queries.astype(np.float64) @ vectors.T.astype(np.float64))
    assert share(rows, best) == pytest.approx(share(top(products), best), abs=0.01)


def test_rotations_find_more_than_faiss_own_pca(vectors, queries, tmp_path):
    for kept in (8, 16, 24, 32):
        index = built(vectors, f"PCA{kept},Flat", tmp_path)
        mine = faiss_index.recall(index, vectors, queries, 10)
        centred = faiss_index.recall(centred_by_faiss(vectors, f"PCA{kept},Flat"), vectors, queries, 10)
        assert mine > centred + 0.05


@pytest.mark.parametrize(
    "factory",
    [
        *("PCA16,Flat", "PCAR16,IVF16,PQ4", "PCA16,PQ4x4,RFlat", "PQ4x4,Refine(PCA16,Flat)", "PCA16,RaBitQ"),
        *("OPQ4_16,PCA8,Flat", "PCA16,OPQ4,PQ4x4", "IVF16(PCA8,Flat),Flat", "PCA16,IVF16(PCAR8,Flat),SQ8"),
    ],
)
def test_no_pca_of_an_index_moves_vectors(factory, vectors, queries, tmp_path):
    index = built(vectors, factory, tmp_path)
    rotations = [step for step in transforms(index) if isinstance(step, faiss.LinearTransform)]
    assert rotations and not changes_products(index)
    for step in rotations:
        matrix = faiss.vector_to_array(step.A).reshape(step.d_out, step.d_in)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(step.d_out), atol=1e-5)
    assert faiss_index.recall(index, vectors, queries, 10) > 0.15


def test_what_follows_a_pca_is_trained_on_what_the_pca_makes(vectors, tmp_path):
    index = built(vectors, "PCA16,IVF4,Flat", tmp_path)
    centroids = faiss.downcast_index(faiss.extract_index_ivf(index).quantizer).reconstruct_n(0, 4)
    rotated = transforms(index)[0].apply(vectors)
    directions = centroids / np.linalg.norm(centroids, axis=1, keepdims=True)
    # k-means of directions: each centroid lies along the sum of the vectors that are nearest to it
    nearest = (rotated @ directions.T).argmax(1)
    for number, direction in enumerate(directions):
        total = rotated[nearest == number].sum(0)
        assert total @ direction > 0.98 * np.linalg.norm(total)


def test_fewer_vectors_than_dimensions_are_enough(queries, tmp_path):
    few = points(10)
    index = built(few, "PCA16,Flat", tmp_path)
    scores, rows = faiss_index.search_index(index, queries, 10)
    products = queries @ few.T
    np.testing.assert_allclose(scores, np.take_along_axis(products, rows, 1), rtol=1e-4)
    assert (rows == top(products)).all()


def test_the_eigenvectors_are_those_of_a_double_loop():
    some = points(50, dimension=6)
    moments = np.zeros((6, 6))
    for vector in some.astype(np.float64):
        for i in range(6):
            for j in range(6):
                moments[i, j] += vector[i] * vector[j] / len(some)
    pca = faiss.PCAMatrix(6, 3)
    train_without_mean(pca, some)
    matrix = faiss.vector_to_array(pca.A).reshape(3, 6).astype(np.float64)
    values = faiss.vector_to_array(pca.eigenvalues)
    assert pca.is_trained and not faiss.vector_to_array(pca.b).any() and (np.diff(values) <= 0).all()
    for value, axis in zip(values, matrix, strict=False):
        np.testing.assert_allclose(moments @ axis, value * axis, rtol=1e-4, atol=1e-5)


@pytest.mark.bits
def test_the_same_vectors_make_the_same_bytes(vectors, tmp_path):
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        faiss_index.build(vectors, "PCA16,IVF4,PQ4x4", path, threads=1)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("factory", ["PCA16,Flat", "PCAR32,SQ8", "PCAW16,Flat", "PCA16,IVF8,Flat"])
def test_an_index_of_0_1_0_is_read_and_searched_as_before_and_says_so(factory, vectors, queries, tmp_path):
    old = centred_by_faiss(vectors, factory)
    faiss.write_index(old, str(tmp_path / "index.faiss"))
    console.configure("index")
    loaded = faiss_index.load(tmp_path / "index.faiss")
    told = reporting.notices()
    assert len(told) == 1 and "subtracts the mean" in told[0] and "build the index again" in told[0]
    settings = {"nprobe": 8} if "IVF" in factory else {}
    expected, found = (faiss_index.search_index(index, queries, 10, **settings) for index in (old, loaded))
    np.testing.assert_array_equal(expected[0], found[0])
    np.testing.assert_array_equal(expected[1], found[1])
    console.configure("index")
    built(vectors, factory.replace("W", ""), tmp_path)
    assert reporting.notices() == []


def test_an_index_of_0_1_0_is_updated_with_the_transform_that_it_has(vectors, queries, tmp_path):
    faiss.write_index(centred_by_faiss(vectors, "PCA16,Flat"), str(tmp_path / "index.faiss"))
    (tmp_path / "manifest.json").write_text(json.dumps({"factory": "PCA16,Flat"}))
    more = np.concatenate([vectors, points(100, seed=5)])
    change = faiss_update.Change(np.concatenate([np.arange(1500), np.full(100, -1)]), np.empty(0, np.int64))
    faiss_update.update(str(tmp_path), more, change, tmp_path / "new.faiss", 1, lambda done: None)
    anew = centred_by_faiss(vectors, "PCA16,Flat")
    anew.add(more[1500:])
    expected, found = (
        faiss_index.search_index(i, queries, 10) for i in (anew, faiss_index.load(tmp_path / "new.faiss"))
    )
    np.testing.assert_allclose(expected[0], found[0], rtol=1e-5)
    np.testing.assert_array_equal(expected[1], found[1])


@pytest.mark.slow
def test_the_tools_say_that_an_index_of_0_1_0_is_centred(toy, encoder_folder, drtools):
    folder, found = toy.folder, {}
    encode = ("encode", "--model", encoder_folder, "--precision", "fp32", "--corpus", toy.corpus)
    assert drtools(*encode, "-o", folder / "vectors").status == 0
    index = ("index", "--vectors", folder / "vectors", "--factory", "PCA8,Flat", "-o", folder / "index")
    outcome = drtools(*index, "--check", "--strict")
    assert outcome.status == 0 and "note" not in outcome.err
    search = ("search", "--index", folder / "index", "--queries", toy.queries, "--precision", "fp32", "--depth", 5)
    assert drtools(*search, "--strict", "-o", folder / "new.run").status == 0
    old = centred_by_faiss(np.load(folder / "vectors" / "vectors.npy").astype(np.float32), "PCA8,Flat")
    without_files(folder / "index")
    faiss.write_index(old, str(folder / "index" / "index.faiss"))
    outcome = drtools(*search, "-o", folder / "old.run")
    assert outcome.status == 0 and "its PCA was built by drtools 0.1.0 and subtracts the mean" in outcome.err
    assert drtools(*search, "--strict", "-o", folder / "strict.run").status == 2
    for name in ("new", "old"):
        found[name] = (folder / f"{name}.run").read_text()
    assert found["new"].count("\n") == found["old"].count("\n") > 0 and found["new"] != found["old"]
    record = json.loads((folder / "index" / "manifest.json").read_text())
    assert "already done" in drtools(*index, "--check").err
    del record["request"]["changes"]
    (folder / "index" / "manifest.json").write_text(json.dumps(record))
    outcome = drtools(*index, "--check")
    assert outcome.status == 2 and "since then PCA rotates the vectors and does not subtract" in outcome.err


def test_l2norm_is_for_vectors_of_length_one(vectors):
    refuse_lengths(points(1500, length_one=True).astype(np.float16), "L2norm,Flat")
    refuse_lengths(vectors, "Flat")
    with pytest.raises(InputError, match=r"factory PCA16,L2norm,Flat: L2norm compares by the cosine, and row 0 "):
        refuse_lengths(vectors, "PCA16,L2norm,Flat")
