"""Tensors of a checkpoint that a model has no place for: which may go unused, and which are refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from drtools import reporting
from drtools.cli import console
from drtools.cli.main import main
from drtools.errors import InputError
from drtools.models.cross_encoder import load_cross_encoder, new_cross_encoder
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_encoder
from drtools.models.masked import load_head, new_head, save_head
from tests.models.tiny_bodies import EVERY_FAMILY, every_body, make_tokenizer


def with_tensors(source: str, folder: Path, prefix: str = "", **more: torch.Tensor) -> str:
    """Copy a body's folder; its weights get a prefix, and other tensors beside them."""
    shutil.copytree(source, folder)
    weights = {f"{prefix}{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights | more, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def head_of_drhard(size: int = 32) -> dict[str, torch.Tensor]:
    """Return a trained head under the names of DRhard's and ANCE's checkpoints."""
    generator = torch.Generator().manual_seed(1)
    return {
        "embeddingHead.weight": torch.randn(size, size, generator=generator),
        "embeddingHead.bias": torch.randn(size, generator=generator),
        "norm.weight": torch.randn(size, generator=generator),
        "norm.bias": torch.randn(size, generator=generator),
    }


REFUSED = {
    "drhard": (head_of_drhard(), "4 tensors .*embeddingHead.bias, embeddingHead.weight, norm.bias and 1 more.*DRhard"),
    "colbert": (
        {"linear.weight": torch.randn(16, 32)},
        r"1 tensor .*\(linear.weight\): the token head of a multi-vec",
    ),
    "lora": (
        {
            "roberta.encoder.layer.0.attention.self.query.lora_A.weight": torch.randn(4, 32),
            "roberta.encoder.layer.0.attention.self.query.lora_B.weight": torch.randn(32, 4),
        },
        "2 tensors .*lora_A.*not merged.*merge_and_unload",
    ),
    "unknown": ({"roberta.extra.weight": torch.randn(2)}, r"1 tensor that a roberta model .*\(roberta.extra.weight\)"),
}


# what a family would have if it were another: trained parts under names that mean something else there
FOREIGN = (
    ("bert", "head.dense.weight"),
    ("bert", "head.norm.weight"),
    ("roberta", "head.dense.weight"),
    ("bert", "decoder.weight"),
    ("bert", "predictions.dense.weight"),
    ("bert", "mask_predictions.w"),
    ("bert", "pooler.attention.query"),
    ("bert", "pooler.weight"),
    ("bert", "encoder.layer.0.attention.bias"),
    ("modernbert", "pooler.dense.weight"),
    ("modernbert", "head.attention.weight"),
    ("qwen2", "vocab_projector.weight"),
)


@pytest.mark.parametrize(("family", "name"), FOREIGN)
def test_a_name_that_only_another_family_may_leave_unused_is_refused(families, tmp_path, family, name):
    folder = with_tensors(families[family], tmp_path / "model", **{name: torch.randn(16, 32)})
    with pytest.raises(InputError, match=rf"1 tensor that a {family} model does not use \({name}\)"):
        load_encoder(folder, pooling="cls")


@pytest.mark.parametrize(
    ("name", "what"), [("sparse_linear.weight", "weighs each token"), ("colbert_linear.bias", "the token head")]
)
def test_the_further_heads_of_bge_m3_are_named(families, tmp_path, name, what):
    folder = with_tensors(families["roberta"], tmp_path / "model", **{name: torch.randn(1)})
    with pytest.raises(InputError, match=what):
        load_encoder(folder, pooling="cls")


def test_weights_beside_the_models_own_are_refused(bert, tmp_path):
    folder = Path(with_tensors(bert, tmp_path / "model"))
    save_file({"linear.weight": torch.randn(16, 32)}, folder / "colbert_linear.safetensors")
    with pytest.raises(InputError, match=r"found colbert_linear.safetensors next to the weights"):
        load_encoder(str(folder), pooling="cls")
    (folder / "colbert_linear.safetensors").rename(
        folder / "consolidated.safetensors"
    )  # Mistral's, of the same weights
    load_encoder(str(folder), pooling="cls")


def test_tensors_of_another_shape_are_named(bert, tmp_path):
    name = "encoder.layer.0.attention.self.query.weight"
    folder = with_tensors(bert, tmp_path / "model")
    weights = load_file(Path(folder) / "model.safetensors")
    of_body = next(key for key in weights if key.endswith(name))
    save_file(weights | {of_body: torch.randn(16, 32)}, Path(folder) / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        InputError, match=rf"1 tensor whose shape differs .*{name}, found \[16, 32\], expected \[32, 32\]"
    ):
        load_encoder(folder, pooling="cls")


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_have_changed_the_vectors_is_refused_by_name(families, tmp_path, kind):
    tensors, message = REFUSED[kind]
    folder = with_tensors(families["roberta"], tmp_path / "model", "roberta.", **tensors)
    with pytest.raises(InputError, match=message):
        load_encoder(folder, pooling="cls")
    with pytest.raises(InputError, match=message):
        new_cross_encoder(folder, seed=1)


def test_no_new_head_is_drawn_over_a_trained_one(families, tmp_path, toy, capsys):
    folder = with_tensors(families["roberta"], tmp_path / "model", "roberta.", **head_of_drhard())
    with pytest.raises(SystemExit) as ended:
        main(
            f"train-star --model {folder} --pooling cls --head projection --corpus {toy.corpus} "
            f"--queries {toy.queries} --examples {toy.examples} --steps 1 -o {tmp_path / 'star'}".split()
        )
    assert ended.value.code == 2 and "embeddingHead" in capsys.readouterr().err and not (tmp_path / "star").exists()


def test_the_head_of_drhard_is_imported_with_its_vectors(families, tmp_path, drtools):
    """The next move that the refusal names."""
    from sentence_transformers import SentenceTransformer

    body, head = families["roberta"], head_of_drhard()
    source = with_tensors(body, tmp_path / "drhard", "roberta.", **head)
    # the toy tokenizer is one of words, which knows no space before them
    words = ("import-model", source, "--no-prefix-space", "-o", tmp_path / "star")
    assert drtools(*words).status == 0
    encoder = load_encoder(str(tmp_path / "star"))
    ids = torch.tensor([[2, 7, 9, 3]])
    with torch.no_grad():
        state = load_encoder(body, "cls").body(input_ids=ids).last_hidden_state[:, 0]
        linear = state @ head["embeddingHead.weight"].T + head["embeddingHead.bias"]
        centred = linear - linear.mean(dim=-1, keepdim=True)
        scaled = centred / (linear.var(dim=-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        expected = scaled * head["norm.weight"] + head["norm.bias"]
        torch.testing.assert_close(encoder(ids, torch.ones_like(ids)), expected, rtol=1e-4, atol=1e-5)
    assert SentenceTransformer(str(tmp_path / "star"), device="cpu").encode(["fox"]).shape == (1, 32)


@pytest.mark.parametrize("beside", [False, True])
def test_an_adapter_in_a_folder_of_its_own_is_refused(bert, tmp_path, beside):
    folder = tmp_path / "model"
    if beside:
        shutil.copytree(bert, folder)
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "some/base", "peft_type": "LORA"})
    )
    save_file({"base_model.model.lora_A.weight": torch.randn(2, 2)}, folder / "adapter_model.safetensors")
    for load in (lambda: load_encoder(str(folder), "mean"), lambda: new_cross_encoder(str(folder), 1)):
        with pytest.raises(InputError, match=r"an adapter .* for some/base, which is not merged .*import-model"):
            load()


