"""Model folders name no place of the machine that made them, and show still finds what they were made from."""

import json
import os
import shutil
from pathlib import Path

import pytest

from drtools.outputs.fingerprints import file_fingerprint
from drtools.outputs.places import places_of, without_places

TRAIN = ("--device", "cpu", "--steps", 2, "--batch-queries", 4)
ADAPT = ("--device", "cpu", "--steps", 2, "--batch-documents", 4)


def texts_of(folder: Path) -> dict[str, str]:
    """Return every file of a folder but weights, by name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}


def check(folder: Path, *places: object) -> None:
    """Hold that no file of a folder, weights' headers included, names one of these places."""
    texts = texts_of(folder)
    assert "manifest.json" in texts
    for place in map(str, (folder.parent, Path.home(), os.getcwd(), *places)):
        assert [name for name, text in texts.items() if f"{place}/" in text or f'"{place}"' in text] == [], place
        for weights in folder.rglob("*.safetensors"):
            assert f"{place}/".encode() not in weights.read_bytes()


def test_paths_become_names_and_the_rest_stays(tmp_path):
    corpus = tmp_path / "my corpus.jsonl"
    corpus.write_text("x")
    fingerprint = file_fingerprint(corpus)
    record = {
        "base": str(tmp_path),
        "request": {"arguments": {
            "corpus": [{"path": str(corpus), "fingerprint": fingerprint}], "model": {"path": "owner/name"},
            "gone": {"path": "/no/such/file", "fingerprint": "f"}, "separator": "/", "prompt": "/r/askscience and/or: ",
            "queries": {"path": "../queries.jsonl", "fingerprint": "g"}, "steps": 3, "none": None,
        }},
        "notices": [f"3 queries are not in {corpus}; left out", f"{tmp_path}/x/y: cut", "see https://a.org/b/c"],
    }  # fmt: skip
    assert without_places(record) == {
        "base": tmp_path.name,
        "request": {"arguments": {
            "corpus": [{"path": "my corpus.jsonl", "fingerprint": fingerprint}], "model": {"path": "owner/name"},
            "gone": {"path": "file", "fingerprint": "f"}, "separator": "/", "prompt": "/r/askscience and/or: ",
            "queries": {"path": "../queries.jsonl", "fingerprint": "g"}, "steps": 3, "none": None,
        }},
        "notices": ["3 queries are not in my corpus.jsonl; left out", f"{tmp_path.name}/x/y: cut",
                    "see https://a.org/b/c"],
    }  # fmt: skip
    assert places_of(fingerprint) == [corpus] and places_of("g") == []


@pytest.mark.slow
def test_no_model_names_a_place_and_show_finds_its_inputs(drtools, toy, encoder_folder, bert, tmp_path_factory):
    texts = toy.training
    out = toy.folder / "out"
    out.mkdir()
    with open(toy.examples, "a") as stream:  # of a query without a text, which is noted with the file's path
        stream.write(json.dumps({"query_id": "nobody", "positives": ["d1"], "negatives": ["d2"]}) + "\n")
    commands = {
        "model": ("train-contrastive", "--model", encoder_folder, *texts, "--dev-qrels", toy.qrels, *TRAIN),
        "pair": ("train-contrastive", "--model", encoder_folder, "--untied", *texts, *TRAIN),
        "both": ("merge", "--model", encoder_folder, "--document-model", encoder_folder + "/../encoder-2"),
        "star": ("train-star", "--model", out / "model", *texts, *TRAIN),
        "ranker": ("train-ranker", "--model", bert, *texts, *TRAIN),
        "dam": (
            "mlm-adapt", "--model", encoder_folder, "--corpus", toy.corpus, "--snapshot-steps", "1", "--head-steps", 1,
            *ADAPT,
        ),
        "again": ("mlm-adapt", "--model", out / "dam", "--corpus", toy.corpus, *ADAPT),
        "rem": ("train-rem", "--model", out / "dam", "--pooling", "cls", *texts, *TRAIN),
        "merged": ("merge", "--body", out / "dam", "--rem", out / "rem", "--pooling", "cls"),
        "lexical": ("make-lexical", "--corpus", toy.corpus, "--dimension", 8),
    }  # fmt: skip
    shutil.copytree(encoder_folder, Path(encoder_folder).parent / "encoder-2", dirs_exist_ok=True)
    with open(Path(encoder_folder).parent / "encoder-2" / "sentence_bert_config.json", "a") as stream:
        stream.write("\n")
    for name, words in commands.items():
        done = drtools(*words, "-o", out / name)
        assert done.status == 0, (name, done.err)
        check(out / name, toy.folder, Path(encoder_folder).parent, Path(bert).parent)
        shown = drtools("show", out / name)
        assert shown.status == 0 and "no longer there" not in shown.out, shown.out
        if name != "both" and name != "merged":
            assert "--corpus corpus.jsonl: a file of" in shown.out.replace("\n    ", " "), shown.out
    assert json.loads((out / "model" / "manifest.json").read_text())["base"] == Path(encoder_folder).name
    assert json.loads((out / "model" / "manifest.json").read_text())["notices"]
    assert list((out / "dam" / "snapshots").iterdir())
    # the same command is the same request, and a changed input is named
    assert "already done" in drtools(*commands["model"], "-o", out / "model").err
    # a release of two, and a folder that was moved away
    assert drtools("publish", out / "model", out / "ranker", out / "live").status == 0
    version = next((out / "live.versions").glob("0*"))
    check(version, toy.folder)
    assert drtools("show", version).status == 0
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(out / "star", elsewhere / "star")
    shown = drtools("show", elsewhere / "star").out.replace("\n    ", " ")
    assert f"--corpus {toy.corpus}" in shown and f"--model {out / 'model'}" in shown
    with open(toy.corpus, "a") as stream:
        stream.write(json.dumps({"_id": "new", "title": "", "text": "fox"}) + "\n")
    done = drtools(*commands["model"], "-o", out / "model")
    assert done.status == 2 and f"--corpus: the content of {toy.corpus} has changed" in done.err, done.err
    assert "has changed since" in drtools("show", out / "model").out
