"""drtools import-model: REMs of the adapter library, LoRA of peft, and folders whose weights alone are pickled."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from drtools.encoding.loop import encode_texts
from drtools.models.compute import Compute
from drtools.models.loader import load_encoder, load_for_encoding
from drtools.models.specs import EncoderSpec

TEXTS = ["fox swims", "otter holds a chisel by the river", "raven"]
CPU = Compute("cpu", "fp32", 8)


def encoded(encoder) -> torch.Tensor:
    return torch.from_numpy(encode_texts(encoder, TEXTS, "document", CPU)[0])


def body_ids(bert: str) -> tuple[torch.Tensor, torch.Tensor]:
    from transformers import AutoTokenizer

    batch = AutoTokenizer.from_pretrained(bert)(TEXTS, padding=True, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def mean_of(body, bert: str) -> torch.Tensor:
    ids, mask = body_ids(bert)
    states = body(ids, mask).last_hidden_state
    return (states * mask[..., None]).sum(1) / mask.sum(1)[:, None]


class Adapter:
    """The REM of DDR as the adapter library saves it, by key: LoRA of rank 3 and parallel adapters of 8."""

    def __init__(self, folder: Path) -> None:
        self.folder, generator = folder, torch.Generator().manual_seed(4)
        self.state = {}
        for layer in range(2):
            start = f"bert.encoder.layer.{layer}"
            for name in ("query", "value"):
                lora = f"{start}.attention.self.{name}.loras.msmarco"
                self.state[f"{lora}.lora_A"] = 0.3 * torch.randn(3, 32, generator=generator)
                self.state[f"{lora}.lora_B"] = 0.3 * torch.randn(32, 3, generator=generator)
            adapter = f"{start}.output.adapters.msmarco"
            for part, shape in (("adapter_down.0", (8, 32)), ("adapter_up", (32, 8))):
                self.state[f"{adapter}.{part}.weight"] = 0.3 * torch.randn(shape, generator=generator)
                self.state[f"{adapter}.{part}.bias"] = 0.3 * torch.randn(shape[0], generator=generator)
        self.lora = {"architecture": "lora", "r": 3, "alpha": 6, "dropout": 0.0, "attn_matrices": ["q", "v"],
                     "selfattn_lora": True, "intermediate_lora": False, "output_lora": False, "leave_out": [],
                     "composition_mode": "add", "init_weights": "lora", "use_gating": False}  # fmt: skip
        self.parallel = {"architecture": None, "reduction_factor": 4, "scaling": 4.0, "non_linearity": "relu",
                         "is_parallel": True, "mh_adapter": False, "output_adapter": True, "ln_before": False,
                         "ln_after": False, "original_ln_before": False, "original_ln_after": True,
                         "init_weights": "mam_adapter", "use_gating": False, "leave_out": [], "inv_adapter": None,
                         "phm_layer": False, "cross_adapter": False, "residual_before_ln": True}  # fmt: skip
        self.more = {"hidden_size": 32, "model_class": "BertDense", "model_type": "bert", "name": "msmarco",
                     "model_name": "jingtao/DAM-bert_base-mlm-msmarco", "version": "3.1.0"}  # fmt: skip

    def save(self, zipped: bool = False) -> Path:
        record = {"config": {"architecture": "union", "configs": [self.lora, self.parallel]}, **self.more}
        self.folder.mkdir(exist_ok=True)
        (self.folder / "adapter_config.json").write_text(json.dumps(record))
        torch.save(self.state, self.folder / "pytorch_adapter.bin")
        if not zipped:
            return self.folder
        path = self.folder.with_suffix(".zip")
        with zipfile.ZipFile(path, "w") as archive:
            for file in self.folder.iterdir():
                archive.write(file, f"lora192-pa4/{file.name}")
        return path

    @torch.no_grad()
    def vectors(self, bert: str) -> torch.Tensor:
        """Average the states of the body with the adapter on it, computed where the adapter library computes it."""
        from transformers import AutoModel

        body = AutoModel.from_pretrained(bert).eval()
        for number, layer in enumerate(body.encoder.layer):
            start = f"bert.encoder.layer.{number}"
            for name in ("query", "value"):
                a, b = (self.state[f"{start}.attention.self.{name}.loras.msmarco.lora_{each}"] for each in "AB")
                layer.attention.self.get_submodule(name).register_forward_hook(
                    lambda module, given, out, a=a, b=b: out + 6 / 3 * (given[0] @ a.T @ b.T)
                )
            own = f"{start}.output.adapters.msmarco"
            down, up = f"{own}.adapter_down.0", f"{own}.adapter_up"

            def forward(inner, given, output=layer.output, down=down, up=up):
                added = torch.relu(given @ self.state[f"{down}.weight"].T + self.state[f"{down}.bias"])
                added = 4.0 * (added @ self.state[f"{up}.weight"].T + self.state[f"{up}.bias"])
                return output.LayerNorm(output.dense(inner) + added + given)

            layer.output.forward = forward
        return mean_of(body, bert)


@pytest.fixture
def adapter(tmp_path) -> Adapter:
    return Adapter(tmp_path / "adapter")


@pytest.mark.parametrize("zipped", [False, True])
def test_the_published_rem_gives_the_adapters_vectors(zipped, adapter, drtools, bert, tmp_path):
    outcome = drtools("import-model", adapter.save(zipped), "-o", tmp_path / "rem")
    assert outcome.status == 0 and "16 tensors used" in outcome.err and "rank 3, adapters of 8" in outcome.err
    spec = EncoderSpec(body=bert, rem=str(tmp_path / "rem"), pooling="mean")
    expected = adapter.vectors(bert)
    assert (expected - encoded(load_encoder(bert, "mean"))).abs().max() > 0.1
    assert (encoded(load_encoder(bert, "mean", rem=spec.rem)) - expected).abs().max() <= 1e-5
    assert (encoded(load_for_encoding(spec, CPU)) - expected).abs().max() <= 1e-4, "folded into the weights"
    assert (
        drtools("merge", "--body", bert, "--rem", tmp_path / "rem", "--pooling", "mean", "-o", tmp_path / "m").status
        == 0
    )
    assert "rem" in drtools("show", tmp_path / "rem").out


@pytest.mark.parametrize("how", ["added", "dropped", "renamed", "reshaped"])
def test_a_changed_tensor_of_an_adapter_is_named(how, adapter, drtools, tmp_path):
    name = "bert.encoder.layer.1.output.adapters.msmarco.adapter_up.bias"
    if how in ("renamed", "dropped"):
        tensor = adapter.state.pop(name)
        adapter.state |= {name.replace("up", "upp"): tensor} if how == "renamed" else {}
    else:
        adapter.state[name + ("_more" if how == "added" else "")] = torch.ones(7)
    outcome = drtools("import-model", adapter.save(), "-o", tmp_path / "rem")
    named = {"added": "adapter_up.bias_more", "renamed": "adapter_upp.bias"}.get(how, "layer.1.output.adapter.up.bias")
    lines = [line for line in outcome.err.splitlines() if line.startswith("drtools")]
    assert outcome.status == 2 and len(lines) == 1 and named in lines[0], outcome.err


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("lora", "attn_matrices", ["q"]),
        ("lora", "use_gating", True),
        ("lora", "composition_mode", "scale"),
        ("parallel", "non_linearity", "gelu"),
        ("parallel", "is_parallel", False),
        ("parallel", "scaling", "learned"),
        ("parallel", "architecture", "prefix_tuning"),
    ],
)
def test_an_adapter_of_another_form_is_refused_by_its_setting(part, key, value, adapter, drtools, tmp_path):
    getattr(adapter, part)[key] = value
    outcome = drtools("import-model", adapter.save(), "-o", tmp_path / "rem")
    said = value[0] if isinstance(value, list) else str(value)
    assert outcome.status == 2 and "adapter_config.json" in outcome.err and said in outcome.err


def test_settings_of_encoders_mean_nothing_for_a_rem(adapter, drtools, tmp_path):
    outcome = drtools("import-model", adapter.save(), "--pooling", "mean", "-o", tmp_path / "rem")
    assert outcome.status == 2 and "--pooling" in outcome.err and "is a REM" in outcome.err


@torch.no_grad()
def lora_of_peft(folder: Path, bert: str) -> torch.Tensor:
    """Let peft make, fill and save a LoRA; return the vectors of its model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    made = get_peft_model(
        AutoModel.from_pretrained(bert),
        LoraConfig(r=4, lora_alpha=12, target_modules=["query", "dense"], base_model_name_or_path=bert),
    )
    torch.manual_seed(9)
    for name, weight in made.named_parameters():
        if "lora_" in name:
            weight.normal_(0, 0.2)
    made.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": bert}))
    return mean_of(made.eval(), bert)