def test_heads_of_the_pre_training_and_buffers_go_unused_without_a_word(bert, tmp_path):
    from transformers import AutoTokenizer, BertForPreTraining

    BertForPreTraining.from_pretrained(bert).save_pretrained(tmp_path / "whole")
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "whole")
    folder = with_tensors(
        str(tmp_path / "whole"), tmp_path / "model", **{"bert.embeddings.position_ids": torch.arange(64)[None]}
    )
    encoder = load_encoder(folder, pooling="cls")
    expected = load_encoder(bert, pooling="cls").body.embeddings.word_embeddings.weight
    assert torch.equal(encoder.body.embeddings.word_embeddings.weight, expected) and not reporting.notices()


def test_a_classifier_that_is_not_used_is_reported(rankers, toy, capsys):
    load_encoder(rankers["bert"], pooling="cls")
    (text,) = reporting.notices()
    assert text.endswith("its classifier (classifier.bias, classifier.weight) is not used")
    with pytest.raises(SystemExit) as ended:
        main(
            f"encode --model {rankers['bert']} --pooling cls --corpus {toy.corpus} --strict "
            f"-o {toy.folder / 'vectors'}".split()
        )
    assert ended.value.code == 2 and "its classifier" in capsys.readouterr().err


def test_a_cross_encoder_has_no_place_for_a_second_classifier(rankers, tmp_path):
    folder = with_tensors(rankers["bert"], tmp_path / "model", **{"score.weight": torch.randn(1, 32)})
    with pytest.raises(InputError, match=r"1 tensor that a bert model does not use \(score.weight\)"):
        load_cross_encoder(folder)


