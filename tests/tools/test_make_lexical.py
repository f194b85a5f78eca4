"""make-lexical and what is done with its encoders.

Beside Lucene's own scores, in another process, in Chinese, with unseen and without any words.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import WORDS, write_jsonl

from drtools.formats.trec import read_run


@pytest.fixture
def long_corpus(tmp_path) -> str:
    """Documents of 1 to 300 words: of most Lucene remembers the length inexactly."""
    draw = random.Random(3)
    weights = [1 / (rank + 1) for rank in range(len(WORDS))]
    return write_jsonl(
        tmp_path / "long.jsonl",
        [
            {"_id": f"d{n}", "title": "", "text": " ".join(draw.choices(WORDS, weights, k=draw.randint(1, 300)))}
            for n in range(70)
        ],
    )


def scores_of(drtools, folder: Path, corpus: str, queries: str, language: str = "en") -> tuple[dict, dict]:
    """Return the runs of Lucene's BM25 and of a static lexical encoder with a dimension for every document."""
    assert drtools("index", "--corpus", corpus, "--language", language, "-o", folder / "bm25").status == 0
    assert drtools("search", "--index", folder / "bm25", "--queries", queries, "-o", folder / "bm25.run").status == 0
    done = drtools(
        "make-lexical", "--corpus", corpus, "--language", language, "--dimension", 80, "-o", folder / "lexical"
    )
    assert done.status == 0, done.err
    done = drtools(
        "encode", "--model", folder / "lexical", "--corpus", corpus, "--dtype", "float32", "-o", folder / "vectors"
    )
    assert done.status == 0, done.err
    done = drtools(
        "search",
        "--vectors",
        folder / "vectors",
        "--model",
        folder / "lexical",
        "--queries",
        queries,
        "-o",
        folder / "lexical.run",
    )
    assert done.status == 0, done.err
    return read_run(folder / "bm25.run"), read_run(folder / "lexical.run")


def test_scores_are_lucenes(drtools, tmp_path, toy, long_corpus):
    lucene, ours = scores_of(drtools, tmp_path, long_corpus, toy.queries)
    assert len(lucene) == 20
    for query_id, hits in lucene.items():
        for document, score in hits.items():
            assert ours[query_id][document] == pytest.approx(score, abs=0.02)
        assert all(abs(score) < 0.02 for document, score in ours[query_id].items() if document not in hits)


def test_scores_are_lucenes_in_chinese(drtools, tmp_path):
    texts = ["高血压患者能吃党参吗", "糖尿病患者的饮食", "孩子发烧怎么办", "高血压的症状", "发烧时能吃什么"]
    corpus = write_jsonl(
        tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(texts)]
    )
    queries = write_jsonl(tmp_path / "queries.jsonl", [{"_id": "q", "text": "高血压 能吃什么"}])
    lucene, ours = scores_of(drtools, tmp_path, corpus, queries, "zh")
    assert len(lucene["q"]) == 3
    assert {document: ours["q"][document] for document in lucene["q"]} == pytest.approx(lucene["q"], abs=0.01)


AGAIN = """
import json, sys
from drtools.cli.main import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        assert not end.code
"""


@pytest.mark.slow
def test_vectors_are_the_same_in_another_process_and_in_any_chunks(drtools, tmp_path, toy, environment):
    make = {
        kind: ["make-lexical", "--corpus", toy.corpus, "--encoder", kind, "--dimension", "48", "-o"]
        for kind in ("static", "projection")
    }
    encode = ["encode", "--corpus", toy.corpus, "--model"]
    again = []
    for kind, words in make.items():
        assert drtools(*words, tmp_path / kind).status == 0
        assert drtools(*encode, tmp_path / kind, "-o", tmp_path / f"{kind}-vectors").status == 0
        again.append([*words, str(tmp_path / f"{kind}-again")])
        again.append(
            [
                *encode,
                str(tmp_path / f"{kind}-again"),
                "--chunk",
                "7",
                "--batch-tokens",
                "20",
                "-o",
                str(tmp_path / f"{kind}-again-vectors"),
            ]
        )
    subprocess.run(
        [sys.executable, "-c", AGAIN, json.dumps(again)], env={**environment, "PYTHONHASHSEED": "5"}, check=True
    )
    for kind in make:
        for first, second in (
            (tmp_path / kind / "lexical.safetensors", tmp_path / f"{kind}-again" / "lexical.safetensors"),
            (tmp_path / f"{kind}-vectors" / "vectors.npy", tmp_path / f"{kind}-again-vectors" / "vectors.npy"),
        ):
            assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("kind", ["static", "projection"])
