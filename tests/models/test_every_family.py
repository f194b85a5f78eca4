"""Each family of bodies that is known: loaded, trained, saved, loaded again, encoded in any company and at full length.

Beside sentence-transformers, which computes each text alone, for padding changes what some families give.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from drtools import reporting
from drtools.cli.main import main
from drtools.encoding.loop import encode_texts
from drtools.errors import InputError
from drtools.models.bodies import padding_leaks, positions_of
from drtools.models.compute import Compute
from drtools.models.encoder_files import load_reader, save_encoder
from drtools.models.loader import load_encoder
from drtools.models.settings import read_settings
from tests.models.tiny_bodies import (
    EVERY_FAMILY,
    LAST,
    REFUSED,
    every_body,
    make_tokenizer,
    refused_body,
    spread,
    write_model,
)

TEXTS = [
    "fox",
    "the otter swims in the river and hunts salmon",
    "hammer runs 7",
    "a wrench holds and turns a vise near the lake x9 and the anvil bends",
]
LONG = " ".join(["fox otter hammer river"] * 30)
EACH_ALONE, TOGETHER = Compute("cpu", "fp32", 1), Compute("cpu", "fp32", 10_000)
WITHOUT_LIMIT = ("t5", "xlnet", "bloom")
TABLES = {  # families with a table of positions: how many tokens they read of its 64 rows
    **dict.fromkeys(("bert", "distilbert", "albert", "electra", "gpt2", "bigbird", "convbert", "roformer"), 64),
    **dict.fromkeys(("megatron-bert", "opt", "nystromformer"), 64),
    **dict.fromkeys(("roberta", "xlm-roberta", "longformer", "roberta-prelayernorm", "luke", "xmod", "esm"), 63),
    "mpnet": 62,  # it takes 1 for its padding index, whatever the configuration says
}


def run(*words: object) -> None:
    main([str(word) for word in words])


def vectors(encoder, texts=TEXTS, computing=TOGETHER):
    return encode_texts(encoder, texts, "document", computing)[0]


def peer(folder, texts, **settings):
    model = SentenceTransformer(str(folder), device="cpu", **settings)
    return model.encode_document(texts, batch_size=1)


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert len({tuple(row) for row in np.round(expected, 4)}) == len(expected), "different texts, different vectors"


@pytest.fixture
def written(bert, tmp_path):
    """Return what writes a model's folder: of a family, with the toy tokenizer that names no length."""

    def write(family: str, **files: dict) -> Path:
        decoder = "llama" if family in LAST else "bert"
        tokenizer = make_tokenizer(bert, decoder)
        tokenizer.model_max_length = int(1e30)
        made = refused_body(family, len(tokenizer)) if family in REFUSED else every_body(len(tokenizer))[family]()
        pooling = "last" if family in LAST else "mean"
        return Path(write_model(tmp_path / family, spread(made), tokenizer, pooling, **files))

    return write


@pytest.mark.slow
@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_vectors_are_those_of_sentence_transformers_in_any_company(written, family):
    folder = written(family, sentence_bert_config={"max_seq_length": 60})
    encoder = load_encoder(str(folder))
    alone = vectors(encoder, computing=EACH_ALONE)
    close(alone, peer(folder, TEXTS))
    np.testing.assert_allclose(vectors(encoder), alone, atol=1e-6 * max(1, np.abs(alone).max()))


@pytest.mark.slow
@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_a_text_of_full_length_encodes_and_one_more_token_is_cut_or_refused(written, family, toy, capsys):
    folder = written(family)
    encoder = load_encoder(str(folder))
    longest = positions_of(encoder.body)
    assert longest == (None if family in WITHOUT_LIMIT else TABLES.get(family, 64))
    without_weights = load_reader(folder, read_settings(folder))
    assert without_weights.positions == longest and without_weights.settings == encoder.settings
    found, tokens = encode_texts(encoder, [LONG], "document", TOGETHER)
    read = encoder.settings.max_document_tokens
    assert tokens.truncated == (longest is not None) and tokens.lengths[0] >= min(read, 121)
    if longest is None:
        return
    assert read == longest
    np.testing.assert_allclose(
        found,
        peer(folder, [LONG], processor_kwargs={"model_max_length": longest}),
        atol=1e-5 * np.abs(found).max(),
    )
    with pytest.raises(SystemExit) as ended:
        run(
            *("encode", "--model", folder, "--corpus", toy.corpus, "-o", toy.folder / "vectors"),
            *("--max-document-tokens", longest + 1),
        )
    assert ended.value.code == 2 and f"this body has {longest} positions" in capsys.readouterr().err
    if family in TABLES:  # what was found is the truth: no token more can be read
        with pytest.raises((IndexError, RuntimeError)):
            encoder.body(input_ids=torch.full((1, longest + 1), 7))


