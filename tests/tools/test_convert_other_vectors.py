"""drtools convert --vectors: arrays, pickles, FAISS folders and parquet as other programs write them."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from test_convert import said

from drtools.formats.vectors import open_vectors

IDS = [f"d{n}" for n in range(60)]


@pytest.fixture
def encoded(drtools, toy, encoder_folder) -> np.ndarray:
    """Encode the toy corpus; its ids are IDS."""
    out = toy.folder / "encoded"
    outcome = drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "--precision", "fp32", "--dtype",
                      "float32", "-o", out)  # fmt: skip
    assert outcome.status == 0, outcome.err
    return np.array(open_vectors(out).array)


@pytest.fixture
def adopt(drtools, toy, encoder_folder):
    def run(vectors: object, *more: object, corpus: bool = True):
        words = ["convert", "--vectors", vectors, "--model", encoder_folder, *more, "-o", toy.folder / "out"]
        return drtools(*words, *(["--corpus", toy.corpus] if corpus else []))

    return run


def check(folder: Path, expected: np.ndarray, ids: list[str] = IDS) -> None:
    made = open_vectors(folder / "out")
    assert np.array_equal(made.array, expected) and list(made.ids) == ids


AGREE = "16 sampled vectors encoded again"


@pytest.mark.parametrize(("kind", "ids_kind"), [("float32", "int32"), ("float32", "int64"), ("float16", "int32")])
def test_raw_arrays_of_drhard_and_repconc(kind, ids_kind, adopt, encoded, toy):
    """passages.memmap [N, D] and passages-id.memmap [N], as its inference writes both."""
    array = np.memmap(toy.folder / "passages.memmap", kind, "w+", shape=encoded.shape)
    array[:] = encoded
    ids = np.memmap(toy.folder / "passages-id.memmap", ids_kind, "w+", shape=(60,))
    ids[:] = np.arange(60)
    array.flush(), ids.flush()
    words = [toy.folder / "passages.memmap", "--columns", 32, "--ids", toy.folder / "passages-id.memmap"]
    words += ["--raw-dtype", "float16"] if kind == "float16" else []
    assert adopt(*words, corpus=False).status == 0
    check(toy.folder, encoded.astype(kind), [str(n) for n in range(60)])
    assert "no whole rows of 31 numbers" in said(adopt(words[0], "--columns", 31, *words[3:], "--overwrite"))


def test_ids_in_an_npy_file(adopt, encoded, toy):
    np.save(toy.folder / "x.npy", encoded)
    for ids in (np.array(IDS), np.array(IDS, "S")):  # texts, and bytes
        np.save(toy.folder / "ids.npy", ids)
        outcome = adopt(toy.folder / "x.npy", "--ids", toy.folder / "ids.npy", "--overwrite")
        assert outcome.status == 0 and AGREE in outcome.err, outcome.err
        check(toy.folder, encoded)
    np.save(toy.folder / "ids.npy", np.arange(60) + 7)
    assert adopt(toy.folder / "x.npy", "--ids", toy.folder / "ids.npy", "--overwrite", corpus=False).status == 0
    check(toy.folder, encoded, [str(n + 7) for n in range(60)])
    np.save(toy.folder / "ids.npy", np.array(IDS, object), allow_pickle=True)
    assert "objects are not read" in said(adopt(toy.folder / "x.npy", "--ids", toy.folder / "ids.npy", "--overwrite"))
    np.save(toy.folder / "ids.npy", np.zeros(60, int))
    told = said(adopt(toy.folder / "x.npy", "--ids", toy.folder / "ids.npy", "--overwrite"))
    assert "row 1 (counted from 0): the id '0' is also on row 0" in told


@pytest.mark.parametrize("protocol", range(6))
def test_tevatrons_pickles(protocol, adopt, encoded, toy):
    path = toy.folder / "corpus_emb.pkl"
    path.write_bytes(pickle.dumps((encoded, IDS), protocol))
    outcome = adopt(path)
    assert outcome.status == 0 and AGREE in outcome.err, outcome.err
    check(toy.folder, encoded)
    older = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    if protocol < 4:  # which name modules by lines, without their length
        path.write_bytes(older.replace(b"numpy._core.numeric", b"numpy.core.numeric"))
        assert adopt(path, "--overwrite").status == 0


def test_shards_are_read_in_the_order_of_their_numbers(adopt, encoded, toy):
    (toy.folder / "shards").mkdir()
    for shard in range(12):
        rows = slice(5 * shard, 5 * shard + 5)
        (toy.folder / "shards" / f"corpus_emb.{shard}.pkl").write_bytes(pickle.dumps((encoded[rows], IDS[rows])))
    assert AGREE in adopt(toy.folder / "shards").err
    check(toy.folder, encoded)
    (toy.folder / "shards" / "corpus_emb.11.pkl").write_bytes(pickle.dumps((encoded[55:], IDS[55:58])))
    assert "3 ids for its 5 rows" in said(adopt(toy.folder / "shards", "--overwrite"))


def test_dprs_list_of_pairs(adopt, encoded, toy):
    path = toy.folder / "wiki_0.pkl"
    path.write_bytes(pickle.dumps([(name, vector) for name, vector in zip(IDS, encoded, strict=True)]))
    assert AGREE in adopt(path).err
    check(toy.folder, encoded)


class Payload:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["ids", "array", "whole"])
def test_no_pickle_of_vectors_runs_code(place, protocol, adopt, encoded, toy):
    payload, path = Payload(toy.folder / "ran"), toy.folder / "x.pkl"
    value = {"ids": (encoded, [payload]), "array": (np.array([payload], object), IDS), "whole": payload}[place]
    path.write_bytes(pickle.dumps(value, protocol))
    assert f"it names {os.mkdir.__module__}.mkdir" in said(adopt(path))
    assert not (toy.folder / "ran").exists() and not (toy.folder / "out").exists()
    pickle.loads(path.read_bytes())
    assert (toy.folder / "ran").exists(), "the payload works where code is run"


def test_pickles_of_something_else(adopt, encoded, toy):
    path = toy.folder / "x.pkl"
    for value, told in (({"a": 1}, "a pickled dict"), ((encoded.astype(int), IDS), "found int64 [60, 32]")):
        path.write_bytes(pickle.dumps(value))
        assert told in said(adopt(path))
    path.write_bytes(pickle.dumps((encoded, IDS))[:-40])
    assert str(path) in said(adopt(path))
    path.write_bytes(pickle.dumps(encoded))
    assert "holds no ids of its rows; use --ids" in said(adopt(path))
    path.write_bytes(pickle.dumps((encoded, IDS)))
    (toy.folder / "ids.txt").write_text("x\n")
    assert "--ids" in said(adopt(path, "--ids", toy.folder / "ids.txt"))
    assert "says its own shape" in said(adopt(path, "--columns", 32))


@pytest.mark.parametrize("factory", ["Flat", "HNSW8"])
def test_a_faiss_folder_of_pyserini(factory, adopt, encoded, toy):
    import faiss

    folder = toy.folder / "pyserini"
    folder.mkdir()
    index = faiss.index_factory(32, factory, faiss.METRIC_INNER_PRODUCT)
    index.add(encoded)
    faiss.write_index(index, str(folder / "index"))
    (folder / "docid").write_text("".join(f"{each}\n" for each in IDS))
    outcome = adopt(folder)
    assert outcome.status == 0 and AGREE in outcome.err, outcome.err
    check(toy.folder, encoded)
    (folder / "docid").write_text("d0\nd1\n")
    assert "2 ids for the 60 rows" in said(adopt(folder, "--overwrite"))


def test_compressed_and_damaged_faiss_indexes_are_refused(adopt, encoded, toy):
    import faiss

    folder = toy.folder / "pyserini"
    folder.mkdir()
    (folder / "docid").write_text("".join(f"{each}\n" for each in IDS))
    index = faiss.index_factory(32, "SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(encoded), index.add(encoded)
    faiss.write_index(index, str(folder / "index"))
    assert "IndexScalarQuantizer, whose vectors are compressed" in said(adopt(folder))
    (folder / "index").write_bytes((folder / "index").read_bytes()[:300])
    assert "could not be read as a FAISS index" in said(adopt(folder))


@pytest.mark.parametrize("fixed", [False, True])
def test_parquet_in_one_file_and_in_shards(fixed, adopt, encoded, toy):
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.list_(pa.float32(), 32) if fixed else pa.list_(pa.float32())
    table = pa.table({"title": [""] * 60, "docid": IDS, "embedding": pa.array(encoded.tolist(), kind)})
    pq.write_table(table, toy.folder / "x.parquet", row_group_size=7)
    assert AGREE in adopt(toy.folder / "x.parquet").err
    check(toy.folder, encoded)
    (toy.folder / "shards").mkdir()
    for shard in range(12):
        pq.write_table(table.slice(5 * shard, 5), toy.folder / "shards" / f"part-{shard}.parquet")
    assert adopt(toy.folder / "shards", "--overwrite").status == 0
    check(toy.folder, encoded)
    ragged = [*encoded[:59].tolist(), [1.0] * 31]
    for vectors, told in (
        (ragged, "of several lengths"),
        ([*ragged[:59], None], "without some"),
        ([["a"]] * 60, "floating point"),
        ([None] * 60, "vector is null"),
    ):
        pq.write_table(pa.table({"id": IDS, "vector": vectors}), toy.folder / "bad.parquet")
        assert told in said(adopt(toy.folder / "bad.parquet", "--overwrite"))
    pq.write_table(pa.table({"id": IDS, "numbers": ragged}), toy.folder / "bad.parquet")
    assert "found the columns id, numbers, expected one of vector" in said(
        adopt(toy.folder / "bad.parquet", "--overwrite")
    )
    (toy.folder / "bad.parquet").write_bytes(b"PAR1 and more")
    assert "could not be read as parquet" in said(adopt(toy.folder / "bad.parquet", "--overwrite"))


def test_wrong_ids_pooling_and_separators_are_noticed(adopt, drtools, encoded, toy, bert):
    path = toy.folder / "x.pkl"
    path.write_bytes(pickle.dumps((encoded, [*IDS[1:], IDS[0]])))
    told = adopt(path)
    assert told.status == 0 and "16 of 16 sampled vectors are not what" in told.err and AGREE not in told.err
    assert adopt(path, "--strict", "--overwrite").status == 2
    path.write_bytes(pickle.dumps((encoded, [f"x{n}" for n in range(59)] + ["d59"])))
    told = adopt(path, "--overwrite").err
    assert (
        "15 of 16 sampled ids are not in" in told
        and "such as 'x0'" in told
        and "1 sampled vector encoded again" in told
    )
    path.write_bytes(pickle.dumps((encoded, IDS)))
    assert "sampled vectors are not what" in adopt(path, "--title-separator", " hill hill hill ", "--overwrite").err
    words = ["convert", "--vectors", path, "--model", bert, "--corpus", toy.corpus, "-o", toy.folder / "bare"]
    assert "16 of 16 sampled vectors are not what" in drtools(*words, "--pooling", "mean").err, "without normalization"
    assert AGREE in drtools(*words, "--pooling", "mean+normalize", "--overwrite").err


def test_queries_are_encoded_again_too(adopt, drtools, toy, encoder_folder):
    drtools(
        "encode", "--model", encoder_folder, "--queries", toy.queries, "--precision", "fp32", "-o", toy.folder / "q"
    )
    made = open_vectors(toy.folder / "q")
    path = toy.folder / "queries.pkl"
    path.write_bytes(pickle.dumps((np.array(made.array), list(made.ids))))
    outcome = drtools("convert", "--vectors", path, "--model", encoder_folder, "--side", "query", "--corpus",
                      toy.queries, "-o", toy.folder / "out")  # fmt: skip
    assert outcome.status == 0 and "sampled vectors encoded again" in outcome.err, outcome.err
    assert json.loads((toy.folder / "out" / "manifest.json").read_text())["side"] == "query"
