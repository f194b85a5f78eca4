"""What an engine's index refuses before it speaks to a server."""

import socket

import numpy as np
import pytest
from engine_vectors import ids_of, random_vectors, write_corpus, write_vectors

from drtools.errors import InputError
from drtools.formats.fields import parse_names, read_fields
from drtools.formats.ids import Ids
from drtools.search.engines.engine import Effort, IndexSettings
from drtools.search.engines.milvus import efforts
from drtools.search.recall import as_queries


@pytest.fixture
def vectors(tmp_path):
    return write_vectors(tmp_path / "vectors", ids_of(40), random_vectors(40))


@pytest.mark.parametrize(
    "uri",
    ["http://root:Milvus@127.0.0.1:19530", "http://127.0.0.1:19530?token=secret", "ftp://host", "127.0.0.1", "folder"],
)
def test_a_place_with_a_password_or_of_another_kind_is_refused(drtools, vectors, tmp_path, uri):
    refused = drtools("index", "--vectors", vectors, "--milvus", uri, "--collection", "c", "-o", tmp_path / "index")
    assert refused.status == 2 and "--milvus" in refused.err and refused.err.count("\n") == 1, refused.err
    assert "secret" not in refused.err and "root" not in refused.err and not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--collection", "c d"], "--collection c d"),
        (["--collection", "c", "--factory", "Flat"], "--factory"),
        (["--collection", "c", "--fields", "lang,id"], "--fields lang,id"),
        (["--collection", "c", "--fields", "lang"], "--corpus"),
        (["--collection", "c", "--index-parameters", "M"], "--index-parameters M"),
        ([], "--collection"),
    ],
)
def test_flags_that_do_not_fit_are_refused(drtools, vectors, tmp_path, more, words):
    uri = "http://127.0.0.1:9"
    refused = drtools("index", "--vectors", vectors, "--milvus", uri, "-o", tmp_path / "index", *more)
    assert refused.status == 2 and words in refused.err and refused.err.count("\n") == 1, refused.err


def test_flags_of_milvus_need_it(drtools, vectors, tmp_path):
    refused = drtools("index", "--vectors", vectors, "--fields", "lang", "-o", tmp_path / "index")
    assert refused.status == 2 and "--fields: this needs --milvus" in refused.err


def test_a_filter_needs_an_engine(drtools, vectors, tmp_path):
    assert drtools("index", "--vectors", vectors, "-o", tmp_path / "index").status == 0
    refused = drtools("search", "--index", tmp_path / "index", "--filter", "a == 1", "--query-vectors", vectors)
    assert refused.status == 2 and "--filter a == 1" in refused.err


@pytest.mark.slow
def test_an_engine_that_is_down_or_silent_is_one_line(drtools, vectors, tmp_path, monkeypatch):
    monkeypatch.setenv("DRTOOLS_ENGINE_SECONDS", "1")
    monkeypatch.setenv("MILVUS_TOKEN", "root:hidden")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in (silent.getsockname()[1], 9):
            words = ("--milvus", f"http://127.0.0.1:{port}", "--collection", "c", "-o", tmp_path / "index")
            failed = drtools("index", "--vectors", vectors, *words)
            assert failed.status == 1 and "Milvus did not answer" in failed.err, failed.err
            assert failed.err.count("\n") <= 2 and "hidden" not in failed.err and not (tmp_path / "index").exists()


def test_fields_are_read_by_id_with_their_types(tmp_path):
    ids = ids_of(40)
    corpus = write_corpus(tmp_path / "corpus.jsonl", ids[::-1])
    (tmp_path / "ids.txt").write_text("".join(f"{text_id}\n" for text_id in ids))
    found = read_fields(str(corpus), ["lang", "year"], Ids(tmp_path / "ids.txt"))
    assert found.kinds == {"lang": str, "year": int}
    rows = [39 - row for row in range(40)]  # the corpus has them in the other order
    assert found.values["year"] == [2000 + row % 20 for row in rows]
    assert found.rows([3])["lang"] == ["en" if rows[3] % 3 else "de"]
    for names, words in ((["nosuch"], "no document has it"), (["metadata"], "metadata is dict")):
        with pytest.raises(InputError, match=words):
            read_fields(str(corpus), names, Ids(tmp_path / "ids.txt"))
    (tmp_path / "more.txt").write_text("another\n")
    with pytest.raises(InputError, match="1 of the 1 documents"):
        read_fields(str(corpus), ["lang"], Ids(tmp_path / "more.txt"))
    with pytest.raises(InputError):
        parse_names("a,a")


def test_at_least_as_many_candidates_as_hits():
    graph, lists = IndexSettings("HNSW"), IndexSettings("IVF_FLAT", {"nlist": 1024})
    assert efforts(graph, 10, Effort()) == {"ef": 64} and efforts(graph, 1000, Effort()) == {"ef": 2000}
    assert efforts(graph, 1000, Effort(ef_search=5)) == {"ef": 1001}
    assert efforts(lists, 10, Effort()) == {"nprobe": 64} and efforts(lists, 10, Effort(nprobe=9999)) == {
        "nprobe": 1024
    }
    assert efforts(IndexSettings("FLAT"), 10, Effort()) == {}


def test_documents_as_queries_have_the_weight_of_joined_queries():
    first, second = {"dimension": 2}, {"dimension": 1}
    inner = {"dimension": 3, "joined": {"how": "concat", "mu": 0.5, "parts": [first, second]}}
    outer = {"joined": {"how": "concat", "mu": 0.1, "parts": [inner, {"dimension": 1}]}}
    found = as_queries(np.ones((1, 4), np.float32), outer)
    assert np.allclose(found, [[1, 1, 0.5, 0.1]])
    whole = np.ones((1, 3), np.float32)
    assert as_queries(whole, {}) is whole
    assert as_queries(whole, {"joined": {"how": "sum", "mu": 2, "parts": [first, second]}}) is whole
