"""Adaptation of a body, and training of a REM, by several processes are those by one."""

import numpy as np
import pytest
from conftest import changed_by_flags
from safetensors.numpy import load_file


@changed_by_flags
def command(toy, start, out, *more):
    return [
        "mlm-adapt",
        "--model",
        str(start),
        "--corpus",
        toy.corpus,
        "--batch-documents",
        "7",
        "--learning-rate",
        "1e-3",
        "--crop-tokens",
        "24",
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


def weights(folder):
    return load_file(folder / "model.safetensors"), load_file(folder / "masked-head/model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [[], ["--objective", "ed-mlm", "--stride", "4", "--decoder-mask-share", "0.1"]], ids=["mlm", "ed-mlm"]
)
def test_two_processes_equal_one(toy, encoder_folder, drtools, tmp_path, several, more):
    words = ["--head-steps", "2", "--steps", "3", "--dropout", "0", "--mask-share", "0.05", *more]
    assert drtools(*command(toy, encoder_folder, tmp_path / "one", *words)).status == 0
    several(2, command(toy, encoder_folder, tmp_path / "two", *words))
    for one, two in zip(weights(tmp_path / "one"), weights(tmp_path / "two"), strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            np.testing.assert_allclose(two[name], value, atol=1e-5)


@pytest.mark.slow
def test_two_processes_train_the_same_rem(toy, encoder_folder, drtools, tmp_path, several):
    words = [
        "train-rem",
        "--model",
        encoder_folder,
        "--corpus",
        toy.corpus,
        "--queries",
        toy.queries,
        "--examples",
        toy.examples,
        "--batch-queries",
        "7",
        "--learning-rate",
        "1e-2",
        "--lora-rank",
        "4",
        "--adapter-size",
        "8",
        "--precision",
        "fp32",
        "--threads",
        "1",
        "--steps",
        "3",
        "--dropout",
        "0",
    ]
    assert drtools(*words, "-o", tmp_path / "one").status == 0
    several(2, [*words, "-o", tmp_path / "two"])
    one, two = (load_file(tmp_path / name / "rem.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys() and all(np.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert any(np.abs(value).max() > 1e-3 for name, value in one.items() if "lora_B" in name or ".up." in name), (
        "they did learn"
    )
