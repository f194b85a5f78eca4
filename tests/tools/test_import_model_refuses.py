"""drtools import-model: pickles that would run code, files that are no checkpoint, and checkpoints that need a word."""

import io
import json
import os
import pickle
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "published"))
from published_models import cocondenser, contriever, dpr_cp, dpr_hf, dpr_scale, drhard, repconc, spar


class Payload:
    """What leaves a file behind if anyone reads it as pickles are read."""

    def __init__(self, witness: Path, call=os.mkdir) -> None:
        self.witness, self.call = witness, call

    def __reduce__(self):
        return self.call, (str(self.witness),)


def line_of(outcome) -> str:
    """Return the one line that a refused command says."""
    lines = [line for line in outcome.err.splitlines() if line.startswith("drtools import-model:")]
    assert outcome.status == 2 and len(lines) == 1 and "Traceback" not in outcome.err, outcome.err
    assert "weights_only" not in outcome.err, "torch advises to read the file unsafely"
    return lines[0]


PICKLES = {
    "zip of torch": lambda value, path: torch.save(value, path),
    "old format of torch": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
    **{
        f"pickle protocol {protocol}": lambda value, path, protocol=protocol: path.write_bytes(
            pickle.dumps(value, protocol)
        )
        for protocol in (0, 1, 2, 4, 5)
    },
}


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("place", ["tensors", "settings", "whole"])
def test_no_pickle_runs_code(kind, place, drtools, bert, tmp_path):
    payload = Payload(tmp_path / "ran")
    state = {"embeddings.word_embeddings.weight": torch.ones(3, 2)}
    value = {"tensors": state | {"x": payload}, "settings": {"model": state, "opt": payload}, "whole": payload}[place]
    shutil.copytree(bert, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    path = tmp_path / "model" / "pytorch_model.bin"
    PICKLES[kind](value, path)
    line_of(drtools("import-model", tmp_path / "model", "--pooling", "cls", "-o", tmp_path / "out"))
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()
    if kind == "pickle protocol 2":  # the payload works where code is run
        pickle.loads(path.read_bytes())
        assert (tmp_path / "ran").exists()


def test_a_payload_by_the_name_of_a_setting_does_nothing(drtools, bert, tmp_path):
    """What stands in for settings is never called: the name is all that counts."""
    published = dpr_scale(tmp_path, bert)
    assert "omegaconf" not in sys.modules
    assert drtools("import-model", *published.words, "-o", tmp_path / "out").status == 0
    assert "omegaconf" not in sys.modules, "nothing is imported that a pickle names"


def test_a_refused_name_is_shown(drtools, bert, tmp_path):
    shutil.copytree(bert, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({"x": Payload(tmp_path / "ran")}, tmp_path / "model" / "pytorch_model.bin")
    told = line_of(drtools("import-model", tmp_path / "model", "--pooling", "cls", "-o", tmp_path / "out"))
    assert f"its pickle names {os.mkdir.__module__}.mkdir" in told and "safetensors" in told


@pytest.fixture
def told(drtools, tmp_path):
    return lambda *words: line_of(drtools("import-model", *words, "-o", tmp_path / "out"))


def test_half_of_a_pair_asks_for_the_other(told, bert, tmp_path):
    query, _, document = dpr_hf(tmp_path, bert).words
    assert "the encoder of queries alone" in told(query) and "--document-checkpoint" in told(query)
    assert "the encoder of documents alone" in told(document)
    assert "no encoder that can be that of the query side" in told(document, "--document-checkpoint", query)
    both = dpr_cp(tmp_path, bert).words
    assert "holds both encoders; leave --document-checkpoint out" in told(*both, "--document-checkpoint", document)


def test_what_the_files_do_not_say_is_asked_for(told, bert, tmp_path):
    star = drhard(tmp_path, bert).words[0]
    assert "no tokenizer was found next to it; use --tokenizer" in told(star)
    cp = dpr_cp(tmp_path, bert).words[0]
    assert "no config.json with the sizes of the body was found next to it" in told(cp) and "--tokenizer" in told(cp)
    assert "--pooling cls or mean" in told(spar(tmp_path, bert).words[0])
    assert "knows no add_prefix_space, which RobertaDot" in told(star, "--tokenizer", bert)
    (tmp_path / "metric").mkdir()
    folder = repconc(tmp_path / "metric", bert).words[0]
    config = json.loads((folder / "config.json").read_text()) | {"similarity_metric": "METRIC_CENTROID_COS"}
    (folder / "config.json").write_text(json.dumps(config))
    assert "METRIC_CENTROID_COS" in told(folder, "--tokenizer", bert)


def test_a_flag_overrules_the_layout(drtools, bert, tmp_path):
    published = drhard(tmp_path, bert)
    plain = ("--no-prefix-space", "--no-lower-case")
    assert drtools("import-model", *published.words, *plain, "-o", tmp_path / "plain").status == 0
    assert drtools("import-model", *published.words, "-o", tmp_path / "usual").status == 0
    lengths = [json.loads((tmp_path / each / "sentence_bert_config.json").read_text()) for each in ("plain", "usual")]
    assert [each["do_lower_case"] for each in lengths] == [False, True]
    spaces = [json.loads((tmp_path / each / "tokenizer.json").read_text()) for each in ("plain", "usual")]
    assert [each["pre_tokenizer"]["add_prefix_space"] for each in spaces] == [False, True]


def test_what_is_of_no_use_is_said(drtools, bert, tmp_path):
    outcome = drtools("import-model", *cocondenser(tmp_path, bert).words, "-o", tmp_path / "out")
    assert "of no use to vectors" in outcome.err and "cls.predictions" in outcome.err
    (tmp_path / "other").mkdir()
    outcome = drtools("import-model", *repconc(tmp_path / "other", bert).words, "-o", tmp_path / "rotated")
    assert "centroids: the codebook" in outcome.err and "not imported" in outcome.err


def test_files_that_are_no_checkpoint(told, bert, tmp_path):
    (tmp_path / "pointer.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    assert "a pointer of Git LFS" in told(tmp_path / "pointer.bin", "--tokenizer", bert)
    (tmp_path / "text.bin").write_text("some words")
    assert "could not be read as weights" in told(tmp_path / "text.bin", "--tokenizer", bert)
    torch.save({"a": 1, "b": "x"}, tmp_path / "none.bin")
    assert "found no tensors, but a, b" in told(tmp_path / "none.bin", "--tokenizer", bert)
    torch.save([torch.ones(2)], tmp_path / "list.bin")
    assert "found a list, expected tensors by their names" in told(tmp_path / "list.bin", "--tokenizer", bert)
    whole = tmp_path / "contriever" / "pytorch_model.bin"
    contriever(tmp_path, bert)
    (tmp_path / "cut.bin").write_bytes(whole.read_bytes()[:-500])
    assert "could not be read as weights" in told(tmp_path / "cut.bin", "--tokenizer", bert)
    with tarfile.open(tmp_path / "m32.tar.gz", "w:gz") as archive:
        archive.add(whole, "m32/pytorch_model.bin")
    assert "no config.json with the sizes of the body" in told(tmp_path / "m32.tar.gz")
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        archive.add(whole.parent, "m32")
        link = tarfile.TarInfo("m32/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
    assert "it holds 'm32/link', expected plain files" in told(tmp_path / "link.tar")
    (tmp_path / "empty").mkdir()
    assert "found no weights" in told(tmp_path / "empty")


def test_weights_beside_the_models_own_are_named(told, bert, tmp_path):
    folder = contriever(tmp_path, bert).words[0]
    torch.save({"weight": torch.ones(2)}, folder / "optimizer.pt")
    torch.save({"weight": torch.ones(2)}, folder / "pooler.pt")
    assert "found pooler.pt beside pytorch_model.bin" in told(folder)


@pytest.mark.parametrize("entry", ["../outside.bin", "/outside.bin", "a/../../outside.bin"])
def test_a_zip_writes_nothing_outside(entry, told, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr(entry, b"x")
    assert "it holds" in told(tmp_path / "model.zip")
    assert not (tmp_path / "outside.bin").exists()


def test_an_index_of_shards_stays_in_its_folder(told, bert, tmp_path):
    folder = cocondenser(tmp_path, bert).words[0]
    stream = io.BytesIO()
    torch.save({"cls.x": torch.ones(1)}, stream)
    (tmp_path / "outside.bin").write_bytes(stream.getvalue())
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"cls.x": "../outside.bin"}}))
    assert "it names '../outside.bin'" in told(folder, "--pooling", "cls")
    index.write_text(json.dumps({"weight_map": {"cls.x": "pytorch_model-00003-of-00003.bin"}}))
    assert "which is not there" in told(folder, "--pooling", "cls")
