"""Two encoders that were trained together and saved apart: named by two flags, or put into a pair folder by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from drtools.encoding.loop import encode_texts
from drtools.errors import InputError
from drtools.models.compute import Compute
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_encoder, load_named
from drtools.models.pair import EncoderPair
from drtools.models.sides import side_folders
from drtools.models.specs import EncoderSpec

ANY = ("--device", "cpu", "--precision", "fp32")
VECTORS = (*ANY, "--dtype", "float32")


class Two:
    """Folders of an encoder of queries `q`, one of documents `d`, a pair written by hand, and an encoder of others."""

    def __init__(self, folder: Path, encoder_folder: str) -> None:
        self.q, self.d, self.pair, self.other = (folder / name for name in ("q", "d", "pair", "other"))
        for number, target in enumerate((self.q, self.d, self.other)):
            encoder = load_encoder(encoder_folder)
            torch.manual_seed(number)
            with torch.no_grad():
                weight = encoder.body.embeddings.word_embeddings.weight
                weight.add_(torch.randn(weight.shape) / 10)
            encoder.settings.query_prompt = "fox: " if target == self.q else ""
            save_encoder(encoder, target)
        self.pair.mkdir()
        (self.pair / "drtools.json").write_text('{"kind": "pair"}')
        shutil.copytree(self.q, self.pair / "query")
        shutil.copytree(self.d, self.pair / "document")
        self.flags = ("--model", self.q, "--document-model", self.d)
        self.ways = (self.flags, ("--model", self.pair))


@pytest.fixture
def two(tmp_path, encoder_folder) -> Two:
    (tmp_path / "two").mkdir()
    return Two(tmp_path / "two", encoder_folder)


def scores(two, toy) -> np.ndarray:
    """Score every query against every document, each side by its own encoder loaded by itself."""
    texts = [json.loads(line)["text"] for line in Path(toy.queries).read_text().splitlines()]
    documents = [f"{document['title']} {document['text']}" for document in toy.documents]
    computing = Compute("cpu", "fp32", 64)
    queries = encode_texts(load_encoder(str(two.q)), texts, "query", computing)[0]
    return queries @ encode_texts(load_encoder(str(two.d)), documents, "document", computing)[0].T


def encode(drtools, toy, name: str, *words) -> Path:
    """Encode the toy documents into a folder."""
    done = drtools("encode", *words, "--corpus", toy.corpus, "-o", toy.folder / name, *VECTORS)
    assert done.status == 0, done.err
    return toy.folder / name


def found(drtools, toy, *words) -> dict:
    """Search the toy queries; return {(query, document): score}."""
    done = drtools("search", "--queries", toy.queries, "--depth", 60, *ANY, *words)
    assert done.status == 0, done.err
    return {(fields[0], fields[2]): float(fields[4]) for fields in map(str.split, done.out.splitlines())}


@pytest.mark.slow
def test_each_side_is_encoded_by_its_own_encoder_and_searched(drtools, toy, two):
    expected = scores(two, toy)
    table = {(f"q{query}", f"d{document}"): expected[query, document] for query in range(20) for document in range(60)}
    assert np.abs(expected - scores_of_one(two.d, toy)).max() > 0.01
    for number, words in enumerate(two.ways):
        vectors = encode(drtools, toy, f"vectors{number}", *words)
        queries = toy.folder / f"queries{number}"
        assert drtools("encode", *words, "--queries", toy.queries, "-o", queries, *VECTORS).status == 0
        index = toy.folder / f"index{number}"
        assert drtools("index", "--vectors", vectors, "-o", index, "--check-queries", queries).status == 0
        for source in (("--vectors", vectors), ("--index", index)):
            for by in ((), words, ("--model", two.q), ("--model", two.pair), ("--query-vectors", queries)):
                assert found(drtools, toy, *source, *by) == pytest.approx(table, abs=1e-5), (source, by)
    # by the encoder of documents alone, whose manifest knows of no other
    alone = encode(drtools, toy, "alone", "--model", two.d)
    for words in two.ways:
        assert found(drtools, toy, "--vectors", alone, *words) == pytest.approx(table, abs=1e-5)
    assert found(drtools, toy, "--vectors", alone, "--query-vectors", queries) == pytest.approx(table, abs=1e-5)


def scores_of_one(folder: Path, toy) -> np.ndarray:
    """Score every query against every document by one encoder."""
    texts = [json.loads(line)["text"] for line in Path(toy.queries).read_text().splitlines()]
    documents = [f"{document['title']} {document['text']}" for document in toy.documents]
    encoder, computing = load_encoder(str(folder)), Compute("cpu", "fp32", 64)
    return (
        encode_texts(encoder, texts, "query", computing)[0]
        @ encode_texts(encoder, documents, "document", computing)[0].T
    )


def test_manifests_name_both_encoders(drtools, toy, two):
    expected = {
        "query_fingerprint": load_encoder(str(two.q)).side_fingerprints()["query"],
        "document_fingerprint": load_encoder(str(two.d)).side_fingerprints()["document"],
    }
    for number, words in enumerate(two.ways):
        vectors = encode(drtools, toy, f"vectors{number}", *words)
        written = json.loads((vectors / "manifest.json").read_text())
        assert {name: written[name] for name in expected} == expected
        shown = drtools("show", vectors)
        assert shown.status == 0 and f"by {two.pair if number else two.d}, cut at" in shown.out
    assert "query: bert" in drtools("show", two.pair).out and "document: bert" in drtools("show", two.pair).out


def test_a_query_prompt_of_the_command_does_not_part_the_two(drtools, toy, two):
    for number, words in enumerate(two.ways):
        vectors = encode(drtools, toy, f"vectors{number}", *words, "--query-prompt", "hill: ")
        other = found(drtools, toy, "--vectors", vectors, "--model", two.q, "--query-prompt", "river: ")
        assert other != found(drtools, toy, "--vectors", vectors)


def test_an_encoder_that_belongs_to_neither_is_refused(drtools, toy, two):
    vectors = encode(drtools, toy, "vectors", *two.flags)
    alone = encode(drtools, toy, "alone", "--model", two.d)
    for source, words in (
        (vectors, ("--model", two.other)),
        (vectors, ("--model", two.other, "--document-model", two.other)),
        (alone, ("--model", two.q)),
        (alone, ("--model", two.q, "--document-model", two.other)),
    ):
        done = drtools("search", "--vectors", source, "--queries", toy.queries, *ANY, *words)
        assert done.status == 2 and f"made by another encoder ({two.d})" in done.err, done.err
        assert "--document-model" in done.err
    queries = toy.folder / "other-queries"
    assert drtools("encode", "--model", two.other, "--queries", toy.queries, "-o", queries, *VECTORS).status == 0
    done = drtools("index", "--vectors", vectors, "--check-queries", queries, "-o", toy.folder / "index")
    assert done.status == 2 and "made by another encoder" in done.err


def test_mistakes_are_refused_in_one_line(drtools, toy, two, bert, tmp_path):
    shutil.copytree(two.pair, tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "query")
    wide = tmp_path / "wide"
    save_encoder(load_encoder(bert, pooling="cls+mean"), wide)
    for words, expected in (
        (("--document-model", two.d), "--document-model alone"),
        (("--body", two.d, "--document-model", two.d), "--document-model alone"),
        (("--model", two.q, "--document-model", wide), "the same dimension"),
        (("--model", tmp_path / "half"), "it has no subfolder query"),
        (("--model", two.q, "--document-model", tmp_path / "nothing"), "no such folder"),
    ):
        done = drtools("encode", *words, "--corpus", toy.corpus, "-o", tmp_path / "x", *VECTORS)
        assert done.status == 2 and expected in done.err and done.err.count("\n") == 1, done.err
    done = drtools("mlm-adapt", *two.flags, "--corpus", toy.corpus, "-o", tmp_path / "x")
    assert done.status == 2 and "only one body can be adapted at a time" in done.err
    done = drtools("merge", "--model", two.q, "-o", tmp_path / "x")
    assert done.status == 2 and "nothing to merge" in done.err


def test_an_encoder_of_the_other_side_is_refused(drtools, toy, two, tmp_path):
    assert drtools("merge", *two.flags, "-o", tmp_path / "merged").status == 0
    for words in (
        ("--model", tmp_path / "merged" / "document", "--document-model", two.d),
        ("--model", two.q, "--document-model", tmp_path / "merged" / "query"),
    ):
        done = drtools("encode", *words, "--corpus", toy.corpus, "-o", tmp_path / "x", *VECTORS)
        assert done.status == 2 and "an encoder only for" in done.err, done.err


def test_an_update_takes_over_what_the_same_document_encoder_made(drtools, toy, two):
    old = encode(drtools, toy, "old", *two.flags)
    new = encode(drtools, toy, "new", "--model", two.pair, "--update", old)
    assert json.loads((new / "manifest.json").read_text())["counts"]["taken"] == 60
    done = drtools(
        "encode", "--model", two.other, "--corpus", toy.corpus, "--update", old, "-o", toy.folder / "x", *VECTORS
    )
    assert done.status == 2 and f"made by another encoder ({two.d}) than {two.other}" in done.err


@pytest.mark.slow
def test_mining_and_reranking_use_both(drtools, toy, two):
    table = scores(two, toy)
    for number, words in enumerate(two.ways):
        vectors = encode(drtools, toy, f"vectors{number}", *words)
        for extra in ((), words):
            done = drtools(
                "mine-negatives", "--vectors", vectors, "--queries", toy.queries, "--qrels", toy.qrels, "--ranks",
                "1-6", "--negatives", 3, *ANY, *extra,
            )  # fmt: skip
            assert done.status == 0, done.err
            examples = [json.loads(line) for line in done.out.splitlines()]
            assert len(examples) == 20
            for example in examples:
                query = int(example["query_id"][1:])
                nearest = [f"d{row}" for row in np.argsort(-table[query], kind="stable")[:6]]
                assert set(example["negatives"]) <= set(nearest) - {f"d{query}"}
        run = toy.folder / "first.run"
        run.write_text("".join(f"q{query} Q0 d{row} {row + 1} {-row} x\n" for query in range(20) for row in range(5)))
        reranked = found(drtools, toy, "--rerank", run, "--corpus", toy.corpus, *words)
        assert reranked == pytest.approx(
            {(f"q{query}", f"d{row}"): table[query, row] for query in range(20) for row in range(5)}, abs=1e-5
        )


@pytest.mark.slow
def test_a_training_starts_from_both_and_writes_a_pair(drtools, toy, two):
    written = []
    for number, words in enumerate(two.ways):
        model = toy.folder / f"model{number}"
        done = drtools(
            "train-contrastive", *words, *toy.training,
            "--steps", 2, "--batch-queries", 4, "--learning-rate", "1e-3", "--device", "cpu", "-o", model,
        )  # fmt: skip
        assert done.status == 0, done.err
        trained = load_encoder(str(model))
        assert isinstance(trained, EncoderPair)
        for side, start in (("query", two.q), ("document", two.d)):
            before, after = (
                load_encoder(str(folder)).body.embeddings.word_embeddings.weight for folder in (start, model / side)
            )
            assert 0 < (after - before).abs().max() < 0.01
        written.append(trained.side_fingerprints())
    assert written[0] == written[1]


@pytest.mark.slow
def test_adore_tunes_the_query_encoder_on_vectors_of_the_other(drtools, toy, two):
    vectors = encode(drtools, toy, "vectors", *two.flags)
    alone = encode(drtools, toy, "alone", "--model", two.d)
    cases = ((vectors, ("--model", two.q)), (alone, two.flags), (alone, ("--model", two.pair)))
    for number, (source, words) in enumerate(cases):
        model = toy.folder / f"adore{number}"
        done = drtools(
            "train-adore", *words, "--vectors", source, "--queries", toy.queries, "--qrels", toy.qrels, "--depth", 5,
            "--steps", 2, "--batch-queries", 4, "--device", "cpu", "-o", model,
        )  # fmt: skip
        assert done.status == 0, done.err
        assert found(drtools, toy, "--vectors", source, "--model", model)
        assert json.loads((model / "drtools.json").read_text())["inherited"] == {
            "document": load_encoder(str(two.d)).side_fingerprints()["document"]
        }
    done = drtools(
        "train-adore", "--model", two.q, "--vectors", alone, "--queries", toy.queries, "--qrels", toy.qrels,
        "-o", toy.folder / "x",
    )  # fmt: skip
    assert done.status == 2 and f"made by another encoder ({two.d}) than {two.q}" in done.err


@pytest.mark.slow
def test_joined_vectors_know_the_query_encoder_of_each_part(drtools, toy, two, encoder_folder):
    base = encode(drtools, toy, "base", "--model", encoder_folder)
    second = encode(drtools, toy, "second", *two.flags)
    joined = toy.folder / "joined"
    assert drtools("concat-spar", base, second, "--mu", "0.5", "-o", joined).status == 0
    expected = scores_of_one(Path(encoder_folder), toy) + 0.5 * scores(two, toy)
    hits = found(drtools, toy, "--vectors", joined)
    assert hits == pytest.approx({(q, d): expected[int(q[1:]), int(d[1:])] for q, d in hits}, abs=1e-2)
    assert len(hits) == 1200


def test_foreign_vectors_are_adopted_for_both(drtools, toy, two):
    np.save(toy.folder / "x.npy", np.load(encode(drtools, toy, "vectors", "--model", two.d) / "vectors.npy"))
    (toy.folder / "ids.txt").write_text("".join(f"d{row}\n" for row in range(60)))
    table = scores(two, toy)
    for number, words in enumerate(two.ways):
        adopted = toy.folder / f"adopted{number}"
        done = drtools(
            "convert", "--vectors", toy.folder / "x.npy", "--ids", toy.folder / "ids.txt", *words, "-o", adopted
        )
        assert done.status == 0, done.err
        hits = found(drtools, toy, "--vectors", adopted, "--model", two.q)
        assert hits == pytest.approx({(q, d): table[int(q[1:]), int(d[1:])] for q, d in hits}, abs=1e-5)


@pytest.mark.slow
def test_merge_makes_a_finished_pair_that_publish_takes(drtools, toy, two, tmp_path):
    refused = drtools("publish", two.pair, tmp_path / "live")
    assert refused.status == 2 and f"drtools merge --model {two.pair}" in refused.err
    table = scores(two, toy)
    for number, words in enumerate(two.ways):
        merged = tmp_path / f"merged{number}"
        assert drtools("merge", *words, "-o", merged).status == 0
        live = tmp_path / f"live{number}"
        assert drtools("publish", merged, live).status == 0
        assert "query: bert" in drtools("show", merged).out
        vectors = encode(drtools, toy, f"merged-vectors{number}", "--model", live)
        for by in ((), ("--model", live), ("--model", live / "query")):
            hits = found(drtools, toy, "--vectors", vectors, *by)
            assert hits == pytest.approx({(q, d): table[int(q[1:]), int(d[1:])] for q, d in hits}, abs=1e-5)
        assert isinstance(load_encoder(str(merged)), EncoderPair)


@pytest.mark.slow
def test_a_merged_pair_searches_what_its_two_encoders_made(drtools, toy, two, tmp_path):
    """Their files hold half precision, as many on the hub do, so that merge writes other files of the same weights."""
    for folder in (two.q, two.d):
        weights = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    vectors = encode(drtools, toy, "vectors", *two.flags)
    before = found(drtools, toy, "--vectors", vectors)
    assert drtools("merge", *two.flags, "-o", tmp_path / "merged").status == 0
    assert found(drtools, toy, "--vectors", vectors, "--model", tmp_path / "merged") == before
    both = load_encoder(str(tmp_path / "merged"))
    prints = both.side_fingerprints()
    assert prints == {
        side: load_encoder(str(folder)).side_fingerprints()[side]
        for side, folder in (("query", two.q), ("document", two.d))
    }
    again = ("--model", tmp_path / "merged" / "query", "--document-model", tmp_path / "merged" / "document")
    assert drtools("merge", *again, "-o", tmp_path / "twice").status == 0
    assert load_encoder(str(tmp_path / "twice")).side_fingerprints() == prints
    file = tmp_path / "merged" / "query" / "model.safetensors"
    changed = {name: value + 0.01 for name, value in load_file(file).items()}
    save_file(changed, file, {"format": "pt"})
    assert load_encoder(str(tmp_path / "merged")).side_fingerprints()["query"] != prints["query"]
    save_encoder(both, tmp_path / "saved")
    assert "same_as" not in json.loads((tmp_path / "saved" / "query" / "drtools.json").read_text())


def test_sides_are_those_of_pairs_too(two):
    assert side_folders(str(two.pair), str(two.other)) == {"query": two.pair / "query", "document": two.other}
    assert side_folders(str(two.other), str(two.pair)) == {"query": two.other, "document": two.pair / "document"}
    assert isinstance(load_named(EncoderSpec(str(two.pair), str(two.other))), EncoderPair)
    one = load_named(EncoderSpec(str(two.q)), "query")
    assert one.side_fingerprints() == load_encoder(str(two.q)).side_fingerprints()
    with pytest.raises(InputError, match="no such folder"):
        side_folders("/no/such/folder")
