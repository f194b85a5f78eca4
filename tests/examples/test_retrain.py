"""Retraining: killed at any moment and run again it ends in the same published state.

Refused, out of disk, or met by another, readers keep what they have, and the exit status says which it was.
"""

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import makefiles
import pytest
from conftest import Toy, beir_of

from drtools.outputs import manifest
from drtools.outputs.versions import current_version, versions_of

EXAMPLE = makefiles.EXAMPLES / "retrain"
STEPS = "--steps 4 --batch-queries 4 --learning-rate 1e-3 --precision fp32 --threads 1"
KILLS = int(os.environ.get("RETRAIN_KILLS", "6"))  # 20 for the figure in benchmarks/RESULTS.md


class Setting:
    """A folder with the toy collection where runs of retraining are started."""

    def __init__(self, folder: Path, program: str, model: str) -> None:
        self.folder, self.program, self.model = folder, program, model

    def start(self, *words: str, work: str = "work", **keywords) -> subprocess.Popen:
        """Start a night with a small training, and with variables of one's own."""
        command = [
            EXAMPLE / "nightly",
            f"DRTOOLS={self.program}",
            "DATA=.",
            f"WORK={work}",
            f"MODEL={self.model}",
            "ADAPTING=--steps 3 --head-steps 2 --dev-documents 0 --batch-documents 8 --threads 1 --precision fp32",
            f"TRAINING={STEPS}",
            "ENCODING=--precision fp32 --threads 1",
            "GATE=nDCG@10>=-1",
            "FACTORY=Flat",
            "PUBLISHING=--allow-fall 1 --allow-fall-since-first 1",
            *words,
        ]
        return subprocess.Popen(
            [str(word) for word in command],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **keywords,
        )

    def run(self, *words: str, **keywords) -> tuple[int, str]:
        """Run a night; return its status and all its words."""
        return ended(self.start(*words, **keywords))


@pytest.fixture(scope="module")
def first_night(tmp_path_factory, program, encoder_folder):
    """A collection whose first run is over."""
    folder = beir_of(Toy(tmp_path_factory.mktemp("first")))
    (folder / "qrels/dev.tsv").unlink()  # what is trained is then the last step's and not the first's
    setting = Setting(folder, program, encoder_folder)
    assert setting.run() == (0, "")
    return setting


@pytest.fixture
def setting(first_night, tmp_path):
    """The same with times as they were, for one test."""
    shutil.copytree(first_night.folder, tmp_path / "own", symlinks=True)
    return Setting(tmp_path / "own", first_night.program, first_night.model)


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Return a run's status and all its words."""
    out, err = process.communicate(timeout=100)
    return process.returncode, out + err


def kill_all_of(process: subprocess.Popen) -> None:
    """Kill a night as a machine that goes down does: the wrapper, make, and the tool that is running."""
    process.kill()
    while numbers := processes_of(process):  # what one of them started meanwhile, too
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.poll()


def processes_of(night: subprocess.Popen, words: str = "") -> list[int]:
    """Return the processes of a night, or its tools whose command has these words."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            session = int((place / "stat").read_text().rpartition(")")[2].split()[3])
            command = (place / "cmdline").read_text().replace("\0", " ")
            if session == night.pid and words in command and not (words and command.startswith(("bash ", "make "))):
                found.append(int(place.name))
    return found


def kill_in(night: subprocess.Popen, words: str, number: int) -> None:
    """Send a signal to the first process of a night whose command has these words, as soon as there is one."""
    while not (found := processes_of(night, words)):
        assert night.poll() is None, night.communicate()
        time.sleep(0.01)
    os.kill(found[0], number)


def log_of(work: Path) -> list[str]:
    """Return the lines about nights without their dates."""
    return [line.partition(" ")[2] for line in (work / "log/nights.log").read_text().splitlines()]


def step_times(folder: Path, days: float) -> None:
    """Set the times of all files in a folder as if the clock had stood so many days ahead."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            seconds = time.time() + days * 86_400
            os.utime(path, (seconds, seconds))


