"""The analyses on small inputs: numbers against brute force, pictures that are there, bad input in one line."""

import json
import struct
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from conftest import write_jsonl

from drtools.evaluation.analyses.labels import labels_of


def content(folder):
    return json.loads((folder / "analysis.json").read_text())


def check_picture(path):
    """A PNG of sane size that shows something."""
    from matplotlib.image import imread

    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and width == 1200 and 450 <= height <= 2500
    colours = np.unique(imread(path).reshape(-1, 4), axis=0)
    assert len(colours) > 50


@pytest.fixture
def runs(toy):
    """Two runs of 30 documents a query over the toy's 20 queries; the second lacks q19."""
    generator = np.random.default_rng(2)
    toy.lists = {}
    for name, queries in (("first", 20), ("second", 19)):
        toy.lists[name] = {f"q{n}": [f"d{m}" for m in generator.permutation(60)[:30]] for n in range(queries)}
        lines = [
            f"{query} Q0 {document} {rank} {100 - rank} t\n"
            for query, hits in toy.lists[name].items()
            for rank, document in enumerate(hits, start=1)
        ]
        (toy.folder / f"{name}.run").write_text("".join(lines))
    return toy


@pytest.mark.slow
def test_pairwise_errors(runs, drtools):
    outcome = drtools(
        "analyze",
        runs.folder / "first.run",
        runs.folder / "second.run",
        "--qrels",
        runs.qrels,
        "--depth",
        "8",
        "-o",
        runs.folder / "out",
    )
    assert outcome.status == 0, outcome.err
    found = content(runs.folder / "out")
    assert list(found) == ["depth", "errors"] and found["errors"]["queries"] == 20
    for name, lists in runs.lists.items():
        one = found["errors"]["runs"][name]
        for n in range(20):
            hits, document = lists.get(f"q{n}", []), f"d{n}"
            above = hits.index(document) if document in hits else len(hits)
            assert one["against_top"][f"q{n}"] == (min(above, 8) if document in hits else 8)
            assert one["in_all"][f"q{n}"] == above, "at least so many: nothing is guessed"
        assert one["mean_in_all"] == pytest.approx(fmean(one["in_all"].values()))
        assert one["relevant_not_listed"] == sum(f"d{n}" not in lists.get(f"q{n}", []) for n in range(20))
        assert not one["exact"] and f"at least {one['mean_in_all']:.2f}" in outcome.out
        assert name in outcome.out and f"{one['mean_against_top']:.2f}" in outcome.out
    check_histogram(found["errors"])
    assert "second lacks 1 of 20 queries" in outcome.err and "does not list" in outcome.err
    check_picture(runs.folder / "out" / "errors.png")


def check_histogram(errors):
    """Shares of queries and of errors by bin, by loops; a bin's errors are those of its queries."""
    histogram = errors["histogram"]
    assert len(histogram["queries"]) == 2
    for panel, key in zip(histogram["queries"], ("against_top", "in_all"), strict=True):
        for label, run in errors["runs"].items():
            values = run[key].values()
            inside = [[value for value in values if first <= value <= last] for first, last in histogram["bins"]]
            assert histogram["queries"][panel][label] == list(map(len, inside))
            assert histogram["share_of_queries"][panel][label] == pytest.approx([len(each) / 20 for each in inside])
            shares = [sum(each) / sum(values) for each in inside]
            assert histogram["share_of_errors"][panel][label] == pytest.approx(shares)
            assert sum(shares) == pytest.approx(1)


@pytest.mark.slow
def test_pairwise_errors_of_vectors_are_exact(runs, moved, drtools):
    """Beside a run, whose errors are at least what is said."""
    generator = np.random.default_rng(9)
    queries = generator.normal(size=(20, 16))
    vectors(runs.folder / "queries", queries, [f"q{n}" for n in range(20)], "query")
    words = ["--vectors", runs.folder / "documents", "--query-vectors", runs.folder / "queries"]
    outcome = drtools(
        "analyze",
        runs.folder / "first.run",
        *words,
        "--qrels",
        runs.qrels,
        "--depth",
        "8",
        "--threads",
        "1",
        "-o",
        runs.folder / "out",
    )
    assert outcome.status == 0, outcome.err
    found = content(runs.folder / "out")["errors"]
    assert list(found["runs"]) == ["first", "queries"]
    one = found["runs"]["queries"]
    scores = queries.astype(np.float32) @ moved.arrays[0].T
    above = {f"q{n}": int((scores[n] > scores[n, n]).sum()) for n in range(20)}
    assert one["exact"] and one["in_all"] == above and max(above.values()) > 30
    assert one["against_top"] == {query: min(count, 8) for query, count in above.items()}
    assert f"{fmean(above.values()):.2f}" in outcome.out and f"at least {fmean(above.values()):.2f}" not in outcome.out
    check_histogram(found)
    check_picture(runs.folder / "out" / "errors.png")


