"""Matryoshka training against sentence-transformers' MatryoshkaLoss and naive loops, and vectors that are cut."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pieces_of import SIZE_FLAGS, cls_of
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss
from torch.nn.functional import normalize

from drtools.errors import InputError
from drtools.losses import adore
from drtools.methods.adore.batches import QueryBatch
from drtools.methods.adore.loss import AdoreLoss, Judged
from drtools.methods.adore.settings import Metric
from drtools.methods.contrastive import contrastive_loss
from drtools.methods.fgd.loss import FgdLoss
from drtools.training.matryoshka import matryoshka, prefixes_of
from drtools.training.pairs import PairBatch

DIMENSIONS = [32, 16, 5]


def vectors_of(random, *shape):
    return normalize(torch.from_numpy(random.normal(size=shape)).float(), dim=-1).requires_grad_()


def batch_of(queries, documents):
    relevant = np.zeros((queries, documents), bool)
    relevant[range(queries), range(queries)] = True
    owner = np.array([*range(queries), *(at % queries for at in range(documents - queries))])
    tokens = {"query": None, "document": None}
    return PairBatch(tokens, {"query": [queries], "document": [documents]}, relevant, owner)


def test_the_contrastive_sum_equals_that_of_sentence_transformers(encoder_folder):
    random = np.random.default_rng(0)
    queries, documents = vectors_of(random, 6, 32), vectors_of(random, 12, 32)
    ours = matryoshka(contrastive_loss(20.0), DIMENSIONS, {"query": True, "document": True})
    value, metrics = ours(queries, documents, batch_of(6, 12))
    mine = torch.autograd.grad(value, [queries, documents])
    peer = SentenceTransformer(encoder_folder, device="cpu")
    texts = [queries, documents[:6], documents[6:]]
    peer.forward = lambda features, **_: {"sentence_embedding": texts[features["at"]]}
    theirs = MatryoshkaLoss(peer, MultipleNegativesRankingLoss(peer, scale=20.0), DIMENSIONS)
    expected = theirs([{"at": 0}, {"at": 1}, {"at": 2}], None)
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(mine, torch.autograd.grad(expected, [queries, documents]), strict=True):
        # their loss also normalizes whole vectors, so that only the part along the sphere is the same
        along = [
            each - (each * part).sum(1, keepdim=True) * part
            for each, part in ((one, texts_of(one, queries, documents)), (other, texts_of(other, queries, documents)))
        ]
        torch.testing.assert_close(*along, atol=1e-5, rtol=1e-4)
    assert [*metrics] == ["loss 32", "loss 16", "loss 5"]
    assert sum(metrics.values()) == pytest.approx(value.item(), abs=1e-5)


def texts_of(gradient, queries, documents):
    return queries.detach() if len(gradient) == len(queries) else documents.detach()


def test_each_vector_of_a_row_of_pieces_is_cut_by_itself():
    random = np.random.default_rng(1)
    queries, rows = vectors_of(random, 3, 8), vectors_of(random, 5, 4, 8)
    batch = batch_of(3, 5)._replace(scores=random.normal(size=5).astype(np.float32))
    loss = FgdLoss(["document"], 1, 5.0, weight=0.7, negative_pieces=2, direction="teacher-student")
    value, metrics = matryoshka(loss, [8, 3], {"query": True, "document": True})(queries, rows.flatten(1), batch)
    expected = 0.0
    for dimension in (8, 3):
        cut = [[normalize(piece[:dimension], dim=0) for piece in document] for document in rows]
        flat = torch.stack([torch.cat(document) for document in cut])
        expected += loss(normalize(queries[:, :dimension], dim=1), flat, batch)[0].item()
    assert value.item() == pytest.approx(expected, abs=1e-5)
    assert {"contrastive", "document KL", "loss 8", "loss 3"} == {*metrics}


@pytest.mark.parametrize("normalized", [True, False])
def test_adore_keeps_the_lists_of_whole_vectors_and_cuts_documents_too(normalized):
    random = np.random.default_rng(2)
    documents = vectors_of(random, 30, 8).detach().numpy()
    queries = vectors_of(random, 4, 8)

    class Frozen:
        searches = 0

        def __len__(self):
            return len(documents)

        def search(self, vectors, depth):
            Frozen.searches += 1
            rows = np.argsort(-(vectors @ documents.T), axis=1, kind="stable")[:, :depth]
            return np.take_along_axis(vectors @ documents.T, rows, 1), rows

        def vectors_of(self, rows, decoded):
            return documents[rows]

        def tensor_of(self, rows, decoded):
            return torch.from_numpy(documents[rows])

    judged = {str(at): Judged(np.array([at, at + 9]), np.ones(2, np.float32)) for at in range(4)}
    loss = AdoreLoss(
        Frozen(),
        judged,
        depth=10,
        metric=Metric.parse("none"),
        append_missing=True,
        decoded=False,
        scale=2.0,
        negatives="live",
        seed=1,
        note_every_steps=10,
        normalized=normalized,
    )
    batch = QueryBatch({"query": None}, {}, [*judged], 0)
    value, metrics = matryoshka(loss, [8, 3], {"query": normalized})(queries, batch)
    assert Frozen.searches == 1 and "RR@10" in metrics
    expected = 0.0
    for dimension in (8, 3):
        for at, query in enumerate(queries.detach().numpy()):
            retrieved = [*np.argsort(-(documents @ query), kind="stable")[:10]]
            rows = retrieved + [row for row in (at, at + 9) if row not in retrieved]
            short, cut = query[:dimension], documents[rows, :dimension]
            if normalized:
                short, cut = short / np.linalg.norm(short), cut / np.linalg.norm(cut, axis=1, keepdims=True)
            scores = torch.from_numpy(2.0 * cut @ short)
            relevant = torch.tensor([row in (at, at + 9) for row in rows])
            expected += adore(scores, relevant, torch.ones(int(relevant.sum()), int((~relevant).sum()))).item() / 4
    assert value.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "words,reason",
    [
        ("32,x", "dimensions with commas"),
        ("32,16,16", "different dimensions"),
        ("32,0", "different dimensions"),
        ("16,8", "the encoder's vectors have 32 dimensions"),
        ("64,32", "the encoder's vectors have 32 dimensions"),
    ],
)
def test_other_dimensions_are_refused(words, reason):
    with pytest.raises(InputError, match=reason):
        prefixes_of(words, 32)
    assert prefixes_of("8,32,16", 32) == [32, 16, 8] and prefixes_of(None, 32) == []


def training(toy, encoder_folder, out, *more):
    common = ["--model", encoder_folder, "--batch-queries", "8", "--precision", "fp32", "--steps", "12"]
    return ["train-contrastive", *toy.training, *common, "--matryoshka", "32,16,8", "-o", str(out), *more]


def encode(drtools, toy, model, out, *more, side="--corpus"):
    source = toy.corpus if side == "--corpus" else toy.queries
    done = drtools(
        "encode", "--model", model, side, source, "--dtype", "float32", "--precision", "fp32", "-o", out, *more
    )
    assert done.status == 0, done.err
    return np.load(Path(out) / "vectors.npy"), json.loads((Path(out) / "manifest.json").read_text())


@pytest.mark.slow
def test_a_model_and_its_cut_vectors_from_end_to_end(toy, encoder_folder, drtools, tmp_path):
    done = drtools(*training(toy, encoder_folder, tmp_path / "model"))
    assert done.status == 0, done.err
    model = str(tmp_path / "model")
    assert json.loads((tmp_path / "model/drtools.json").read_text())["matryoshka"] == [32, 16, 8]
    assert json.loads((tmp_path / "model/manifest.json").read_text())["matryoshka"] == [32, 16, 8]
    assert "prefixes of 32, 16, 8 dimensions" in (tmp_path / "model/README.md").read_text()
    log = json.loads((tmp_path / "model/training.jsonl").read_text().splitlines()[0])
    assert log["loss"] == pytest.approx(sum(log[f"loss {d}"] for d in (32, 16, 8)), abs=1e-3)

    whole, _ = encode(drtools, toy, model, tmp_path / "whole")
    cut, made = encode(drtools, toy, model, tmp_path / "cut", "--truncate-dimension", "8")
    lengths = np.linalg.norm(whole[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, whole[:, :8] / lengths, atol=1e-6)
    assert made["truncate_dimension"] == made["dimension"] == 8 and made["normalized"]
    peer = SentenceTransformer(model, device="cpu", truncate_dim=8)
    texts = [f"{document['title']} {document['text']}" for document in toy.documents]
    np.testing.assert_allclose(cut, peer.encode(texts, normalize_embeddings=True), atol=1e-5)

    # a search cuts queries as the documents were; query vectors of another cut are refused
    found = drtools("search", "--vectors", tmp_path / "cut", "--queries", toy.queries, "--depth", "5", "-o", "-")
    assert found.status == 0, found.err
    queries, _ = encode(drtools, toy, model, tmp_path / "queries", side="--queries")
    short = queries[:, :8] / np.linalg.norm(queries[:, :8], axis=1, keepdims=True)
    best = {line.split()[0]: line.split()[2] for line in found.out.splitlines() if line.split()[3] == "1"}
    assert [best[f"q{at}"] for at in range(20)] == [f"d{row}" for row in (short @ cut.T).argmax(axis=1)]
    again = ["--queries", toy.queries, "--depth", "5", "-o", "-"]
    assert drtools("search", "--vectors", tmp_path / "cut", "--model", model, *again).out == found.out
    _, other = encode(drtools, toy, model, tmp_path / "queries16", "--truncate-dimension", "16", side="--queries")
    for name in ("queries", "queries16"):
        refused = drtools("search", "--vectors", tmp_path / "cut", "--query-vectors", tmp_path / name, "-o", "-")
        assert refused.status == 2 and "dimensions" in refused.err
    assert len({made["query_fingerprint"], other["query_fingerprint"]}) == 2

    refused = drtools(
        "encode", "--model", model, "--corpus", toy.corpus, "--truncate-dimension", "33", "-o", tmp_path / "n"
    )
    assert refused.status == 2 and "use 32 or less" in refused.err
    _, same = encode(drtools, toy, model, tmp_path / "same", "--truncate-dimension", "32")
    assert "truncate_dimension" not in same
    noted = drtools(
        "encode", "--model", model, "--corpus", toy.corpus, "--truncate-dimension", "7", "-o", tmp_path / "n"
    )
    assert noted.status == 0 and "trained for 32, 16, 8 dimensions, not for 7" in noted.err


@pytest.mark.slow
def test_several_processes_train_the_prefixes_of_one(toy, encoder_folder, drtools, tmp_path, several):
    more = ["--threads", "1", "--dropout", "0", "--learning-rate", "1e-3", "--overwrite"]
    done = drtools(*training(toy, encoder_folder, tmp_path / "one"), *more)
    assert done.status == 0, done.err
    said = several(2, [*training(toy, encoder_folder, tmp_path / "two"), *more])
    one, two, start = (
        load_file(Path(folder) / "model.safetensors") for folder in (tmp_path / "one", tmp_path / "two", encoder_folder)
    )
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=1e-5)
    assert max(np.abs(one[name] - start[name]).max() for name in one) > 1e-4, said
    whole = training(toy, encoder_folder, tmp_path / "whole")
    at = whole.index("--matryoshka")
    assert drtools(*whole[:at], *whole[at + 2 :], *more).status == 0
    other = load_file(tmp_path / "whole/model.safetensors")
    assert max(np.abs(one[name] - other[name]).max() for name in one) > 1e-4, "the prefixes count"


def test_vectors_and_pieces_are_cut_alike(toy, bert, drtools, tmp_path):
    command = ["encode", "--model", cls_of(bert, tmp_path / "cls", stronger=10), "--pieces", *SIZE_FLAGS]
    command += ["--precision", "fp32", "--dtype", "float32", "--corpus", toy.corpus]
    assert drtools(*command, "-o", tmp_path / "whole").status == 0
    done = drtools(*command, "--truncate-dimension", "8", "-o", tmp_path / "cut")
    assert done.status == 0, done.err
    for name in ("vectors.npy", "pieces.npy"):
        whole, cut = (np.load(tmp_path / folder / name) for folder in ("whole", "cut"))
        assert len(whole) >= 60 and cut.shape == (len(whole), 8) and np.abs(cut).max() > 0.01
        np.testing.assert_array_equal(cut, whole[:, :8])
    starts = [(tmp_path / folder / "piece_starts.npy").read_bytes() for folder in ("whole", "cut")]
    assert starts[0] == starts[1]


def test_adore_trains_on_cut_vectors_and_its_encoder_searches_them(toy, encoder_folder, drtools, tmp_path):
    encode(drtools, toy, encoder_folder, tmp_path / "cut", "--truncate-dimension", "16")
    words = ["--vectors", tmp_path / "cut", "--queries", toy.queries, "--qrels", toy.qrels, "--steps", "3"]
    more = ["--batch-queries", "4", "--matryoshka", "16,4", "-o", tmp_path / "adore"]
    done = drtools("train-adore", "--model", encoder_folder, *words, *more)
    assert done.status == 0, done.err
    search = ["search", "--vectors", tmp_path / "cut", "--queries", toy.queries, "-o", "-", "--depth", "3"]
    found = drtools(*search, "--model", tmp_path / "adore")
    assert found.status == 0 and len(found.out.splitlines()) == 60, found.err
    peer = SentenceTransformer(str(tmp_path / "adore"), device="cpu")
    queries = [json.loads(line)["text"] for line in Path(toy.queries).read_text().splitlines()]
    ours, _ = encode(drtools, toy, str(tmp_path / "adore"), tmp_path / "q", side="--queries")
    assert ours.shape == (20, 16)
    np.testing.assert_allclose(ours, peer.encode(queries), atol=1e-5)


def test_what_has_no_prefixes_is_refused(toy, encoder_folder, drtools, tmp_path):
    encode(drtools, toy, encoder_folder, tmp_path / "d")
    encode(drtools, toy, encoder_folder, tmp_path / "q", side="--queries")
    beside = ["--beside-documents", tmp_path / "d", "--beside-queries", tmp_path / "q"]
    refused = drtools(*training(toy, encoder_folder, tmp_path / "out", *beside))
    assert refused.status == 2 and "no prefixes to train" in refused.err
    rem = ["train-rem", *toy.training, "--model", encoder_folder, "--truncate-dimension", "8", "-o", tmp_path / "rem"]
    refused = drtools(*rem)
    assert refused.status == 2 and "--truncate-dimension 8" in refused.err
