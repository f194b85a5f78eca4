"""Weights are computed with from memory that is aligned as torch's own, wherever a file has them."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from drtools.models.cross_encoder import load_cross_encoder
from drtools.models.lexical import load_lexical
from drtools.models.loader import load_encoder
from drtools.models.masked import load_head, new_head, save_head
from drtools.models.rem import add_rem
from drtools.models.rem_files import load_rem, save_rem
from drtools.models.settings import RemSettings
from drtools.models.weights import read_tensors
from drtools.training.checkpoints import load_tensors, save_tensors

pytestmark = pytest.mark.bits


def shift(folder: Path) -> None:
    """Write a folder's safetensors anew, so that no file's tensors begin at an address that is a multiple of 64 bytes.

    The header is filled up with spaces, as the format allows; a mapped file begins on a page.
    """
    files = list(folder.rglob("*.safetensors"))
    assert files
    for file in files:
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header, data = content[8 : 8 + length].rstrip(), content[8 + length :]
        header += b" " * ((24 - 8 - len(header)) % 64)
        file.write_bytes(len(header).to_bytes(8, "little") + header + data)
        with safe_open(file, "pt") as tensors:  # the test tests something
            assert any(tensors.get_tensor(name).data_ptr() % 64 for name in tensors.keys())  # noqa: SIM118


def addresses(model: torch.nn.Module) -> set[int]:
    found = {tensor.data_ptr() % 64 for tensor in [*model.parameters(), *model.buffers()] if tensor.numel()}
    assert found
    return found


@pytest.fixture
def shifted(tmp_path):
    """Return a function that copies a folder and shifts its weights."""

    def copy(folder: str | Path) -> str:
        there = tmp_path / "shifted" / Path(folder).name
        shutil.copytree(folder, there)
        shift(there)
        return str(there)

    return copy


def test_an_encoder_its_head_and_its_lora(bert, encoder_folder, shifted, tmp_path):
    from drtools.models.encoder_files import save_encoder
    from drtools.models.lora import add_lora, merge_lora
    from drtools.training.student import add_projection

    start = load_encoder(encoder_folder)
    add_projection(start, 24)
    save_encoder(start, tmp_path / "projected")
    encoder = load_encoder(shifted(tmp_path / "projected"))
    assert addresses(encoder) == {0}
    ids = torch.arange(12).reshape(2, 6)
    with torch.inference_mode():
        assert torch.equal(encoder(ids, torch.ones_like(ids)), start.eval()(ids, torch.ones_like(ids)))
    add_lora(encoder, 2)
    merge_lora(encoder)
    assert addresses(encoder) == {0}


def test_a_rem(bert, shifted, tmp_path):
    encoder = load_encoder(bert, pooling="cls")
    add_rem(encoder, RemSettings(2, 8), seed=1)
    (tmp_path / "rem").mkdir()
    save_rem(encoder, tmp_path / "rem")
    loaded = load_encoder(bert, pooling="cls")
    load_rem(loaded, Path(shifted(tmp_path / "rem")))
    assert addresses(loaded) == {0}


def test_a_cross_encoder(rankers, shifted):
    assert addresses(load_cross_encoder(shifted(rankers["bert"]))) == {0}


def test_a_masked_head(bert, shifted, tmp_path):
    folder = tmp_path / "body"
    shutil.copytree(bert, folder)
    save_head(new_head(load_encoder(str(folder), pooling="cls"), 3), folder)
    assert addresses(load_head(load_encoder(shifted(folder), pooling="cls"))) == {0}


def test_a_lexical_encoder(toy, drtools, shifted, tmp_path):
    words = [
        "make-lexical",
        "--corpus",
        toy.corpus,
        "--queries",
        toy.queries,
        "--dimension",
        16,
        "-o",
        tmp_path / "lexical",
    ]
    assert drtools(*words).status == 0
    assert addresses(load_lexical(Path(shifted(tmp_path / "lexical")), "document", lambda language: str.split, {})) == {
        0
    }


def test_a_checkpoint_with_its_optimizer(tmp_path):
    model = torch.nn.Linear(5, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(5)).sum().backward()
    optimizer.step()
    (tmp_path / "kept").mkdir()
    save_tensors(tmp_path / "kept" / "checkpoint.safetensors", model, optimizer)
    shift(tmp_path / "kept")
    again = torch.nn.Linear(5, 3)
    learner = torch.optim.AdamW(again.parameters())
    load_tensors(tmp_path / "kept" / "checkpoint.safetensors", again, learner)
    assert torch.equal(again.weight, model.weight) and addresses(again) == {0}
    state = [value for each in learner.state_dict()["state"].values() for value in each.values()]
    assert state and {value.data_ptr() % 64 for value in state} == {0}


def test_what_is_not_wanted_is_not_read(tmp_path):
    tensors = {"a": torch.arange(3), "b": torch.ones(2, 2)}
    save_file(tensors, tmp_path / "two.safetensors")
    shift(tmp_path)
    read = read_tensors(tmp_path / "two.safetensors", lambda name: name == "b")
    assert read.keys() == {"b"} and torch.equal(read["b"], tensors["b"])
    assert torch.equal(read_tensors(tmp_path / "two.safetensors")["a"], load_file(tmp_path / "two.safetensors")["a"])
