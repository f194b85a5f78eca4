"""Ranking a run anew: what is odd about its documents counts, whichever process ranked them."""

import json
import re

import pytest
from conftest import write_jsonl

from drtools.search import reranking, runs


@pytest.fixture
def run(toy, tmp_path) -> str:
    """Write a run of 20 queries; the first ones list a document that the corpus lacks, and the longest documents."""
    for n, document in enumerate(toy.documents):
        document["text"] = " ".join(["otter"] * 90) if n < 5 else "" if n == 5 else "hill"
        document["title"] = document["title"] if n != 5 else ""
    write_jsonl(toy.folder / "corpus.jsonl", toy.documents)
    lines = [f"q{n} Q0 d{document} 1 {1 - document / 100} t\n" for n in range(20) for document in (n, n + 1)]
    path = tmp_path / "first.run"
    path.write_text("".join([*lines, "q0 Q0 gone 9 0.1 t\n"]))
    return str(path)


@pytest.mark.parametrize("block", [4, 20])
def test_strict_refuses_again_what_an_earlier_process_ranked(
    toy, run, encoder_folder, drtools, tmp_path, monkeypatch, block
):
    monkeypatch.setattr(runs, "QUERIES_A_SAVE", block)
    monkeypatch.setattr(reranking, "QUERIES_A_BLOCK", block)
    texts = ["--corpus", toy.corpus, "--model", encoder_folder]
    assert drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", tmp_path / "v").status == 0
    vectors = ["--vectors", tmp_path / "v", "--model", encoder_folder]
    for name, source in {"texts": texts, "vectors": vectors}.items():
        words = ["search", "--rerank", run, "--queries", toy.queries, *source]
        whole = drtools(*words, "-o", tmp_path / f"{name}.run")
        assert whole.status == 0, whole.err
        notes = [line.removeprefix("note: ") for line in whole.err.splitlines() if line.startswith("note: ")]
        expected = (
            [
                "5 of the 21 documents encoded were",
                "1 of the 21 documents encoded are empty",
                "1 document of the run is not",
            ]
            if name == "texts"
            else ["1 document of the run has no vector"]
        )
        assert all(any(words in note for note in notes) for words in expected), notes
        first, again = (drtools(*words, "--strict", "-o", tmp_path / f"strict-{name}.run") for _ in range(2))
        assert json.loads((tmp_path / f"strict-{name}.run.partial/state.json").read_text())["done"] == 20
        for outcome in (first, again):
            assert outcome.status == 2 and all(re.sub(r" \(for.*", "", note) in outcome.err for note in notes), (
                outcome.err
            )
        done = drtools(*words, "-o", tmp_path / f"strict-{name}.run", "--renew")
        assert (tmp_path / f"strict-{name}.run").read_bytes() == (tmp_path / f"{name}.run").read_bytes(), done.err