@pytest.mark.slow
@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_the_heads_that_transformers_knows_may_go_unused(bert, family, tmp_path):
    from transformers.models.auto import modeling_auto

    tokenizer = make_tokenizer(bert, "bert")
    config = every_body(len(tokenizer))[family]().config
    config.tie_word_embeddings = False  # so that every tensor of the head is written
    tried = 0
    for task in ("PRETRAINING", "MASKED_LM", "CAUSAL_LM", "SEQUENCE_CLASSIFICATION", "TOKEN_CLASSIFICATION"):
        mapping = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING")
        if type(config) not in mapping:
            continue
        config.is_encoder_decoder = family == "t5"
        model, folder = mapping[type(config)](config), tmp_path / task
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if family == "t5" and task == "TOKEN_CLASSIFICATION":
            continue  # an encoder alone, under a prefix of its own
        console.configure("test")
        load_encoder(str(folder), pooling="mean")
        assert bool(reporting.notices()) == task.endswith("CLASSIFICATION")
        tried += 1
    assert tried > 1


def test_a_dense_layer_with_other_tensors_is_refused(encoder_folder, tmp_path):
    from drtools.training.student import add_projection

    encoder = load_encoder(encoder_folder)
    assert add_projection(encoder, 8)
    save_encoder(encoder, tmp_path / "model")
    file = tmp_path / "model" / "2_Dense" / "model.safetensors"
    weights = load_file(file)
    save_file(weights | {"residual.weight": torch.randn(8, 32)}, file)
    with pytest.raises(InputError, match=r"1 tensor that this Linear does not use \(residual.weight\)"):
        load_encoder(str(tmp_path / "model"))
    save_file({"linear.weight": torch.randn(8, 31), "linear.bias": weights["linear.bias"]}, file)
    save_file({**weights, "linear.scale": torch.randn(8)}, file)
    with pytest.raises(InputError, match=r"this Linear does not use \(linear.scale\): a part that would"):
        load_encoder(str(tmp_path / "model"))
    save_file({"linear.weight": torch.randn(8, 31), "linear.bias": weights["linear.bias"]}, file)
    with pytest.raises(InputError, match=r"linear.weight \[8, 31\].*expected linear.weight \[8, 32\]"):
        load_encoder(str(tmp_path / "model"))


def test_a_masked_head_with_other_tensors_is_refused_and_an_unknown_one_reported(bert, tmp_path):
    from transformers import AlbertForMaskedLM

    shutil.copytree(bert, tmp_path / "adapted")
    encoder = load_encoder(str(tmp_path / "adapted"), pooling="cls")
    save_head(new_head(encoder, 1), tmp_path / "adapted")
    assert load_head(encoder) is not None
    file = tmp_path / "adapted" / "masked-head" / "model.safetensors"
    save_file(load_file(file) | {"second.weight": torch.zeros(2)}, file)
    with pytest.raises(InputError, match=r"a masked-language head does not use \(second.weight\)"):
        load_head(encoder)
    tokenizer = make_tokenizer(bert, "bert")
    config = every_body(len(tokenizer))["albert"]().config
    AlbertForMaskedLM(config).save_pretrained(tmp_path / "albert")
    tokenizer.save_pretrained(tmp_path / "albert")
    encoder = load_encoder(str(tmp_path / "albert"), pooling="cls")
    assert load_head(encoder) is None
    assert [text for text in reporting.notices() if "predictions.LayerNorm.bias" in text and "is not used" in text]


def test_a_lexical_encoder_with_other_tensors_is_refused(toy, tmp_path):
    main(f"make-lexical --corpus {toy.corpus} --encoder projection --dimension 64 -o {tmp_path / 'lexical'}".split())
    from drtools.models.lexical import load_lexical

    def load():
        return load_lexical(tmp_path / "lexical", "query", lambda language: list, {})

    load()
    file = tmp_path / "lexical" / "lexical.safetensors"
    kept = load_file(file)
    save_file(kept | {"bias": torch.zeros(2)}, file)
    with pytest.raises(InputError, match=r"does not use \(bias\)"):
        load()
    save_file({"keys": kept["keys"]}, file)
    with pytest.raises(InputError, match="frequencies is missing; make the encoder again"):
        load()
