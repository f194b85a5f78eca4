"""Updated FAISS indexes against full builds, and against the same trained index filled anew."""

import json
import shutil

import numpy as np
import pytest
from conftest import write_jsonl

from drtools.errors import InputError
from drtools.formats.trec import read_run
from drtools.search import faiss_index, faiss_update

DIMENSION = 32


def points(count, seed=0):
    generator = np.random.default_rng(seed)
    heaps = np.random.default_rng(0).standard_normal((40, DIMENSION))
    vectors = heaps[generator.integers(0, 40, count)] + 0.5 * generator.standard_normal((count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def old():
    return points(900)


@pytest.fixture(scope="module")
def change():
    """Ten rows gone, twenty new, of the rest some in another order."""
    rows = np.delete(np.arange(900), np.arange(5, 900, 90))
    rows[:50] = rows[:50][::-1].copy()
    rows = np.insert(rows, [0, *range(100, 290, 10)], -1)
    return faiss_update.Change(rows, np.arange(5, 900, 90))


def after(old, change):
    vectors = old[np.maximum(change.rows, 0)]
    vectors[change.rows < 0] = points(len(change.new), seed=3)
    return vectors


def updated(folder, old, change, factory, array):
    folder.mkdir(exist_ok=True)
    faiss_index.build(old, factory, folder / "index.faiss", train_sample=800, threads=1)
    (folder / "manifest.json").write_text(json.dumps({"factory": factory}))
    told = []
    note = faiss_update.update(str(folder), array, change, folder / "new.faiss", 1, told.append)
    assert told == ([len(change.new)] if len(change.new) else [])
    return note


@pytest.mark.parametrize(
    "factory",
    [
        "Flat",
        "PCA16,Flat",
        "SQ8",
        "PQ8",
        "IVF16,Flat",
        "IVF16,PQ8",
        "OPQ4,IVF8,PQ4",
        "IVF16_HNSW8,SQ8",
        "RR32,RaBitQ",
        "IVF16,RaBitQ",
    ],
)
def test_an_updated_index_finds_what_the_trained_one_finds_when_filled_anew(factory, old, change, tmp_path):
    array = after(old, change)
    assert updated(tmp_path / "old", old, change, factory, array) is None
    assert_as_filled_anew(tmp_path / "old", factory, array)


def assert_as_filled_anew(folder, factory, array):
    anew = faiss_index.load(folder / "index.faiss")
    anew.reset()
    anew.add(array.astype(np.float32))
    queries = points(60, seed=9).astype(np.float32)
    (scores, rows), (others, other_rows) = (
        faiss_index.search_index(index, queries, 30, nprobe=16 if "IVF" in factory else None)
        for index in (anew, faiss_index.load(folder / "new.faiss"))
    )
    # PCA's product over fewer rows at once differs in its last bits
    np.testing.assert_allclose(scores, others, rtol=1e-5 if "PCA" in factory else 0)
    assert (rows == other_rows).all()


def test_an_updated_flat_index_is_the_bytes_of_a_full_build(old, change, tmp_path):
    array = after(old, change)
    updated(tmp_path / "old", old, change, "Flat", array)
    faiss_index.build(array, "Flat", tmp_path / "full")
    assert (tmp_path / "old" / "new.faiss").read_bytes() == (tmp_path / "full").read_bytes()


@pytest.mark.parametrize("factory", ["PQ8x4fs", "IVF16,PQ8x4fs,RFlat"])
def test_what_cannot_give_rows_up_says_so_and_takes_more_at_its_end(factory, old, change, tmp_path):
    with pytest.raises(
        InputError,
        match="cannot remove or move rows, but 10 of its rows are gone or changed; build the index again",
    ):
        updated(tmp_path / "old", old, change, factory, after(old, change))
    more = faiss_update.Change(np.concatenate([np.arange(900), np.full(30, -1)]), np.empty(0, np.int64))
    array = np.concatenate([old, points(30, seed=3)])
    updated(tmp_path / "old", old, more, factory, array)
    assert_as_filled_anew(tmp_path / "old", factory, array)


def test_a_graph_takes_more_at_its_end(old, tmp_path):
    more = faiss_update.Change(np.concatenate([np.arange(900), np.full(30, -1)]), np.empty(0, np.int64))
    array = np.concatenate([old, points(30, seed=3)])
    updated(tmp_path / "old", old, more, "HNSW16", array)
    _, rows = faiss_index.search_index(
        faiss_index.load(tmp_path / "old" / "new.faiss"), array[-30:].astype(np.float32), 3
    )
    assert np.mean([row in found for row, found in zip(range(900, 930), rows, strict=True)]) > 0.9


def test_much_that_is_newer_than_the_training_is_said(old, tmp_path):
    array = np.concatenate([old, points(600, seed=4)])
    more = faiss_update.Change(np.concatenate([np.arange(900), np.full(600, -1)]), np.empty(0, np.int64))
    assert "600 of 1,500 vectors were added since" in updated(tmp_path / "a", old, more, "IVF16,Flat", array)
    assert updated(tmp_path / "b", old, more, "Flat", array) is None
    few = faiss_update.Change(np.arange(900), np.empty(0, np.int64), new_before=600)
    assert "600 of 900 vectors" in updated(tmp_path / "c", old, few, "IVF16,Flat", old)


@pytest.fixture
def indexed(toy, encoder_folder, drtools):
    """Vectors and an index of the toy corpus, and vectors of it a day later.

    One text changed, one new, two gone, in another order.
    """
    documents = [dict(document) for document in toy.documents[2:][::-1]]
    documents[7]["text"] = "anvil anvil"
    documents.insert(3, {"_id": "new", "title": "", "text": "lynx runs"})
    toy.later = write_jsonl(toy.folder / "later.jsonl", documents)
    for name, corpus in (("v1", toy.corpus), ("v2", toy.later)):
        assert (
            drtools(
                "encode",
                "--model",
                encoder_folder,
                "--precision",
                "fp32",
                "--corpus",
                corpus,
                "-o",
                toy.folder / name,
            ).status
            == 0
        )
    assert drtools("index", "--vectors", toy.folder / "v1", "-o", toy.folder / "old").status == 0
    return toy


def test_the_tool_updates_a_flat_index_to_the_full_one(indexed, drtools):
    folder = indexed.folder
    assert (
        "3 of 60 rows are gone or changed, 2 of 59 vectors are new"
        in drtools(
            "index", "--vectors", folder / "v2", "--update", folder / "old", "--dry-run", "-o", folder / "none"
        ).err
    )
    outcome = drtools("index", "--vectors", folder / "v2", "--update", folder / "old", "-o", folder / "updated")
    assert outcome.status == 0, outcome.err
    assert drtools("index", "--vectors", folder / "v2", "-o", folder / "full").status == 0
    for name in ("index.faiss", "ids.txt", "digests.npy"):
        assert (folder / "updated" / name).read_bytes() == (folder / "full" / name).read_bytes()
    runs = []
    for name in ("updated", "full"):
        assert (
            drtools(
                "search",
                "--index",
                folder / name,
                "--queries",
                indexed.queries,
                "--precision",
                "fp32",
                "-o",
                folder / f"{name}.run",
            ).status
            == 0
        )
        runs.append(read_run(folder / f"{name}.run"))
    assert runs[0] == runs[1] and any("new" in hits for hits in runs[0].values())
    again = drtools(
        "index", "--vectors", folder / "v2", "--update", folder / "updated", "-o", folder / "updated", "--overwrite"
    )
    assert (
        again.status == 0
        and "0 of 59 rows are gone" in again.err
        and (folder / "updated" / "index.faiss").read_bytes() == (folder / "full" / "index.faiss").read_bytes()
    )
    assert json.loads((folder / "updated" / "manifest.json").read_text())["new_since_training"] == 2


def test_the_tool_refuses_what_it_cannot_update(indexed, encoder_folder, bert, drtools):
    folder = indexed.folder
    drtools("encode", "--model", bert, "--pooling", "cls", "--corpus", indexed.later, "-o", folder / "others")
    shutil.copytree(folder / "old", folder / "older")
    (folder / "older" / "digests.npy").unlink()
    record = json.loads((folder / "older" / "manifest.json").read_text())
    record["files"].pop("digests.npy")
    (folder / "older" / "manifest.json").write_text(json.dumps(record))
    drtools("index", "--corpus", indexed.corpus, "-o", folder / "bm25")
    update = ["index", "-o", folder / "new", "--update"]
    for words, expected in (
        ([folder / "old", "--vectors", folder / "others"], "made from vectors of another encoder"),
        ([folder / "older", "--vectors", folder / "v2"], "has no digests.npy"),
        ([folder / "bm25", "--vectors", folder / "v2"], "found lucene, expected a FAISS index"),
        ([folder / "old", "--vectors", folder / "v2", "--factory", "HNSW16"], "its --factory is Flat, not HNSW16"),
        ([folder / "old", "--corpus", indexed.later], "--update is for FAISS indexes"),
        ([folder / "old", "--vectors", folder / "v2", "--train-sample", "9"], "--update is for FAISS indexes"),
    ):
        outcome = drtools(*update, *words)
        assert outcome.status == 2 and expected in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err
    assert not (folder / "new").exists() and not (folder / "new.partial").exists()


def test_the_tool_drops_a_tenth_and_counts_it(indexed, encoder_folder, drtools):
    folder = indexed.folder
    update = ["index", "--update", folder / "old", "-o", folder / "new", "--vectors"]
    outcome = drtools(*update, folder / "v2")
    assert outcome.status == 0 and "2 of its 60 documents are not in" in outcome.err, outcome.err
    strict = drtools(*update, folder / "v2", "--overwrite", "--strict")
    assert strict.status == 2 and "2 of its 60 documents are not in" in strict.err, strict.err
    delivery = write_jsonl(folder / "delivery.jsonl", [*indexed.documents[:9], {"_id": "new", "text": "lynx"}])
    encode = ["encode", "--model", encoder_folder, "--precision", "fp32", "--corpus", delivery]
    assert drtools(*encode, "-o", folder / "few").status == 0
    update[4] = folder / "newer"
    for more in ([], ["--dry-run"], ["--allow-dropped", "0.8"]):
        refused = drtools(*update, folder / "few", *more)
        assert refused.status == 2 and "51 of its 60 documents are not in" in refused.err, refused.err
        assert "--allow-dropped 0.85" in refused.err and not (folder / "newer").exists()
    allowed = drtools(*update, folder / "few", "--allow-dropped", "0.85")
    assert allowed.status == 0 and "51 of its 60 documents are not in" in allowed.err, allowed.err
    assert len((folder / "newer/ids.txt").read_text().split()) == 10
    alone = drtools("index", "--vectors", folder / "few", "-o", folder / "x", "--allow-dropped", "1")
    assert alone.status == 2 and "--allow-dropped needs --update" in alone.err
