"""drtools import-model: every public layout against the forward pass of its own program, and what it refuses."""

import sys
from pathlib import Path

import pytest
import torch

from drtools.encoding.loop import encode_texts
from drtools.models.compute import Compute
from drtools.models.loader import load_encoder
from drtools.models.pair import EncoderPair

sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "published"))
from published_models import MAKERS, TEXTS

BY_NAME = {maker.__name__: maker for maker in MAKERS}


def encoded(folder: Path, side: str) -> torch.Tensor:
    encoder = load_encoder(str(folder)).of(side)
    return torch.from_numpy(encode_texts(encoder, TEXTS, side, Compute("cpu", "fp32", 8))[0])


@pytest.mark.parametrize("name", BY_NAME)
def test_imported_vectors_are_those_of_the_original_program(name, drtools, bert, tmp_path):
    published = BY_NAME[name](tmp_path, bert)
    outcome = drtools("import-model", *published.words, "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    for side, vectors in published.vectors.items():
        with torch.no_grad():
            expected = vectors(TEXTS)
        assert expected.std(0).max() > 1e-2, "texts that differ have vectors that differ"
        assert (encoded(tmp_path / "out", side) - expected).abs().max() <= 1e-6 * max(1, expected.abs().max())
    with torch.no_grad():
        apart = not torch.allclose(published.vectors["query"](TEXTS), published.vectors["document"](TEXTS))
    assert isinstance(load_encoder(str(tmp_path / "out")), EncoderPair) == apart
    assert not [path for path in (tmp_path / "out").rglob("*") if ".import-" in str(path)]


def changed(name: str, tensor: str, how: str):
    """Return a change of a checkpoint: a tensor added behind its name, dropped, or renamed; and the name to expect."""

    def change(state: dict) -> None:
        own = [each for each in state if each.endswith(tensor.removeprefix("BODY."))][:1]
        if how == "added":
            state.update({f"{each}_more": state[each] for each in own})
        elif how == "renamed":
            state.update({f"{each}x": state.pop(each) for each in own})
        elif how == "dropped":
            for each in own:
                del state[each]
        else:
            state.update({each: torch.ones(3) for each in own})

    return change, tensor.removeprefix("BODY.") + {"added": "_more", "renamed": "x"}.get(how, "")


WAYS = ("added", "dropped", "renamed", "reshaped")
CHANGES = [  # each layout one change of its body in the fast suite, each in turn
    pytest.param(maker.__name__, tensor, how, marks=[] if at % 4 == number and tensor == body else pytest.mark.slow)
    for at, (maker, (body, head)) in enumerate(MAKERS.items())
    for tensor in (body, head)
    for number, how in enumerate(WAYS if tensor == body else ("added", "dropped"))
    if tensor
]


@pytest.mark.parametrize(("name", "tensor", "how"), CHANGES)
def test_a_changed_tensor_is_refused_in_one_line_by_its_name(name, tensor, how, drtools, bert, tmp_path):
    change, named = changed(name, tensor, how)
    published = BY_NAME[name](tmp_path, bert, change)
    outcome = drtools("import-model", *published.words, "-o", tmp_path / "out")
    lines = [line for line in outcome.err.splitlines() if line.startswith("drtools")]
    assert outcome.status == 2 and len(lines) == 1 and named in lines[0], outcome.err
    assert str(published.words[0]) in lines[0] and ".import-" not in outcome.err
    assert not (tmp_path / "out").exists()
