"""A process is killed between every two file operations of each kind of output: nothing is half, lost or left over.

The process counts its own operations on files below one folder (opening for writing, renaming, removing, flushing ...)
and sends itself a signal before the one that was asked for. DRTOOLS_TRIES=10 multiplies the number of tries of the slow
tests, DRTOOLS_SEED=1 draws others, and `pytest -rP` shows how many were made.
"""

import hashlib
import json
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import damage
import pytest
from conftest import SEED, TRIES
from preloaded import kill

FIXTURE = Path(__file__).parent / "fixtures/0.1.0"
COUNTED = """
import os, signal, sys
at, number, below, report, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:]
import drtools.cli.main, drtools.outputs.naming as naming
count = 0
def operation(name, path):
    global count
    path = os.path.abspath(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else ""
    if path.startswith(below):
        count += 1
        if at < 0:
            with open(report, "a") as log:
                log.write(f"{name} {path[len(below):]}\\n")
        if count == at:
            os.kill(os.getpid(), number)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
def hook(event, arguments):
    if event == "open" and arguments[0] != report and isinstance(arguments[2], int) and arguments[2] & WRITES:
        operation("open", arguments[0])
    elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod"):
        operation(event, arguments[0])
    elif event in ("os.symlink", "os.link"):
        operation(event, arguments[1])
fsync, pwrite, exchange = os.fsync, os.pwrite, naming.exchange
def counted(name, function):
    def call(descriptor, *more):
        operation(name, os.readlink(f"/proc/self/fd/{descriptor}"))
        return function(descriptor, *more)
    return call
os.fsync, os.pwrite = counted("fsync", fsync), counted("pwrite", pwrite)
def exchanged(first, second):
    operation("exchange", first)
    return exchange(first, second)
naming.exchange = exchanged
sys.addaudithook(hook)
drtools.cli.main.main(words)
"""
F = ["--precision", "fp32", "--threads", "1"]
TRAINED = ["--model", "encoder", "--corpus", "corpus.jsonl", "--queries", "queries.jsonl", "--examples", "mined.jsonl"]
TRAINED += ["--steps", "4", "--batch-queries", "8", "--evaluate-every-steps", "2", "--save-every-minutes", "0", *F]
ENCODED = ["encode", "--model", "model", "--corpus", "corpus.jsonl"]
SCORED = ["teacher-score", "--teacher", "ranker", "--examples", "mined.jsonl"]
SCORED += ["--corpus", "corpus.jsonl", "--queries", "queries.jsonl"]
KINDS = {  # name of the output: a command, and what makes it another request
    "fused.run": (["fuse", "vectors.run", "bm25.run"], ["--k", "7"]),
    "fused.run.gz": (["fuse", "vectors.run", "bm25.run"], ["--k", "7"]),
    "merged": (["merge", "--body", "dam", "--rem", "rem"], ["--query-prompt", "x"]),
    "ivf": (["index", "--vectors", "vectors", "--factory", "IVF4,Flat", "--threads", "1"], ["--seed", "7"]),
    "encoded": ([*ENCODED, "--chunk", "16", *F], ["--max-document-tokens", "20"]),
    "part": ([*ENCODED, "--chunk", "16", *F, "--part", "2/2"], ["--title-separator", "  "]),
    "lucene": (["index", "--corpus", "corpus.jsonl", "--threads", "1"], ["--language", "de"]),
    "scores.jsonl": ([*SCORED, "--window", "40", *F], ["--title-separator", "  "]),
    "trained": (["train-contrastive", *TRAINED, "--dev-qrels", "qrels.tsv"], ["--seed", "7"]),
    "adapted": (
        ["mlm-adapt", "--model", "encoder", "--corpus", "corpus.jsonl", "--steps", "4", "--head-steps", "2",
         "--batch-documents", "8", "--snapshot-steps", "2,3", "--save-every-minutes", "0", *F],
        ["--seed", "7"],
    ),
}  # fmt: skip


def content(path: Path) -> dict[str, str] | None:
    """Return the hashes of an output's files, without what tells of the time of its making; None if it is not there."""
    if path.is_file():
        return {"": hashlib.sha256(path.read_bytes()).hexdigest()}
    if not path.is_dir():
        return None
    timed = {"README.md", "training.jsonl", "snapshot.json"}
    if (path / "lucene").exists():  # segments have ids of chance
        return {"fingerprint": json.loads((path / "manifest.json").read_text())["fingerprint"]}
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        if file.name not in {*timed, "manifest.json"}
        else ""
        for file in path.rglob("*")
        if file.is_file()
    }