def test_errors_that_0_1_0_counted_are_not_taken_for_the_same(runs, drtools):
    words = [runs.folder / "first.run", "--qrels", runs.qrels, "-o", runs.folder / "out"]
    assert drtools("analyze", *words).status == 0
    path = runs.folder / "out" / "manifest.json"
    record = json.loads(path.read_text())
    del record["request"]["changes"]
    record["request"]["arguments"]["corpus_size"] = None
    path.write_text(json.dumps(record))
    outcome = drtools("analyze", *words)
    assert (
        outcome.status == 2 and "since then errors against the top count documents that are not relevant" in outcome.err
    )


@pytest.mark.slow
def test_margins_over_the_pairs_of_examples_by_vectors_and_a_run(runs, moved, drtools):
    generator = np.random.default_rng(9)
    queries = generator.normal(size=(20, 16)).astype(np.float32)
    vectors(runs.folder / "queries", queries, [f"q{n}" for n in range(20)], "query")
    words = ["--vectors", runs.folder / "documents", "--query-vectors", runs.folder / "queries"]
    margins = ["--examples", runs.examples, "--margins"]
    outcome = drtools("analyze", *margins, *words, "-o", runs.folder / "out")
    assert outcome.status == 0, outcome.err
    found = content(runs.folder / "out")
    assert list(found) == ["depth", "margins"]
    scores = queries @ moved.arrays[0].T
    steps = (1, 7, 31)
    pairs = {f"q{n}": [scores[n, n] - scores[n, (n + step) % 60] for step in steps] for n in range(20)}
    every = [scores[n, (n + step) % 60] for n in range(20) for step in (0, *steps)]
    expected = {query: np.mean(each) / (max(every) - min(every)) for query, each in pairs.items()}
    assert found["margins"]["queries"]["by_query"] == pytest.approx(expected, rel=1e-4)
    assert found["margins"]["queries"]["pairs"] == 60
    check_picture(runs.folder / "out" / "margins.png")

    both = drtools("analyze", runs.folder / "first.run", *margins, *words, "-o", runs.folder / "both")
    assert both.status == 0, both.err
    listed = runs.lists["first"]
    count = sum(
        f"d{n}" in listed[f"q{n}"] and f"d{(n + step) % 60}" in listed[f"q{n}"] for n in range(20) for step in steps
    )
    found = content(runs.folder / "both")["margins"]
    assert {one["pairs"] for one in found.values()} == {count} and 0 < count < 60, "the same pairs for both"
    assert found["first"]["by_query"].keys() == found["queries"]["by_query"].keys()
    assert "documents of the pairs have no score" in both.err and "have no relevant document" in both.err


@pytest.mark.slow
def test_likeness_and_negatives_in_one_go(runs, drtools):
    outcome = drtools(
        "analyze",
        runs.folder / "second.run",
        "--against",
        runs.folder / "first.run",
        "--examples",
        runs.examples,
        "--depth",
        "12",
        "-o",
        runs.folder / "out",
    )
    assert outcome.status == 0, outcome.err
    found = content(runs.folder / "out")
    assert list(found) == ["depth", "likeness", "negatives"]
    likeness = found["likeness"]["runs"]["second"]
    assert (
        len(likeness["by_query"]) == 20
        and likeness["by_query"]["q19"] == 0
        and likeness["mean"] == pytest.approx(fmean(likeness["by_query"].values()))
    )
    hard = found["negatives"]["second"]["by_query"]
    for n in range(19):
        top = [document for document in runs.lists["second"][f"q{n}"] if document != f"d{n}"][:12]
        assert hard[f"q{n}"] == pytest.approx(sum(f"d{(n + step) % 60}" in top for step in (1, 7, 31)) / 3)
    assert len(hard) == 19 and "they are left out" in outcome.err
    check_picture(runs.folder / "out" / "likeness.png")
    check_picture(runs.folder / "out" / "negatives.png")


