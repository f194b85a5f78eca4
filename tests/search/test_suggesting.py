"""Re-scoring of an index's hits, presets, and the comparison of factories, against brute force in numpy."""

import json

import faiss
import numpy as np
import pytest

from drtools.search import faiss_index, suggesting
from drtools.search.presets import PRESETS, factory_of
from drtools.search.rescoring import rescored
from drtools.search.suggesting import factories, mark_pareto, recall_of


def clustered(count, dimension, seed=0):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(12, dimension))
    vectors = centres[random.integers(12, size=count)] + 0.7 * random.normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_candidates_get_exact_scores_in_exact_order():
    vectors, queries = clustered(200, 16), clustered(5, 16, seed=1)
    vectors[7] = vectors[3]
    random = np.random.default_rng(2)
    rows = np.stack([random.permutation(200)[:40] for _ in queries])
    rows[0, :2], rows[1, 5:9] = (7, 3), -1
    rows[0, 2:][np.isin(rows[0, 2:], (3, 7))] = -1
    scores, found = rescored(vectors, queries, rows, 10)
    for at, query in enumerate(queries):
        candidates = sorted((row for row in rows[at] if row >= 0), key=lambda row: (-float(vectors[row] @ query), row))
        exact = [float(vectors[row] @ query) for row in candidates[:10]]
        np.testing.assert_allclose(scores[at], exact, atol=1e-6)
        np.testing.assert_allclose([float(vectors[row] @ query) for row in found[at]], exact, atol=1e-6)
    _, all_rows = rescored(vectors, queries, rows, 40)
    assert all_rows[1, -4:].tolist() == [-1] * 4 and [*all_rows[0]].index(3) < [*all_rows[0]].index(7)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_smaller_and_rescoring_finds_what_they_missed(name, tmp_path):
    vectors, queries = clustered(900, 64), clustered(40, 64, seed=3)
    faiss_index.build(vectors, factory_of(name, 64), tmp_path / "index")
    index = faiss_index.load(tmp_path / "index")
    each = (tmp_path / "index").stat().st_size / 900
    assert each < {"int8": 67, "int4": 35, "binary": 17, "rabitq": 36}[name]  # the rotation is 16 kB
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    _, plain = faiss_index.search_index(index, queries, 10)
    _, candidates = faiss_index.search_index(index, queries, 200)
    _, again = rescored(vectors, queries, candidates, 10)
    of_plain, of_again = (
        np.mean([len({*one} & {*other}) / 10 for one, other in zip(found, truth, strict=True)])
        for found in (plain, again)
    )
    assert of_plain <= of_again and of_again > 0.9


@pytest.mark.parametrize("factory", ["RaBitQ", "RR64,RaBitQ", "IVF8,RaBitQ", "RR64,IVF8,RaBitQ", "RaBitQ4", "SQ8"])
def test_the_scores_of_chosen_rows_are_those_of_a_search(factory, tmp_path):
    vectors, queries = clustered(600, 64), clustered(6, 64, seed=6)
    faiss_index.build(vectors, factory, tmp_path / "index")
    index = faiss_index.load(tmp_path / "index")
    scores, rows = faiss_index.search_index(index, queries, 600, **({"nprobe": 8} if "IVF" in factory else {}))
    wanted = [own[[5, 0, 77, 5]] for own in rows[:5]] + [np.empty(0, np.int64)]
    found = faiss_index.scores_of_rows(index, queries, wanted)
    for at in range(5):
        np.testing.assert_allclose(found[at], scores[at][[5, 0, 77, 5]], atol=1e-5)
    assert len(found[5]) == 0


def test_recall_is_that_of_sets():
    vectors, queries = clustered(300, 8), clustered(6, 8, seed=4)
    products = queries @ vectors.T
    best = -np.sort(-products, axis=1)[:, :100]
    found = np.argsort(-(products + 0.1 * np.random.default_rng(5).normal(size=products.shape)), axis=1)[:, :100]
    found[0, 3:] = -1
    for depth in (10, 100):
        exact = np.argsort(-products, axis=1)[:, :depth]
        shares = [len({*a[:depth]} & {*b}) / depth for a, b in zip(found, exact, strict=True)]
        assert recall_of(vectors, queries, best, found, depth) == pytest.approx(np.mean(shares), abs=1e-4)


def test_the_pareto_set_by_hand():
    names = ["small", "fast", "good", "worse", "same"]
    rows = [(10, 5, 0.5), (50, 1, 0.5), (50, 5, 0.9), (50, 5, 0.8), (10, 5, 0.5)]
    results = [
        {"factory": name, "bytes_a_document": size, "ms_a_query": ms, "recall_100": recall}
        for name, (size, ms, recall) in zip(names, rows, strict=True)
    ]
    assert [each["factory"] for each in mark_pareto(results) if each["pareto"]] == ["small", "fast", "good", "same"]


