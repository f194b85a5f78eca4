"""Damaged machine files: every tool that reads one does its work or ends in one line, and never with a traceback."""

import functools
import os
import random
import subprocess
from pathlib import Path

import damage
import pytest
from conftest import Toy, make_bert, make_encoder

SEED = 24
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
    draws = [(cases[number % len(cases)], random.Random(f"{SEED} {number}")) for number in range(times)]
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
    assert failures(cases, 40 * len(cases), world, run) == []


@pytest.mark.slow
def test_damage_of_a_lucene_index_ends_in_one_line(world, program, environment):
    run = functools.partial(as_a_process, program, environment)
    assert run(*damage.LUCENE, cwd=world, cache=world / "cache").status == 0
    assert failures(damage.WITH_LUCENE, 40, world, run) == []


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
