"""Vectors that stay in shards: every tool reads them as the whole, bit for bit."""

import json
import shutil

import numpy as np
import pytest
from conftest import write_jsonl
from test_gather import FP32, content, encode, in_parts

from drtools.formats.joined_vectors import JoinedRows
from drtools.formats.vectors import open_vectors


def test_rows_of_several_arrays_are_those_of_one():
    generator = np.random.default_rng(5)
    whole = generator.standard_normal((23, 4)).astype(np.float16)
    joined = JoinedRows([whole[:1], whole[1:9], whole[9:9], whole[9:]])
    assert joined.shape == whole.shape and joined.dtype == whole.dtype and len(joined) == 23
    for start, stop in [(0, 23), (0, 1), (1, 9), (3, 4), (0, 2), (8, 20), (20, 40), (5, 5), (-3, None), (None, None)]:
        assert np.array_equal(joined[start:stop], whole[start:stop])
    assert np.array_equal(joined[20:2:-3], whole[20:2:-3])
    for rows in (generator.integers(0, 23, 50), np.array([], int), np.array([-1, 0]), whole[:, 0] > 0):
        assert np.array_equal(joined[rows], whole[rows])
    with pytest.raises(IndexError):
        joined[np.array([23])]


@pytest.fixture
def shards(toy, encoder_folder, drtools):
    """The whole, and the same in three shards."""
    whole = encode(toy, encoder_folder, drtools, toy.folder / "whole", "--corpus", toy.corpus)
    parts = in_parts(3, toy, encoder_folder, drtools, "--corpus", toy.corpus)
    sharded = toy.folder / "sharded"
    outcome = drtools("gather", "--shards", *parts, "-o", sharded)
    assert outcome.status == 0, outcome.err
    assert sorted(path.name for path in sharded.iterdir()) == ["ids.txt", "manifest.json", "shards.json", "texts.npy"]
    assert "already done" in drtools("gather", "--shards", *parts, "-o", sharded).err
    return whole, sharded, parts


@pytest.mark.slow
@pytest.mark.bits
def test_every_tool_reads_shards_as_the_whole(shards, toy, encoder_folder, drtools):
    whole, sharded, _ = shards
    assert np.array_equal(open_vectors(sharded).array[:], open_vectors(whole).array)
    changed = write_jsonl(toy.folder / "today.jsonl", [*toy.documents[5:], {"_id": "x", "title": "", "text": "fox"}])
    outputs = {}
    for folder in (whole, sharded):
        out = toy.folder / f"of-{folder.name}"
        out.mkdir()
        commands = [
            ["search", "--vectors", folder, "--queries", toy.queries, *FP32, "-o", out / "run"],
            [
                *("mine-negatives", "--queries", toy.queries, "--qrels", toy.qrels, "--vectors", folder),
                *("--corpus", toy.corpus, "--negatives", 4, *FP32, "-o", out / "negatives.jsonl"),
            ],
            ["encode", "--model", encoder_folder, *FP32, "--corpus", changed, "--update", folder, "-o", out / "today"],
            *(
                ["index", "--vectors", folder, "--factory", factory, "--threads", 1, "-o", out / f"index-{n}"]
                for n, factory in enumerate(["Flat", "IVF4,Flat", "IVF4,SQ8", "PQ4x4", "PCA8,IVF4,PQ4x4"])
            ),
        ]
        for command in commands:
            outcome = drtools(*command)
            assert outcome.status == 0, outcome.err
        outputs[folder.name] = {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file() and "manifest.json" not in path.name
        }
    assert outputs["sharded"] == outputs["whole"] and len(outputs["whole"]) == 2 + 3 + 3 * 5
    assert len(outputs["whole"]["run"].splitlines()) == 20 * 60


@pytest.mark.slow
@pytest.mark.bits
def test_a_training_reads_shards_as_the_whole(shards, toy, encoder_folder, drtools):
    weights = []
    for folder in shards[:2]:
        out = toy.folder / f"adore-{folder.name}"
        outcome = drtools(
            *("train-adore", "--model", encoder_folder, "--vectors", folder, "--queries", toy.queries),
            *("--qrels", toy.qrels, "--steps", 3, "--batch-queries", 4, *FP32, "--threads", 1, "-o", out),
        )
        assert outcome.status == 0, outcome.err
        weights.append((out / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_shards_that_changed_or_are_gone_are_refused(shards, toy, drtools):
    _, sharded, parts = shards
    publishing = drtools("publish", sharded, toy.folder / "live")
    assert publishing.status == 2 and "gather the parts without --shards" in publishing.err
    record = json.loads((parts[1] / "manifest.json").read_text())
    (parts[1] / "manifest.json").write_text(json.dumps({**record, "fingerprint": "0" * 32}))
    outcome = drtools("show", sharded)
    assert outcome.status == 2 and f"{parts[1]}: has changed since {sharded} was joined" in outcome.err
    shutil.rmtree(parts[1])
    outcome = drtools("search", "--vectors", sharded, "fox")
    assert outcome.status == 2 and str(parts[1]) in outcome.err


def test_a_folder_of_shards_and_its_parts_may_be_moved_together(shards, toy, drtools):
    whole, sharded, parts = shards
    moved = toy.folder / "elsewhere"
    moved.mkdir()
    for folder in (sharded, *parts):
        folder.rename(moved / folder.name)
    assert np.array_equal(open_vectors(moved / "sharded").array[:], open_vectors(whole).array)
    assert content(moved / "sharded")["ids.txt"] == content(whole)["ids.txt"]
