"""Graphs with rows marked as deleted, against numpy's brute force over the rows that are left."""

import json

import faiss
import numpy as np
import pytest
from conftest import write_jsonl

from drtools.errors import InputError
from drtools.formats.examples import read_examples
from drtools.formats.trec import read_run
from drtools.search import faiss_index, faiss_marks, faiss_update

DIMENSION, COUNT, DEPTH = 32, 1200, 30
GRAPHS = ["HNSW16", "HNSW16_SQ8", "L2norm,HNSW16", "HNSW16_SQ8,RFlat", "PCA32,HNSW16_SQ8,RFlat"]


def points(count, seed=0):
    """Return normalized vectors float16 in 40 heaps, row i in heap i % 40, as encoders make them."""
    generator = np.random.default_rng(seed)
    heaps = np.random.default_rng(0).standard_normal((40, DIMENSION))
    vectors = heaps[np.arange(count) % 40] + 0.5 * generator.standard_normal((count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def a_day(array, marked_before, seed):
    """Return the vectors of the day after, in another order, and the change: 25 of them gone, 20 new."""
    generator = np.random.default_rng(seed)
    gone = np.sort(generator.choice(len(array), 25, replace=False))
    rows = generator.permutation(np.concatenate([np.setdiff1d(np.arange(len(array)), gone), np.full(20, -1)]))
    later = array[np.maximum(rows, 0)]
    later[rows < 0] = points(20, seed=100 + seed)
    return later, faiss_update.Change(rows, gone, 0, marked_before)


def exact_rows(array, queries, depth):
    return np.argsort(-(queries @ array.T.astype(np.float32)), axis=1, kind="stable")[:, :depth]


def recall_of(index, array, queries):
    """Check that a search returns `DEPTH` rows with the scores of these very rows; return its recall."""
    scores, rows = faiss_index.search_index(index, queries, DEPTH)
    assert rows.shape == (len(queries), DEPTH) and rows.min() >= 0 and rows.max() < len(array)
    assert all(len(set(row)) == DEPTH for row in rows.tolist())
    products = np.take_along_axis(queries @ array.T.astype(np.float32), rows, 1)
    np.testing.assert_allclose(scores, products, atol=0.03)  # of codes of 8 bits
    best = exact_rows(array, queries, DEPTH)
    return np.mean([len(set(one) & set(other)) / DEPTH for one, other in zip(rows, best, strict=True)])


@pytest.mark.parametrize("factory", GRAPHS)
def test_two_days_of_marks_keep_recall_and_never_return_what_is_gone(factory, tmp_path):
    array, queries = points(COUNT), points(40, seed=9).astype(np.float32)
    folder = tmp_path / "index"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"factory": factory}))
    faiss_index.build(array, factory, folder / "index.faiss", threads=1)
    before = recall_of(faiss_index.load(folder / "index.faiss"), array, queries)
    assert before > 0.93
    for day in range(2):
        array, change = a_day(array, 25 * day, day)
        faiss_update.update(str(folder), array, change, folder / "index.faiss", 1, lambda count: None)
        index = faiss_index.load(folder / "index.faiss")
        assert (faiss_marks.count_rows(index), index.ntotal) == (len(array), len(array) + 25 * (day + 1))
        assert recall_of(index, array, queries) > before - 0.02
        assert faiss_index.recall(index, array, queries, DEPTH) > before - 0.02
        rows = np.arange(0, len(array), 7)
        if "PCA" not in factory:
            np.testing.assert_allclose(faiss_index.reconstruct(index, rows), array[rows], atol=0.02)
        (scores,) = faiss_index.scores_of_rows(index, queries[:1], [rows])
        np.testing.assert_allclose(scores, array[rows].astype(np.float32) @ queries[0], atol=0.03)
        assert f"{len(array):,} vectors of 32 dimensions" in faiss_index.describe(index)


def test_other_programs_find_rows_of_the_ids_file_or_none(tmp_path):
    array, change = a_day(points(COUNT), 0, 0)
    faiss_index.build(points(COUNT), "HNSW16", tmp_path / "index.faiss", threads=1)
    (tmp_path / "manifest.json").write_text(json.dumps({"factory": "HNSW16"}))
    faiss_update.update(str(tmp_path), array, change, tmp_path / "new.faiss", 1, lambda count: None)
    index = faiss.read_index(str(tmp_path / "new.faiss"))
    _, rows = index.search(array[:50].astype(np.float32), 1)
    assert np.mean(rows[:, 0] == np.arange(50)) > 0.9
    _, rows = index.search(points(COUNT)[change.gone].astype(np.float32), 1)
    assert np.mean(rows[:, 0] == -1) > 0.9


def test_a_query_whose_whole_neighbourhood_is_gone_gets_its_hits(tmp_path):
    old = points(COUNT)
    gone = np.flatnonzero((np.arange(COUNT) % 40 == 3) | (np.arange(COUNT) % 40 == 17))
    rows = np.setdiff1d(np.arange(COUNT), gone)
    array, queries = old[rows], old[gone].astype(np.float32)
    faiss_index.build(old, "HNSW16", tmp_path / "index.faiss", threads=1)
    (tmp_path / "manifest.json").write_text(json.dumps({"factory": "HNSW16"}))
    change = faiss_update.Change(rows, gone)
    faiss_update.update(str(tmp_path), array, change, tmp_path / "new.faiss", 1, lambda count: None)
    index = faiss_index.load(tmp_path / "new.faiss")
    # so few candidates that a search meets marked rows alone
    scores, found = faiss_index.search_index(index, queries, 20, ef_search=20)
    assert found.shape == (len(gone), 20) and found.min() >= 0 and (np.diff(scores) <= 0).all()
    best = exact_rows(array, queries, 20)
    assert np.mean([len(set(one) & set(other)) / 20 for one, other in zip(found, best, strict=True)]) > 0.7
    _, found = faiss_index.search_index(index, queries[:2], COUNT)
    assert found.shape == (2, len(array)) and (np.sort(found, axis=1) == np.arange(len(array))).mean() > 0.99


