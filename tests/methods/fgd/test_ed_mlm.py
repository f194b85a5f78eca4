"""ED-MLM: what the decoder sees and what is asked of it, by a plain forward pass; its losses fall; it continues."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import changed_by_flags
from safetensors.numpy import load_file
from torch.nn.functional import cross_entropy

from drtools.errors import InputError
from drtools.methods.ddr.masking import Masker
from drtools.methods.fgd.ed_mlm import Decoder, EnhancedModel, TwiceMasker
from drtools.models.loader import load_encoder
from drtools.models.masked import IGNORED, new_head
from drtools.randomness import generator

TEXTS = [
    "fox hound otter heron badger salmon falcon marten lynx beaver",
    "adder newt raven",
    "hare hammer chisel plane lathe anvil wrench " * 6,
]


def masked(encoder, share=0.4, decoder_share=0.7, **settings):
    masker = TwiceMasker(encoder, 20, share, decoder_share, **settings)
    return masker(TEXTS, [generator(1, at) for at in range(len(TEXTS))])


def test_the_decoder_is_asked_for_the_encoders_tokens_and_more(encoder_folder):
    encoder = load_encoder(encoder_folder)
    both = masked(encoder)
    first, second = both.tokens, both.heavier
    asked, more = first.labels != IGNORED, second.labels != IGNORED
    assert (
        np.array_equal(first.tokens.starts, second.tokens.starts)
        and (more | ~asked).all()
        and more.sum() > asked.sum() > 0
    )
    assert np.array_equal(first.labels[asked], second.labels[asked]), "it is the same crop"
    plain = Masker(encoder, 20, 0.4)(TEXTS, [generator(1, at) for at in range(len(TEXTS))])
    assert np.array_equal(plain.tokens.flat, first.tokens.flat) and np.array_equal(plain.labels, first.labels)


def test_windows_begin_at_multiples_of_the_stride(encoder_folder):
    encoder = load_encoder(encoder_folder)
    ids = encoder.tokenizer(TEXTS[2], add_special_tokens=False)["input_ids"]
    masker = TwiceMasker(encoder, 20, 0.001, 0.002, stride=7)
    begins = set()
    for seed in range(60):
        crop = masker([TEXTS[2]], [generator(seed)]).tokens
        own = np.where(crop.labels == IGNORED, crop.tokens.flat, crop.labels)[1:-1].tolist()
        begins |= {start for start in range(len(ids) - 17) if ids[start : start + 18] == own}
    assert {0, 7, 14, len(ids) - 18} <= begins


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_rows_by_a_plain_forward_pass(families, family):
    encoder = load_encoder(families[family], pooling="cls", dropout=0.0)
    model = EnhancedModel(encoder, new_head(encoder, 3), Decoder(2), 5)
    both = masked(encoder)
    ids, mask, labels, _, decoder_ids, decoder_labels = (
        torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in both.inputs(range(3))
    )
    rows = model(ids, mask, labels, True, decoder_ids, decoder_labels)
    body = encoder.body.set_attn_implementation("eager") or encoder.body
    for at in range(3):
        length = int(mask[at].sum())
        states = body(input_ids=ids[at : at + 1, :length]).last_hidden_state
        hidden = body.embeddings(input_ids=decoder_ids[at : at + 1, :length])
        hidden = torch.cat([states[:, :1], hidden[:, 1:]], 1)
        for layer in model.decoder:
            hidden = layer(hidden)
        for column, found, asked in ((0, states, labels), (2, hidden, decoder_labels)):
            wanted = asked[at, :length] != IGNORED
            loss = cross_entropy(
                model.head(found[0], body.get_input_embeddings().weight)[wanted],
                asked[at, :length][wanted],
                reduction="sum",
            )
            torch.testing.assert_close(rows[at, column], loss, atol=1e-3, rtol=1e-4)
            assert rows[at, column + 1] == wanted.sum()
    gradient = torch.autograd.grad(rows[:, 2].sum(), encoder.body.encoder.layer[0].output.dense.weight)[0]
    assert gradient.abs().max() > 0, "the decoder's loss reaches the encoder through its first token"


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_decoder_starts_as_the_encoders_last_layers_and_has_weights_of_its_own(families, family):
    encoder = load_encoder(families[family], pooling="cls")
    body = [{name: value.clone() for name, value in layer.state_dict().items()} for layer in encoder.body.encoder.layer]
    for layers in (1, 2):
        model = EnhancedModel(encoder, new_head(encoder, 3), Decoder(layers), 5)
        assert len(model.decoder) == layers and len(body) == 2
        for copied, source in zip(model.decoder, body[-layers:], strict=True):
            assert all(torch.equal(copied.state_dict()[name], value) for name, value in source.items())
    drawn = EnhancedModel(encoder, new_head(encoder, 3), Decoder(3, start="random"), 5)
    assert len(drawn.decoder) == 3
    assert not torch.equal(drawn.decoder[0].output.dense.weight, body[0]["output.dense.weight"])
    model.decoder[1].output.dense.weight.data.zero_()
    assert torch.equal(encoder.body.encoder.layer[1].output.dense.weight, body[1]["output.dense.weight"])
    with pytest.raises(InputError, match=r"decoder_layers 3: the encoder has only 2 layers to copy"):
        EnhancedModel(encoder, new_head(encoder, 3), Decoder(3), 5)


def test_a_head_of_the_decoders_own_learns_from_the_decoder_alone(families):
    encoder = load_encoder(families["bert"], pooling="cls", dropout=0.0)
    inputs = [
        torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in masked(encoder).inputs(range(3))
    ]
    shared = EnhancedModel(encoder, new_head(encoder, 3), Decoder(2), 5)
    own = EnhancedModel(encoder, new_head(encoder, 3), Decoder(2, head="own"), 5)
    torch.testing.assert_close(shared(*inputs), own(*inputs))
    assert len(shared.heads) == 1 and len(own.heads) == 2
    for column, learns in ((0, own.head), (2, own.decoder_head)):
        heads = [head.dense.weight for head in own.heads]
        gradients = torch.autograd.grad(own(*inputs)[:, column].sum(), heads)
        for head, gradient in zip(own.heads, gradients, strict=True):
            assert bool(gradient.abs().max() > 0) == (head is learns)


@changed_by_flags
def command(toy, start, out, *more):
    return [
        "mlm-adapt",
        "--objective",
        "ed-mlm",
        "--model",
        start,
        "--corpus",
        toy.corpus,
        "--batch-documents",
        "16",
        "--learning-rate",
        "3e-3",
        "--crop-tokens",
        "24",
        "--stride",
        "4",
        "--head-steps",
        "3",
        "--dev-documents",
        "10",
        "--precision",
        "fp32",
        "--threads",
        "1",
        "-o",
        str(out),
        *more,
    ]


@pytest.mark.slow
def test_it_learns_repeats_itself_and_leaves_an_encoder(toy, encoder_folder, drtools, tmp_path):
    toy.repeat_words()
    for name in ("one", "other"):
        outcome = drtools(*command(toy, encoder_folder, tmp_path / name, "--steps", "25", "--threads", "2"))
        assert outcome.status == 0, outcome.err
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "other"))
    assert all(np.array_equal(one[name], other[name]) for name in one) and not any("decoder" in name for name in one)
    log = [
        record
        for record in map(json.loads, (tmp_path / "one/training.jsonl").read_text().splitlines())
        if "loss" in record
    ]
    for name in ("encoder loss", "decoder loss"):
        assert log[-1][name] < log[0][name] - 0.1, name
    assert log[-1]["loss"] == pytest.approx(log[-1]["encoder loss"] + log[-1]["decoder loss"], abs=1e-4)
    perplexity = [
        evaluation["perplexity"]
        for evaluation in json.loads((tmp_path / "one/manifest.json").read_text())["evaluations"]
    ]
    assert min(perplexity) < 0.8 * perplexity[0]
    assert (
        drtools("encode", "--model", tmp_path / "one", "--corpus", toy.corpus, "-o", tmp_path / "vectors").status == 0
    )
    assert Path(tmp_path / "one/masked-head").is_dir()


def test_a_body_without_such_layers_is_refused(families):
    encoder = load_encoder(families["distilbert"], pooling="cls")
    with pytest.raises(InputError, match="found a distilbert body"):
        EnhancedModel(encoder, new_head(encoder, 3), Decoder(2), 5)


@pytest.mark.slow
def test_its_own_defaults_and_what_it_says(toy, encoder_folder, bert, drtools, tmp_path):
    words = [
        "mlm-adapt",
        "--objective",
        "ed-mlm",
        "--corpus",
        toy.corpus,
        "--batch-documents",
        "50",
        "--head-steps",
        "1",
        "--dev-documents",
        "10",
        "--precision",
        "fp32",
        "--threads",
        "1",
    ]
    outcome = drtools(*words, "--gradient-caching", "--model", encoder_folder, "-o", tmp_path / "mean")
    made = json.loads((tmp_path / "mean/manifest.json").read_text())
    assert (
        made["learning_rate"],
        made["steps"],
        made["mask_share"],
        made["decoder_mask_share"],
        made["stride"],
        made["crop_tokens"],
    ) == (1e-4, 3, 0.3, 0.5, 64, 64)
    assert (
        all(50 < evaluation["decoder perplexity"] < 500 for evaluation in made["evaluations"])
        and "trains only the first token" in outcome.err
    )
    assert made["decoder"] == {"layers": 2, "start": "encoder", "head": "shared"}
    assert (made["mask_unit"], made["windows"]) == ("word", 60), "a window of 64 holds any of the documents"
    assert made["request"]["arguments"]["schedule"] == "linear"
    outcome = drtools(*words, "--model", bert, "--pooling", "cls", "-o", tmp_path / "cls")
    assert outcome.status == 0 and "only the first token" not in outcome.err, outcome.err


@pytest.mark.slow
def test_an_epoch_is_of_windows_and_each_default_has_a_flag(toy, encoder_folder, drtools, tmp_path):
    toy.repeat_words()  # 20 tokens each: of 12 tokens, 4 apart, there are 1 + ceil((20 - 10) / 4) windows
    words = [word for word in command(toy, encoder_folder, tmp_path / "windows") if word != "-o"][:-1]
    words[words.index("--crop-tokens") + 1] = "12"
    made = {}
    for name, more in {
        "windows": [],
        "random": ["--crops", "random", "--mask-unit", "token", "--schedule", "constant"],
        "drawn": ["--crops", "random", "--decoder-start", "random", "--decoder-head", "own", "--decoder-layers", "3"],
    }.items():
        outcome = drtools(*words, *more, "--epochs", "1", "-o", tmp_path / name)
        assert outcome.status == 0, outcome.err
        made[name] = json.loads((tmp_path / name / "manifest.json").read_text())
    assert made["windows"]["windows"] == 60 * 4 and made["random"]["windows"] is None
    assert made["windows"]["steps"] == math.ceil(50 * 4 / 16) and made["random"]["steps"] == math.ceil(50 / 16)
    assert made["windows"]["head_steps"] == made["random"]["head_steps"] == 3
    assert made["random"]["mask_unit"] == "token" and made["drawn"]["mask_unit"] == "word"
    assert made["drawn"]["decoder"] == {"layers": 3, "start": "random", "head": "own"}
    assert not (tmp_path / "windows/working").exists() and not list((tmp_path / "windows").glob("*.npy"))
    for more, least, most in (([], 0, 1e-3), (["--schedule", "constant"], 3e-3, 3e-3)):
        assert drtools(*words, *more, "--steps", "20", "-o", tmp_path / f"rates{len(more)}").status == 0
        log = [json.loads(line) for line in (tmp_path / f"rates{len(more)}/training.jsonl").read_text().splitlines()]
        (rate,) = [record["learning_rate"] for record in log if record["step"] == 20 and "loss" in record]
        assert least <= rate <= most, "in the last of 20 steps, 2 of them the warm-up"


def test_what_0_1_0_made_by_other_defaults_is_refused_by_naming_them(toy, encoder_folder, drtools, tmp_path):
    words = command(toy, encoder_folder, tmp_path / "out", "--steps", "1")
    assert drtools(*words).status == drtools(*words).status == 0
    path = tmp_path / "out/manifest.json"
    record = json.loads(path.read_text())
    arguments = record["request"]["arguments"]
    for name in ("crops", "mask_unit", "decoder_start", "decoder_head"):
        del arguments[name]
    path.write_text(
        json.dumps(record | {"request": record["request"] | {"arguments": arguments | {"schedule": "constant"}}})
    )
    outcome = drtools(*words)
    assert outcome.status == 2 and len(outcome.err.splitlines()) == 1
    for difference in (
        "--crops: None then, windows now",
        "--mask-unit: None then, word now",
        "--decoder-start: None then, encoder now",
        "--schedule: constant then, linear now",
    ):
        assert difference in outcome.err, outcome.err
