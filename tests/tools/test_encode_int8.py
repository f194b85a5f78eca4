"""--precision int8: vectors and scores near float32's, other fingerprints, notes, refusals, bits in any company."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from drtools.cli.flags.compute import ComputeFlags
from drtools.encoding.loop import encode_tokens
from drtools.errors import InputError
from drtools.models.compute import Compute, place, settle
from drtools.models.loader import load_encoder
from tests.models.tiny_bodies import DECODERS

OTHER = "its vectors were computed in int8, those of the queries in floating point; use the same --precision for both"


def manifest_of(folder):
    return json.loads((Path(folder) / "manifest.json").read_text())


@pytest.fixture
def vectors(toy, encoder_folder, drtools):
    """Return the folders of the documents' vectors, by precision."""
    found = {}
    for precision in ("int8", "fp32"):
        found[precision] = toy.folder / precision
        words = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "--precision", precision]
        done = drtools(*words, "--dtype", "float32", "-o", found[precision])
        assert done.status == 0, done.err
    return found


def test_search_takes_int8_for_documents_in_int8_and_warns_of_another_precision(vectors, toy, drtools, encoder_folder):
    marked, plain = (manifest_of(vectors[precision]) for precision in ("int8", "fp32"))
    assert marked["precision"] == "int8"
    for side in ("query", "document"):
        assert marked[f"{side}_fingerprint"] == plain[f"{side}_fingerprint"] + "-int8"
    arrays = [np.load(folder / "vectors.npy") for folder in vectors.values()]
    cosines = (arrays[0] * arrays[1]).sum(1)
    assert cosines.min() > 0.99 and not np.array_equal(*arrays)

    search = [
        "search",
        "--vectors",
        vectors["int8"],
        "--queries",
        toy.queries,
        "--device",
        "cpu",
        "--strict",
        "--depth",
        10,
    ]
    alike = drtools(*search)
    assert alike.status == 0 and len(alike.out.splitlines()) > 100, alike.err
    for more in (["--precision", "fp32"], ["--precision", "bf16"]):
        refused = drtools(*search, *more)
        assert refused.status == 2 and OTHER in refused.err
    reverse = drtools("search", "--vectors", vectors["fp32"], "--queries", toy.queries, "--precision", "int8")
    assert reverse.status == 0 and "computed in floating point, those of the queries in int8" in reverse.err

    queries = toy.folder / "queries"
    words = ["encode", "--model", encoder_folder, "--queries", toy.queries, "--precision", "fp32", "-o", queries]
    assert drtools(*words).status == 0
    assert (
        OTHER
        in drtools("search", "--vectors", vectors["int8"], "--query-vectors", queries, "--queries", toy.queries).err
    )


def test_joined_vectors_are_marked_and_searched(vectors, toy, drtools, encoder_folder):
    joined = toy.folder / "joined"
    done = drtools("concat-spar", vectors["int8"], vectors["fp32"], "--mu", "0.5", "-o", joined)
    assert done.status == 0, done.err
    assert manifest_of(joined)["document_fingerprint"].endswith("-int8")
    found = drtools("search", "--vectors", joined, "--queries", toy.queries, "--strict", "--depth", 10)
    assert found.status == 0 and len(found.out.splitlines()) > 100, found.err


def test_an_update_in_int8_equals_a_full_encoding(vectors, toy, drtools, encoder_folder):
    words = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "--dtype", "float32"]
    again = drtools(*words, "--precision", "int8", "--update", vectors["int8"], "-o", toy.folder / "again")
    assert again.status == 0, again.err
    assert np.array_equal(np.load(toy.folder / "again/vectors.npy"), np.load(vectors["int8"] / "vectors.npy"))
    other = drtools(*words, "--precision", "fp32", "--update", vectors["int8"], "-o", toy.folder / "other")
    assert other.status == 2 and "made with another --precision" in other.err
    plan = drtools(*words, "--precision", "int8", "--dry-run", "-o", toy.folder / "planned")
    assert plan.status == 0 and "on cpu in int8" in plan.err


