"""Dry runs of the tools that make examples: they write nothing, and their counts are those of the real run."""

import re
from pathlib import Path

import pytest


@pytest.fixture
def mined(toy, drtools, tmp_path):
    """Return the command that mines the toy collection, without an output."""
    assert drtools("index", "--corpus", toy.corpus, "-o", tmp_path / "bm25").status == 0
    return ["mine-negatives", "--queries", toy.queries, "--qrels", toy.qrels, "--index", tmp_path / "bm25"]


def test_mining_and_scoring_are_planned_without_a_trace(toy, mined, bert, drtools, tmp_path):
    examples, scored = tmp_path / "mined.jsonl", tmp_path / "marked.jsonl"
    dry = drtools(*mined, "--dry-run", "-o", examples)
    assert dry.status == 0 and not list(tmp_path.glob("mined*")), dry.err
    assert re.search(r"from \d+ queries\n", dry.err) and re.search(r"about [\d.]+ [MG]B of memory; ", dry.err), dry.err
    real = drtools(*mined, "-o", examples)
    assert real.status == 0
    opening = next(line for line in real.err.splitlines() if line.startswith("mining for"))
    assert opening in dry.err.splitlines()
    disk = re.search(r"; ([\d.]+) (k?)B on the disk", dry.err)
    assert float(disk[1]) * (1000 if disk[2] else 1) == pytest.approx(examples.stat().st_size, rel=0.02)
    ranker = tmp_path / "ranker"
    train = ["train-ranker", "--model", bert, "--examples", examples, "--corpus", toy.corpus, "--queries", toy.queries]
    assert drtools(*train, "--steps", "1", "--batch-queries", "2", "-o", ranker).status == 0
    score = ["teacher-score", "--teacher", ranker, "--examples", examples, "--corpus", toy.corpus]
    score += ["--queries", toy.queries, "--max-document-tokens", "4"]
    dry = drtools(*score, "--dry-run", "-o", scored)
    assert dry.status == 0 and not list(tmp_path.glob("marked*")), dry.err
    pairs = sum(len(re.findall(r'"d\d+"', line)) for line in Path(examples).read_text().splitlines())
    assert f"about {pairs:,} pairs to score" in dry.err, dry.err
    assert re.search(r"from the first \d+: \d+ tokens a pair, \d+% of the documents cut\n", dry.err), dry.err
    real = drtools(*score, "-o", scored)
    assert real.status == 0 and f"{pairs} scores were computed now" in real.err, "a dry run caches no score"
