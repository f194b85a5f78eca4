"""Models whose weights are pickled alone, named as any model is: the original forward pass, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from drtools.encoding.loop import encode_texts
from drtools.errors import InputError
from drtools.models.compute import Compute
from drtools.models.loader import load_encoder
from drtools.models.pair import EncoderPair
from drtools.outputs.cache_contents import cache_entries

sys.path.insert(0, str(Path(__file__).parent / "published"))
from published_models import TEXTS, ance, cocondenser, contriever, ddr_dense, dpr_hf, dpr_projected

MAKERS = {maker.__name__: maker for maker in (ance, cocondenser, contriever, ddr_dense, dpr_hf, dpr_projected)}
POOLED = {"cocondenser": "cls"}  # a body, whose files have no pooling


def places(published) -> dict[str, Path]:
    """Return the folder of each side of a published checkpoint."""
    query, *rest = [Path(word) for word in published.words if isinstance(word, Path)]
    return {"query": query, "document": rest[0] if rest else query}


def encoded(encoder, side: str) -> torch.Tensor:
    return torch.from_numpy(encode_texts(encoder, TEXTS, side, Compute("cpu", "fp32", 8))[0])


@pytest.mark.parametrize("name", MAKERS)
def test_vectors_are_those_of_the_original_program(name, bert, tmp_path, capsys):
    published = MAKERS[name](tmp_path, bert)
    if name == "ddr_dense":
        shutil.unpack_archive(published.words[0], tmp_path / "unpacked")
        (found,) = (tmp_path / "unpacked").rglob("config.json")
        published.words = [found.parent]
        for each in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(Path(bert, each), found.parent)
        for file in found.parent.glob("*.safetensors"):
            torch.save(load_file(file), found.parent / "pytorch_model.bin")
            file.unlink()
    for side, folder in places(published).items():
        encoder = load_encoder(str(folder), POOLED.get(name))
        assert not isinstance(encoder, EncoderPair)
        with torch.no_grad():
            expected = published.vectors[side](TEXTS)
        assert expected.std(0).max() > 1e-2, "texts that differ have vectors that differ"
        assert (encoded(encoder, side) - expected).abs().max() <= 1e-6 * max(1, expected.abs().max())
    assert "pickled weights, read without running code" in capsys.readouterr().err


def test_fingerprint_and_vectors_are_those_of_the_imported_folder(bert, tmp_path, drtools, cache):
    folder = contriever(tmp_path, bert).words[0]
    assert drtools("import-model", folder, "-o", tmp_path / "imported").status == 0
    (tmp_path / "texts.jsonl").write_text('{"_id": "1", "text": "fox"}\n')
    words = ("encode", "--corpus", tmp_path / "texts.jsonl", "--device", "cpu")
    assert drtools(*words, "--model", tmp_path / "imported", "-o", tmp_path / "by-import").status == 0
    first = drtools(*words, "--model", folder, "-o", tmp_path / "by-name")
    assert first.status == 0 and first.err.count("pickled weights") == 1, first.err
    again = drtools(*words, "--model", folder, "-o", tmp_path / "by-name-again")
    assert again.status == 0 and "pickled weights" not in again.err, "it is read once"
    vectors = [tmp_path / each / "vectors.npy" for each in ("by-import", "by-name", "by-name-again")]
    assert len({path.read_bytes() for path in vectors}) == 1
    prints = {json.loads((path.parent / "manifest.json").read_text())["document_fingerprint"] for path in vectors}
    assert len(prints) == 1
    os.utime(folder / "pytorch_model.bin")  # the same content
    assert "pickled weights" not in drtools(*words, "--model", folder, "-o", tmp_path / "touched").err
    state = torch.load(folder / "pytorch_model.bin")
    torch.save({name: tensor * 2 for name, tensor in state.items()}, folder / "pytorch_model.bin")
    other = drtools(*words, "--model", folder, "-o", tmp_path / "other")
    assert other.status == 0 and "pickled weights" in other.err, "another content is read again"
    assert (tmp_path / "other" / "vectors.npy").read_bytes() != vectors[0].read_bytes()


class Payload:
    """What leaves a folder behind if anyone reads it as pickles are read."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def test_a_payload_is_refused_and_nothing_is_kept(bert, tmp_path, cache):
    folder = contriever(tmp_path, bert).words[0]
    state = torch.load(folder / "pytorch_model.bin")
    torch.save(state | {"x": Payload(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"its pickle names \w+\.mkdir"):
        load_encoder(str(folder))
    assert not (tmp_path / "ran").exists()
    assert not [path for path in (cache / "models").rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("maker", [contriever, cocondenser])
def test_an_extra_or_missing_tensor_is_named(maker, bert, tmp_path):
    def add(state: dict) -> None:
        state["bert.more.weight" if "cls.predictions.bias" in state else "more.weight"] = torch.ones(3)

    def drop(state: dict) -> None:
        del state[next(name for name in state if name.endswith("layer.1.output.dense.bias"))]

    for change, named in ((add, r"more\.weight"), (drop, r"layer\.1\.output\.dense\.bias")):
        place = tmp_path / named[:4]
        place.mkdir()
        folder = maker(place, bert, change).words[0]
        with pytest.raises(InputError, match=named):
            load_encoder(str(folder), "cls")


def test_what_needs_a_choice_names_the_command(bert, tmp_path, drtools):
    folder = contriever(tmp_path, bert).words[0]
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    outcome = drtools(
        "encode", "--model", folder, "--queries", "-", "-o", tmp_path / "v", stdin=b'{"_id":"1","text":"a"}'
    )
    assert outcome.status == 2 and f"`drtools import-model {folder} -o FOLDER`" in outcome.err, outcome.err
    assert "no tokenizer was found next to it" in outcome.err and "--tokenizer" in outcome.err
    whole = cocondenser(tmp_path, bert).words[0]
    with pytest.raises(InputError, match="a bare body, whose files do not define a pooling"):
        load_encoder(str(whole))
    shutil.copy(whole / "pytorch_model-00001-of-00002.bin", whole / "other.bin")
    with pytest.raises(InputError, match="drtools import-model"):
        load_encoder(str(whole), "cls")


def test_a_head_of_the_pre_training_is_kept_for_adaptation(bert, tmp_path):
    from drtools.models.masked import load_head

    folder = cocondenser(tmp_path, bert).words[0]
    tensors: dict[str, torch.Tensor] = {}
    for shard in folder.glob("*.bin"):
        tensors |= torch.load(shard)
    head = load_head(load_encoder(str(folder), "cls"))
    assert head is not None and torch.equal(head.bias, tensors["cls.predictions.bias"])


def test_a_copy_is_an_entry_of_the_cache(bert, tmp_path, drtools, cache):
    folder = contriever(tmp_path, bert).words[0]
    load_encoder(str(folder))
    (entry,) = [entry for entry in cache_entries(cache) if entry.kind == "models"]
    assert entry.belongs_to == [str(folder)] and entry.size > 10_000
    assert f"weights of {folder}" in drtools("cache").out
    kept = drtools("cache", "--prune-days", "0")
    assert f"kept weights of {folder}" in kept.err and "a process has it open" in kept.err
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom drtools.cli.main import main\n"
        "main(['cache', '--max-size', '1B'])"
    )
    from drtools.models.published import direct

    while direct._held:
        os.close(direct._held.pop())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"removed weights of {folder}" in done.stderr, done.stderr
    assert not [*(cache / "models").iterdir()]
    assert load_encoder(str(folder)) is not None, "it is made again"


def test_without_a_writable_cache_the_copy_is_temporary(bert, tmp_path, monkeypatch, capsys):
    folder = contriever(tmp_path, bert).words[0]
    monkeypatch.setenv("DRTOOLS_CACHE", "/proc/drtools")  # where nobody can write, root neither
    encoder = load_encoder(str(folder))
    assert encoder.folder is not None and not str(encoder.folder).startswith("/proc")
    assert "the cache cannot be written" in capsys.readouterr().err