def test_a_teacher_in_int8_has_a_name_and_scores_of_its_own(toy, rankers, drtools):
    found = {}
    for precision in ("fp32", "int8"):
        out = toy.folder / f"{precision}.jsonl"
        words = ["teacher-score", "--teacher", rankers["bert"], *toy.training, "--precision", precision, "-o", out]
        done = drtools(*words)
        assert done.status == 0, done.err
        found[precision] = [json.loads(line) for line in out.read_text().splitlines()]
    names = {precision: records[0]["scored_by"] for precision, records in found.items()}
    assert names["int8"] == names["fp32"] + "-int8"
    scores = [
        np.array([score for record in records for score in record["negative_scores"]]) for records in found.values()
    ]
    assert len(scores[0]) == 60 and not np.array_equal(*scores)
    assert np.abs(scores[0] - scores[1]).max() < 0.1 * np.abs(scores[0]).max() + 0.05


@pytest.mark.parametrize(("device", "training"), [("cuda:0", False), ("cpu", True)])
def test_gpus_and_trainings_refuse_int8(monkeypatch, device, training):
    monkeypatch.setattr("drtools.models.compute.choose_devices", lambda name: [device])
    monkeypatch.setattr("drtools.models.compute.native_precision", lambda device: "bf16")
    with pytest.raises(InputError, match="only processors compute in int8, and not in training"):
        settle(ComputeFlags(precision="int8"), training=training)


@pytest.mark.parametrize(
    ("vnni", "amx", "words"),
    [
        (False, False, "this processor has no VNNI"),
        (True, True, "with which bf16 takes less time"),
        (True, False, ""),
    ],
)
def test_a_processor_that_gains_nothing_is_noted(monkeypatch, capsys, vnni, amx, words):
    from drtools.cli import console

    monkeypatch.setattr("drtools.models.compute.has_vnni", lambda: vnni)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    console.configure("test")
    assert settle(ComputeFlags(device="cpu", precision="int8")).precision == "int8"
    said = capsys.readouterr().err
    assert words in said and bool(said) == bool(words)


@pytest.mark.bits
def test_a_text_has_the_same_bits_in_int8_whatever_is_encoded_beside_it(encoder_folder):
    computing = Compute("cpu", "int8", 512)
    encoder = load_encoder(encoder_folder)
    place(encoder, computing)
    generator = np.random.default_rng(0)
    texts = ["", "fox", *(" ".join(generator.choice(["fox", "otter", "owl"], n % 60 + 1)) for n in range(120))]

    def encoded(rows):
        made = np.empty((len(rows), encoder.dimension), np.float32)
        tokens = encoder.tokenize([texts[row] for row in rows], "document")
        encode_tokens(encoder, tokens, computing, made, one_length=True)
        return made

    together = encoded(range(len(texts)))
    assert np.isfinite(together).all() and together.std() > 0.01
    for rows in ([0], [1], [*range(0, 120, 7), 5, 5], *([row] for row in range(2, 30))):
        assert (encoded(rows) == together[rows]).all(), rows


@pytest.mark.slow
def test_every_family_with_linear_layers_computes_in_int8(families):
    replaced = 0
    for family, folder in families.items():
        found = {}
        for precision in ("fp32", "int8"):
            encoder = load_encoder(folder, pooling="last" if family in DECODERS else "mean")
            try:
                place(encoder, Compute("cpu", precision, 512))
            except InputError as error:
                assert "no linear layers that int8 replaces" in str(error), family
                break
            tokens = encoder.tokenize(["fox otter owl", "a heron", "otter " * 20], "document")
            found[precision] = np.empty((3, encoder.dimension), np.float32)
            encode_tokens(encoder, tokens, Compute("cpu", precision, 512), found[precision], one_length=True)
        else:
            replaced += 1
            plain, rounded = (made / np.linalg.norm(made, axis=1, keepdims=True) for made in found.values())
            cosines = (plain * rounded).sum(1)
            assert cosines.min() > 0.97 and not np.array_equal(plain, rounded), (family, cosines)
    assert replaced >= 5
