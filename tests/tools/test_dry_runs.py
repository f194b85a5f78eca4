"""Dry runs of encode, index, mine-negatives and teacher-score: they write nothing, and a real run has their lines."""

import json
import re
from pathlib import Path

import pytest

from drtools import costs


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


def lines_of_costs(text):
    """Return the lines that say what a job costs, their figures of time and memory replaced."""
    kinds = r"about |\d+ (documents|queries)\b.* tokens each|\d+ documents$|mining for|from the first|Flat over"
    return [re.sub(r"[\d.]+ ([MGk]?B|s)\b", r"N \1", each) for each in text.splitlines() if re.match(kinds, each)]


@pytest.mark.slow
def test_a_long_run_opens_with_the_lines_of_its_dry_run(
    toy, encoder_folder, mined, bert, drtools, tmp_path, monkeypatch
):
    for name in ("LEAST_SECONDS", "SETTLED_SECONDS", "SHORT_SECONDS"):  # any work counts as long
        monkeypatch.setattr(costs, name, 0.0)
    examples, ranker = tmp_path / "mined.jsonl", tmp_path / "ranker"
    encode = ["encode", "--model", encoder_folder, "--precision", "fp32", "--corpus", toy.corpus]
    texts = ["--corpus", toy.corpus, "--queries", toy.queries]
    train = ["train-ranker", "--model", bert, "--examples", examples, *texts, "--steps", "1", "--batch-queries", "2"]
    score = ["teacher-score", "--teacher", ranker, "--examples", examples, *texts, "--batch-tokens", "64"]
    for command, out, count in (
        (["index", "--corpus", toy.corpus], "lucene", 1),  # of which more is known after 1,000 documents
        (encode, "vectors", 3),
        (["index", "--vectors", tmp_path / "vectors"], "flat", 3),
        (mined, "mined.jsonl", 3),
        (train, "ranker", 0),
        (score, "scored.jsonl", 4),
    ):
        dry = drtools(*command, "--dry-run", "-o", tmp_path / "none") if count else None
        real = drtools(*command, "-o", tmp_path / out)
        assert real.status == 0, real.err
        if dry:
            found = lines_of_costs(dry.err)
            wanted = [each for each in found if not each.startswith("from 20 queries")][:count]
            assert lines_of_costs(real.err) == wanted and len(wanted) == count, (dry.err, real.err)
            quiet = drtools(*command, "--overwrite", "--quiet", "-o", tmp_path / out)
            assert quiet.status == 0 and quiet.err == "", quiet.err
    streamed = drtools(*mined, "-o", "-")
    assert [json.loads(line)["query_id"] for line in streamed.out.splitlines()] and "mining for" in streamed.err


def test_short_work_is_not_forecast(toy, encoder_folder, mined, drtools, tmp_path):
    for command in (["encode", "--model", encoder_folder, "--corpus", toy.corpus], mined):
        real = drtools(*command, "-o", tmp_path / command[0])
        assert real.status == 0 and "of memory" not in real.err and lines_of_costs(real.err), real.err
