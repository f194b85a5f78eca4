"""encode --pieces and search --multi-vector against loops over texts, pieces and scores."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pieces_of import SIZE_FLAGS, SIZES, cls_of

from drtools.encoding.loop import encode_texts, encode_tokens
from drtools.formats import piece_vectors
from drtools.formats.piece_vectors import PieceVectors, PieceWriter, joined, open_pieces
from drtools.formats.trec import read_qrels, read_run
from drtools.models.compute import Compute
from drtools.models.loader import load_encoder
from drtools.models.pieces import layout_of, tokenize_pieces
from drtools.models.spans import Spans
from drtools.search import multi_vector

LENGTHS = ["--max-document-tokens", "64", "--max-query-tokens", "64"]


@pytest.fixture
def encoded(toy, bert, drtools, tmp_path):
    model = cls_of(bert, tmp_path / "cls", stronger=10)
    arguments = [
        "encode",
        "--model",
        model,
        "--corpus",
        toy.corpus,
        "--pieces",
        *SIZE_FLAGS,
        *LENGTHS,
        "--dtype",
        "float32",
        "--precision",
        "fp32",
        "--threads",
        "1",
    ]
    outcome = drtools(*arguments, "-o", tmp_path / "vectors")
    assert outcome.status == 0, outcome.err
    return model, tmp_path / "vectors", arguments


def rows_of(toy, model):
    """Every document by the spans themselves: [(document, passages, sentences)], one piece standing as both."""
    encoder = load_encoder(model)
    encoder.settings.max_document_tokens = 64
    layout = layout_of(encoder, SIZES)
    tokens = tokenize_pieces(encoder, [f"{document['title']} {document['text']}" for document in toy.documents], layout)
    spans = Spans(encoder, layout.passages, layout.sentences)
    rows = np.empty((len(toy.documents), spans.dimension), np.float32)
    encode_tokens(spans, tokens, Compute("cpu", "fp32", 512), rows)
    vectors, there = rows.reshape(len(rows), layout.places, -1), tokens.spans[:, :, 1] > 0
    split = 1 + layout.passages
    return encoder, [
        (vector[0], vector[1:split][exists[1:split]], vector[split:][exists[split:]])
        for vector, exists in zip(vectors, there, strict=True)
    ]


def test_pieces_are_stored_once(toy, encoded):
    model, folder, _ = encoded
    encoder, expected = rows_of(toy, model)
    pieces = open_pieces(folder, 60)
    documents = np.load(folder / "vectors.npy")
    plain, _ = encode_texts(
        encoder,
        [f"{document['title']} {document['text']}" for document in toy.documents],
        "document",
        Compute("cpu", "fp32", 512),
    )
    np.testing.assert_allclose(documents, plain, atol=1e-5)
    ones = 0
    for at, (_, passages, sentences) in enumerate(expected):
        first, middle, end = pieces.starts[2 * at : 2 * at + 3]
        np.testing.assert_allclose(pieces.array[first:middle], passages, atol=1e-5)
        ones += len(sentences) == 1
        np.testing.assert_allclose(
            pieces.array[middle:end], sentences if len(sentences) > 1 else sentences[:0], atol=1e-5
        )
    made = json.loads((folder / "manifest.json").read_text())["pieces"]
    assert made["count"] == len(pieces.array) == pieces.starts[-1] and made["sentence_tokens"] == 8 and 0 < ones < 60


@pytest.mark.slow
@pytest.mark.bits
def test_killed_it_ends_in_the_same_bytes(toy, encoded, drtools, program, environment, tmp_path):
    _, _, arguments = encoded
    assert drtools(*arguments, "--chunk", "7", "-o", tmp_path / "whole").status == 0
    again = [*arguments, "--chunk", "7", "-o", str(tmp_path / "again")]
    code = (
        "import os, sys\nfrom drtools.outputs.work import Work\nsave, seen = Work.save, []\n"
        "def counted(self, *spans, **state):\n    seen.append(1)\n    if len(seen) == 6: os._exit(9)\n"
        "    save(self, *spans, **state)\n"
        "Work.save = counted\nimport drtools.cli.main\ndrtools.cli.main.main(sys.argv[1:])"
    )
    for status in (9, 0):
        done = subprocess.run([program, "-c", code, *map(str, again)], env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
    for name in ("vectors.npy", "pieces.npy", "piece_starts.npy", "ids.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("rescore", "considered", "at_once"),
    [
        (["--rescore", "5"], 12, None),
        (["--rescore", "20"], 20, None),
        (["--rescore", "0"], 60, None),
        ([], 60, None),
        (["--rescore", "0"], 60, 7),
    ],
)
def test_search_by_a_loop(toy, encoded, drtools, tmp_path, monkeypatch, rescore, considered, at_once):
    model, folder, _ = encoded
    if at_once:  # several blocks of queries, and of documents whose pieces are read together
        monkeypatch.setattr(multi_vector, "PAIRS_A_BLOCK", at_once * 60)
        monkeypatch.setattr(piece_vectors, "DOCUMENTS_AT_ONCE", at_once)
    encoder, expected = rows_of(toy, model)
    queries = {record["_id"]: record["text"] for record in map(json.loads, Path(toy.queries).read_text().splitlines())}
    vectors, _ = encode_texts(encoder, list(queries.values()), "query", Compute("cpu", "fp32", 512))
    search = [
        "search",
        "--vectors",
        folder,
        "--model",
        model,
        "--queries",
        toy.queries,
        "--precision",
        "fp32",
        "--multi-vector",
        *LENGTHS[2:],
    ]
    outcome = drtools(*search, "--gamma", "0.7", "--depth", "12", *rescore, "-o", tmp_path / "run")
    assert outcome.status == 0, outcome.err
    run = read_run(tmp_path / "run")
    for query_id, query in zip(queries, vectors, strict=True):
        scores = {f"d{at}": float(document @ query) for at, document in enumerate(np.load(folder / "vectors.npy"))}
        scores = {document: scores[document] for document in sorted(scores, key=scores.get)[-considered:]}
        for document in scores:
            _, passages, sentences = expected[int(document[1:])]
            scores[document] += 0.7 * float(max(passages @ query) + max(sentences @ query))
        top = sorted(scores, key=scores.get)[-12:]
        assert sorted(run[query_id]) == sorted(top)
        np.testing.assert_allclose(
            [run[query_id][document] for document in top], [scores[document] for document in top], rtol=1e-4
        )


@pytest.mark.slow
def test_gamma_tuned_on_dev(toy, encoded, drtools, tmp_path):
    model, folder, _ = encoded
    search = [
        "search",
        "--vectors",
        folder,
        "--model",
        model,
        "--queries",
        toy.queries,
        "--precision",
        "fp32",
        "--multi-vector",
        *LENGTHS[2:],
    ]
    outcome = drtools(*search, "--tune", toy.qrels, "--tune-measure", "RR@10", "-o", tmp_path / "tuned")
    assert outcome.status == 0 and "dev queries" in outcome.err, outcome.err
    made = json.loads((tmp_path / "tuned.manifest.json").read_text())
    values = {}
    assert len(made["tried"]) > 1
    for gamma, _ in made["tried"]:
        assert drtools(*search, "--gamma", gamma, "-o", tmp_path / f"run-{gamma}").status == 0
        ranked = read_run(tmp_path / f"run-{gamma}")
        firsts = [
            next((place for place, document in enumerate(list(ranked[query])[:10], 1) if document in judged), np.inf)
            for query, judged in read_qrels(toy.qrels).items()
        ]
        values[gamma] = np.mean(1 / np.array(firsts))
    np.testing.assert_allclose(
        [value for _, value in made["tried"]], [values[gamma] for gamma, _ in made["tried"]], atol=1e-9
    )
    assert made["tuned_for"] == "RR@10"
    assert made["gamma"] == max(values, key=lambda gamma: (values[gamma], -gamma)) and read_run(
        tmp_path / "tuned"
    ) == read_run(tmp_path / f"run-{made['gamma']}")


def test_the_best_of_each_level_by_a_loop(tmp_path):
    random = np.random.default_rng(3)
    shape = [(2, 4), (0, 0), (1, 0), (3, 3), (0, 0), (1, 2)]
    writer = PieceWriter(tmp_path, len(shape), 5, "float16")
    vectors = random.normal(size=(sum(map(sum, shape)), 5)).astype(np.float16)
    starts = np.concatenate([[0], np.cumsum(shape)])
    writer.add(PieceVectors(vectors[:7], starts[:7]))
    writer = PieceWriter(tmp_path, len(shape), 5, "float16", writer.done, writer.written)
    writer.add(PieceVectors(vectors[7:], starts[6:] - 7))
    writer.finish()
    pieces = open_pieces(tmp_path, len(shape))
    assert np.array_equal(pieces.array, vectors) and np.array_equal(pieces.starts, starts)
    rows, query = np.array([5, 1, 0, 2, 3, 0]), random.normal(size=5).astype(np.float32)
    passage, sentence, there = pieces.best(rows, query)
    first = np.concatenate([[0], np.cumsum(np.array(shape).sum(1))])
    for at, row in enumerate(rows):
        own, (passages, sentences) = vectors[first[row] : first[row + 1]].astype(np.float32) @ query, shape[row]
        assert there[at] == bool(passages)
        if passages:
            assert passage[at] == pytest.approx(max(own[:passages]), abs=1e-5) and sentence[at] == pytest.approx(
                max(own[passages:] if sentences else own), abs=1e-5
            )
    taken = joined([pieces.take(rows[:2]), pieces.take(rows[2:])])
    assert np.array_equal(taken.array, np.concatenate([vectors[first[row] : first[row + 1]] for row in rows]))
    assert np.array_equal(taken.starts, np.concatenate([[0], np.cumsum([shape[row] for row in rows])]))
    assert len(pieces.take(np.array([], np.int64)).array) == 0
    assert PieceVectors(pieces.array, pieces.starts).best(np.array([1, 4]), query)[2].tolist() == [False, False]


def test_what_cannot_be_meant_is_refused(toy, encoded, drtools, encoder_folder, tmp_path):
    _, folder, _ = encoded
    assert drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", tmp_path / "plain").status == 0
    search = ["search", "--queries", toy.queries, "-o", tmp_path / "run"]
    for words, more in (
        ("no vectors of pieces", ["--vectors", tmp_path / "plain", "--model", encoder_folder, "--multi-vector"]),
        (
            "--gamma and --tune: this needs --multi-vector",
            ["--vectors", folder, "--tune", toy.qrels, "--gamma", "1"],
        ),
        ("cannot be used with --rerank", ["--rerank", toy.corpus, "--vectors", folder, "--multi-vector"]),
        (
            "--tune-queries: this needs --tune",
            ["--vectors", folder, "--multi-vector", "--tune-queries", toy.queries],
        ),
        (
            "--tune and --gamma both set gamma",
            ["--vectors", folder, "--multi-vector", "--tune", toy.qrels, "--gamma", "1"],
        ),
        ("--tune-on: this needs --tune;", ["--vectors", folder, "--multi-vector", "--tune-measure", "RR@10"]),
        ("--tune-on: this needs --multi-vector", ["--vectors", folder, "--tune-measure", "RR@10"]),
        ("nDCG@ten", ["--vectors", folder, "--multi-vector", "--tune", toy.qrels, "--tune-measure", "nDCG@ten"]),
        ("--rescore: this needs --multi-vector", ["--vectors", folder, "--rescore", "5"]),
        ("use --pooling cls, or --spans mean", None),
        ("--pieces is for --corpus", []),
    ):
        outcome = (
            drtools(*search, *more)
            if more
            else drtools(
                "encode",
                "--model",
                encoder_folder,
                *(["--corpus", toy.corpus] if more is None else ["--queries", toy.queries]),
                "--pieces",
                "-o",
                tmp_path / "x",
            )
        )
        assert outcome.status == 2 and words in outcome.err, outcome.err


def test_a_question_is_searched_by_pieces_but_nothing_is_tuned_on_it(toy, encoded, drtools):
    model, folder, _ = encoded
    search = ["search", "fox hound", "--vectors", folder, "--model", model, "--multi-vector"]
    outcome = drtools(*search, "--tune", toy.qrels, "--tune-queries", toy.queries)
    assert outcome.status == 2 and "--tune needs --queries" in outcome.err, outcome.err
    assert drtools(*search, "--gamma", "0").out != drtools(*search, "--gamma", "9").out


def test_pieces_are_durable_when_finish_returns(tmp_path, monkeypatch):
    writer, synced = PieceWriter(tmp_path, 1, 5, "float16"), []
    writer.add(PieceVectors(np.ones((3, 5), np.float16), np.array([0, 1, 3])))
    monkeypatch.setattr("os.fsync", lambda number: synced.append(np.load(tmp_path / "pieces.npy", mmap_mode="r").shape))
    writer.finish()
    assert synced == [(3, 5)], "the header that names 3 rows was in the file when it was synced"
