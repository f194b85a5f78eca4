"""Two encoders in one folder: saved, loaded, encoded with and searched with, each for its own side."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from drtools.encoding.loop import encode_texts
from drtools.errors import InputError
from drtools.models.compute import Compute
from drtools.models.encoder import Encoder
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_encoder
from drtools.models.pair import EncoderPair, halves, untie
from drtools.training.student import add_projection

TEXTS = ["fox runs", "the otter swims in the river and hunts salmon", "hammer"]
ANY = ("--device", "cpu", "--precision", "fp32", "--dtype", "float32")


def vectors(encoder, side):
    return encode_texts(encoder.of(side), TEXTS, side, Compute("cpu", "fp32", 64))[0]


def make_pair(encoder_folder) -> EncoderPair:
    """Untie the toy encoder, move its halves apart, give each a head, a prompt and a length of its own."""
    pair = untie(load_encoder(encoder_folder))
    torch.manual_seed(4)
    with torch.no_grad():
        for half in halves(pair):
            half.body.embeddings.word_embeddings.weight.add_(
                torch.randn(half.body.embeddings.word_embeddings.weight.shape) / 10
            )
    add_projection(pair.query, 16, seed=1)
    add_projection(pair.document, 16, seed=2)
    for half in halves(pair):
        half.settings.query_prompt, half.settings.document_prompt, half.settings.max_query_tokens = (
            "fox: ",
            "hill hill: ",
            8,
        )
    return pair


@pytest.fixture
def pair_folder(encoder_folder, tmp_path) -> Path:
    save_encoder(make_pair(encoder_folder), tmp_path / "pair")
    return tmp_path / "pair"


def test_an_encoder_is_of_both_sides(encoder_folder):
    encoder = load_encoder(encoder_folder)
    assert encoder.of("query") is encoder is encoder.of("document") and halves(encoder) == [encoder]


def test_untied_halves_begin_equal_and_share_nothing(encoder_folder):
    encoder = load_encoder(encoder_folder)
    pair = untie(encoder)
    for side in ("query", "document"):
        np.testing.assert_array_equal(vectors(pair, side), vectors(encoder, side))
    memory = [{weight.data_ptr() for weight in one.parameters()} for one in (encoder, *halves(pair))]
    assert not memory[0] & memory[1] and not memory[0] & memory[2] and not memory[1] & memory[2]
    assert pair.side_fingerprints() == encoder.side_fingerprints()
    pair.query.settings.query_prompt = "fox: "
    assert pair.document.settings.query_prompt == encoder.settings.query_prompt == ""


def test_a_saved_pair_is_loaded_with_the_same_vectors(encoder_folder, tmp_path):
    pair = make_pair(encoder_folder)
    saved = save_encoder(pair, tmp_path / "pair")
    loaded = load_encoder(str(tmp_path / "pair"))
    assert (
        isinstance(loaded, EncoderPair)
        and loaded.folder == tmp_path / "pair"
        and not loaded.training
        and loaded.dimension == 16
    )
    for side in ("query", "document"):
        np.testing.assert_allclose(vectors(loaded, side), vectors(pair, side), atol=1e-6)
        alone = load_encoder(str(tmp_path / "pair" / side))
        assert isinstance(alone, Encoder) and alone.side_fingerprints() == saved, "each half knows both fingerprints"
    assert saved["query"] != saved["document"] and loaded.side_fingerprints() == saved
    assert np.abs(vectors(loaded, "query") - vectors(loaded, "document")).max() > 0.01
    assert save_encoder(loaded, tmp_path / "again") == saved


def test_sentence_transformers_loads_each_half_and_the_pair(pair_folder):
    pair = load_encoder(str(pair_folder))
    together = SentenceTransformer(str(pair_folder), device="cpu")
    query, document = (SentenceTransformer(str(pair_folder / side), device="cpu") for side in ("query", "document"))
    np.testing.assert_allclose(query.encode_query(TEXTS), vectors(pair, "query"), atol=1e-5)
    np.testing.assert_allclose(document.encode_document(TEXTS), vectors(pair, "document"), atol=1e-5)
    np.testing.assert_allclose(together.encode_query(TEXTS), vectors(pair, "query"), atol=1e-5)
    np.testing.assert_allclose(together.encode_document(TEXTS), vectors(pair, "document"), atol=1e-5)


def test_only_the_half_that_changed_has_another_fingerprint(pair_folder, tmp_path):
    pair = load_encoder(str(pair_folder))
    before = pair.side_fingerprints()
    with torch.no_grad():
        pair.query.body.embeddings.word_embeddings.weight[5, 5] += 1
    after = save_encoder(pair, tmp_path / "moved")
    assert after["query"] != before["query"] and after["document"] == before["document"]


def test_halves_of_different_dimensions_are_refused(encoder_folder, bert):
    other = load_encoder(bert, pooling="cls+mean")
    with pytest.raises(InputError, match="32 and documents with 64"):
        EncoderPair(load_encoder(encoder_folder), other)


def test_encode_takes_the_half_of_its_side(drtools, toy, pair_folder):
    pair = load_encoder(str(pair_folder))
    for flag, name, side in (("--corpus", toy.corpus, "document"), ("--queries", toy.queries, "query")):
        folder = toy.folder / side
        assert drtools("encode", "--model", pair_folder, flag, name, "-o", folder, *ANY).status == 0
        records = [json.loads(line) for line in Path(name).read_text().splitlines()]
        texts = [f"{record.get('title', '')} {record['text']}" for record in records]
        expected = encode_texts(pair.of(side), texts, side, Compute("cpu", "fp32", 64))[0]
        np.testing.assert_allclose(np.load(folder / "vectors.npy"), expected, atol=1e-5)
        written = json.loads((folder / "manifest.json").read_text())
        assert {name: written[f"{name}_fingerprint"] for name in ("query", "document")} == pair.side_fingerprints()


def test_search_and_rerank_use_both_halves(drtools, toy, pair_folder):
    pair = load_encoder(str(pair_folder))
    assert (
        drtools("encode", "--model", pair_folder, "--corpus", toy.corpus, "-o", toy.folder / "vectors", *ANY).status
        == 0
    )
    texts = [json.loads(line)["text"] for line in Path(toy.queries).read_text().splitlines()]
    table = (
        encode_texts(pair.query, texts, "query", Compute("cpu", "fp32", 64))[0]
        @ np.load(toy.folder / "vectors" / "vectors.npy").T
    )
    expected = {
        (f"q{query}", f"d{document}"): table[query, document]
        for query in range(20)
        for document in np.argsort(-table[query])[:5]
    }

    def run(*words):
        done = drtools(
            "search", "--queries", toy.queries, "--device", "cpu", "--precision", "fp32", "--depth", "5", *words
        )
        assert done.status == 0, done.err
        return {(fields[0], fields[2]): float(fields[4]) for fields in map(str.split, done.out.splitlines())}

    for found in (
        run("--vectors", toy.folder / "vectors"),
        run("--vectors", toy.folder / "vectors", "--model", pair_folder / "query"),
    ):
        assert found == pytest.approx(expected, abs=1e-5)
    run_file = toy.folder / "first.run"
    run_file.write_text(
        "".join(f"{query} Q0 {document} 1 {-rank} x\n" for rank, (query, document) in enumerate(expected))
    )
    reranked = run("--rerank", run_file, "--corpus", toy.corpus, "--model", pair_folder)
    assert reranked == pytest.approx(expected, abs=1e-5)


def test_the_other_half_is_refused(drtools, toy, pair_folder, encoder_folder):
    assert (
        drtools("encode", "--model", pair_folder, "--corpus", toy.corpus, "-o", toy.folder / "vectors", *ANY).status
        == 0
    )
    wrong = drtools(
        "encode", "--model", pair_folder / "query", "--corpus", toy.corpus, "-o", toy.folder / "wrong", *ANY
    )
    assert wrong.status == 2 and "an encoder only for queries" in wrong.err
    wrong = drtools(
        "search", "--vectors", toy.folder / "vectors", "--queries", toy.queries, "--model", pair_folder / "document"
    )
    assert wrong.status == 2 and "an encoder only for documents" in wrong.err
    other = make_pair(encoder_folder)
    with torch.no_grad():
        other.document.body.embeddings.word_embeddings.weight[5, 5] += 1
    save_encoder(other, toy.folder / "other")
    wrong = drtools(
        "search", "--vectors", toy.folder / "vectors", "--queries", toy.queries, "--model", toy.folder / "other"
    )
    assert wrong.status == 2 and "made by another encoder" in wrong.err


def test_foreign_vectors_of_a_pair_are_adopted_for_their_side(drtools, toy, pair_folder):
    np.save(toy.folder / "x.npy", np.eye(16, dtype=np.float32)[:2])
    (toy.folder / "ids.txt").write_text("a\nb\n")
    words = ("convert", "--vectors", toy.folder / "x.npy", "--ids", toy.folder / "ids.txt")
    assert drtools(*words, "--model", pair_folder, "-o", toy.folder / "adopted").status == 0
    written = json.loads((toy.folder / "adopted" / "manifest.json").read_text())
    assert {name: written[f"{name}_fingerprint"] for name in ("query", "document")} == load_encoder(
        str(pair_folder)
    ).side_fingerprints()
    wrong = drtools(*words, "--model", pair_folder / "query", "-o", toy.folder / "wrong")
    assert wrong.status == 2 and "an encoder only for queries" in wrong.err


def test_dev_evaluation_encodes_each_side_by_its_half(toy, pair_folder):
    from drtools.cli.flags.dev import DevFlags
    from drtools.evaluation.dev import dev_measure
    from drtools.evaluation.measures import evaluate, mean, parse_measure
    from drtools.formats.corpus_store import open_store
    from drtools.formats.trec import read_qrels

    pair, computing = load_encoder(str(pair_folder)), Compute("cpu", "fp32", 64)
    found = dev_measure(
        DevFlags(dev_qrels=toy.qrels, dev_documents=0, dev_measures="RR@10"),
        toy.queries,
        open_store(toy.corpus),
        pair,
        computing,
        1,
        " ",
    )()
    texts = [json.loads(line)["text"] for line in Path(toy.queries).read_text().splitlines()]
    documents = [f"{document['title']} {document['text']}" for document in toy.documents]
    table = (
        encode_texts(pair.query, texts, "query", computing)[0]
        @ encode_texts(pair.document, documents, "document", computing)[0].T
    )
    ranked = {
        f"q{query}": {f"d{document}": float(table[query, document]) for document in np.argsort(-table[query])}
        for query in range(20)
    }
    assert found["RR@10"] == pytest.approx(
        mean(evaluate(read_qrels(toy.qrels), ranked, [parse_measure("RR@10")])["RR@10"])
    )