def fingerprint_of(path: Path) -> str:
    beside = path / "manifest.json" if path.is_dir() else path.with_name(f"{path.name}.manifest.json")
    return json.loads(beside.read_text())["fingerprint"]


class Crashing:
    """A command whose process dies at a chosen file operation."""

    def __init__(self, world: Path, program: str, environment: dict[str, str], name: str) -> None:
        self.world, self.program, self.environment = world, program, environment
        self.out, (self.words, self.more) = world / "outputs" / name, KINDS[name]

    def run_limited(self, size: int) -> subprocess.CompletedProcess[str]:
        """Run the command where no file may grow beyond `size` bytes, as on a full disk."""
        return subprocess.run(
            [self.program, *self.words, "-o", str(self.out)],
            env=self.environment,
            cwd=self.world,
            capture_output=True,
            text=True,
            timeout=120,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        )

    def run(
        self, at: int = 0, *flags: str, number: signal.Signals = signal.SIGKILL
    ) -> subprocess.CompletedProcess[str]:
        report = self.world / "operations"
        counted = [COUNTED, str(at), str(int(number)), f"{self.out}", str(report)]
        command = ["-c", *counted, *self.words, "-o", str(self.out), *flags]
        return subprocess.run(
            [self.program, *command], env=self.environment, cwd=self.world, capture_output=True, text=True, timeout=120
        )

    def operations(self, *flags: str) -> list[str]:
        (self.world / "operations").unlink(missing_ok=True)
        done = self.run(-1, *flags)
        assert done.returncode == 0, done.stderr
        return (self.world / "operations").read_text().splitlines()

    def run_until(self, seconds: float) -> int:
        """Run the command as a process, and kill it after some seconds; return its status."""
        process = subprocess.Popen(
            [self.program, *self.words, "-o", str(self.out)],
            env=self.environment,
            cwd=self.world,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        return kill(process)

    def clean(self) -> None:
        shutil.rmtree(self.out.parent, ignore_errors=True)
        self.out.parent.mkdir()

    def left(self) -> list[str]:
        kept = {self.out.name, f"{self.out.name}.manifest.json"}
        return [path.name for path in self.out.parent.iterdir() if path.name not in kept]


@pytest.fixture
def crashing(tmp_path, program, environment):
    """Return a function that makes a `Crashing` of a kind of output, in a copy of finished folders."""
    shutil.copytree(FIXTURE, tmp_path / "world")
    (tmp_path / "world/outputs").mkdir()
    return lambda name: Crashing(tmp_path / "world", program, environment, name)


def crash(
    killed: Crashing, points: int | None, replacing: bool, numbers: tuple[signal.Signals, ...] = (signal.SIGKILL,)
) -> None:
    """Send a command a signal at some of its operations, or at all; the same again ends as if nothing had been."""
    done = killed.run()
    assert done.returncode == 0, done.stderr
    whole, fingerprint, flags = content(killed.out), fingerprint_of(killed.out), ["--renew"] if replacing else []
    killed.clean()
    old = None
    if replacing:
        assert killed.run(0, *killed.more).returncode == 0
        old = content(killed.out)
        saved = killed.world / "saved"
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(killed.out.parent, saved)
    operations = killed.operations(*flags)
    chosen = range(1, len(operations) + 1)
    if points and points < len(chosen):
        chosen = sorted(random.Random(5 + SEED).sample(chosen, points))
    for at in chosen:
        killed.clean()
        if replacing:
            shutil.copytree(saved, killed.out.parent, dirs_exist_ok=True)
        number = numbers[at % len(numbers)]
        died = killed.run(at, *flags, number=number)
        where = f"{number.name} before operation {at}, {operations[at - 1]}: {died.stderr}"
        # a tool that gets a signal at its last operations may end before it notices
        assert died.returncode in ((-9,) if number == signal.SIGKILL else (128 + number, 0)), where
        assert "Traceback" not in died.stderr and "internal error" not in died.stderr, where
        assert content(killed.out) in (old, whole), where
        again = killed.run(0, *flags)
        assert again.returncode == 0, f"{where}\n{again.stderr}"
        assert content(killed.out) == whole and fingerprint_of(killed.out) == fingerprint, where
        assert killed.left() == [], where
        assert not list(killed.out.rglob("*.new")) and not list(killed.out.rglob(".tmp*")), where
    print(f"{len(chosen)} tries at {len(operations)} operations")


@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize("name", ["fused.run.gz"])
def test_a_kill_at_some_operations(crashing, name, replacing):
    crash(crashing(name), 4, replacing)


@pytest.mark.slow
@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize("name", KINDS)
def test_a_kill_at_every_operation(crashing, name, replacing):
    crash(crashing(name), None if name.startswith("fused") else 25 * TRIES, replacing)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_signals_at_some_operations(crashing, name):
    crash(crashing(name), 3 * TRIES, False, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_kill_at_random_moments(crashing, name):
    killed, draw = crashing(name), random.Random(f"{name} {SEED}")
    begun = time.monotonic()
    assert killed.run().returncode == 0
    seconds, whole = time.monotonic() - begun, content(killed.out)
    for _ in range(TRIES):
        killed.clean()
        moments = [draw.uniform(0, seconds) for _ in range(draw.randint(1, 3))]
        for moment in moments:
            killed.run_until(moment)
            assert content(killed.out) in (None, whole), moments
        again = killed.run()
        assert again.returncode == 0, (moments, again.stderr)
        assert content(killed.out) == whole and killed.left() == [], moments
    print(f"{TRIES} tries")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["encoded", "scores.jsonl", "trained", "adapted"])
def test_damaged_unfinished_work_is_refused_or_ends_in_the_same_content(crashing, name):
    killed, draw = crashing(name), random.Random(f"{name} {SEED}")
    assert killed.run().returncode == 0
    whole, partial = content(killed.out), killed.out.with_name(f"{name}.partial")
    killed.clean()
    operations = killed.operations()
    saves = [at for at, each in enumerate(operations, 1) if each.endswith(".partial/state.json.new")]
    killed.clean()
    assert killed.run(saves[-1] + 1).returncode == -9 and (partial / "state.json").exists()
    kept = killed.world / "kept"
    shutil.copytree(killed.out.parent, kept)
    for _ in range(15 * TRIES):
        killed.clean()
        shutil.copytree(kept, killed.out.parent, dirs_exist_ok=True)
        file = draw.choice(sorted(path for path in partial.rglob("*") if path.is_file() and path.stat().st_size))
        raw, damaged = file.read_bytes(), damage.damaged_file(file, draw)
        file.write_bytes(damaged)
        again = killed.run()
        found = damage.faults(damage.Outcome(again.returncode, again.stderr))
        where = f"{file.relative_to(partial)}: {raw[:60]!r} became {damaged[:60]!r}: {again.stderr}"
        assert not found, f"{where} {found}"
        assert again.returncode or content(killed.out) == whole, where
    print(f"{15 * TRIES} tries")


def fill(full: Crashing, sizes: list[int]) -> None:
    """Run a command where no file can grow beyond these percents of its largest; with room the same command ends."""
    done = full.run()
    assert done.returncode == 0, done.stderr
    whole, refused = content(full.out), 0
    largest = max(file.stat().st_size for file in (full.out, *full.out.rglob("*")) if file.is_file())
    for size in sizes:
        full.clean()
        failed = full.run_limited(max(1, largest * size // 100))
        lines = [line for line in failed.stderr.splitlines() if line.startswith("drtools ")]
        assert failed.returncode in (0, 1) and "Traceback" not in failed.stderr, failed.stderr
        assert "internal error" not in failed.stderr and len(lines) == (failed.returncode == 1), failed.stderr
        refused += failed.returncode
        assert content(full.out) in (None, whole)
        again = full.run()
        assert again.returncode == 0 and content(full.out) == whole and full.left() == [], again.stderr
    assert refused
    print(f"{len(sizes)} tries, {refused} without enough room")


@pytest.mark.parametrize("name", ["encoded"])
def test_a_full_disk(crashing, name):
    fill(crashing(name), [40])


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_disk_that_is_full_at_many_sizes(crashing, name):
    more = random.Random(f"{name} {SEED}").choices(range(1, 100), k=7 * (TRIES - 1))
    fill(crashing(name), [1, 5, 20, 40, 60, 80, 95, *more])