def test_numbers_of_rows_that_do_not_fit_are_damage(tmp_path):
    index = faiss.IndexHNSWFlat(DIMENSION, 16, faiss.METRIC_INNER_PRODUCT)
    index.add(points(6).astype(np.float32))
    for wrong in ([0, 1, 2, 3, -1, 5], [0, 1, 2, 2, -1, 3]):
        faiss_index.write(faiss_marks.with_rows(index, np.array(wrong)), tmp_path / "index.faiss")
        with pytest.raises(InputError, match="numbers of rows do not fit its vectors"):
            faiss_index.load(tmp_path / "index.faiss")


@pytest.fixture
def days(toy, encoder_folder, drtools):
    """Vectors of the toy corpus and of two later days, and a graph of the first.

    On the second day one text is changed, one is new and two are gone; on the third four more are gone.
    """
    documents = [dict(document) for document in toy.documents[2:][::-1]]
    documents[7]["text"] = "anvil anvil"
    toy.changed = documents[7]["_id"]
    documents.insert(3, {"_id": "new", "title": "", "text": "lynx runs"})
    toy.gone = [document["_id"] for document in toy.documents[:2]]
    corpora = [toy.corpus, write_jsonl(toy.folder / "2.jsonl", documents)]
    corpora.append(write_jsonl(toy.folder / "3.jsonl", documents[:-4]))
    for day, corpus in enumerate(corpora, start=1):
        words = ["--model", encoder_folder, "--precision", "fp32", "--corpus", corpus]
        assert drtools("encode", *words, "-o", toy.folder / f"v{day}").status == 0
    words = ["--vectors", toy.folder / "v1", "--factory", "HNSW8", "--ef-construction", "33", "-o", toy.folder / "i1"]
    assert drtools("index", *words).status == 0
    return toy


def test_the_tools_never_return_marked_documents_and_fill_their_lists(days, encoder_folder, drtools):
    folder = days.folder
    outcome = drtools("index", "--vectors", folder / "v2", "--update", folder / "i1", "-o", folder / "i2")
    assert outcome.status == 0, outcome.err
    assert "3 of 62 rows are marked as deleted; the index is built anew if these are more than 6" in outcome.err
    shown = drtools("show", folder / "i2")
    assert shown.status == 0 and "3 of its 62 stored rows are marked as deleted" in shown.out, shown.out + shown.err
    assert "if these are more than 6" in shown.out and "59 vectors" in shown.out
    search = ["search", "--queries", days.queries, "--precision", "fp32", "--depth", "40"]
    for name, source in (("marked", ["--index", folder / "i2"]), ("exact", ["--vectors", folder / "v2"])):
        assert drtools(*search, *source, "-o", folder / f"{name}.run").status == 0
    marked, exact = (read_run(folder / f"{name}.run") for name in ("marked", "exact"))
    for query_id, hits in exact.items():
        found = marked[query_id]
        assert len(found) == 40 and not set(days.gone) & set(found)
        assert len(set(found) & set(hits)) >= 39
        for document in set(found) & set(hits):
            assert found[document] == pytest.approx(hits[document], abs=1e-3)
    mining = ["mine-negatives", "--index", folder / "i2", "--queries", days.queries, "--qrels", days.qrels]
    outcome = drtools(
        *mining, "--ranks", "1-59", "--negatives", "25", "--precision", "fp32", "-o", folder / "mined.jsonl"
    )
    assert outcome.status == 0, outcome.err
    negatives = [set(example.negatives) for example in read_examples(folder / "mined.jsonl")]
    assert negatives and all(len(each) == 25 and not set(days.gone) & each for each in negatives)


def test_an_index_is_built_anew_when_over_a_tenth_is_marked(days, drtools):
    folder = days.folder
    assert drtools("index", "--vectors", folder / "v2", "--update", folder / "i1", "-o", folder / "i2").status == 0
    assert json.loads((folder / "i2/manifest.json").read_text())["marked"] == 3
    outcome = drtools("index", "--vectors", folder / "v3", "--update", folder / "i2", "-o", folder / "i3")
    assert outcome.status == 0, outcome.err
    assert "7 of 62 rows are marked as deleted, more than a tenth: the index is built anew" in outcome.err
    index = faiss_index.load(folder / "i3/index.faiss")
    assert index.ntotal == 55 and faiss.downcast_index(index).hnsw.efConstruction == 33
    assert "marked" not in json.loads((folder / "i3/manifest.json").read_text())


def test_adore_trains_against_a_graph_with_marks(days, encoder_folder, drtools):
    folder = days.folder
    assert drtools("index", "--vectors", folder / "v2", "--update", folder / "i1", "-o", folder / "i2").status == 0
    words = ["--model", encoder_folder, "--queries", days.queries, "--qrels", days.qrels, "--steps", "2"]
    outcome = drtools("train-adore", "--vectors", folder / "v2", "--index", folder / "i2", *words, "-o", folder / "q")
    assert outcome.status == 0, outcome.err