def scored(toy, dark_scores=True):
    generator = np.random.default_rng(4)
    return write_jsonl(
        toy.folder / "scored.jsonl",
        [
            {
                "query_id": f"q{n}",
                "positives": [f"d{n}"],
                "negatives": ["d40", "d41"],
                "positive_scores": [generator.normal()],
                "negative_scores": [generator.normal() - 3, None],
                "dark": [
                    {"kind": "reinforced", "positive": f"d{n}", "negative": "d40"},
                    {"kind": "noisy", "positive": f"d{n}", "ratio": 0.15, "seed": 1},
                ],
                "dark_scores": [generator.normal() - 1, 0.5] if dark_scores else [1.0],
            }
            for n in range(20)
        ],
    )


def test_scores_by_kind(toy, drtools):
    path = scored(toy)
    outcome = drtools("analyze", "--examples", path, "-o", toy.folder / "out")
    assert outcome.status == 0, outcome.err
    found = content(toy.folder / "out")["scores"]
    records = [json.loads(line) for line in open(path)]
    expected = {
        "positives": [record["positive_scores"][0] for record in records],
        "negatives": [record["negative_scores"][0] for record in records],
        "reinforced negatives": [record["dark_scores"][0] for record in records],
        "noisy positives": [0.5] * 20,
        "negatives and dark": [
            score for record in records for score in (record["negative_scores"][0], *record["dark_scores"])
        ],
    }
    assert list(found["files"]["scored"]) == list(expected)
    for kind, scores in expected.items():
        one = found["files"]["scored"][kind]
        assert (one["count"], one["mean"], one["median"]) == (
            len(scores),
            pytest.approx(np.mean(scores)),
            pytest.approx(np.median(scores)),
        )
        naive = [
            sum(low <= score < high or score == high == found["edges"][-1] for score in scores)
            for low, high in pairwise(found["edges"])
        ]
        assert one["counts"] == naive
    check_picture(toy.folder / "out" / "scores.png")


