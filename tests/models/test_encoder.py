"""Encoders load from and save to the forms of the field, with the vectors that sentence-transformers computes."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from drtools.encoding.loop import encode_texts
from drtools.errors import InputError
from drtools.models.compute import Compute
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_encoder
from drtools.models.pooling import POOLING
from drtools.models.settings import read_settings

TEXTS = [
    "fox runs",
    "the otter swims in the river and hunts salmon",
    "hammer",
    "a wrench holds and turns a vise near the lake x9",
]
COMPUTING = Compute("cpu", "fp32", 64)


def vectors(folder, side="document"):
    return encode_texts(load_encoder(str(folder)), TEXTS, side, COMPUTING)[0]


@pytest.mark.parametrize(
    "ours,theirs",
    [
        ("cls", "cls"),
        ("mean", "mean"),
        ("max", "max"),
        ("mean-sqrt", "mean_sqrt_len_tokens"),
        ("weighted-mean", "weightedmean"),
        ("last", "lasttoken"),
    ],
)
def test_each_pooling_is_that_of_sentence_transformers(bert, ours, theirs):
    body = Transformer(bert)
    peer = SentenceTransformer(modules=[body, Pooling(32, theirs)], device="cpu")
    mine, tokens = encode_texts(load_encoder(bert, pooling=ours), TEXTS, "document", COMPUTING)
    np.testing.assert_allclose(mine, peer.encode(TEXTS), atol=1e-5)
    assert tokens.truncated == 0


def test_pooling_by_hand():
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    worked = {
        "cls": [1, 2],
        "last": [3, 6],
        "mean": [2, 4],
        "max": [3, 6],
        "mean-sqrt": [4 / 2**0.5, 8 / 2**0.5],
        "weighted-mean": [7 / 3, 14 / 3],
    }
    assert set(worked) == set(POOLING)
    for mode, expected in worked.items():
        torch.testing.assert_close(POOLING[mode](states, mask), torch.tensor([expected], dtype=torch.float32))


@pytest.fixture
def peer_folder(bert, tmp_path):
    """A sentence-transformers model with everything that we read.

    Two poolings, a dense head, prompts, its own length.
    """
    torch.manual_seed(3)
    body = Transformer(bert, max_seq_length=9)
    modules = [
        body,
        Pooling(32, ("cls", "mean"), include_prompt=False),
        Dense(64, 16, activation_function=torch.nn.Tanh()),
        Normalize(),
    ]
    peer = SentenceTransformer(modules=modules, prompts={"query": "fox: ", "document": "hill hill: "}, device="cpu")
    peer.save(str(tmp_path / "peer"))
    return tmp_path / "peer"


def test_a_model_of_sentence_transformers_gives_its_vectors(peer_folder):
    peer = SentenceTransformer(str(peer_folder), device="cpu")
    np.testing.assert_allclose(vectors(peer_folder, "query"), peer.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(vectors(peer_folder, "document"), peer.encode_document(TEXTS), atol=1e-5)


def test_what_was_saved_loads_everywhere_with_the_same_vectors(peer_folder, tmp_path):
    before = vectors(peer_folder, "query")
    saved = save_encoder(load_encoder(str(peer_folder)), tmp_path / "ours")
    np.testing.assert_allclose(vectors(tmp_path / "ours", "query"), before, atol=1e-6)
    peer = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    np.testing.assert_allclose(peer.encode_query(TEXTS), before, atol=1e-5)
    assert saved == load_encoder(str(tmp_path / "ours")).side_fingerprints()
    assert not list((tmp_path / "ours").rglob("*.bin")), "safetensors only"


def test_truncated_and_empty_texts_are_counted(peer_folder):
    _, tokens = encode_texts(load_encoder(str(peer_folder)), [*TEXTS, "", "  \n"], "query", COMPUTING)
    assert (tokens.truncated, tokens.empty) == (2, 2)


def test_batches_do_not_change_vectors(encoder_folder):
    encoder = load_encoder(encoder_folder)
    one = np.concatenate([encode_texts(encoder, [text], "query", COMPUTING)[0] for text in TEXTS])
    together = encode_texts(encoder, TEXTS, "query", Compute("cpu", "fp32", 10_000))[0]
    np.testing.assert_allclose(one, together, atol=1e-6)


def test_a_bare_body_asks_for_its_pooling(bert):
    with pytest.raises(InputError, match="pooling cls"):
        load_encoder(bert)


def test_unknown_modules_are_refused_by_name(peer_folder):
    text = (peer_folder / "modules.json").read_text().replace("normalize.Normalize", "lstm.LSTM")
    (peer_folder / "modules.json").write_text(text)
    with pytest.raises(InputError, match="LSTM"):
        load_encoder(str(peer_folder))


def test_lengths_come_from_the_files(bert, peer_folder):
    assert read_settings(peer_folder).max_document_tokens == 9
    assert read_settings(__import__("pathlib").Path(bert), "cls").max_query_tokens == 64


def test_fingerprints_follow_weights_and_settings(peer_folder, tmp_path):
    encoder = load_encoder(str(peer_folder))
    first = save_encoder(encoder, tmp_path / "a")
    assert first["query"] != first["document"], "the prompts differ"
    encoder.settings.max_query_tokens = 5
    assert save_encoder(encoder, tmp_path / "b") == first, "another length still speaks to the same index"
    with torch.no_grad():
        encoder.body.embeddings.word_embeddings.weight[5, 5] += 1
    changed = save_encoder(encoder, tmp_path / "c")
    assert changed["query"] != first["query"] and changed["document"] != first["document"]


def test_encoding_changes_nothing_that_is_saved(peer_folder, tmp_path):
    encoder = load_encoder(str(peer_folder))
    first = save_encoder(encoder, tmp_path / "a")
    encode_texts(encoder, TEXTS, "query", COMPUTING)
    assert save_encoder(encoder, tmp_path / "b") == first


def test_a_bare_body_can_be_given_vectors_of_length_1(bert, tmp_path):
    plain, unit = (load_encoder(bert, pooling) for pooling in ("mean", "mean+normalize"))
    ids = torch.tensor([[2, 9, 11, 3]])
    with torch.no_grad():
        vector, scaled = (encoder(ids, torch.ones_like(ids))[0] for encoder in (plain, unit))
    torch.testing.assert_close(scaled, vector / vector.norm())
    assert (plain.settings.default_scale, unit.settings.default_scale) == (1, 20)
    save_encoder(unit, tmp_path / "saved")
    assert len(load_encoder(str(tmp_path / "saved"), "mean+normalize").settings.head) == 1, "once is enough"
    with pytest.raises(InputError, match="normalize at the end"):
        load_encoder(bert, "normalize")


def test_a_checkpoint_without_a_pooler_is_the_same_encoder_every_time(bert, tmp_path):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    AutoModelForMaskedLM.from_pretrained(bert).save_pretrained(tmp_path / "masked")
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "masked")
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = save_encoder(load_encoder(str(tmp_path / "masked"), "mean"), tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before), "nobody else's random numbers are used"
    torch.manual_seed(12)
    assert save_encoder(load_encoder(str(tmp_path / "masked"), "mean"), tmp_path / "b") == first
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_a_title_separator_that_a_tokenizer_knows_is_one_token(encoder_folder):
    """DPR's and SPAR's `title [SEP] text`: the separator's own token, not five of a word in brackets."""
    from drtools.formats.corpora import document_text

    encoder = load_encoder(encoder_folder)
    tokens = encoder.tokenize([document_text("fox", "otter swims", " [SEP] ")], "document")
    assert encoder.tokenizer.convert_ids_to_tokens(tokens.flat.tolist()) == [
        "[CLS]", "fox", "[SEP]", "otter", "swims", "[SEP]",
    ]  # fmt: skip
