"""Kills of the client and of the server, a server that is silent, and several clients at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from engine_vectors import exact_top, ids_of, random_vectors, read_run, write_vectors

pytestmark = pytest.mark.slow
COUNT, QUERIES = 60_000, 10
KILLS = 10 * int(os.environ.get("DRTOOLS_TRIES", "1"))
SEED = int(os.environ.get("DRTOOLS_SEED", "0"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from milvus_server import Server

    started = Server(tmp_path_factory.mktemp("milvus"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


class World:
    """Vectors of so many documents that they take several requests, and queries."""

    def __init__(self, folder):
        self.folder, self.ids, self.array = folder, ids_of(COUNT), random_vectors(COUNT)
        self.asked = random_vectors(QUERIES, seed=2)
        self.vectors = write_vectors(folder / "vectors", self.ids, self.array)
        self.queries = write_vectors(folder / "queries", [f"q{row}" for row in range(QUERIES)], self.asked, "query")

    def command(self, uri, name, out):
        return [
            "index",
            "--vectors",
            self.vectors,
            "--milvus",
            uri,
            "--collection",
            name,
            "--index-type",
            "FLAT",
            "-o",
            out,
        ]

    def check(self, out):
        """Search an index, and compare its hits with brute force."""
        record = json.loads((out / "manifest.json").read_text())
        assert record["count"] == COUNT
        run = out.with_suffix(".run")
        done = finished(start("search", "--index", out, "--query-vectors", self.queries, "--depth", 10, "-o", run))
        assert done[0] == 0, done
        found, wanted = read_run(run), exact_top(self.array, self.asked, 10)
        for row in range(QUERIES):
            assert [document for document, _ in found[f"q{row}"]] == [self.ids[at] for at in wanted[row]]


def start(*words, **variables):
    command = [sys.executable, "-m", "drtools", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | variables)


def finished(process):
    _, err = process.communicate(timeout=300)
    return process.returncode, err


def begun(out, least=1, seconds=60):
    """Wait until an unfinished index has recorded so many vectors."""
    state, until = out.with_name(out.name + ".partial") / "state.json", time.monotonic() + seconds
    while time.monotonic() < until:
        if state.exists() and json.loads(state.read_text()).get("added", 0) >= least:
            return
        time.sleep(0.02)
    raise AssertionError("nothing was recorded")


@pytest.mark.parametrize("engine", ["server", "lite"])
def test_the_client_is_killed_at_random_moments(request, world, tmp_path, engine):
    uri = request.getfixturevalue("server").uri if engine == "server" else str(tmp_path / "lite.db")
    chance, out = random.Random(SEED), tmp_path / "index"
    for kill in range(KILLS if engine == "server" else KILLS // 2):
        process = start(*world.command(uri, f"killed_{engine}", out))
        try:
            if not kill:  # a quick machine may be done before a moment drawn from seconds
                begun(out)
            process.wait(timeout=chance.uniform(1, 5) if kill else 0)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        status, err = finished(process)
        assert status in (0, -signal.SIGKILL), err
        assert kill or status, "it was never killed"
        if status == 0:
            break
    status, err = finished(start(*world.command(uri, f"killed_{engine}", out)))
    assert status == 0, err
    world.check(out)


def test_the_server_is_killed_in_the_middle(server, world, tmp_path):
    out = tmp_path / "index"
    words = world.command(server.uri, "server_killed", out)
    process = start(*words, DRTOOLS_ENGINE_SECONDS="5")
    begun(out)
    server.kill()
    status, err = finished(process)
    assert status == 1 and "the same command again continues" in err and err.count("\n") <= 4, err
    assert not out.exists()
    server.start()
    until = time.monotonic() + 240
    while time.monotonic() < until:  # a server that was killed looks for its former parts for a minute
        status, err = finished(start(*words))
        assert "continuing" in err and (status == 0 or "the same command again continues" in err), err
        if status == 0:
            break
        time.sleep(2)
    assert status == 0, err
    world.check(out)


def test_a_server_that_is_silent_is_one_line(server, world, tmp_path):
    out = tmp_path / "index"
    assert finished(start(*world.command(server.uri, "silent", out)))[0] == 0
    server.pause()
    try:
        words = ("search", "--index", out, "--query-vectors", world.queries, "-o", tmp_path / "run")
        status, err = finished(start(*words, DRTOOLS_ENGINE_SECONDS="2"))
        assert status == 1 and err.count("\n") == 1 and "Milvus did not answer" in err, err
        published = finished(start("publish", out, tmp_path / "live", "--alias", "silent", DRTOOLS_ENGINE_SECONDS="2"))
        assert published[0] == 1 and published[1].count("\n") <= 2 and not (tmp_path / "live").exists(), published
    finally:
        server.go_on()
    assert not (tmp_path / "run").exists()
    world.check(out)


def test_two_clients_load_the_same_at_once(server, world, tmp_path):
    outs = [tmp_path / "one", tmp_path / "two"]
    both = [start(*world.command(server.uri, "both", out)) for out in outs]
    for process in both:
        status, err = finished(process)
        assert status == 0, err
    for out in outs:
        world.check(out)


def test_a_search_while_publish_switches_sees_one_version(server, world, tmp_path):
    link, indexes, tops = tmp_path / "live", [], []
    for number in range(2):
        array = np.roll(world.array[:2000], number, axis=1)
        vectors = write_vectors(tmp_path / f"vectors-{number}", world.ids[:2000], array)
        indexes.append(tmp_path / f"index-{number}")
        words = ("--milvus", server.uri, "--collection", "switched", "--index-type", "FLAT", "-o", indexes[-1])
        assert finished(start("index", "--vectors", vectors, *words))[0] == 0
        tops.append([[world.ids[at] for at in row] for row in exact_top(array, world.asked, 10)])
    assert finished(start("publish", indexes[0], link, "--alias", "switched"))[0] == 0
    seen = set()
    for number in range(1, 5):
        run = tmp_path / f"{number}.run"
        searching = start("search", "--index", link, "--query-vectors", world.queries, "--depth", 10, "-o", run)
        time.sleep(0.5 * number)
        switching = start("publish", indexes[number % 2], link, "--alias", "switched")
        for process in (searching, switching):
            status, err = finished(process)
            assert status == 0, err
        found = read_run(run)
        hits = [[document for document, _ in found[f"q{row}"]] for row in range(QUERIES)]
        assert hits in tops
        seen.add(tops.index(hits))
    assert seen == {0, 1}