def test_a_word_that_the_corpus_lacks_is_matched_in_new_documents(drtools, tmp_path, toy, kind):
    assert (
        drtools(
            "make-lexical", "--corpus", toy.corpus, "--encoder", kind, "--dimension", 512, "-o", tmp_path / "lexical"
        ).status
        == 0
    )
    more = write_jsonl(
        tmp_path / "more.jsonl", [*toy.documents, {"_id": "new", "title": "", "text": "the zeppelin hunts a fox"}]
    )
    queries = write_jsonl(tmp_path / "zeppelins.jsonl", [{"_id": "q", "text": "zeppelins"}])
    assert drtools("encode", "--model", tmp_path / "lexical", "--corpus", more, "-o", tmp_path / "vectors").status == 0
    assert (
        drtools(
            "search",
            "--vectors",
            tmp_path / "vectors",
            "--model",
            tmp_path / "lexical",
            "--queries",
            queries,
            "-o",
            tmp_path / "run",
        ).status
        == 0
    )
    hits = read_run(tmp_path / "run")["q"]
    first, second = list(hits.items())[:2]
    exact = np.log(1 + 60.5 / 0.5) / (
        1 + 0.9 * (0.6 + 0.4 * 3 / np.mean([len(f"{d['title']} {d['text']}".split()) for d in toy.documents]))
    )
    assert first == ("new", pytest.approx(exact, rel=0.25)) and second[1] < 0.6 * exact


def test_texts_without_a_word_are_counted_and_have_no_vector(drtools, tmp_path, toy):
    corpus = write_jsonl(
        tmp_path / "corpus.jsonl",
        [
            *toy.documents,
            {"_id": "empty", "title": "", "text": ""},
            {"_id": "stopwords", "title": "", "text": "the of and"},
        ],
    )
    done = drtools("make-lexical", "--corpus", corpus, "--dimension", 16, "-o", tmp_path / "lexical")
    assert done.status == 0 and "2 of 62 documents have no term" in done.err
    done = drtools("encode", "--model", tmp_path / "lexical", "--corpus", corpus, "-o", tmp_path / "vectors")
    assert "2 of 62 texts were empty" in done.err
    assert not np.load(tmp_path / "vectors" / "vectors.npy")[60:].any()


def test_refusals_say_the_next_move(drtools, tmp_path, toy):
    for name, seed in (("one", 1), ("other", 2)):
        assert (
            drtools(
                "make-lexical",
                "--corpus",
                toy.corpus,
                "--encoder",
                "projection",
                "--dimension",
                16,
                "--seed",
                seed,
                "-o",
                tmp_path / name,
            ).status
            == 0
        )
    record = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert record["query_fingerprint"] != record["document_fingerprint"]
    assert (
        drtools("encode", "--model", tmp_path / "one", "--corpus", toy.corpus, "-o", tmp_path / "vectors").status == 0
    )
    for words, said in (
        (
            ["search", "--vectors", tmp_path / "vectors", "--model", tmp_path / "other", "--queries", toy.queries],
            "made by another encoder",
        ),
        (
            [
                "encode",
                "--model",
                tmp_path / "one",
                "--corpus",
                toy.corpus,
                "--max-document-tokens",
                9,
                "-o",
                tmp_path / "v",
            ],
            "--max-document-tokens",
        ),
        (
            [
                "train-contrastive",
                "--model",
                tmp_path / "one",
                "--examples",
                toy.examples,
                "--corpus",
                toy.corpus,
                "--queries",
                toy.queries,
                "-o",
                tmp_path / "t",
            ],
            "no body to train",
        ),
        (
            [
                "make-lexical",
                "--corpus",
                toy.corpus,
                "--encoder",
                "projection",
                "--queries",
                toy.queries,
                "-o",
                tmp_path / "p",
            ],
            "--encoder static",
        ),
        (
            ["make-lexical", "--corpus", toy.corpus, "--encoder", "projection", "--fit-terms", 9, "-o", tmp_path / "p"],
            "--fit-documents and --fit-terms need --encoder static",
        ),
        (["make-lexical", "--corpus", toy.corpus, "--only", toy.qrels, "-o", tmp_path / "p"], "--queries QUERIES"),
        (["make-lexical", "--corpus", toy.corpus, "--language", "tlh", "-o", tmp_path / "p"], "no Lucene analyzer"),
    ):
        done = drtools(*words)
        assert done.status == 2 and said in done.err and done.err.strip().count("\n") == 0, done.err


