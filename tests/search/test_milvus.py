"""Milvus as an engine, against brute force: a real server, and Milvus Lite.

The slow suite starts the server; these tests run against both.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from engine_vectors import ODD, exact_top, ids_of, random_vectors, read_run, write_corpus, write_vectors

pytestmark = pytest.mark.slow
COUNT, QUERIES = 600, 20


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    from milvus_server import Server

    started = Server(tmp_path_factory.mktemp("milvus"))
    yield started
    started.stop()


@pytest.fixture(params=["server", "lite"])
def uri(request, tmp_path):
    return request.getfixturevalue("server").uri if request.param == "server" else str(tmp_path / "lite.db")


@pytest.fixture
def name(tmp_path):
    return f"c_{abs(hash(str(tmp_path))):x}"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


class World:
    """A corpus with fields, its vectors, and vectors of queries."""

    def __init__(self, folder):
        self.folder, self.ids = folder, ids_of(COUNT)
        self.array = random_vectors(COUNT)
        self.corpus = write_corpus(folder / "corpus.jsonl", self.ids)
        self.vectors = write_vectors(folder / "vectors", self.ids, self.array)
        self.asked = random_vectors(QUERIES, seed=2)
        self.queries = write_vectors(folder / "queries", [f"q{row}" for row in range(QUERIES)], self.asked, "query")


def index(drtools, world, uri, name, out="index", *more):
    return drtools(
        "index", "--vectors", world.vectors, "--milvus", uri, "--collection", name, "-o", world.folder / out, *more
    )


def search(drtools, world, out="index", *more):
    run = world.folder / f"{out}.run"
    done = drtools(
        "search", "--index", world.folder / out, "--query-vectors", world.queries, "-o", run, "--overwrite", *more
    )
    assert done.status == 0, done.err
    return read_run(run)


def test_hits_are_those_of_brute_force(drtools, world, uri, name):
    done = index(drtools, world, uri, name, "index", "--index-type", "FLAT")
    assert done.status == 0, done.err
    found = search(drtools, world, "index", "--depth", "10")
    wanted = exact_top(world.array, world.asked, 10)
    for row in range(QUERIES):
        assert [document for document, _ in found[f"q{row}"]] == [world.ids[at] for at in wanted[row]]
        scores = [score for _, score in found[f"q{row}"]]
        assert np.allclose(scores, (world.asked[row] @ world.array.T)[wanted[row]], atol=1e-5)
    again = index(drtools, world, uri, name, "index", "--index-type", "FLAT")
    assert again.status == 0 and "already done" in again.err


def test_a_filter_is_that_of_the_fields(drtools, world, uri, name):
    more = ("--index-type", "FLAT", "--fields", "lang,year", "--corpus", world.corpus)
    done = index(drtools, world, uri, name, "index", *more)
    assert done.status == 0, done.err
    found = search(drtools, world, "index", "--depth", "10", "--filter", 'lang == "en" and year >= 2010')
    fits = [row for row in range(COUNT) if row % 3 and row % 20 >= 10]
    wanted = exact_top(world.array[fits], world.asked, 10)
    for row in range(QUERIES):
        assert [document for document, _ in found[f"q{row}"]] == [world.ids[fits[at]] for at in wanted[row]]
    for wrong in ("nosuch == 1", 'lang == "en', "lang = en;"):
        run = world.folder / "wrong.run"
        words = ("search", "--index", world.folder / "index", "--query-vectors", world.queries, "--filter", wrong)
        refused = drtools(*words, "-o", run)
        assert refused.status == 2 and "--filter" in refused.err and "lang, year" in refused.err, refused.err
        assert refused.err.count("\n") == 1 and not run.exists()


@pytest.mark.parametrize("kind", ["HNSW", "IVF_FLAT"])
def test_recall_of_approximate_indexes_is_measured(drtools, world, uri, name, kind):
    done = index(drtools, world, uri, name, "index", "--index-type", kind, "--check-queries", world.queries)
    assert done.status == 0, done.err
    record = json.loads((world.folder / "index" / "manifest.json").read_text())
    found = search(drtools, world, "index", "--depth", "100")
    wanted = exact_top(world.array, world.asked, 100)
    shares = [
        len({document for document, _ in found[f"q{row}"]} & {world.ids[at] for at in wanted[row]}) / 100
        for row in range(QUERIES)
    ]
    assert record["recall"]["value"] == pytest.approx(np.mean(shares), abs=0.02) and np.mean(shares) > 0.7
    assert record["kind"] == "milvus" and record["index_type"] == kind and record["collection"].startswith(f"{name}__")
    shown = drtools("show", world.folder / "index")
    assert f"Milvus {kind}" in shown.out + shown.err and ODD[0] in shown.out


def test_odd_ids_are_found_by_their_vectors_and_scored(drtools, world, uri, name):
    assert index(drtools, world, uri, name, "index", "--index-type", "FLAT").status == 0
    world.queries = write_vectors(world.folder / "own", ODD, world.array[: len(ODD)], "query")
    found = search(drtools, world, "index", "--depth", "1")
    assert {query: hits[0][0] for query, hits in found.items()} == {text_id: text_id for text_id in ODD}
    from drtools.search.engine_search import open_engine
    from drtools.search.engines.engine import Effort
    from drtools.search.index_manifest import read_index

    opened, ids = open_engine(world.folder / "index", read_index(world.folder / "index"), None, Effort())
    rows = ids.rows_of(ODD)
    (scores,) = opened.scores_of_rows(world.asked[:1], [rows])
    assert np.allclose(scores, world.array[rows] @ world.asked[0], atol=1e-5)
    opened.engine.close()


def test_another_encoder_and_too_many_hits_are_refused(drtools, world, uri, name):
    assert index(drtools, world, uri, name, "index", "--index-type", "FLAT").status == 0
    other = write_vectors(world.folder / "other", ["q0"], world.asked[:1], "query", maker="b")
    refused = drtools("search", "--index", world.folder / "index", "--query-vectors", other, "-o", world.folder / "r")
    assert refused.status == 2 and "made by another encoder" in refused.err
    short = search(drtools, world, "index", "--depth", "1000")
    assert all(len(hits) == COUNT for hits in short.values())


def test_vectors_that_are_not_finite_are_refused_and_nothing_is_left(drtools, world, uri, name):
    world.array[17, 3] = np.nan
    world.vectors = write_vectors(world.folder / "nan", world.ids, world.array)
    refused = index(drtools, world, uri, name)
    assert refused.status == 2 and "row 17" in refused.err and refused.err.count("\n") <= 2, refused.err
    assert not (world.folder / "index").exists()


def changed(world):
    """Return the ids and vectors of the next day: some are gone, some changed, some new."""
    ids = [*world.ids[1:3], *world.ids[20:], "new-1", "new-2"]
    array = np.concatenate([world.array[1:3], world.array[20:], random_vectors(2, seed=5)])
    array[5] = random_vectors(1, seed=6)[0]
    return ids, array


def check_hits(found, ids, array, asked, depth=10):
    wanted = exact_top(array, asked, depth)
    for row in range(len(asked)):
        assert [document for document, _ in found[f"q{row}"]] == [ids[at] for at in wanted[row]]


def test_an_update_finds_what_a_new_index_finds(drtools, world, uri, name):
    assert index(drtools, world, uri, name, "index", "--index-type", "FLAT").status == 0
    ids, array = changed(world)
    world.vectors = write_vectors(world.folder / "next", ids, array)
    done = index(drtools, world, uri, name, "next-index", "--update", world.folder / "index", "--check")
    assert done.status == 0 and "19 of 600 rows are gone or changed, 3 of 584" in done.err, done.err
    check_hits(search(drtools, world, "next-index", "--depth", "10"), ids, array, world.asked)
    record = json.loads((world.folder / "next-index" / "manifest.json").read_text())
    assert record["count"] == len(ids) and record["recall"]["value"] == 1
    run = world.folder / "old.run"
    words = ("search", "--index", world.folder / "index", "--query-vectors", world.queries, "-o", run)
    refused = drtools(*words)
    assert refused.status == 2 and "has other content" in refused.err and refused.err.count("\n") == 1, refused.err
    again = index(drtools, world, uri, name, "other", "--update", world.folder / "index")
    assert again.status == 0 and "is loaded already" in again.err, again.err


def test_publish_switches_alias_and_link_and_mends_a_half_done_switch(drtools, world, uri, name, monkeypatch):
    from drtools.outputs import releases
    from drtools.search.engines.milvus import Milvus

    ids, array = changed(world)
    collections, link = [], world.folder / "live"
    for number in range(5):
        vectors = [(world.ids, world.array), (ids, array)][number % 2]
        rows = np.roll(vectors[1], number, axis=1)
        world.vectors = write_vectors(world.folder / f"vectors-{number}", vectors[0], rows)
        assert index(drtools, world, uri, name, f"index-{number}", "--index-type", "FLAT").status == 0
        collections.append(json.loads((world.folder / f"index-{number}" / "manifest.json").read_text())["collection"])
        words = ("publish", world.folder / f"index-{number}", link, "--alias", name)
        if number == 2:  # the process dies after the alias was switched
            with monkeypatch.context() as patch:
                patch.setattr(releases, "_switch", lambda *_: (_ for _ in ()).throw(OSError(5, "killed", "here")))
                assert drtools(*words).status == 1
            engine = Milvus(uri)
            assert engine.named(name) == collections[2]
            engine.close()
            assert "-00001" not in str(link.resolve()) and link.resolve().name.startswith("00002")
        done = drtools(*words)
        assert done.status == 0, done.err
    engine = Milvus(uri)
    assert engine.named(name) == collections[4] and [engine.facts(each) is not None for each in collections] == [
        False,
        False,
        True,
        True,
        True,
    ]
    engine.close()
    lines = [json.loads(line) for line in (world.folder / "live.history.jsonl").read_text().splitlines()]
    assert [line["collection"] for line in lines] == collections and {line["alias"] for line in lines} == {name}
    world.array = np.roll(world.array, 4, axis=1)
    check_hits(search(drtools, world, "live", "--depth", "10"), world.ids, world.array, world.asked)
    refused = drtools("publish", world.vectors, world.folder / "plain", "--alias", name)
    assert refused.status == 2 and "--alias" in refused.err and not (world.folder / "plain").exists()


def test_another_process_finds_the_collection_loaded(drtools, world, uri, name):
    """Milvus Lite puts collections aside when its process ends."""
    words = ["index", "--vectors", world.vectors, "--milvus", uri, "--collection", name, "--index-type", "FLAT"]
    command = [sys.executable, "-m", "drtools", *map(str, words), "-o", str(world.folder / "index")]
    subprocess.run(command, check=True, capture_output=True)
    check_hits(search(drtools, world, "index", "--depth", "10"), world.ids, world.array, world.asked)