@pytest.mark.parametrize("count,dimension", [(50, 5), (1000, 96), (60_000, 384), (3_000_000, 768)])
def test_the_dozen_are_factories(count, dimension):
    found = factories(count, dimension)
    assert len(found) == len({*found}) == 15
    for factory in found:
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
        lists = getattr(faiss.downcast_index(index), "nlist", 0)
        assert lists <= max(1, count // 39)


@pytest.fixture
def encoded(toy, encoder_folder, drtools):
    for side, source in (("corpus", toy.corpus), ("queries", toy.queries)):
        words = ["--dtype", "float32", "--precision", "fp32", "-o", toy.folder / f"{side}-vectors"]
        done = drtools("encode", "--model", encoder_folder, f"--{side}", source, *words)
        assert done.status == 0, done.err
    return toy.folder / "corpus-vectors", toy.folder / "queries-vectors"


def hits(out):
    found = {}
    for line in out.splitlines():
        query, _, document, _, score, _ = line.split()
        found.setdefault(query, {})[document] = float(score)
    return found


def test_search_rescores_from_the_vectors_of_the_index(encoded, toy, drtools, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documents, queries = encoded
    assert drtools("index", "--vectors", documents, "--factory", "binary", "-o", "index").status == 0
    assert json.loads((tmp_path / "index/manifest.json").read_text())["factory"] == "RaBitQ"
    search = ["search", "--queries", toy.queries, "--query-vectors", queries, "--depth", "5", "-o", "-"]
    exact = hits(drtools(*search[:1], *search[3:], "--vectors", documents).out)
    search = [*search[:1], *search[3:], "--index", "index"]
    compressed = hits(drtools(*search).out)
    again = drtools(*search, "--rescore", "0")
    assert again.status == 0, again.err
    assert hits(again.out) == exact != compressed
    some = hits(drtools(*search, "--rescore", "12", "--ignore-identical-ids").out)
    vectors = {name: np.load(folder / "vectors.npy") for name, folder in (("d", documents), ("q", queries))}
    for query, found in some.items():
        for document, score in found.items():
            expected = vectors["q"][int(query[1:])] @ vectors["d"][int(document[1:])]
            assert score == pytest.approx(expected, abs=1e-5)
    explicit = drtools(*search, "--rescore", "0", "--vectors", documents)
    assert explicit.out == again.out

    for words, reason in (
        (["--rescore", "5", "--vectors", queries], "vectors of queries"),
        (["--vectors", documents], "name what to search"),
    ):
        refused = drtools(*search, *words)
        assert refused.status == 2 and reason in refused.err
    documents.rename(tmp_path / "elsewhere")
    gone = drtools(*search, "--rescore", "5")
    assert gone.status == 2 and "no longer there" in gone.err
    moved = drtools(*search, "--rescore", "0", "--vectors", tmp_path / "elsewhere")
    assert moved.out == again.out


@pytest.mark.slow
def test_the_tool_measures_and_continues(encoded, drtools, tmp_path, monkeypatch):
    documents, queries = encoded
    words = ["suggest-index", "--vectors", documents, "--query-vectors", queries]
    listed = ["--factory", "Flat", "--factory", "int8", "--factory", "SQ4"]
    done = drtools(*words, *listed, "--json", "-o", tmp_path / "found.json")
    assert done.status == 0, done.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["documents"], found["dimension"], found["queries"]) == (60, 32, 20)
    array, asked = np.load(documents / "vectors.npy"), np.load(queries / "vectors.npy")
    truth = np.argsort(-(asked @ array.T), axis=1)
    for each, factory, size in zip(found["factories"], ("Flat", "SQ8", "SQ4"), (128, 32, 16), strict=True):
        assert each["factory"] == factory and each["recall_100"] == 1.0  # 60 documents
        assert size < each["bytes_a_document"] < size + 10
        faiss_index.build(array, factory, tmp_path / "index")
        _, rows = faiss_index.search_index(faiss_index.load(tmp_path / "index"), asked, 60)
        shares = [len({*a[:10]} & {*b[:10]}) / 10 for a, b in zip(rows, truth, strict=True)]
        assert each["recall_10"] == pytest.approx(np.mean(shares), abs=1e-4) and each["rescored_10"] == 1.0
    measured, built = suggesting._measured, []

    def stopped(*inputs):
        built.append(inputs[3])
        if len(built) == 2:
            raise KeyboardInterrupt
        return measured(*inputs)

    monkeypatch.setattr(suggesting, "_measured", stopped)
    out = tmp_path / "again.json"
    assert drtools(*words, *listed, "--json", "-o", out).status == 130 and not out.exists()
    assert drtools(*words, *listed, "--json", "-o", out).status == 0 and built == ["Flat", "SQ8", "SQ8", "SQ4"]
    again = json.loads(out.read_text())
    assert [each["recall_10"] for each in again["factories"]] == [each["recall_10"] for each in found["factories"]]
    shown = drtools(*words, *listed, "-o", "-")
    assert shown.status == 0 and "20 queries, one thread" in shown.out and "recall@100" in shown.out
    assert [line.split()[0] for line in shown.out.splitlines()[2:]] == ["Flat", "SQ8", "SQ4"]
    refused = drtools(*words, "--factory", "ITQ,LSH", "-o", "-")
    assert refused.status == 2 and "ITQ,LSH" in refused.err
    whole = drtools("suggest-index", "--vectors", documents, "-o", "-")
    assert whole.status == 0, whole.err
    assert "left out PQ4" in whole.err and "documents as queries" in whole.out and "HNSW32" in whole.out