def test_queries_and_limits_of_the_fit(drtools, tmp_path, toy):
    done = drtools(
        "make-lexical",
        "--corpus",
        toy.corpus,
        "--queries",
        toy.queries,
        "--only",
        toy.qrels,
        "--dimension",
        24,
        "--fit-documents",
        40,
        "--fit-terms",
        30,
        "-o",
        tmp_path / "m",
    )
    assert done.status == 0, done.err
    from safetensors.numpy import load_file

    tensors = load_file(tmp_path / "m" / "lexical.safetensors")
    assert (
        tensors["query_rows"].shape == (30, 24)
        and set(tensors["row_keys"]) <= set(tensors["keys"])
        and tensors["frequencies"].max() <= 60
    )
    assert (
        drtools("make-lexical", "--corpus", toy.corpus, "--dry-run", "-o", tmp_path / "dry").status == 0
        and not (tmp_path / "dry").exists()
    )


def test_queries_are_analyzed_part_by_part_into_the_same_rows(drtools, tmp_path, toy, monkeypatch):
    from drtools.methods.spar import lexical
    from drtools.models.analyzer import Analyzer

    words = ["make-lexical", "--corpus", toy.corpus, "--queries", toy.queries, "--dimension", 24, "-o"]
    assert drtools(*words, tmp_path / "whole").status == 0
    sizes, real = [], Analyzer.__call__
    monkeypatch.setattr(lexical, "QUERIES_A_PART", 7)
    monkeypatch.setattr(Analyzer, "__call__", lambda self, texts: sizes.append(len(texts)) or real(self, texts))
    assert drtools(*words, tmp_path / "parts").status == 0
    assert sizes == [60, 7, 7, 6]
    assert (tmp_path / "whole/lexical.safetensors").read_bytes() == (
        tmp_path / "parts/lexical.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("kind", ["static", "projection"])
def test_a_corpus_without_any_term_makes_no_encoder(drtools, tmp_path, kind):
    nothing = write_jsonl(tmp_path / "nothing.jsonl", [{"_id": "d", "title": "", "text": "the"}])
    done = drtools("make-lexical", "--corpus", nothing, "--encoder", kind, "-o", tmp_path / "none")
    assert done.status == 2 and "no document has a term" in done.err and not (tmp_path / "none").exists()


def test_documents_are_given_as_they_were_counted(drtools, tmp_path, toy):
    assert (
        drtools(
            "make-lexical",
            "--corpus",
            toy.corpus,
            "--encoder",
            "projection",
            "--dimension",
            16,
            "--title-separator",
            " | ",
            "-o",
            tmp_path / "m",
        ).status
        == 0
    )
    encode = ["encode", "--model", tmp_path / "m", "-o", tmp_path / "v"]
    done = drtools(*encode, "--corpus", toy.corpus)
    assert done.status == 2 and "use --title-separator ' | '" in done.err
    assert drtools(*encode, "--corpus", toy.corpus, "--title-separator", " | ").status == 0
    assert drtools("encode", "--model", tmp_path / "m", "--queries", toy.queries, "-o", tmp_path / "q").status == 0
    (tmp_path / "a.run").write_text("q1 Q0 d1 1 1.0 a\n")
    done = drtools(
        "search",
        "--rerank",
        tmp_path / "a.run",
        "--corpus",
        toy.corpus,
        "--model",
        tmp_path / "m",
        "--queries",
        toy.queries,
        "-o",
        tmp_path / "b.run",
    )
    assert done.status == 2 and "--title-separator" in done.err
