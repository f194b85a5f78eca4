"""Ten of the nights that benchmarks/nights.py plays: bad deliveries, kills, overlaps, a full disk, clocks, no share."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import WORDS

SCRIPT = Path(__file__).parents[2] / "benchmarks/nights.py"
DOCUMENTS = 400


@pytest.fixture
def collection(tmp_path) -> Path:
    """A collection whose queries are words of their documents."""
    generator, folder = random.Random(3), tmp_path / "collection"
    (folder / "qrels").mkdir(parents=True)
    texts = [" ".join(generator.choices(WORDS, k=generator.randint(8, 30))) for _ in range(DOCUMENTS)]
    records = {
        "corpus": [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(texts)],
        "queries": [{"_id": f"q{n}", "text": " ".join(text.split()[:4])} for n, text in enumerate(texts[:80])],
    }
    for name, lines in records.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as stream:
            stream.writelines(json.dumps(line) + "\n" for line in lines)
    for split, numbers in {"train": range(60), "test": range(60, 80)}.items():
        rows = "".join(f"q{n}\td{n}\t1\n" for n in numbers)
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")
    return folder


@pytest.mark.slow
def test_ten_nights_need_no_hand(collection, tmp_path, program):
    words = ["--nights", "10", "--collection", collection, "--pause", "0.2", "--drtools", program, "-o", tmp_path / "n"]
    done = subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    found = dict(line.strip("| ").split(" | ") for line in done.stdout.split("| what | found |")[1].splitlines()[2:])
    assert found["nights"] == "10" and found["versions"] == "10" and int(found["searches"]) > 20
    for fault in ("searches that failed", "hits of no single version", "nights that needed a hand"):
        assert found[fault] == "0"
    for cause in ("the gzip stream is cut short", "is also on line 1", "has no text", "are missing now", "status 75"):
        assert cause in done.stdout
