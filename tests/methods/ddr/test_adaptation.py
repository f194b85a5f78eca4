"""Adaptation of a body, and training of a REM, by several processes are those by one."""

import numpy as np
import pytest
from commands import adapted_weights, mlm_adapt, train_rem
from safetensors.numpy import load_file


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [[], ["--objective", "ed-mlm", "--stride", "4", "--decoder-mask-share", "0.1"]], ids=["mlm", "ed-mlm"]
)
def test_two_processes_equal_one(toy, encoder_folder, drtools, tmp_path, several, more):
    words = ["--batch-documents", "7", "--head-steps", "2", "--steps", "3", "--dropout", "0"]
    words += ["--mask-share", "0.05", *more]
    assert drtools(*mlm_adapt(toy, encoder_folder, tmp_path / "one", *words)).status == 0
    several(2, mlm_adapt(toy, encoder_folder, tmp_path / "two", *words))
    for one, two in zip(adapted_weights(tmp_path / "one"), adapted_weights(tmp_path / "two"), strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            np.testing.assert_allclose(two[name], value, atol=1e-5)


@pytest.mark.slow
def test_two_processes_train_the_same_rem(toy, encoder_folder, drtools, tmp_path, several):
    words = ["--batch-queries", "7", "--steps", "3", "--dropout", "0"]
    assert drtools(*train_rem(toy, encoder_folder, tmp_path / "one", *words)).status == 0
    several(2, train_rem(toy, encoder_folder, tmp_path / "two", *words))
    one, two = (load_file(tmp_path / name / "rem.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys() and all(np.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert any(np.abs(value).max() > 1e-3 for name, value in one.items() if "lora_B" in name or ".up." in name), (
        "they did learn"
    )
