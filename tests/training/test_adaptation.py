"""Adaptation by several processes is that by one."""

import numpy as np
from safetensors.numpy import load_file
from test_processes import several


def command(toy, start, out, *more):
    return ["mlm-adapt", "--model", str(start), "--corpus", toy.corpus, "--batch-documents", "7", "--learning-rate", "1e-3", "--crop-tokens", "24",
            "--dev-documents", "10", "--precision", "fp32", "--threads", "1", "-o", str(out), *more]


def weights(folder):
    return load_file(folder / "model.safetensors"), load_file(folder / "masked-head/model.safetensors")


def test_two_processes_equal_one(toy, encoder_folder, drtools, tmp_path, environment):
    words = ["--head-steps", "2", "--steps", "3", "--dropout", "0", "--mask-share", "0.05"]
    assert drtools(*command(toy, encoder_folder, tmp_path / "one", *words)).status == 0
    several(2, command(toy, encoder_folder, tmp_path / "two", *words), environment)
    for one, two in zip(weights(tmp_path / "one"), weights(tmp_path / "two"), strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            np.testing.assert_allclose(two[name], value, atol=1e-5)
