"""Inputs that are URLs: a real server on loopback, and fsspec's memory, against the same files."""

import gzip
import http.server
import json
import threading
from functools import partial
from pathlib import Path

import fsspec
import pytest
from conftest import free_port

from drtools.formats.urls import is_url, without_secrets


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and logs nothing."""

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(toy):
    """Serve the toy collection's folder over http on loopback, and yield its address."""
    handler = partial(Quiet, directory=str(toy.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_what_is_a_url():
    assert is_url("s3://bucket/key") and is_url("https://host/x") and is_url("memory://x")
    assert not any(map(is_url, ("a/b", "C://x", "hf:x", "/a://b", "-", "x.zip!a")))
    assert without_secrets("https://u:p@host:8/a/b?signature=1#c") == "https://host:8/a/b"
    assert without_secrets("s3://bucket/a/b.gz") == "s3://bucket/a/b.gz"


def test_urls_give_what_files_give(toy, server, drtools, encoder_folder):
    (toy.folder / "corpus.jsonl.gz").write_bytes(gzip.compress(Path(toy.corpus).read_bytes()))
    fsspec.filesystem("memory").pipe("/toy/queries.jsonl", Path(toy.queries).read_bytes())
    web = server
    encode = ["encode", "--model", encoder_folder, "--precision", "fp32"]
    for name, corpus, queries in (
        ("files", toy.corpus, toy.queries),
        ("urls", f"{web}/corpus.jsonl.gz?token=hidden", "memory://toy/queries.jsonl"),
    ):
        for side, path in (("corpus", corpus), ("queries", queries)):
            outcome = drtools(*encode, f"--{side}", path, "-o", toy.folder / f"{name}-{side}")
            assert outcome.status == 0, outcome.err
    for side in ("corpus", "queries"):
        for file in ("vectors.npy", "ids.txt", "texts.npy"):
            found, expected = (toy.folder / f"{name}-{side}" / file for name in ("urls", "files"))
            assert found.read_bytes() == expected.read_bytes()
    record = (toy.folder / "urls-corpus" / "manifest.json").read_text()
    assert f"{web}/corpus.jsonl.gz" in json.loads(record)["corpus"] and "hidden" not in record
    again = drtools(*encode, "--corpus", f"{web}/corpus.jsonl.gz?token=other", "-o", toy.folder / "urls-corpus")
    assert again.status == 0 and "already done" in again.err
    Path(toy.folder / "run").write_text("q0 Q0 d0 1 1.0 x\n")
    scores = [drtools("eval", "--qrels", path, toy.folder / "run").out for path in (toy.qrels, f"{web}/qrels.tsv")]
    assert scores[0] and scores[0] == scores[1]


def test_urls_that_cannot_be_read_get_one_line(toy, server, drtools):
    web = server
    for url, status, words in (
        (f"{web}/none.jsonl?token=hidden", 2, "none.jsonl: the server answers 404"),
        (f"http://127.0.0.1:{free_port()}/x", 1, "cannot be read"),
        ("memory://toy/none.jsonl", 2, "there is no such file"),
        ("nosuch://bucket/x", 2, "cannot be read (Protocol not known"),
    ):
        outcome = drtools("index", "--corpus", url, "-o", toy.folder / "x")
        assert outcome.status == status and words in outcome.err and "hidden" not in outcome.err, outcome.err
        assert outcome.err.count("\n") == 1
