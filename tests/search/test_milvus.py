"""Milvus as an engine, against brute force: a real server, and Milvus Lite.

The slow suite starts the server; these tests run against both.
"""

from __future__ import annotations

import json

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
