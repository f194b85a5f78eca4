"""show: what is printed is what lies in the files, and the tree leads back to the corpus."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_jsonl


@pytest.fixture
def made(toy, encoder_folder, drtools, monkeypatch):
    """A chain as a user makes it, by relative names: vectors, index, run, examples."""
    monkeypatch.chdir(toy.folder)
    for command in (
        f"encode --model {encoder_folder} --corpus corpus.jsonl --precision fp32 -o vectors",
        "index --vectors vectors -o index",
        "search --index index --queries queries.jsonl --depth 4 -o a.run",
        "mine-negatives --run a.run --queries queries.jsonl --qrels qrels.tsv --ranks 1-4 -o mined.jsonl",
    ):
        outcome = drtools(*command.split())
        assert outcome.status == 0, outcome.err
    return toy


def test_the_tree_leads_back_to_the_corpus_from_anywhere(made, drtools, monkeypatch):
    tree = drtools("show", "mined.jsonl").out.split("made from\n")[1].splitlines()
    assert [line.strip().split(":")[0] for line in tree] == [
        "--queries queries.jsonl",
        "--qrels qrels.tsv",
        "--run a.run",
        "--index index",
        "--vectors vectors",
        next(line.strip().split(":")[0] for line in tree if "--model" in line),
        "--corpus corpus.jsonl",
        "--queries queries.jsonl",
    ]
    depths = [(len(line) - len(line.lstrip())) // 2 for line in tree]
    assert depths == [1, 1, 1, 2, 3, 4, 4, 2]
    assert "vectors by encode, 20" in tree[4] and "run by search" in tree[2]
    monkeypatch.chdir("/")
    assert drtools("show", made.folder / "mined.jsonl").out.split("made from\n")[1].splitlines() == tree
    (made.folder / "qrels.tsv").write_text("q0\td0\t1\n")
    shutil.rmtree(made.folder / "index")
    changed = drtools("show", made.folder / "mined.jsonl").out
    assert (
        "qrels.tsv: a file of 8 B; has changed since" in changed
        and "--index index: no longer there" in changed
        and "--vectors" not in changed
    )


def test_settings_of_bm25_are_those_of_runs_that_used_them(made, drtools, monkeypatch):
    assert drtools("search", *"--vectors vectors --queries queries.jsonl --depth 4 -o b.run".split()).status == 0
    bm25 = {"index": {"path": "lexical", "fingerprint": "x"}, "k1": 0.9, "b": 0.4, "rm3": False, "rm3_terms": 10}
    record = json.loads(Path("b.run.manifest.json").read_text())
    record["request"]["arguments"] = bm25
    shutil.copy("b.run", "c.run")
    Path("c.run.manifest.json").write_text(json.dumps(record))
    monkeypatch.chdir("/")
    assert "computed in float32" in drtools("show", made.folder / "vectors").out
    for name, shown in (("a", False), ("b", False), ("c", True)):
        out = drtools("show", made.folder / f"{name}.run").out
        assert ("k1 0.9, b 0.4" in out) == shown and "rm3" not in out, out
        assert shown or "depth 4" in out


def test_examples_with_their_texts_and_scores(made, drtools):
    example = next(
        json.loads(line)
        for line in Path("mined.jsonl").read_text().splitlines()
        if json.loads(line)["query_id"] == "q3"
    )
    out = drtools("show", "mined.jsonl", "--query", "q3", "--depth", "2", "--corpus", "corpus.jsonl").out
    lines = [line for line in out.splitlines() if line.startswith("  - ") and "…" not in line[:6]]
    assert len(lines) == 2
    for line, document, score in zip(lines, example["negatives"], example["negative_scores"], strict=False):
        assert line.split()[1:3] == [f"{score:.4f}", document] and made.documents[int(document[1:])]["title"] in line
    queries = {
        record["_id"]: record["text"] for record in map(json.loads, Path("queries.jsonl").read_text().splitlines())
    }
    assert f"q3  {queries['q3']}" in out.splitlines()
    assert "q5" not in out and drtools("show", "mined.jsonl", "--query", "none").status == 2
    write_jsonl(
        Path("dark.jsonl"),
        [
            {
                "query_id": "q1",
                "positives": ["d1"],
                "negatives": ["d2"],
                "dark": [{"kind": "noisy", "positive": "d1", "ratio": 0.25, "seed": 3}],
                "dark_scores": [0.5],
                "scored_by": "teacher@1",
                "pieces": [1, 2],
            }
        ],
    )
    out = drtools("show", "dark.jsonl").out
    assert (
        "0.5000  noisy positive: d1 with 25% of its words masked (seed 3)" in out
        and "scored by teacher@1" in out
        and "pieces: 2 of them" in out
    )


def test_a_run_finds_its_own_corpus(made, drtools):
    first = [line.split() for line in Path("a.run").read_text().splitlines()[:4]]
    out = drtools("show", "a.run", "--count", "1").out
    assert "20 queries, 80 hits" in out
    shown = [line for line in out.splitlines() if line.startswith("    ") and "--" not in line]
    assert len(shown) >= len(first) == 4
    for line, (_, _, document, place, score, _) in zip(shown, first, strict=False):
        assert (
            line.split()[:3] == [place, f"{float(score):.4f}", document]
            and made.documents[int(document[1:])]["title"] in line
        )


def test_vectors_and_indexes(made, drtools):
    array = np.load("vectors/vectors.npy").astype(np.float32)
    out = drtools("show", "vectors").out
    assert "60 vectors of 32 dimensions, float16, of document texts" in out
    assert f"[{' '.join(f'{value:+.3f}' for value in array[0, :4])} …]  d0  {made.documents[0]['title']}" in out
    lengths = np.linalg.norm(array, axis=1)
    assert f"{lengths.min():.4f} to {lengths.max():.4f}" in out
    out = drtools("show", "index").out
    assert "FAISS Flat: FlatIP, 60 vectors of 32 dimensions" in out and "d1  " in out
    drtools("index", "--corpus", "corpus.jsonl", "-o", "bm25")
    assert "Lucene, 60 documents (0 empty ones left out), analyzer en" in drtools("show", "bm25").out


def test_models(made, encoder_folder, bert, drtools):
    from safetensors.numpy import load_file

    count = sum(tensor.size for tensor in load_file(Path(encoder_folder) / "model.safetensors").values())
    out = drtools("show", encoder_folder).out
    assert (
        "bert, 2 layers of 32 dimensions" in out
        and "pooling mean, normalize, compared by cosine" in out
        and f"{count:,} parameters in model.safetensors" in out
    )
    assert "bert, 2 layers" in drtools("show", bert).out
    trained = (
        f"train-star --model {encoder_folder} --corpus corpus.jsonl --queries queries.jsonl --examples "
        "mined.jsonl --steps 2 --batch-queries 4 --untied -o star"
    )
    assert drtools(*trained.split()).status == 0
    out = drtools("show", "star").out
    assert (
        "query: bert" in out
        and "document: bert" in out
        and "trained for 2 steps" in out
        and f"{2 * count:,} parameters" in out
        and "--examples mined.jsonl: examples by" in out
    )
    assert "with negatives static" in out or "negatives static" in out
    write_jsonl(Path("log.jsonl"), [{"step": 1, "loss": 0.5}])
    assert drtools("show", "log.jsonl").out.splitlines()[1:] == ['{"step": 1, "loss": 0.5}']
    for command in (
        f"train-rem --model {encoder_folder} --corpus corpus.jsonl --queries queries.jsonl --examples mined.jsonl "
        "--steps 1 --batch-queries 4 -o rem",
        f"train-ranker --model {bert} --corpus corpus.jsonl --queries queries.jsonl --examples mined.jsonl --steps 1 "
        "--batch-queries 4 -o ranker",
        "make-lexical --corpus corpus.jsonl --queries queries.jsonl --dimension 64 -o lexical",
    ):
        outcome = drtools(*command.split())
        assert outcome.status == 0, outcome.err
        shown = drtools("show", command.split()[-1])
        assert shown.status == 0 and "parameters in" in shown.out and "made from" in shown.out, shown.err
    assert "rem: lora_rank" in drtools("show", "rem").out and "language en" in drtools("show", "lexical").out


def test_files_that_nobody_here_made_manifests_and_releases(made, drtools):
    assert "d2  " in drtools("show", "corpus.jsonl").out and "q0  " in drtools("show", "queries.jsonl").out
    out = drtools("show", "qrels.tsv", "--queries", "queries.jsonl", "--corpus", "corpus.jsonl").out
    assert "20 queries, 20 judgements" in out and made.documents[0]["title"] in out
    assert drtools("show", "a.run.manifest.json").out.startswith("a.run: run") and drtools(
        "show", "index/manifest.json"
    ).out.startswith("index: faiss")
    drtools("publish", "index", "vectors", "live")
    drtools("publish", "vectors", "live")
    out = drtools("show", "live").out
    assert "  00001-" in out and "* 00002-" in out
    out = drtools("show", "live.versions/" + sorted(path.name for path in Path("live.versions").iterdir())[0]).out
    assert "index: faiss by index" in out and "--corpus corpus.jsonl" in out and "see above" in out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("", "the file is empty"),
        ("one two\n", "found 'one two'"),
        ('{"a": \n', "not one JSON object per line"),
    ],
)
def test_what_cannot_be_shown_is_one_line(tmp_path, drtools, content, said):
    path = tmp_path / "x"
    if content is not None:
        path.write_text(content)
    outcome = drtools("show", path)
    assert outcome.status == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1
    (tmp_path / "empty").mkdir()
    assert "neither a manifest.json" in drtools("show", tmp_path / "empty").err


def test_what_looks_like_another_kind_or_is_damaged_is_said(toy, encoder_folder, drtools, tmp_path):
    (tmp_path / "queries.tsv").write_text("q1\twindows 10\nq2\tfox\n")
    assert drtools("show", tmp_path / "queries.tsv").status == 0
    (tmp_path / "mark.jsonl").write_bytes(b'\xef\xbb\xbf{"_id": "d1", "text": "fox"}\n')
    assert drtools("show", tmp_path / "mark.jsonl").status == 0
    shutil.copytree(encoder_folder, tmp_path / "foreign")
    (tmp_path / "foreign/manifest.json").write_text('{"name": "x"}')
    shutil.copytree(encoder_folder, tmp_path / "cut")
    (tmp_path / "cut/model.safetensors").write_bytes(b"abc")
    for name in ("foreign", "cut"):
        outcome = drtools("show", tmp_path / name)
        assert "internal error" not in outcome.err and (
            name == "foreign" or (outcome.status == 2 and "not a complete safetensors file" in outcome.err)
        ), outcome.err
