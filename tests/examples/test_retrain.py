"""Retraining: killed at any moment and run again it ends in the same published state.

Refused, out of disk, or met by another, readers keep what they have.
"""

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
import sys
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
        """Start make with a small training, and with variables of one's own."""
        command = [
            "make",
            "-s",
            "-f",
            EXAMPLE / "Makefile",
            f"DRTOOLS={self.program}",
            f"PYTHON={sys.executable}",
            "DATA=.",
            f"WORK={work}",
            f"MODEL={self.model}",
            "ADAPTING=--steps 3 --head-steps 2 --dev-documents 0 --batch-documents 8 --threads 1 --precision fp32",
            f"TRAINING={STEPS}",
            "ENCODING=--precision fp32 --threads 1",
            "GATE=nDCG@10>=-1",
            "FACTORY=Flat",
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
        """Run make; return its status and all its words."""
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


def published(link: Path) -> dict[str, str]:
    """Return the hash of each file that readers see; manifests hold dates and paths and are left out."""
    version = Path(os.path.realpath(link))
    assert version.name.startswith("0")
    return {
        str(path.relative_to(version)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(version.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "README.md", "training.jsonl")
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
        "texts.sqlite",
        "vectors",
    ]
    log = [json.loads(line) for path in (folder / "work/log").iterdir() for line in path.read_text().splitlines()]
    assert {"encode", "mlm-adapt", "mine-negatives", "train-star", "search", "eval", "index", "publish"} == {
        record["tool"] for record in log
    }
    assert manifest.read(first / "model")["base"] == "work/adapted"
    before = len(log)
    assert setting.run() == (0, "")
    assert sum(len(path.read_text().splitlines()) for path in (folder / "work/log").iterdir()) == before, (
        "nothing new, nothing to do"
    )
    add_documents(folder)
    assert setting.run("ARRIVALS=arrivals") == (0, "")
    second = current_version(folder / "work/live")
    assert second != first and len(versions_of(folder / "work/live")) == 2
    ids = (second / "vectors/ids.txt").read_text().split()
    assert published(first)["model/model.safetensors"] != published(second)["model/model.safetensors"]
    assert len(ids) == 60 and ids[-2:] == ["new", "d3"] and "d59" not in ids
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
            os.killpg(process.pid, signal.SIGKILL)
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
    assert status == 2 and "did not pass" in words and "nDCG@10" in words and not (folder / "other/live").exists()
    first = published(folder / "work/live")
    add_documents(folder)
    status, words = setting.run("ARRIVALS=arrivals", "GATE=nDCG@10>=2")
    assert status == 2 and "the one before goes on, with the new documents" in words
    second = published(folder / "work/live")
    assert {name: second[name] for name in second if name.startswith("model/")} == {
        name: first[name] for name in first if name.startswith("model/")
    }
    assert "new" in (folder / "work/live/vectors/ids.txt").read_text().split()
    assert setting.run("ARRIVALS=arrivals", "GATE=nDCG@10>=2") == (0, ""), "said once"


@pytest.mark.slow
def test_another_start_model_is_not_used_and_this_is_said(setting, drtools, monkeypatch):
    folder = setting.folder
    assert (folder / "work/started-from").read_text() == f"{setting.model}\n"
    first = current_version(folder / "work/live")
    status, words = setting.run("MODEL=a/newer-one", "ADAPTING=")
    said = f"MODEL=a/newer-one is not used: work/live began with {setting.model} and goes on from what it serves"
    assert status == 0 and said in words and len(words.splitlines()) == 1, words
    second = current_version(folder / "work/live")
    assert second != first and setting.run("MODEL=a/newer-one", "ADAPTING=") == (0, words)
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
    lines = (folder / "corpus.jsonl").read_text().splitlines(keepends=True)
    (folder / "corpus.jsonl").write_text("".join(lines[:50]))
    status, words = setting.run("ADAPTING=")
    assert status == 2 and "10 of its 60 documents are not in" in words and "--allow-dropped 0.17" in words, words
    status, words = setting.run("ADAPTING=", "UPDATE=")
    assert status == 2 and "vectors has 50 documents, where the current version has 60" in words, words
    assert current_version(folder / "work/live") == first
    assert setting.run("ADAPTING=", "UPDATE=", "PUBLISHING=--allow-shrinking 0.17") == (0, "")
    assert (folder / "work/live/vectors/ids.txt").read_text().count("\n") == 50


@pytest.mark.slow
def test_a_full_disk_and_bad_input_leave_what_readers_have(setting):
    folder = setting.folder
    first = published(folder / "work/live")
    add_documents(folder)
    for largest in (4_000, 100_000):
        status, words = setting.run(
            "ARRIVALS=arrivals", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        )
        assert status == 2 and "Traceback" not in words and published(folder / "work/live") == first, words
    assert "File too large" in words and "was not changed" in words, words
    (folder / "arrivals/2.jsonl").write_text('{"_id": "x", "text": "fox"}\n{"text": "no id"}\n')
    status, words = setting.run("ARRIVALS=arrivals")
    assert status == 2 and "arrivals/2.jsonl:2: found" in words and published(folder / "work/live") == first
    (folder / "arrivals/2.jsonl").unlink()
    assert setting.run("ARRIVALS=arrivals") == (0, "")
    assert published(folder / "work/live") != first


@pytest.mark.slow
def test_two_runs_never_meet(setting):
    (setting.folder / "other").mkdir()
    with open(setting.folder / "other/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, words = setting.run(work="other")
    assert status == 2 and "another run is under way" in words and not (setting.folder / "other/begun").exists()


@pytest.mark.slow
def test_what_cannot_be_meant_is_said(setting, tmp_path):
    assert "use DATA=" in setting.run("DATA=")[1]
    assert "corpus.jsonl: no such file" in setting.run(f"DATA={tmp_path / 'nowhere'}")[1]


def test_the_crontab_line_names_what_the_makefile_knows():
    known = (EXAMPLE / "Makefile").read_text()
    line = next(
        line
        for line in (EXAMPLE / "crontab").read_text().splitlines()
        if "make -s" in line and not line.startswith("#")
    )
    variables = [word.split("=")[0] for word in line.split() if "=" in word]
    assert len(variables) == 3 and all(f"{name} ?=" in known or f"$({name})" in known for name in variables)
