"""Damaged machine files: every tool that reads one does its work or ends in one line, and never with a traceback.

DRTOOLS_TRIES=10 multiplies the number of tries of the slow tests, DRTOOLS_SEED=1 draws others, and `pytest -rP` shows
how many were made.
"""

import functools
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import damage
import pytest
from conftest import SEED, TRIES, Toy, make_bert, make_encoder

OF_NATIVE_CODE = ("flat", "ivf", "bm25")  # whose libraries could end this process
OF_THE_SAMPLE = ("vectors", "query-vectors", "dense.run", "fused.run")
LIGHT = ("show", "search", "index", "fuse", "eval", "convert", "make-dark-examples", "publish", "mine-negatives")


def in_this_process(drtools, monkeypatch, *words, cwd, cache):
    """Run a command by the fixture `drtools`."""
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("DRTOOLS_CACHE", str(cache))
    outcome = drtools(*words)
    return damage.Outcome(outcome.status, outcome.err)


def as_a_process(program, environment, *words, cwd, cache):
    """Run a command as a process."""
    done = subprocess.run(
        [program, *map(str, words)],
        cwd=cwd,
        env={**environment, "DRTOOLS_CACHE": str(cache)},
        capture_output=True,
        timeout=120,
    )
    return damage.Outcome(done.returncode, done.stderr.decode(errors="replace"))


def inputs_in(folder: Path) -> Path:
    """Write what artefacts are made from into a folder."""
    Toy(folder)
    make_bert(folder / "bert")
    make_encoder(folder / "model", str(folder / "bert"))
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory, program) -> Path:
    """Make one artefact of each kind."""
    folder = inputs_in(tmp_path_factory.mktemp("world"))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    damage.make_world(folder, functools.partial(as_a_process, program, environment))
    return folder


def failures(cases, times, world, run) -> list[str]:
    """Damage files of the cases in turn, and return what went wrong."""
    print(f"{times} tries")
    draws = [(cases[number % len(cases)], random.Random(f"{24 + SEED} {number}")) for number in range(times)]
    return [wrong for case, draw in draws if (wrong := damage.damage_once(case, world, draw, run))]


def test_a_sample_of_damage_ends_in_one_line(tmp_path, drtools, monkeypatch):
    run = functools.partial(in_this_process, drtools, monkeypatch)
    damage.make_world(inputs_in(tmp_path), run, OF_THE_SAMPLE)
    cases = [
        case._replace(commands=tuple(words for words in case.commands if words[0] in LIGHT))
        for case in damage.CASES
        if case.artefact not in OF_NATIVE_CODE and (tmp_path / case.artefact).exists()
    ]
    assert failures([case for case in cases if case.commands], 40, tmp_path, run) == []


@pytest.mark.slow
@pytest.mark.parametrize("artefact", sorted({case.artefact for case in damage.CASES}))
def test_damage_ends_in_one_line(world, program, environment, artefact):
    cases = [case for case in damage.CASES if case.artefact == artefact]
    run = functools.partial(as_a_process, program, environment)
    assert failures(cases, 40 * TRIES * len(cases), world, run) == []


@pytest.mark.slow
def test_damage_of_a_lucene_index_ends_in_one_line(world, program, environment):
    run = functools.partial(as_a_process, program, environment)
    assert run(*damage.LUCENE, cwd=world, cache=world / "cache").status == 0
    assert failures(damage.WITH_LUCENE, 40 * TRIES, world, run) == []


@pytest.mark.parametrize(
    ("status", "said", "found"),
    [
        (0, "", []),
        (2, "drtools show: x: not JSON\n", []),
        (1, "", ["0 lines"]),
        (1, "drtools show: internal error, a bug in drtools: KeyError: 'x'\n", ["internal error"]),
        (1, "Traceback (most recent call last):\n", ["traceback", "0 lines"]),
        (-11, "", ["status -11"]),
    ],
)
def test_what_counts_as_a_fault(status, said, found):
    assert damage.faults(damage.Outcome(status, said)) == found


FIXTURE = Path(__file__).parent / "fixtures/0.1.0"
STOPPED = json.loads((FIXTURE / "commands.json").read_text())["stopped"]


def continue_damaged(name: str, tries: int, folder: Path, run) -> list[str]:
    """Damage one file of work that was stopped, and continue it, so many times; return what went wrong."""
    draw, found = random.Random(f"{name} {SEED}" if SEED else name), []
    kept = folder / "kept"
    shutil.copytree(FIXTURE / f"{name}.stopped", kept)
    (kept / "working").mkdir(exist_ok=True)
    for path in FIXTURE.iterdir():
        if not path.name.endswith(".stopped"):
            os.symlink(path, folder / path.name)
    partial, out = folder / f"{name}.partial", folder / name
    for _ in range(tries):
        for path in (partial, out, out.with_name(f"{name}.manifest.json"), out.with_name(f"{name}.partial.lock")):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.copytree(kept, partial)
        file = draw.choice(sorted(path for path in partial.rglob("*") if path.is_file() and path.name != "lock"))
        damaged = damage.damaged_file(file, draw)
        cut = file.suffix != ".json" and len(damaged) < file.stat().st_size
        file.write_bytes(damaged)
        outcome = run(*STOPPED[name], cwd=folder, cache=folder / "cache-of-the-test")
        wrong = damage.faults(outcome)
        if outcome.status == 0 and cut and file.name == "data" and b"\0" in out.read_bytes():
            wrong.append("filled with zeros")
        if wrong:
            found.append(f"{file.relative_to(partial)}: {wrong}: {outcome.err[-300:]}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", STOPPED)
def test_damaged_work_that_was_stopped_ends_in_one_line(name, tmp_path, program, environment):
    run = functools.partial(as_a_process, program, environment)
    assert continue_damaged(name, 60 * TRIES, tmp_path, run) == []


def test_a_sample_of_damaged_work_ends_in_one_line(tmp_path, drtools, monkeypatch):
    run = functools.partial(in_this_process, drtools, monkeypatch)
    assert continue_damaged("half-encode", 8, tmp_path, run) == []
