"""What is chosen to compute on, and what is said about a choice that the device is not made for."""

import os

import numpy as np
import pytest
import torch

from drtools.cli import console
from drtools.cli.flags.compute import ComputeFlags
from drtools.models.compute import settle
from drtools.models.device import all_threads
from drtools.models.tokens import on_device


@pytest.mark.parametrize(
    ("asked", "native", "precision", "warned"),
    [
        ("auto", True, "bf16", False),
        ("auto", False, "fp32", False),
        ("bf16", True, "bf16", False),
        ("bf16", False, "bf16", True),
        ("fp32", False, "fp32", False),
    ],
)
def test_bfloat16_on_a_processor_without_it_is_said(monkeypatch, capsys, asked, native, precision, warned):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    console.configure("test")
    assert settle(ComputeFlags(device="cpu", precision=asked)).precision == precision
    assert ("may take hundreds of times as long" in capsys.readouterr().err) == warned


def test_inputs_go_to_a_gpu_from_page_locked_memory(monkeypatch):
    ids = np.arange(6).reshape(2, 3)
    found = on_device([ids, 4, ids > 2], "cpu")
    assert found[1] == 4 and torch.equal(found[0], torch.from_numpy(ids)) and found[2].sum() == 3
    calls = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: calls.append("locked") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: calls.append((where, how)) or self)
    on_device([ids, 4], "cuda:1")
    assert calls == ["locked", (("cuda:1",), {"non_blocking": True})]


def test_a_gpu_without_bfloat16_computes_in_float16(monkeypatch, capsys):
    monkeypatch.setattr("drtools.models.compute.choose_devices", lambda name: ["cuda:0"])
    monkeypatch.setattr("drtools.models.compute.native_precision", lambda device: "fp32")  # a T4 or a V100
    console.configure("test")
    flags = ComputeFlags(device="cuda:0", precision="bf16")
    assert settle(flags).precision == "fp16" and "cuda:0 has no bfloat16" in capsys.readouterr().err
    assert settle(flags, training=True).precision == "fp16"
    assert settle(ComputeFlags(device="cuda:0"), training=True).precision == "fp16"
    assert settle(ComputeFlags(device="cuda:0", precision="fp32"), training=True).precision == "fp32"
    assert settle(ComputeFlags(device="cuda:0", precision="auto")).precision == "fp32"
    asked = ComputeFlags(device="cuda:0", precision="fp16")
    assert settle(asked).precision == settle(asked, training=True).precision == "fp16"


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, 6),
        ({"OMP_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "3,1"}, 3),
        ({"OMP_NUM_THREADS": "16"}, 6),
        ({"OMP_NUM_THREADS": "0"}, 6),
        ({"OMP_NUM_THREADS": "many"}, 6),
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, 3),
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8", "OMP_NUM_THREADS": "1"}, 1),
    ],
    ids=str,
)
def test_threads_are_the_cores_the_environment_leaves(monkeypatch, environment, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    for name in ("OMP_NUM_THREADS", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert all_threads() == threads
