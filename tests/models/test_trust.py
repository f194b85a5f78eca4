"""What a model's files may not do unless they are trusted: fetch code, name files elsewhere."""

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import make_encoder
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from drtools.errors import InputError
from drtools.models import trust
from drtools.models.loader import load_encoder
from drtools.models.loading import load_weights


@pytest.fixture
def model(bert, tmp_path) -> Path:
    return Path(make_encoder(tmp_path / "model", bert))


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def kernels(monkeypatch):
    """Put a hub's kernels in transformers' reach, as if the library `kernels` was there; return what is fetched."""
    from transformers import modeling_utils
    from transformers.integrations import hub_kernels

    fetched = []

    def fetch(name, **settings):
        fetched.append(name)
        raise RuntimeError("no hub here")

    monkeypatch.setattr(hub_kernels, "get_kernel_hub", fetch, raising=False)
    monkeypatch.setattr(trust, "_fetch_kernel", [])
    for module in (hub_kernels, modeling_utils):
        monkeypatch.setattr(module, "is_kernels_available", lambda *versions: True)
    monkeypatch.setattr(hub_kernels, "_kernels_enabled", True)
    return fetched


@pytest.mark.parametrize(
    "asked",
    [
        {"attn_implementation": "kernels-community/flash-attn2"},
        {"_attn_implementation": "someone/evil@main:attend"},
        {"attn_implementation": {"": "someone/evil"}},
        {"experts_implementation": "someone/evil"},
        {"text_config": {"attn_implementation": "someone/evil"}},
    ],
)
def test_a_kernel_in_a_config_is_refused_by_name(model, kernels, drtools, toy, asked):
    change(model / "config.json", **asked)
    with pytest.raises(InputError, match=r"_implementation '(someone|kernels-community)/.*trust_remote_code"):
        load_encoder(str(model))
    assert not kernels
    outcome = drtools("encode", "--model", model, "--corpus", toy.corpus, "-o", toy.folder / "v")
    assert outcome.status == 2 and outcome.err.count("\n") == 1 and "pass --trust-remote-code" in outcome.err


def test_with_leave_a_kernel_is_fetched(model, kernels):
    change(model / "config.json", attn_implementation="kernels-community/flash-attn2")
    with pytest.raises(InputError, match="no hub here"):
        load_encoder(str(model), trust_remote_code=True)
    assert kernels == ["kernels-community/flash-attn2"]


@pytest.mark.parametrize("asked", ["flash_attention_2", "flash_attention_3"])
def test_no_kernel_stands_in_for_attention_that_is_not_installed(model, kernels, asked):
    change(model / "config.json", attn_implementation=asked)
    with pytest.raises(InputError, match="could not be loaded"):
        load_encoder(str(model))
    assert not kernels


def test_kernels_that_a_family_asks_for_when_it_computes_are_refused_too(model, kernels):
    from transformers.integrations import hub_kernels

    name = next(iter(hub_kernels._HUB_KERNEL_MAPPING))
    load_encoder(str(model))
    assert hub_kernels.lazy_load_kernel(name, {}) is None and not kernels
    load_encoder(str(model), trust_remote_code=True)
    with pytest.raises(RuntimeError, match="no hub here"):
        hub_kernels.lazy_load_kernel(name, {})
    assert len(kernels) == 1


def test_nothing_is_fetched_while_a_folder_is_loaded(model, monkeypatch):
    from transformers import AutoModel

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    offline = []

    def class_of(config, folder):
        offline.append(constants.HF_HUB_OFFLINE)
        return AutoModel

    for trusted in (False, True):
        load_weights(model, class_of, trust_remote_code=trusted)
    assert offline == [True, False] and constants.HF_HUB_OFFLINE is False


def test_code_in_the_folder_is_refused(model, tmp_path):
    """`auto_map` and the files it names, of a model type that transformers does not have."""
    for name, key in (("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")):
        broken = tmp_path / key
        shutil.copytree(model, broken)
        (broken / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
        named = "evil.Evil" if key == "AutoConfig" else ["evil.Evil", None]
        change(broken / name, auto_map={key: named}, **({"model_type": "evil"} if key == "AutoConfig" else {}))
        if key == "AutoConfig":
            with pytest.raises(InputError, match="custom code"):
                load_encoder(str(broken))
        else:
            load_encoder(str(broken))  # transformers' own tokenizer in its place
    assert not (tmp_path / "ran").exists()


def sharded(model: Path, name: str) -> Path:
    """Move a model's weights behind an index, the first tensor to a file of the given name; return that file."""
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    first, *others = sorted(tensors)
    weights = {first: name, **dict.fromkeys(others, "model-2.safetensors")}
    file = model / name
    if "a/.." in name:
        (model / "a").mkdir()
    save_file({first: tensors[first]}, file, {"format": "pt"})
    save_file({each: tensors[each] for each in others}, model / "model-2.safetensors", {"format": "pt"})
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    return file


def test_an_index_names_files_in_its_folder_alone(model, tmp_path):
    shutil.copytree(model, tmp_path / "plain")
    sharded(tmp_path / "plain", "model-1.safetensors")
    load_encoder(str(tmp_path / "plain"))
    for number, name in enumerate(
        (
            "../elsewhere.safetensors",
            str(tmp_path / "elsewhere.safetensors"),
            "model-1.bin",
            "a/../../elsewhere.safetensors",
        )
    ):
        broken = tmp_path / f"broken{number}"
        shutil.copytree(model, broken)
        sharded(broken, name)
        with pytest.raises(InputError, match=r"index\.json: found '.*expected names of \.safetensors files in"):
            load_encoder(str(broken))


def test_an_index_without_a_map_of_names_is_refused(model):
    for content in ({}, {"weight_map": [1]}, {"weight_map": {"a": 1}}):
        (model / "model.safetensors.index.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match="found no weight_map with file names"):
            load_encoder(str(model))


def test_links_as_in_the_hubs_cache_are_followed(model, tmp_path):
    sharded(model, "model-1.safetensors")
    (tmp_path / "blobs").mkdir()
    for file in [path for path in model.rglob("*") if path.is_file()]:
        blob = tmp_path / "blobs" / str(abs(hash(file)))
        file.rename(blob)
        os.symlink(os.path.relpath(blob, file.parent), file)
    load_encoder(str(model))


@pytest.mark.parametrize("path", ["../1_Pooling", "/1_Pooling", "a/../../1_Pooling"])
def test_modules_lie_in_the_models_folder(model, path):
    modules = json.loads((model / "modules.json").read_text())
    modules[1]["path"] = path
    (model / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match=r"modules\.json: it names the folder .*expected names of folders in the"):
        load_encoder(str(model))


def test_a_family_that_only_its_own_code_knows_names_the_flag(bert, tmp_path):
    shutil.copytree(bert, tmp_path / "new")
    code = {"AutoConfig": "owner/new-impl--configuration.NewConfig", "AutoModel": "owner/new-impl--modeling.NewModel"}
    change(tmp_path / "new" / "config.json", model_type="new", auto_map=code)
    with pytest.raises(InputError, match=r"a model of type 'new'.*owner/new-impl.*trust_remote_code"):
        load_encoder(str(tmp_path / "new"), "cls")