@pytest.mark.slow
def test_curves_of_several_trainings(tmp_path, drtools):
    for name, fall in (("static", 0.5), ("_live", 0.1), ("$x^2$", 0.0)):
        (tmp_path / name).mkdir()
        write_jsonl(
            tmp_path / name / "training.jsonl",
            [
                {"step": step, "seconds": step / 2, "loss": 1 / step, "overlap": 1 - fall * step / 200}
                for step in range(1, 201)
            ],
        )
    logs = [word for name in ("static", "_live", "$x^2$") for word in ("--logs", tmp_path / name / "training.jsonl")]
    outcome = drtools("analyze", *logs, "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    found = content(tmp_path / "out")["curves"]
    assert list(found) == ["loss", "overlap"] and list(found["loss"]) == ["static", "_live", "$x^2$"]
    assert (
        found["overlap"]["static"]["steps"] == list(range(1, 201)) and found["overlap"]["static"]["values"][-1] == 0.5
    )
    check_picture(tmp_path / "out" / "curves.png")
    assert "already done" in drtools("analyze", *logs, "-o", tmp_path / "out").err
    drtools("analyze", *logs, "-o", tmp_path / "again")
    assert (tmp_path / "again" / "curves.png").read_bytes() == (tmp_path / "out" / "curves.png").read_bytes()


def vectors(folder, array, ids, side, fingerprint="f"):
    folder.mkdir()
    np.save(folder / "vectors.npy", array.astype(np.float32))
    (folder / "ids.txt").write_text("".join(f"{row}\n" for row in ids))
    record = {"kind": "vectors", "side": side, "document_fingerprint": fingerprint, "fingerprint": folder.name}
    record |= {"count": len(array), "dimension": array.shape[1], "dtype": "float32", "normalized": False, "model": "m"}
    record |= {"corpus": None, "title_separator": None, "max_tokens": None, "query_fingerprint": fingerprint}
    (folder / "manifest.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def moved(toy):
    """Vectors of 60 documents, and of q3 before and after it moves towards d3."""
    generator = np.random.default_rng(6)
    documents, before = generator.normal(size=(60, 16)), generator.normal(size=16)
    toy.arrays = documents.astype(np.float32), np.stack([before, before + 0.8 * documents[3]]).astype(np.float32)
    vectors(toy.folder / "documents", documents, [f"d{n}" for n in range(60)], "document")
    vectors(toy.folder / "before", np.stack([documents[0], before]), ["q1", "q3"], "query")
    vectors(toy.folder / "after", toy.arrays[1][1:], ["q3"], "query")
    toy.words = [
        "--vectors",
        toy.folder / "documents",
        "--query-vectors",
        toy.folder / "before",
        "--query-vectors",
        toy.folder / "after",
    ]
    return toy


@pytest.mark.slow
def test_a_query_moves(moved, drtools):
    outcome = drtools(
        "analyze", *moved.words, "--query", "q3", "--qrels", moved.qrels, "--depth", "9", "-o", moved.folder / "out"
    )
    assert outcome.status == 0, outcome.err
    found = content(moved.folder / "out")["move"]
    scores = moved.arrays[1] @ moved.arrays[0].T
    orders = [np.argsort(-row).tolist() for row in scores]
    assert found["relevant"] == {"d3": {"rank_before": orders[0].index(3) + 1, "rank_after": orders[1].index(3) + 1}}
    assert found["stay"] == len(set(orders[0][:9]) & set(orders[1][:9]))
    assert set(found["documents"]) == {f"d{row}" for row in orders[0][:9] + orders[1][:9] + [3]}
    for row in set(orders[0][:9]) - {3}:
        assert found["documents"][f"d{row}"]["kind"] == (
            "top before and after" if row in orders[1][:9] else "top before alone"
        )
    # the place along the move tells documents apart by what their scores gain
    gains = {document: (scores[1] - scores[0])[int(document[1:])] for document in found["documents"]}
    places = {document: one["at"][0] for document, one in found["documents"].items()}
    assert sorted(gains, key=gains.__getitem__) == sorted(places, key=places.__getitem__)
    check_picture(moved.folder / "out" / "move.png")
    check_picture(moved.folder / "out" / "t-sne.png")
    points = np.array([one["by_t_sne"] for one in found["documents"].values()])
    assert points.shape == (len(found["documents"]), 2) and np.unique(points, axis=0).shape == points.shape
    assert len(found["queries_by_t_sne"]["after"]) == 2
    assert drtools("analyze", *moved.words, "--query", "q3", "-o", moved.folder / "without-qrels").status == 0


def test_labels_tell_paths_apart():
    assert labels_of(["a/star.run", "b/bm25.run.gz"]) == {"star": "a/star.run", "bm25": "b/bm25.run.gz"}
    assert list(labels_of(["x/1/star.run", "x/2/star.run"])) == ["1/star", "2/star"]
    assert list(labels_of(["live/training.jsonl", "live/2/training.jsonl", "other/2/training.jsonl"])) == [
        f"{Path.cwd().name}/live",
        "live/2",
        "other/2",
    ]
    assert list(labels_of(["a.run", "a.txt"])) == ["a.run", "a.txt"]


BAD = {
    "nothing": (lambda t: [], "nothing to analyse"),
    "a run alone": (lambda t: [t.run], "nothing can be analysed from runs alone"),
    "a reference alone": (lambda t: ["--against", t.run], "nothing to analyse"),
    "qrels alone": (lambda t: ["--qrels", t.qrels, "--examples", t.examples], "--qrels needs runs"),
    "p of 1": (lambda t: [t.run, "--against", t.run, "--rbo", "1"], "above 0 and below 1"),
    "p without lists to compare": (
        lambda t: [t.run, "--qrels", t.qrels, "--rbo", "0.8"],
        "--rbo needs --against",
    ),
    "a grade without judgements": (
        lambda t: [t.run, "--against", t.run, "--min-rel", "2"],
        "--min-rel needs --qrels",
    ),
    "a scale without students": (
        lambda t: [t.run, "--qrels", t.qrels, "--scale", "2"],
        "--scale needs --student or --agreement",
    ),
    "a length without a student": (
        lambda t: [t.run, "--qrels", t.qrels, "--max-document-tokens", "9"],
        "--max-document-tokens needs --student",
    ),
    "a run twice": (lambda t: [t.run, t.run, "--qrels", t.qrels], "named twice"),
    "a run of other queries": (lambda t: [t.other, "--qrels", t.qrels], "other: holds none of the 20 queries"),
    "a run of other examples": (lambda t: [t.other, "--examples", t.examples], "other: holds none of the 20 queries"),
    "grades that none reaches": (lambda t: [t.run, "--qrels", t.qrels, "--min-rel", "2"], "has grade 2 or more"),
    "an empty reference": (lambda t: [t.run, "--against", t.empty], "the run has no queries"),
    "examples without scores": (lambda t: ["--examples", t.examples], "the examples have no scores"),
    "dark scores that do not fit": (
        lambda t: ["--examples", scored(t, dark_scores=False)],
        "scored.jsonl:1: dark_scores is 1 numbers, expected 2",
    ),
    "a student without a corpus": (
        lambda t: ["--examples", t.examples, "--student", "m"],
        "--student, --corpus CORPUS and --queries",
    ),
    "a corpus without a student": (
        lambda t: ["--examples", t.examples, "--corpus", t.corpus],
        "--student, --corpus CORPUS and --queries",
    ),
    "a student without examples": (
        lambda t: [t.run, "--qrels", t.qrels, "--student", "m"],
        "pass --examples SCORED exactly once",
    ),
    "agreement without runs": (lambda t: ["--examples", t.examples, "--agreement"], "name the runs"),
    "agreement with a retriever": (
        lambda t: [t.run, "--examples", scored(t), "--agreement"],
        "not from a teacher (scored_by is missing)",
    ),
    "a log that is none": (lambda t: ["--logs", t.examples], "examples.jsonl:1: step is None"),
    "a curve without logs": (lambda t: [t.run, "--qrels", t.qrels, "--curve", "loss"], "--curve needs --logs"),
    "a query that has no vector": (lambda t: [*t.words, "--query", "q9"], "does not have query 'q9'"),
    "one query's vectors": (lambda t: [*t.words[:4], "--query", "q3"], "--query-vectors twice"),
    "no query": (lambda t: t.words, "--query ID"),
    "no move": (lambda t: [*t.words[:4], *t.words[2:4], "--query", "q3"], "did not move"),
    "vectors alone": (lambda t: t.words, "--qrels QRELS for pairwise errors"),
    "query vectors alone": (lambda t: [*t.words[2:4], "--qrels", t.qrels], "are used together; pass both"),
    "too many vectors": (
        lambda t: [*t.words, "--qrels", t.qrels, *t.words[:2], *t.words[:2]],
        "3 --vectors for 2 --query-vectors",
    ),
    "margins without pairs": (lambda t: ["--margins", *t.words], "--margins needs pairs"),
    "margins without scores": (lambda t: ["--margins", "--examples", t.examples], "--margins needs scores"),
    "margins of two files": (
        lambda t: [t.run, "--margins", "--examples", t.examples, "--examples", t.qrels],
        "pass --examples PAIRS once",
    ),
    "queries as documents": (
        lambda t: ["--vectors", t.folder / "before", *t.words[2:], "--query", "q3"],
        "expected vectors of documents",
    ),
    "documents as queries": (
        lambda t: [*t.words[:4], "--query-vectors", t.folder / "documents", "--query", "q3"],
        "expected vectors of queries",
    ),
    "another encoder": (
        lambda t: [
            *t.words[:4],
            "--query-vectors",
            vectors(t.folder / "x", np.ones((1, 16)), ["q3"], "query", "g"),
            "--query",
            "q3",
        ],
        "another encoder",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line(runs, moved, drtools, name):
    runs.run, runs.other, runs.empty = runs.folder / "first.run", runs.folder / "other.run", runs.folder / "empty.run"
    runs.other.write_text("z Q0 d1 1 1 t\n")
    runs.empty.write_text("")
    words, expected = BAD[name]
    outcome = drtools("analyze", *words(runs), "-o", runs.folder / "out")
    assert outcome.status == 2 and outcome.out == ""
    errors = [line for line in outcome.err.splitlines() if not line.startswith("note:")]
    assert len(errors) == 1 and expected in errors[0], outcome.err
    assert not (runs.folder / "out").exists() and not (runs.folder / "out.partial").exists()
