"""A REM against its definition.

Its size, its formula in each family, what folding it keeps, and the bodies that it is refused on.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import make_bert
from safetensors.torch import load_file, save_file

from drtools.errors import InputError
from drtools.models.encoder import Encoder
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_encoder
from drtools.models.rem import add_rem, check_folds, fold_rem, rem_parameters, train_parts
from drtools.models.rem_files import load_rem, save_rem
from drtools.models.settings import EncoderSettings, RemSettings

KNOWN = ["bert", "roberta", "distilbert", "modernbert"]
LAYERS = {
    "bert": "encoder.layer",
    "roberta": "encoder.layer",
    "distilbert": "transformer.layer",
    "modernbert": "layers",
}
ALL = RemSettings(4, 6)


def batch():
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return ids, mask


@torch.no_grad()
def shake(encoder):
    """Make every number of a REM something else, as training would."""
    generator = torch.Generator().manual_seed(8)
    for parameter in rem_parameters(encoder).values():
        parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def vectors(encoder):
    return encoder.eval()(*batch())


def test_the_papers_counts_on_bert_base():
    from transformers import BertConfig, BertModel

    def count(lora_rank, adapter_size):
        with torch.device("meta"):
            body = BertModel(BertConfig())
            add_rem(
                encoder := Encoder(body, None, EncoderSettings(("mean",)), torch.nn.Sequential()),
                RemSettings(lora_rank, adapter_size),
                1,
            )
        train_parts(encoder, "rem")
        own = sum(parameter.numel() for parameter in rem_parameters(encoder).values())
        assert own == sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
        return own

    assert (count(192, 192), count(192, 0), count(96, 0), count(0, 192)) == (
        10_628_352,
        7_077_888,
        3_538_944,
        3_550_464,
    )


@pytest.mark.parametrize("family", KNOWN)
def test_a_fresh_one_changes_nothing_and_learns_alone(families, family):
    encoder = load_encoder(families[family], "mean")
    before = vectors(encoder)
    add_rem(encoder, ALL, 3)
    torch.testing.assert_close(vectors(encoder), before, atol=1e-6, rtol=1e-5)
    train_parts(encoder, "rem")
    shake(encoder)
    encoder.train()(*batch()).square().sum().backward()
    learning = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert len(learning) == len(rem_parameters(encoder)) == 2 * (4 + 4) and all(
        "lora_" in name or ".adapter." in name for name in learning
    )
    assert not torch.allclose(vectors(encoder), before, atol=1e-3)
    train_parts(encoder, "all")
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_the_bodys_dropout_stays_on(families):
    encoder = load_encoder(families["bert"], "mean", dropout=0.3)
    add_rem(encoder, ALL, 3)
    train_parts(encoder, "rem")
    encoder.train()
    assert not torch.allclose(encoder(*batch()), encoder(*batch()))


@pytest.mark.parametrize("family", KNOWN)
def test_lora_is_a_product_added_to_the_rows_of_queries_and_values(families, family):
    encoder, plain = (load_encoder(families[family], "mean") for _ in range(2))
    add_rem(encoder, RemSettings(4, 0), 3)
    shake(encoder)
    rem, body = rem_parameters(encoder), plain.body
    with torch.no_grad():
        for number in range(2):
            where = f"{LAYERS[family]}.{number}"
            for part, names in enumerate((("query", "q_lin"), ("value", "v_lin"))):
                (first,), (second,) = (
                    [
                        value
                        for name, value in rem.items()
                        if name.startswith(where) and matrix in name and any(f".{word}." in name for word in names)
                    ]
                    for matrix in ("lora_A", "lora_B")
                )
                if family == "modernbert":  # the rows of Wqkv: queries, keys, values
                    body.get_submodule(where).attn.Wqkv.weight[64 * part : 64 * part + 32] += second @ first
                else:
                    attention = body.get_submodule(where).attention
                    (attention if family == "distilbert" else attention.self).get_submodule(
                        names[family == "distilbert"]
                    ).weight += second @ first
    torch.testing.assert_close(vectors(encoder), vectors(plain), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", KNOWN)
def test_the_adapter_stands_beside_the_feed_forward_block(families, family):
    encoder = load_encoder(families[family], "mean")
    add_rem(encoder, RemSettings(0, 6), 3)
    shake(encoder)
    layer = encoder.body.get_submodule(f"{LAYERS[family]}.1")
    seen = {}
    block = {"bert": "intermediate", "roberta": "intermediate", "distilbert": "ffn", "modernbert": "mlp_norm"}[family]
    layer.get_submodule(block).register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    layer.register_forward_hook(lambda module, inputs, output: seen.update(out=output))
    vectors(encoder)
    x = seen["x"]
    with torch.no_grad():
        if family == "modernbert":
            n = layer.mlp_norm(x)
            values, gate = layer.mlp.Wi(n).chunk(2, -1)
            adapter = layer.mlp.adapter
            expected = (
                x + layer.mlp.Wo(torch.nn.functional.gelu(values) * gate) + 4 * adapter.up(torch.relu(adapter.down(n)))
            )
        elif family == "distilbert":
            adapter = layer.ffn.adapter
            expected = layer.output_layer_norm(
                layer.ffn.lin2(torch.nn.functional.gelu(layer.ffn.lin1(x)))
                + 4 * adapter.up(torch.relu(adapter.down(x)))
                + x
            )
        else:
            adapter = layer.output.adapter
            expected = layer.output.LayerNorm(
                layer.output.dense(torch.nn.functional.gelu(layer.intermediate.dense(x)))
                + 4 * adapter.up(torch.relu(adapter.down(x)))
                + x
            )
    torch.testing.assert_close(seen["out"], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("settings", [ALL, RemSettings(4, 0), RemSettings(0, 6)], ids=str)
@pytest.mark.parametrize("family", KNOWN)
def test_folded_it_is_a_plain_body_with_the_same_vectors(families, family, settings, tmp_path):
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder(families[family], "mean")
    add_rem(encoder, settings, 3)
    shake(encoder)
    before = vectors(encoder)
    if family == "modernbert" and settings.adapter_size:
        with pytest.raises(InputError, match="cannot become part of a plain modernbert body"):
            check_folds(encoder)
        fold_rem(encoder)
        torch.testing.assert_close(vectors(encoder), before, atol=1e-5, rtol=0)
        return
    check_folds(encoder)
    fold_rem(encoder)
    assert not rem_parameters(encoder) and (vectors(encoder) - before).abs().max() < 1e-5
    save_encoder(encoder, tmp_path / "merged")
    assert (vectors(load_encoder(str(tmp_path / "merged"))) - before).abs().max() < 1e-5
    text = ["the otter swims in the river and hunts salmon"]
    theirs = SentenceTransformer(str(tmp_path / "merged"), device="cpu").encode(text, convert_to_tensor=True)
    ids = torch.tensor([encoder.tokenizer(text[0])["input_ids"]])
    torch.testing.assert_close(theirs, encoder(ids, torch.ones_like(ids)).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", KNOWN)
def test_it_goes_from_its_body_to_another(families, family, tmp_path):
    encoder, other = (load_encoder(families[family], "mean") for _ in range(2))
    add_rem(encoder, ALL, 3)
    shake(encoder)
    expected = vectors(encoder)
    fingerprint = save_rem(encoder, tmp_path)
    assert len(load_file(tmp_path / "rem.safetensors")) == 16
    alone = other.side_fingerprints()
    load_rem(other, tmp_path)
    assert torch.equal(vectors(other), expected) and other.rem_fingerprint == fingerprint
    assert all(other.side_fingerprints()[side] != alone[side] for side in alone), "a fingerprint covers both"
    adapted = load_encoder(families[family], "mean")
    with torch.no_grad():
        for parameter in adapted.body.parameters():
            parameter.mul_(1.1)
    load_rem(adapted, tmp_path)
    assert not torch.allclose(vectors(adapted), expected, atol=1e-3)


def test_a_body_that_does_not_fit_is_refused(families, bert, tmp_path):
    from transformers import BertConfig, BertModel

    encoder = load_encoder(bert, "mean")
    add_rem(encoder, ALL, 3)
    save_rem(encoder, tmp_path)
    make_bert(tmp_path / "wide", hidden=64)
    shutil.copytree(bert, tmp_path / "deep")
    BertModel(BertConfig(**{**encoder.body.config.to_dict(), "num_hidden_layers": 3})).save_pretrained(
        tmp_path / "deep"
    )
    shutil.copytree(bert, tmp_path / "renamed")
    for name in ("vocab.txt", "tokenizer.json"):
        if (file := tmp_path / "renamed" / name).exists():
            file.write_text(file.read_text().replace("otter", "gannet"))
    for folder, pooling, wanted in (
        (tmp_path / "wide", "mean", "64 dimensions"),
        (tmp_path / "deep", "mean", "has 3 layers"),
        (tmp_path / "renamed", "mean", "tokenizer"),
        (bert, "cls", "has cls pooling"),
        (families["distilbert"], "mean", "a body of type distilbert"),
    ):
        with pytest.raises(InputError, match=wanted):
            load_encoder(str(folder), pooling, rem=str(tmp_path))
    with pytest.raises(
        InputError, match=r"type qwen2, whose first layer has layers\.0\.self_attn\.q_proj, .*supported are bert"
    ):
        add_rem(load_encoder(families["qwen2"], "last"), ALL, 1)
    with pytest.raises(InputError, match="expected a REM"):
        load_encoder(bert, "mean", rem=bert)
    tensors = load_file(tmp_path / "rem.safetensors")
    save_file(dict(list(tensors.items())[1:]), Path(tmp_path) / "rem.safetensors")
    with pytest.raises(InputError, match="its tensors do not match"):
        load_encoder(bert, "mean", rem=str(tmp_path))


def test_it_brings_its_prompts_and_minds_case_and_head(bert, tmp_path):
    encoder = load_encoder(bert, "mean")
    encoder.settings.query_prompt, encoder.settings.document_prompt = "fox: ", "hill: "
    add_rem(encoder, ALL, 3)
    save_rem(encoder, tmp_path)
    found = load_encoder(bert, "mean", rem=str(tmp_path))
    assert (found.settings.query_prompt, found.settings.document_prompt) == ("fox: ", "hill: ")
    lower, dense = load_encoder(bert, "mean"), load_encoder(bert, "mean")
    lower.settings.lower_case = True
    dense.settings.head = [{"kind": "dense", "in": 32, "out": 16}, {"kind": "normalize"}]
    dense.settings.pooling = ("mean",)
    for other, wanted in ((lower, "texts in lower case"), (dense, "has mean.normalize pooling")):
        with pytest.raises(InputError, match=wanted):
            load_rem(other, tmp_path)
    dense.settings.head.pop()
    with pytest.raises(InputError, match=r"trained on no head, .* has dense of 16 head"):
        load_rem(dense, tmp_path)


def test_damaged_files_are_one_line_that_names_them(bert, tmp_path):
    encoder = load_encoder(bert, "mean")
    add_rem(encoder, ALL, 3)
    save_rem(encoder, tmp_path)
    record, weights = json.loads((tmp_path / "drtools.json").read_text()), (tmp_path / "rem.safetensors").read_bytes()
    for name, damaged in (
        ("rem.safetensors", weights[:50]),
        ("rem.safetensors", weights[:-50]),
        ("rem.safetensors", None),
        ("drtools.json", b"{"),
        *(
            ("drtools.json", json.dumps({key: value for key, value in record.items() if key != gone}).encode())
            for gone in ("lora_rank", "adapter_size", "body")
        ),
    ):
        (tmp_path / "drtools.json").write_text(json.dumps(record))
        (tmp_path / "rem.safetensors").write_bytes(weights)
        (tmp_path / name).unlink() if damaged is None else (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError, match=re.escape(str(tmp_path / name))) as caught:
            load_encoder(bert, "mean", rem=str(tmp_path))
        assert "\n" not in str(caught.value)
