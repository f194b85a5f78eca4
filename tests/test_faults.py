"""Processes killed at any moment, pipes that break, disks that fill: nothing is lost and nothing false is left."""

import gzip
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import WORDS, write_jsonl
from preloaded import kill


def bytes_of(path: Path) -> dict[str, str]:
    """Return the hash of every file of an output, manifests left out (they hold the date)."""
    if path.is_file():
        return {"": hashlib.sha256(path.read_bytes()).hexdigest()}
    files = [file for file in path.rglob("*") if file.is_file() and file.name != "manifest.json"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture
def larger(toy, encoder_folder, drtools):
    """A few thousand documents and queries, so that there is something to kill."""
    generator = random.Random(3)
    toy.corpus = write_jsonl(
        toy.folder / "large.jsonl",
        [{"_id": f"d{n}", "text": " ".join(generator.choices(WORDS, k=generator.randint(5, 40)))} for n in range(4000)],
    )
    toy.queries = write_jsonl(
        toy.folder / "large-queries.jsonl",
        [{"_id": f"q{n}", "text": " ".join(generator.choices(WORDS, k=4))} for n in range(3000)],
    )
    Path(toy.qrels).write_text("".join(f"q{n} 0 d{n} 1\n" for n in range(3000)))
    toy.model = encoder_folder
    return toy


COMMANDS = {
    "encode": lambda w: [
        "encode",
        "--model",
        w.model,
        "--corpus",
        w.corpus,
        "--chunk",
        "400",
        "--precision",
        "fp32",
        "--threads",
        "1",
    ],
    "index": lambda w: ["index", "--vectors", w.folder / "vectors", "--factory", "IVF32,Flat", "--threads", "1"],
    "mine-negatives": lambda w: [
        "mine-negatives",
        "--vectors",
        w.folder / "vectors",
        "--model",
        w.model,
        "--queries",
        w.queries,
        "--qrels",
        w.qrels,
        "--ranks",
        "1-50",
        "--precision",
        "fp32",
        "--threads",
        "1",
        "--draw",
        "random",
        "--negatives",
        "5",
    ],
}


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize(
    "tool,kills",
    [
        ("encode", 4),
        ("index", 3),
        ("mine-negatives", 3),
    ],
)
def test_killed_at_random_moments_it_ends_in_the_same_bytes(larger, drtools, program, environment, tool, kills):
    if tool != "encode":
        assert drtools(*COMMANDS["encode"](larger), "-o", larger.folder / "vectors").status == 0
    words = [str(word) for word in COMMANDS[tool](larger)]
    started = time.monotonic()
    assert drtools(*words, "-o", larger.folder / "whole").status == 0
    seconds = time.monotonic() - started
    generator = random.Random()  # really random: the moments are in the message if it fails
    moments = [generator.uniform(0, 1.0) * seconds for _ in range(kills)]
    for moment in moments:
        process = subprocess.Popen(
            [program, *words, "-o", larger.folder / "killed"], env=environment, stderr=subprocess.DEVNULL
        )
        time.sleep(moment)
        kill(process)
    last = subprocess.run(
        [program, *words, "-o", larger.folder / "killed"], env=environment, capture_output=True, text=True
    )
    assert last.returncode == 0, last.stderr
    assert bytes_of(larger.folder / "whole") == bytes_of(larger.folder / "killed"), moments
    assert not (larger.folder / "killed.partial").exists()


def test_sigterm_saves_and_the_next_process_continues(larger, program, environment):
    words = [program, *map(str, COMMANDS["encode"](larger)), "-o", str(larger.folder / "out")]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    state = larger.folder / "out.partial/state.json"
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, words_said = process.communicate()
    if process.returncode != 0:  # else it was faster than the signal
        assert process.returncode == 143 and "continues" in words_said and "Traceback" not in words_said
        assert json.loads(state.read_text())["done"] >= 400
    again = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert ("continuing" in again.stderr) == (process.returncode != 0)


@pytest.mark.slow
def test_an_encoding_goes_on_with_chunks_of_another_size(toy, encoder_folder, drtools, interrupt_at):
    from drtools.encoding.folder import FolderEncoding

    words = ["encode", "--model", encoder_folder, "--corpus", toy.corpus]
    assert drtools(*words, "-o", toy.folder / "whole").status == 0
    interrupt_at(FolderEncoding, "_encode", 3)
    assert drtools(*words, "--chunk", "16", "-o", toy.folder / "out").status == 130
    assert json.loads((toy.folder / "out.partial/state.json").read_text())["done"] == 32
    again = drtools(*words, "--chunk", "7", "-o", toy.folder / "out")
    assert again.status == 0 and "continuing" in again.err
    assert (toy.folder / "whole/vectors.npy").read_bytes() == (toy.folder / "out/vectors.npy").read_bytes()
    assert "already done" in drtools(*words, "-o", toy.folder / "out").err


def test_two_processes_on_one_output(larger, program, environment):
    words = [program, *map(str, COMMANDS["encode"](larger)), "-o", str(larger.folder / "out")]
    both = [subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    statuses = sorted(process.returncode for process in both)
    assert statuses in ([0, 1], [0, 0]), said  # the second is refused, or came after the first was done
    if statuses == [0, 1]:
        assert any("another process is writing this output" in text for text in said)
    assert (larger.folder / "out/manifest.json").exists()


def test_head_ends_a_pipe_in_silence(toy, encoder_folder, drtools, program, environment):
    assert drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", toy.folder / "v").status == 0
    line = f"{program} search --quiet --vectors v --model {encoder_folder} --queries {toy.queries} | head -n 1"
    done = subprocess.run(["bash", "-c", line], env=environment, cwd=toy.folder, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1 and done.stderr == ""


def test_a_pipe_gets_the_bytes_of_a_file(toy, program, environment):
    (toy.folder / "a.run").write_text(
        "".join(f"q{n} Q0 d{m} {m + 1} {60 - m} t\n" for n in range(20) for m in range(60))
    )
    words = [program, "mine-negatives", "--run", "a.run", "--queries", toy.queries, "--qrels", toy.qrels, "-o"]
    kept = {"env": environment, "cwd": toy.folder, "capture_output": True}
    piped = subprocess.run([*words, "-"], **kept)
    assert piped.returncode == 0, piped.stderr
    assert subprocess.run([*words, "file.jsonl"], **kept).returncode == 0
    assert piped.stdout == (toy.folder / "file.jsonl").read_bytes() != b""


@pytest.mark.slow
def test_make_keeps_no_target_of_a_broken_pipe(toy, environment):
    run = toy.folder / "a.run"
    run.write_text("".join(f"q{n} Q0 d{m} {m + 1} {60 - m} t\n" for n in range(20) for m in range(60)))
    mine = f"{sys.executable} -m drtools mine-negatives --run a.run --queries {toy.queries} --qrels {toy.qrels}"
    convert = (
        f"{sys.executable} -m drtools convert --to tevatron --examples - --corpus {toy.corpus} --queries "
        f"{toy.queries} -o $@"
    )
    (toy.folder / "Makefile").write_text(
        "SHELL := bash\n.SHELLFLAGS := -euo pipefail -c\n.DELETE_ON_ERROR:\n"
        f"whole.jsonl: ; {mine} | {convert}\n"
        f"broken.jsonl: ; bash -c '{mine} | head -n 3; kill -9 $$$$' | {convert}\n"
    )

    def make(target: str) -> subprocess.CompletedProcess:
        return subprocess.run(["make", target], env=environment, cwd=toy.folder, capture_output=True, text=True)

    assert make("whole.jsonl").returncode == 0 and (toy.folder / "whole.jsonl").exists()
    assert make("broken.jsonl").returncode != 0 and not (toy.folder / "broken.jsonl").exists()
    (toy.folder / "Makefile").write_text(
        (toy.folder / "Makefile").read_text().replace("head -n 3; kill -9 $$$$", "cat")
    )
    assert (
        make("broken.jsonl").returncode == 0
        and (toy.folder / "broken.jsonl").read_bytes() == (toy.folder / "whole.jsonl").read_bytes()
    )


def run_limited(program, words, environment, cwd, megabytes=None, **keywords):
    """Run a tool with a limit on the size of files, as a full disk."""
    limit = (
        (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes << 20, megabytes << 20))) if megabytes else None
    )
    return subprocess.run(
        [program, *map(str, words)],
        env=environment,
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
        **keywords,
    )


def test_a_full_disk_is_one_line(toy, program, environment):
    run = toy.folder / "a.run"
    run.write_text("".join(f"q{n} Q0 d{m} {m + 1} {60 - m} t\n" for n in range(20) for m in range(60)))
    with open("/dev/full", "w") as full:
        done = run_limited(program, ["fuse", run, run], environment, toy.folder, stdout=full)
    assert done.returncode == 1 and "No space left" in done.stderr and len(done.stderr.splitlines()) == 1
    write_jsonl(toy.folder / "big.jsonl", [{"_id": str(n), "text": "fox " * 500} for n in range(2000)])
    done = run_limited(program, ["index", "--corpus", "big.jsonl", "-o", "out"], environment, toy.folder, megabytes=1)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr, done.stderr
    assert not (toy.folder / "out").exists()


def test_a_packed_stream_on_standard_input_that_is_too_large_is_one_line(toy, program, environment):
    (toy.folder / "a.run").write_text("q1 Q0 d1 1 2 x\n")
    (toy.folder / "large.gz").write_bytes(gzip.compress(random.Random(1).randbytes(4 << 20)))
    with open(toy.folder / "large.gz", "rb") as large:
        done = run_limited(program, ["fuse", "-", "a.run"], environment, toy.folder, megabytes=2, stdin=large)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "standard input: no room for a copy of it in" in done.stderr and "2,097,152 bytes" in done.stderr
    assert "set TMPDIR to a folder with more, or name a file" in done.stderr


def test_a_folder_that_may_not_be_written_is_one_line(toy, program, environment):
    where = Path("/sys/drtools-out") if os.geteuid() == 0 else toy.folder / "closed/out"
    if os.geteuid():
        (toy.folder / "closed").mkdir(mode=0o555)
    for words in (
        ["index", "--corpus", toy.corpus, "-o", where],
        ["encode", "--model", toy.folder, "--corpus", toy.corpus, "-o", where],
    ):
        done = run_limited(program, words, environment, toy.folder)
        assert done.returncode == 1 and str(where) in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.slow
def test_a_killed_hnsw_index_ends_with_the_same_recall(larger, drtools, program, environment):
    assert drtools(*COMMANDS["encode"](larger), "-o", larger.folder / "vectors").status == 0
    words = ["index", "--vectors", str(larger.folder / "vectors"), "--factory", "HNSW16", "--check"]
    assert drtools(*words, "-o", larger.folder / "whole").status == 0
    process = subprocess.Popen(
        [program, *words, "-o", larger.folder / "killed"], env=environment, stderr=subprocess.DEVNULL
    )
    while not (larger.folder / "killed.partial").exists():
        time.sleep(0.01)
    kill(process)
    assert not (larger.folder / "killed").exists()
    assert drtools(*words, "-o", larger.folder / "killed").status == 0
    recalls = [
        json.loads((larger.folder / name / "manifest.json").read_text())["recall"]["value"]
        for name in ("whole", "killed")
    ]
    assert min(recalls) > 0.9 and abs(recalls[0] - recalls[1]) < 0.02, recalls