def test_a_lora_of_peft_is_merged_into_its_base(drtools, bert, tmp_path):
    expected = lora_of_peft(tmp_path / "lora", bert)
    outcome = drtools("import-model", tmp_path / "lora", "--pooling", "mean", "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert (expected - encoded(load_encoder(bert, "mean"))).abs().max() > 0.1
    assert (encoded(load_encoder(str(tmp_path / "out"))) - expected).abs().max() <= 1e-5
    state = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    name = next(each for each in state if each.endswith("lora_B.weight"))
    for change, named in (
        ({name: None}, "lora_B"),
        ({"base_model.model.lm.lora_A.weight": torch.ones(2)}, "model.lm.lora_A"),
    ):
        changed = {key: tensor for key, tensor in (state | change).items() if tensor is not None}
        (tmp_path / "lora" / "adapter_model.safetensors").unlink(missing_ok=True)
        torch.save(changed, tmp_path / "lora" / "adapter_model.bin")
        outcome = drtools("import-model", tmp_path / "lora", "--pooling", "mean", "-o", tmp_path / "no")
        assert outcome.status == 2 and named in outcome.err


def pickled(folder: Path) -> None:
    """Turn a folder's safetensors into pickles, as older programs wrote them."""
    for file in [*folder.rglob("*.safetensors")]:
        torch.save(load_file(file), file.with_name("pytorch_model.bin"))
        file.unlink()


def test_a_folder_of_sentence_transformers_of_old(drtools, bert, tmp_path):
    """Its body lies in 0_Transformer, its dense layer is pickled."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Pooling, Transformer

    torch.manual_seed(1)
    peer = SentenceTransformer(modules=[Transformer(bert), Pooling(32, "mean"), Dense(32, 12)], device="cpu")
    peer.save_pretrained(str(tmp_path / "old"))
    inner = tmp_path / "old" / "0_Transformer"
    inner.mkdir()
    for file in [*(tmp_path / "old").iterdir()]:
        if file.is_file() and file.name not in ("modules.json", "config_sentence_transformers.json", "README.md"):
            shutil.move(file, inner / file.name)
    modules = json.loads((tmp_path / "old" / "modules.json").read_text())
    (tmp_path / "old" / "modules.json").write_text(json.dumps([{**modules[0], "path": "0_Transformer"}, *modules[1:]]))
    pickled(tmp_path / "old")
    assert drtools("import-model", tmp_path / "old", "-o", tmp_path / "out").status == 0
    expected = torch.from_numpy(peer.encode(TEXTS))
    for name in ("old", "out"):  # by its own name too
        assert (encoded(load_encoder(str(tmp_path / name))) - expected).abs().max() <= 1e-6
    for file in [*(tmp_path / "old").rglob("pytorch_model.bin")]:
        save_file(torch.load(file), file.with_name("model.safetensors"), metadata={"format": "pt"})
        file.unlink()
    refused = drtools(
        "encode", "--model", tmp_path / "old", "--queries", "-", "-o", tmp_path / "v", stdin=b'{"_id":"1","text":"a"}'
    )
    assert refused.status == 2 and f"drtools import-model {tmp_path / 'old'} -o FOLDER" in refused.err


def test_a_pickled_cross_encoder_keeps_its_logits(rankers, drtools, tmp_path):
    from drtools.models.cross_encoder import load_cross_encoder

    shutil.copytree(rankers["bert"], tmp_path / "old")
    pickled(tmp_path / "old")
    by_name = load_cross_encoder(str(tmp_path / "old"))
    outcome = drtools("import-model", tmp_path / "old", "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    ours, theirs = (
        load_file(tmp_path / "out" / "model.safetensors"),
        load_file(Path(rankers["bert"]) / "model.safetensors"),
    )
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    same = load_cross_encoder(rankers["bert"]).state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in by_name.state_dict().items())
    assert load_cross_encoder(str(tmp_path / "out")).longest_pair == load_cross_encoder(rankers["bert"]).longest_pair
