"""Runs that stay on the disk against runs that are read whole."""

import gzip
import json
import random

import pytest

from drtools.errors import InputError
from drtools.formats import stored_run
from drtools.formats.stored_run import StoredRun, open_run
from drtools.formats.trec import read_run


@pytest.fixture(autouse=True)
def stored(monkeypatch):
    monkeypatch.setattr(stored_run, "IN_MEMORY_BYTES", 0)


@pytest.fixture
def lines():
    draw = random.Random(3)
    found = []
    for number in range(60):
        documents = draw.sample([*(f"d{each}" for each in range(80)), "löwe", "a\u00a0b", "x\u2028y", "1e5"], 30)
        scores = [draw.choice([1.0, 2.5, 1e-9, -3.25, draw.gauss(0, 1e4), 0.1 + 1e-12]) for _ in documents]
        if number % 2:
            scores.sort(reverse=True)
        separator = "\t" if number % 3 == 0 else " "
        found += [
            separator.join([f"q{number}é", "Q0", document, str(rank), repr(score), "tag"])
            for rank, (document, score) in enumerate(zip(documents, scores, strict=True))
        ]
    return found


@pytest.mark.parametrize("form", ["plain", "gz", "no end", "small blocks"])
def test_a_stored_run_is_the_run_that_is_read_whole(lines, form, tmp_path, monkeypatch):
    path = tmp_path / ("a.run.gz" if form == "gz" else "a.run")
    text = ("\n".join(lines) + ("" if form == "no end" else "\n")).encode()
    path.write_bytes(gzip.compress(text) if form == "gz" else text)
    if form == "small blocks":
        monkeypatch.setattr(stored_run, "BLOCK_BYTES", 100)
    run, expected = open_run(path), read_run(path)
    assert isinstance(run, StoredRun) and len(run) == 60
    assert list(run) == list(expected)
    assert [(query, list(hits.items())) for query, hits in run.items()] == [
        (query, list(hits.items())) for query, hits in expected.items()
    ]
    assert run.get("none", {}) == {} and "none" not in run and "q7é" in run and 7 not in run
    assert list(run["q7é"].items()) == list(expected["q7é"].items())


@pytest.mark.parametrize("oddity", ["in two places", "more spaces", "crlf"])
def test_an_unusual_run_is_read_whole(lines, oddity, tmp_path):
    if oddity == "in two places":
        lines = [*lines, "q3é Q0 more 1 0.5 tag"]
    elif oddity == "more spaces":
        lines[5] = lines[5].replace(" ", "  ").replace("\t", " \t")
    (tmp_path / "a.run").write_text(("\r\n" if oddity == "crlf" else "\n").join([*lines, ""]), newline="")
    run = open_run(tmp_path / "a.run")
    assert not isinstance(run, StoredRun) and run == read_run(tmp_path / "a.run") and len(run) == 60


@pytest.mark.parametrize("line", ["q9 Q0 d1 1 nan tag", "q9 Q0 d1 1 tag", "q59é Q0 d-one 1 x tag"])
def test_a_bad_line_is_refused_at_once_and_named(lines, line, tmp_path):
    (tmp_path / "a.run").write_text("\n".join([*lines, line, "q99 Q0 d1 1 1.0 tag"]))
    with pytest.raises(InputError) as expected:
        read_run(tmp_path / "a.run")
    with pytest.raises(InputError) as found:
        open_run(tmp_path / "a.run")
    assert str(found.value) == str(expected.value) and "a.run:1801" in str(found.value)


def test_a_document_twice_in_a_query_is_refused(lines, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_run, "BLOCK_BYTES", 100)
    repeated = lines[0].split()
    (tmp_path / "a.run").write_text(
        "\n".join([*lines[:30], "\t".join([*repeated[:3], "9", "0.5", "tag"]), *lines[30:]])
    )
    with pytest.raises(InputError, match=r"a.run:31.*already listed"):
        open_run(tmp_path / "a.run")


def test_the_tools_write_the_same_from_both(toy, drtools, tmp_path, monkeypatch):
    examples = [json.loads(line) for line in open(toy.examples)]
    with open(tmp_path / "a.run", "w") as stream:
        for example in reversed(examples):
            for rank, document in enumerate([*example["negatives"], *example["positives"]]):
                stream.write(f"{example['query_id']} Q0 {document} {rank} {rank / 7} other\n")
    found = {}
    for size in (0, 1 << 30):
        monkeypatch.setattr(stored_run, "IN_MEMORY_BYTES", size)
        scored = drtools("teacher-score", "--scores", tmp_path / "a.run", "--examples", toy.examples)
        mined = drtools(
            *("mine-negatives", "--run", tmp_path / "a.run", "--queries", toy.queries, "--qrels", toy.qrels),
            *("--corpus", toy.corpus, "--negatives", 3),
        )
        assert scored.status == mined.status == 0, scored.err + mined.err
        found[size] = scored.out, mined.out
    assert found[0] == found[1 << 30] and all(len(out.splitlines()) == len(examples) for out in found[0])
