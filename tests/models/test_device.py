"""What is chosen to compute on, and what is said about a choice that the device is not made for."""

import pytest
import torch

from drtools import console
from drtools.flags import ComputeFlags
from drtools.retrieval.encoding import choose_computing


@pytest.mark.parametrize(("asked", "native", "precision", "warned"), [("auto", True, "bf16", False), ("auto", False, "fp32", False), ("bf16", True, "bf16", False),
                                                                     ("bf16", False, "bf16", True), ("fp32", False, "fp32", False)])
def test_bfloat16_on_a_processor_without_it_is_said(monkeypatch, capsys, asked, native, precision, warned):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    console.configure("test")
    assert choose_computing(ComputeFlags(device="cpu", precision=asked)).precision == precision
    assert ("may take hundreds of times as long" in capsys.readouterr().err) == warned