def published(link: Path) -> dict[str, str]:
    """Return the hash of each file that readers see; manifests and measures hold dates and paths and are left out."""
    version = Path(os.path.realpath(link))
    assert version.name.startswith("0")
    return {
        str(path.relative_to(version)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(version.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "README.md", "training.jsonl", "publication.json")
    }


def add_documents(folder: Path) -> None:
    (folder / "arrivals").mkdir(exist_ok=True)
    with gzip.open(folder / "arrivals" / "1.jsonl.gz", "wt") as stream:
        stream.write(
            '{"_id": "new", "title": "otter", "text": "otter heron river swims"}\n{"_id": "d3", "title": "", "text": '
            '"hammer holds"}\n{"_id": "d59", "deleted": true}\n'
        )


@pytest.mark.slow
def test_two_nights_and_silence(setting):
    folder = setting.folder
    first = current_version(folder / "work/live")
    assert sorted(path.name for path in first.iterdir()) == [
        "index",
        "manifest.json",
        "model",
        "publication.json",
        "texts.sqlite",
        "vectors",
    ]
    tools = folder / "work/log/tools.jsonl"
    log = [json.loads(line) for line in tools.read_text().splitlines()]
    assert {"encode", "mlm-adapt", "mine-negatives", "train-star", "search", "eval", "index", "publish"} < {
        record["tool"] for record in log
    }
    assert manifest.read(first / "model")["base"] == "work/adapted"
    before = len(log)
    assert setting.run() == (0, "")
    new = [json.loads(line)["tool"] for line in tools.read_text().splitlines()[before:]]
    assert set(new) == {"merge-deliveries"} and log_of(folder / "work")[-1] == "nothing to do"
    add_documents(folder)
    (folder / "qrels/train.tsv").write_text((folder / "qrels/train.tsv").read_text() + "q0\td1\t1\n")
    assert setting.run("ARRIVALS=arrivals") == (0, "")
    assert log_of(folder / "work")[-2:] == [
        "begins with 60 documents: 1 new, 1 changed, 1 deleted, 0 missing; 0 deliveries refused with 0 documents; "
        "queries: 0 added, 0 gone; judgements: 1 added, 0 gone",
        f"ends with status 0 after {log_of(folder / 'work')[-1].split()[5]} s: done; work/live is "
        f"{current_version(folder / 'work/live').name}",
    ]
    second = current_version(folder / "work/live")
    assert second != first and len(versions_of(folder / "work/live")) == 2
    ids = (second / "vectors/ids.txt").read_text().split()
    assert published(first)["model/model.safetensors"] != published(second)["model/model.safetensors"]
    assert ids == [*(f"d{n}" for n in range(59)), "new"], "a changed document keeps its place, new ones follow"
    adapted = manifest.read(folder / "work/adapted")["request"]["arguments"]["model"]
    assert adapted["fingerprint"] == manifest.fingerprint(first / "model"), "it starts from what was published"


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_published_state(setting):
    folder = setting.folder
    shutil.copytree(folder / "work", folder / "killed", symlinks=True)  # with the first night's link and versions
    add_documents(folder)
    started = time.monotonic()
    assert setting.run("ARRIVALS=arrivals") == (0, "")
    seconds = time.monotonic() - started
    stop, seen, problems = threading.Event(), set(), []

    def read_all_the_time():
        while not stop.is_set():
            try:
                hashes = published(folder / "killed/live")
                seen.add(json.dumps(hashes))
            except OSError as problem:
                problems.append(repr(problem))
            time.sleep(0.02)

    reader = threading.Thread(target=read_all_the_time)
    reader.start()
    generator = random.Random()  # really random: the moments are in the message if it fails
    moments = [generator.uniform(0, 0.5) * seconds for _ in range(KILLS)]
    try:
        for moment in moments:
            process = setting.start("ARRIVALS=arrivals", work="killed")
            time.sleep(moment)
            kill_all_of(process)
            ended(process)
        status, words = setting.run("ARRIVALS=arrivals", work="killed")
    finally:
        stop.set()
        reader.join()
    assert (status, words) == (0, ""), moments
    assert setting.run("ARRIVALS=arrivals", work="killed") == (0, ""), (
        "what was published is not what the next run starts from"
    )
    assert published(folder / "killed/live") == published(folder / "work/live"), moments
    assert not problems, problems[:3]
    whole = {json.dumps(published(version)) for version in versions_of(folder / "killed/live")}
    assert len(whole) == 2 and seen <= whole, "a reader saw what is no version"


@pytest.mark.slow
def test_a_refused_encoder_leaves_the_one_before_with_the_new_documents(setting):
    folder = setting.folder
    status, words = setting.run("GATE=nDCG@10>=2", work="other")
    assert status == 3 and "did not pass" in words and "nDCG@10" in words and not (folder / "other/live").exists()
    first = published(folder / "work/live")
    add_documents(folder)
    status, words = setting.run("ARRIVALS=arrivals", "GATE=nDCG@10>=2")
    last = words.splitlines()[-1]
    assert status == 3 and "work/after/test.run" in words, words
    assert "the one before goes on, with the new documents; work/live is 00002-" in last
    assert log_of(folder / "work")[-1].startswith("ends with status 3 after")
    second = published(folder / "work/live")
    assert {name: second[name] for name in second if name.startswith("model/")} == {
        name: first[name] for name in first if name.startswith("model/")
    }
    assert "new" in (folder / "work/live/vectors/ids.txt").read_text().split()
    assert setting.run("ARRIVALS=arrivals", "GATE=nDCG@10>=2") == (0, ""), "said once"


@pytest.mark.slow
def test_a_night_without_training_and_its_floor(setting):
    folder = setting.folder
    first, version = published(folder / "work/live"), current_version(folder / "work/live")
    add_documents(folder)
    words = ("ARRIVALS=arrivals", "TRAINING=")
    status, said = setting.run(*words, "FLOOR=nDCG@10>=1 R@100>=0")
    assert status == 3 and "verdict: floor nDCG@10>=1: the last run has" in said, said
    assert current_version(folder / "work/live") == version, "below its floor nothing is published"
    assert setting.run(*words, "FLOOR=nDCG@10>=0 R@100>=0") == (0, "")
    second = published(folder / "work/live")
    assert second["model/model.safetensors"] == first["model/model.safetensors"]
    assert (folder / "work/live/vectors/ids.txt").read_text().split()[-1] == "new"
    assert setting.run(*words, "FLOOR=nDCG@10>=0 R@100>=0") == (0, "")
    assert log_of(folder / "work")[-1] == "nothing to do"


@pytest.mark.slow
def test_a_graph_is_updated_without_training_and_measures_are_kept(setting):
    folder, words = setting.folder, ("ARRIVALS=arrivals", "FACTORY=HNSW32")
    (folder / "arrivals").mkdir(exist_ok=True)
    assert setting.run(*words, work="graph") == (0, "")
    add_documents(folder)
    assert setting.run(*words, "TRAINING=", work="graph") == (0, "")
    made = manifest.read(folder / "graph/live/index")
    assert made["request"]["arguments"]["update"], "the index of the night before took in what is new"
    assert (folder / "graph/live/index/ids.txt").read_text().split()[-1] == "new"
    lines = [json.loads(line) for line in (folder / "graph/live.history.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and all("nDCG@10" in str(line["measures"]) for line in lines), lines
    assert setting.run(*words, "TRAINING=", work="graph") == (0, "")
    assert log_of(folder / "graph")[-1] == "nothing to do"


@pytest.mark.slow
def test_another_start_model_is_not_used_and_this_is_said(setting, drtools, monkeypatch):
    folder = setting.folder
    assert (folder / "work/started-from").read_text() == f"{setting.model}\n"
    first = current_version(folder / "work/live")
    status, words = setting.run("MODEL=a/newer-one")
    said = f"MODEL=a/newer-one is not used: work/live began with {setting.model} and goes on from what it serves"
    assert status == 0 and said in words and len(words.splitlines()) == 2, words
    assert log_of(folder / "work")[-1] == "nothing to do"
    # the way to upgrade, with the encoder of the first night for the new one
    shutil.copytree(first, folder / "upgrade")
    monkeypatch.chdir(folder)
    assert drtools("publish", "upgrade/index", "upgrade/model", "upgrade/vectors", "work/live").status == 0
    (folder / "work/started-from").write_text("a/newer-one\n")
    assert setting.run("MODEL=a/newer-one", "ADAPTING=", "TRAINING=--steps 3 --precision fp32 --threads 1") == (0, "")
    trained = manifest.read(folder / "work/after/model")["request"]["arguments"]["model"]
    assert trained["fingerprint"] == manifest.fingerprint(first / "model")


@pytest.mark.slow
def test_a_night_without_many_documents_is_refused(setting):
    folder = setting.folder
    first = current_version(folder / "work/live")
    whole = (folder / "corpus.jsonl").read_text()
    (folder / "corpus.jsonl").write_text("".join(whole.splitlines(keepends=True)[:50]))
    status, words = setting.run("TRAINING=")
    assert status == 3 and "merge-deliveries: work/begun/corpus.jsonl: 10 of its 60 documents are missing" in words
    assert current_version(folder / "work/live") == first
    assert setting.run("TRAINING=", "ALLOW_DROPPED=0.17") == (0, "")
    assert (folder / "work/live/vectors/ids.txt").read_text().count("\n") == 50
    (folder / "corpus.jsonl").write_text(whole)
    add_documents(folder)
    assert setting.run("TRAINING=", "ARRIVALS=arrivals") == (0, "")
    (folder / "arrivals").rename(folder / "elsewhere")
    status, words = setting.run("TRAINING=", "ARRIVALS=arrivals")
    assert status == 1 and "status 1: arrivals: no such folder; is its file system mounted?" in words
    (folder / "arrivals").mkdir()
    status, words = setting.run("TRAINING=", "ARRIVALS=arrivals")
    assert status == 3 and "1 of its 60 documents are missing now (for instance 'new')" in words, (
        "a share of 0 is meant"
    )
    version = current_version(folder / "work/live")
    (folder / "arrivals").rmdir()
    (folder / "elsewhere").rename(folder / "arrivals")
    assert setting.run("TRAINING=", "ARRIVALS=arrivals") == (0, "")
    assert current_version(folder / "work/live") == version and log_of(folder / "work")[-1] == "nothing to do"


@pytest.mark.slow
def test_the_times_of_files_decide_nothing(setting):
    folder = setting.folder
    for number, days in enumerate((2, -2), start=1):
        step_times(folder, days)
        assert setting.run("ARRIVALS=arrivals" if number > 1 else "WORK=work", "TRAINING=") == (0, "")
        step_times(folder, days)
        (folder / "arrivals").mkdir(exist_ok=True)
        (folder / f"arrivals/{number}.jsonl").write_text(f'{{"_id": "n{number}", "text": "fox {number}"}}\n')
        step_times(folder / "arrivals", -days)
        assert setting.run("ARRIVALS=arrivals", "TRAINING=") == (0, "")
        assert (folder / "work/live/vectors/ids.txt").read_text().split()[-1] == f"n{number}"


@pytest.mark.slow
def test_changes_that_are_none_begin_no_night(setting):
    folder = setting.folder
    add_documents(folder)
    assert setting.run("ARRIVALS=arrivals", "TRAINING=") == (0, "")
    version, tools = current_version(folder / "work/live"), (folder / "work/log/tools.jsonl").read_bytes()
    lines = gzip.decompress((folder / "arrivals/1.jsonl.gz").read_bytes())
    (folder / "arrivals/1.jsonl.gz").write_bytes(gzip.compress(lines, 1))
    with gzip.open(folder / "corpus.jsonl.gz", "wb") as stream:
        stream.write((folder / "corpus.jsonl").read_bytes())
    (folder / "corpus.jsonl").unlink()
    (folder / "data").mkdir()
    for name in ("corpus.jsonl.gz", "queries.jsonl", "qrels"):
        (folder / name).rename(folder / "data" / name)
    (folder / "arrivals").rename(folder / "moved")
    assert setting.run("DATA=data", "ARRIVALS=moved", "TRAINING=") == (0, "")
    (folder / "moved/2.jsonl").write_bytes(b"")
    status, words = setting.run("DATA=data", "ARRIVALS=moved", "TRAINING=")
    assert status == 0 and words.splitlines()[0] == (
        "retrain: refused moved/2.jsonl, line 1: no documents, expected JSON lines, or columns with tabs between (now "
        "work/refused/2.jsonl; mend it and deliver it again)"
    )
    assert "ended with status 0: done" in words.splitlines()[1] and len(words.splitlines()) == 2
    assert setting.run("DATA=data", "ARRIVALS=moved", "TRAINING=") == (0, ""), "it is said once"
    assert current_version(folder / "work/live") == version
    later = (folder / "work/log/tools.jsonl").read_bytes().removeprefix(tools).splitlines()
    assert {json.loads(line)["tool"] for line in later} == {"merge-deliveries"}


@pytest.mark.slow
def test_a_full_disk_and_bad_input_leave_what_readers_have(setting):
    folder = setting.folder
    first = published(folder / "work/live")
    add_documents(folder)
    for largest in (4_000, 100_000):
        status, words = setting.run(
            "ARRIVALS=arrivals", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        )
        assert status == 1 and "Traceback" not in words and published(folder / "work/live") == first, words
    assert "File too large" in words and "ended with status 1" in words, words
    (folder / "arrivals/2.jsonl").write_text('{"_id": "x", "text": "fox"}\n{"text": "no id"}\n')
    (folder / "arrivals/3.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "y", "text": "fox"}\n' * 100)[:-9])
    queries = (folder / "queries.jsonl").read_text()
    (folder / "queries.jsonl").write_text(queries + "{\n")
    status, words = setting.run("ARRIVALS=arrivals")
    assert status == 2 and "queries.jsonl:21: not JSON" in words.splitlines()[-1], words
    assert "refused arrivals/2.jsonl, line 2: no '_id'" in words and "refused arrivals/3.jsonl.gz, line" in words
    assert published(folder / "work/live") == first
    (folder / "queries.jsonl").write_text(queries)
    assert setting.run("ARRIVALS=arrivals") == (0, "")
    assert published(folder / "work/live") != first


@pytest.mark.slow
def test_a_night_that_is_stopped_or_loses_a_tool_says_so_and_the_next_continues(setting):
    folder = setting.folder
    add_documents(folder)
    night = setting.start("ARRIVALS=arrivals")
    kill_in(night, "train-star", signal.SIGKILL)
    status, words = ended(night)
    assert status == 137 and "after/model: it was killed (status 137)" in words, words
    night = setting.start("ARRIVALS=arrivals")
    kill_in(night, " train-star", 0)
    os.kill(night.pid, signal.SIGTERM)
    status, words = ended(night)
    assert status == 143 and "stopped by a signal; the same command again continues" in words, words
    assert log_of(folder / "work")[-1].startswith("ends with status 143")
    assert not processes_of(night), "it ends when all of it has ended"
    night = setting.start("ARRIVALS=arrivals")
    kill_in(night, "mlm-adapt", 0)
    assert setting.run("ARRIVALS=arrivals")[0] == 75
    assert log_of(folder / "work")[-1].startswith("overlap: another night is under way")
    kill_all_of(night)
    ended(night)
    assert setting.run("ARRIVALS=arrivals") == (0, "")
    assert [line.split()[0] for line in log_of(folder / "work")[-3:]] == ["the", "continues", "ends"]


@pytest.mark.slow
def test_a_version_is_searched_and_mined_while_the_next_is_made(setting, drtools, monkeypatch):
    folder = setting.folder
    add_documents(folder)
    night = setting.start("ARRIVALS=arrivals")
    kill_in(night, "mine-negatives", 0)
    monkeypatch.chdir("/")  # of readers who work elsewhere
    live = folder / "work/live"
    before = drtools("search", "--index", live / "index", "fox otter river")
    while night.poll() is None and not (folder / "work/after/vectors").exists():
        time.sleep(0.02)
    os.kill(night.pid, signal.SIGSTOP)
    try:
        assert (folder / "work/after/vectors").exists() and current_version(live).name.startswith("00001")
        during = drtools("search", "--index", live / "index", "fox otter river")
        assert during.status == before.status == 0 and during.out == before.out and "[d" in during.out, during.err
        source = ("--queries", folder / "queries.jsonl", "--qrels", folder / "qrels/train.tsv", "--ranks", "1-20")
        for words in (("--vectors", live / "vectors"), ("--index", live / "index")):
            mined = drtools("mine-negatives", *words, *source)
            assert mined.status == 0 and len(mined.out.splitlines()) > 10, mined.err
    finally:
        os.kill(night.pid, signal.SIGCONT)
    assert ended(night) == (0, "")


@pytest.mark.slow
def test_two_runs_never_meet(setting):
    (setting.folder / "other").mkdir()
    with open(setting.folder / "other/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, words = setting.run(work="other")
    assert status == 75 and "another night is under way" in words and not (setting.folder / "other/begun").exists()
    assert len(words.splitlines()) == 1 and log_of(setting.folder / "other")[0].startswith("overlap: another")


@pytest.mark.slow
def test_what_cannot_be_meant_is_said(setting, tmp_path):
    assert "use DATA=" in setting.run("DATA=")[1]
    status, words = setting.run(f"DATA={tmp_path / 'nowhere'}")
    assert status == 2 and "corpus.jsonl: no such file" in words
    status, words = setting.run("data")
    assert status == 2 and "nightly DATA=collection ARRIVALS=arrivals" in words
    done = makefiles.make("retrain", f"DRTOOLS={setting.program}", "DATA=nowhere", folder=setting.folder)
    assert done.returncode == 2 and "nowhere/corpus.jsonl: no such file" in done.stderr, (
        "the Makefile alone is the same"
    )


def test_the_files_for_cron_and_systemd_name_what_the_makefile_knows():
    known = (EXAMPLE / "Makefile").read_text()
    lines = [line for line in (EXAMPLE / "crontab").read_text().splitlines() if not line.startswith("#")]
    environment = [line for line in (EXAMPLE / "retrain.env").read_text().splitlines() if not line.startswith("#")]
    variables = [word.split("=")[0] for word in " ".join([*lines, *environment]).split() if "=" in word]
    variables.remove("MAILTO")
    assert len(variables) > 5 and all(f"\n{name} ?=" in known or f"$({name})" in known for name in variables), variables
    for name in ("crontab", "retrain.service"):
        assert "/examples/retrain/nightly" in (EXAMPLE / name).read_text() and os.access(EXAMPLE / "nightly", os.X_OK)
    for name, suffix in (("logrotate", "/log/*.log"), ("logrotate", "/log/*.jsonl"), ("retrain.timer", "OnCalendar=")):
        assert suffix in (EXAMPLE / name).read_text()