@pytest.mark.slow
@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_what_two_steps_train_loads_here_and_in_sentence_transformers(written, family, toy, tmp_path):
    folder = written(family, sentence_bert_config={"max_seq_length": 60})
    run(
        *("train-contrastive", "--model", folder, "--corpus", toy.corpus, "--queries", toy.queries),
        *("--examples", toy.examples, "--steps", 2, "--batch-queries", 4, "--learning-rate", 1e-3),
        *("--precision", "fp32", "-o", toy.folder / "trained"),
    )
    trained = load_encoder(str(toy.folder / "trained"))
    after = vectors(trained, computing=EACH_ALONE)
    assert np.abs(after - vectors(load_encoder(str(folder)), computing=EACH_ALONE)).max() > 1e-4, "it has learnt"
    close(after, peer(toy.folder / "trained", TEXTS))
    save_encoder(trained, tmp_path / "again")
    np.testing.assert_array_equal(vectors(load_encoder(str(tmp_path / "again")), computing=EACH_ALONE), after)
    assert json.loads((tmp_path / "again/config.json").read_text()) == json.loads(
        (toy.folder / "trained/config.json").read_text()
    )


@pytest.mark.parametrize("family", ["convbert", "nystromformer"])
def test_a_body_that_convolves_over_tokens_is_given_texts_of_one_length(written, family):
    folder = written(family)
    encoder = load_encoder(str(folder))
    assert padding_leaks(encoder.body)
    alone = vectors(encoder, computing=EACH_ALONE)
    np.testing.assert_allclose(vectors(encoder), alone, atol=1e-6 * np.abs(alone).max())
    together = SentenceTransformer(str(folder), device="cpu").encode_document(TEXTS, batch_size=4)
    assert np.abs(together - alone).max() > 1e-3, "in sentence-transformers padding changes the vectors"
    ids, mask = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    encoder(ids, mask)[1, 0].backward()
    learnt = encoder.body.get_input_embeddings().weight.grad.abs().sum(dim=1)
    assert learnt[9] > 0 and not learnt[[0, 7, 8]].any(), "neither padding nor another text teaches anything"


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_that_cannot_be_encoded_with_is_refused_by_name(written, name):
    with pytest.raises(InputError, match=REFUSED[name]):
        load_encoder(str(written(name)))


@pytest.mark.slow
def test_x_mod_is_trained_in_float32_where_others_are_in_bfloat16(written, toy):
    folder = written("xmod", sentence_bert_config={"max_seq_length": 60})
    words = (
        *("train-contrastive", "--model", folder, "--corpus", toy.corpus, "--queries", toy.queries),
        *("--examples", toy.examples, "--steps", 1, "--batch-queries", 2, "--device", "cpu"),
    )
    run(*words, "--precision", "bf16", "-o", toy.folder / "asked")
    assert any("xmod models are trained in float32" in text for text in reporting.notices())
    run(*words, "--precision", "fp32", "-o", toy.folder / "plain")
    asked, plain = (load_encoder(str(toy.folder / name)) for name in ("asked", "plain"))
    np.testing.assert_array_equal(vectors(asked), vectors(plain))
    assert json.loads((toy.folder / "asked/manifest.json").read_text())["precision"] == "fp32"


@pytest.mark.slow
@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_every_family_is_trained_in_bfloat16(written, family, toy):
    run(
        *("train-contrastive", "--model", written(family, sentence_bert_config={"max_seq_length": 60})),
        *(*toy.training, "--steps", 1),
        *("--batch-queries", 2, "--device", "cpu", "--precision", "bf16", "-o", toy.folder / "trained"),
    )
    assert len(vectors(load_encoder(str(toy.folder / "trained")))) == len(TEXTS)
