"""The comparison's Makefile: its commands are those that the tools take, and it reports on a toy collection."""

import json
import os
import subprocess

import makefiles
import pytest

ROOT = makefiles.EXAMPLES.parent


def run(folder, *words: object) -> subprocess.CompletedProcess:
    """Run the Makefile with the tools of this checkout."""
    command = ["make", "-f", makefiles.EXAMPLES / "compare" / "Makefile", f"DRTOOLS={ROOT}/bin/drtools", *words]
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run([str(word) for word in command], cwd=folder, env=variables, capture_output=True, text=True)


def test_every_command_is_one_that_the_tools_take(beir):
    commands = makefiles.printed("compare", f"DATA={beir}", "MINUTES=10", folder=beir)
    values = {words[0]: makefiles.parsed(words) for words in commands}
    assert values["train-star"]["minutes"] == 7 and values["train-adore"]["minutes"] == 3
    assert "split-queries" not in values and all("--renew" in words for words in commands)


def test_what_is_split_and_what_needs_no_judgements(beir):
    (beir / "qrels/dev.tsv").unlink()
    commands = makefiles.printed("compare", f"DATA={beir}", folder=beir)
    (split,) = [makefiles.parsed(words) for words in commands if words[0] == "split-queries"]
    assert split["qrels"].endswith("train.tsv") and split["test"] == 0
    for name in ("train", "test"):
        (beir / f"qrels/{name}.tsv").unlink()
    commands = makefiles.printed("compare", f"DATA={beir}", folder=beir)
    (split,) = [makefiles.parsed(words) for words in commands if words[0] == "split-queries"]
    assert split["qrels"].endswith("qrels.tsv") and split["test"] == 0.2
    (beir / "qrels.tsv").unlink()
    commands = makefiles.printed("compare", f"DATA={beir}", "MINUTES=30", folder=beir)
    tools = {words[0] for words in commands}
    assert "fuse" in tools and not tools & {"split-queries", "train-star", "train-adore"}
    adapted = [makefiles.parsed(words) for words in commands if words[0] == "mlm-adapt"]
    assert [values["minutes"] for values in adapted] == [10, 10]
    assert [str(values["corpus"]).startswith("compare/docstrings/") for values in adapted] == [True, False]
    (rem,) = [makefiles.parsed(words) for words in commands if words[0] == "train-rem"]
    assert rem["minutes"] == 10 and rem["corpus"] == [adapted[0]["corpus"]]


@pytest.mark.slow
def test_the_report_on_a_toy_collection(beir, encoder_folder):
    words = [
        f"DATA={beir}",
        f"MODEL={encoder_folder}",
        "MINUTES=0.05",
        "DIMENSION=8",
        "TRAIN_TOKENS=32",
        "ENCODE_TOKENS=64",
        "CROP_TOKENS=32",
    ]
    words += ["REPEATS=1", "SYSTEMS=bm25 fused spar star ddr", f"SOURCE={beir}"]
    done = run(beir, *words)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split("|")[1].strip() for line in (beir / "compare/report.md").read_text().splitlines() if "|" in line]
    assert rows[2:] == ["bm25", "fused", "spar", "star", "ddr"]
    assert "Take " in done.stdout and (beir / "compare/report.png").stat().st_size > 5000
    published = done.stdout.split("Take ")[1].split("`")[1].split()[1:]
    done = subprocess.run([ROOT / "bin" / "drtools", *published], cwd=beir, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((beir / "live.history.jsonl").read_text().splitlines()[0])["version"]
    again = run(beir, *words)
    assert "train-star" not in again.stdout
