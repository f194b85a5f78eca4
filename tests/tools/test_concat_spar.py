"""Joined vectors by the command line: their scores are s1 + mu * s2, their mu is what brute force finds."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_bert, without_files

from drtools.formats.trec import read_qrels, read_run
from drtools.formats.vectors import IDS, open_vectors
from drtools.methods.spar.mu import EXTENSIONS, GRID, JointCandidates, depth_weighted_accuracy, tune


def encoder_of(folder: Path, seed: int, hidden: int) -> str:
    """Save an encoder that does not normalize: the CLS states of a toy BERT."""
    from torch import nn

    from drtools.models.encoder import Encoder
    from drtools.models.encoder_files import load_body, save_encoder
    from drtools.models.settings import EncoderSettings

    body, tokenizer = load_body(Path(make_bert(folder / "body", seed, hidden)))
    save_encoder(
        Encoder(
            body,
            tokenizer,
            EncoderSettings(pooling=("cls",), max_query_tokens=64, max_document_tokens=64),
            nn.Sequential(),
        ),
        folder / "encoder",
    )
    return str(folder / "encoder")


@pytest.fixture(scope="session")
def second(tmp_path_factory) -> dict[int, str]:
    return {hidden: encoder_of(tmp_path_factory.mktemp(f"second-{hidden}"), 5, hidden) for hidden in (16, 32)}


@pytest.fixture
def made(toy, encoder_folder, second, drtools):
    """Vectors of both sides by the base (32 dimensions) and by two others, in float32."""
    for name, model in {"base": encoder_folder, "16": second[16], "32": second[32]}.items():
        for side, path in (("documents", toy.corpus), ("queries", toy.queries)):
            done = drtools(
                "encode",
                "--model",
                model,
                f"--{side}",
                path,
                "--precision",
                "fp32",
                "--dtype",
                "float32",
                "-o",
                toy.folder / f"{name}-{side}",
            )
            assert done.status == 0, done.err
    toy.of = lambda name, side: np.asarray(open_vectors(toy.folder / f"{name}-{side}").array)
    toy.spar = lambda *words: drtools("concat-spar", *words)
    toy.search = lambda out, *words: searched(drtools, toy, out, words)
    return toy


def searched(drtools, toy, out, words) -> dict[str, dict[str, float]]:
    done = drtools("search", *words, "--precision", "fp32", "--depth", 60, "-o", toy.folder / out)
    assert done.status == 0, done.err
    return read_run(toy.folder / out)


def expected(made, other: str, mu, how: str = "concat") -> np.ndarray:  # -> [20, 60]
    """Both scores by numpy, from the parts' vectors."""
    first, second = [made.of(name, "queries").astype(np.float64) for name in ("base", other)]
    one, two = [made.of(name, "documents").astype(np.float64) for name in ("base", other)]
    weighed = np.reshape(mu, (-1, 1)) * second
    return (first + weighed) @ (one + two).T if how == "sum" else first @ one.T + weighed @ two.T


def same(run: dict[str, dict[str, float]], table: np.ndarray) -> None:
    assert len(run) == 20
    for query_id, hits in run.items():
        assert len(hits) == 60
        for document, score in hits.items():
            assert score == pytest.approx(table[int(query_id[1:]), int(document[1:])], abs=2e-4)


@pytest.mark.parametrize(("how", "other"), [("concat", "16"), ("sum", "32")])
def test_scores_are_those_of_both_by_every_way_to_search(made, drtools, how, other):
    folder = made.folder
    pair = [folder / "base-documents", folder / f"{other}-documents", "--how", how]
    for out, words in {"joined": [], "named": ["--no-copy"]}.items():
        assert made.spar(*pair, "--mu", 0.3, *words, "-o", folder / out).status == 0
    assert (
        made.spar(
            folder / "base-queries",
            folder / f"{other}-queries",
            "--how",
            how,
            "--mu",
            0.3,
            "-o",
            folder / "joined-queries",
        ).status
        == 0
    )
    assert drtools("index", "--vectors", folder / "named", "-o", folder / "flat").status == 0
    assert not (folder / "named" / "vectors.npy").exists()
    queries = ["--queries", made.queries]
    table = expected(made, other, 0.3, how)
    same(made.search("a.run", "--vectors", folder / "joined", *queries), table)
    same(made.search("b.run", "--vectors", folder / "named", *queries), table)
    same(made.search("c.run", "--index", folder / "flat", *queries), table)
    same(made.search("d.run", "--index", folder / "flat", "--query-vectors", folder / "joined-queries"), table)
    same(made.search("e.run", "--vectors", folder / "named", "--rerank", folder / "a.run", *queries), table)
    same(made.search("f.run", "--index", folder / "flat", "--mu", 2.5, *queries), expected(made, other, 2.5, how))
    weights = np.linspace(0.1, 2, 20)
    (folder / "mu.tsv").write_text("".join(f"q{n}\t{weight}\n" for n, weight in enumerate(weights)))
    same(
        made.search("g.run", "--index", folder / "flat", "--mu-by-query", folder / "mu.tsv", *queries),
        expected(made, other, weights, how),
    )


@pytest.mark.slow
def test_a_joined_folder_is_a_vectors_folder_and_may_be_joined_again(made, drtools):
    folder = made.folder
    assert (
        made.spar(folder / "base-documents", folder / "16-documents", "--mu", 0.3, "-o", folder / "joined").status == 0
    )
    opened = open_vectors(folder / "joined")
    np.testing.assert_array_equal(
        opened.array, np.concatenate([made.of("base", "documents"), made.of("16", "documents")], 1)
    )
    assert made.spar(folder / "joined", folder / "32-documents", "--mu", 0.5, "-o", folder / "three").status == 0
    third = 0.5 * made.of("32", "queries").astype(np.float64) @ made.of("32", "documents").T.astype(np.float64)
    same(
        made.search("a.run", "--vectors", folder / "three", "--queries", made.queries),
        expected(made, "16", 0.3) + third,
    )
    done = drtools("search", "--vectors", folder / "three", "--precision", "fp32", "fox hound")
    assert done.status == 0 and "  1  " in done.out


@pytest.mark.slow
def test_others_take_the_named_folders_or_say_why_not(made, drtools, encoder_folder):
    folder = made.folder
    assert (
        made.spar(
            folder / "base-documents", folder / "16-documents", "--mu", 0.3, "--no-copy", "-o", folder / "named"
        ).status
        == 0
    )
    for mu in (0.3, 3):
        assert (
            made.spar(folder / "base-queries", folder / "16-queries", "--mu", mu, "-o", folder / f"queries-{mu}").status
            == 0
        )
    moved = drtools(
        "analyze",
        "--vectors",
        folder / "named",
        "--query-vectors",
        folder / "queries-0.3",
        "--query-vectors",
        folder / "queries-3",
        "--query",
        "q3",
        "--qrels",
        made.qrels,
        "-o",
        folder / "move",
    )
    assert moved.status == 0, moved.err
    refused = drtools(
        "train-adore",
        "--model",
        encoder_folder,
        "--queries",
        made.queries,
        "--qrels",
        made.qrels,
        "--vectors",
        folder / "named",
        "-o",
        folder / "adore",
    )
    assert refused.status == 2 and "joined from the vectors of two encoders" in refused.err
    mined = drtools(
        "mine-negatives",
        "--queries",
        made.queries,
        "--qrels",
        made.qrels,
        "--vectors",
        folder / "named",
        "--precision",
        "fp32",
        "-o",
        folder / "mined.jsonl",
    )
    assert mined.status == 0, mined.err
    assert (
        drtools("index", "--vectors", folder / "named", "--factory", "HNSW8", "--check", "-o", folder / "hnsw").status
        == 0
    )


def test_rows_are_matched_by_id(made):
    folder = made.folder
    mixed = folder / "mixed"
    shutil.copytree(folder / "16-documents", mixed)
    without_files(mixed)
    order = np.random.default_rng(1).permutation(60)
    np.save(mixed / "vectors.npy", made.of("16", "documents")[order])
    names = (folder / "16-documents" / IDS).read_text().split()
    (mixed / IDS).write_text("".join(f"{names[row]}\n" for row in order))
    for words in ([], ["--no-copy"]):
        out = folder / f"joined{len(words)}"
        done = made.spar(
            folder / "base-documents",
            mixed,
            "--dev-queries",
            made.queries,
            "--dev-qrels",
            made.qrels,
            "--precision",
            "fp32",
            *words,
            "-o",
            out,
        )
        assert done.status == 0, done.err
        np.testing.assert_array_equal(
            open_vectors(out).array[np.arange(60)],
            np.concatenate([made.of("base", "documents"), made.of("16", "documents")], 1),
        )
    straight = made.spar(
        folder / "base-documents",
        folder / "16-documents",
        "--dev-queries",
        made.queries,
        "--dev-qrels",
        made.qrels,
        "--precision",
        "fp32",
        "-o",
        folder / "straight",
    )
    assert straight.status == 0
    assert manifest_of(folder / "straight")["tried"] == manifest_of(out)["tried"]


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def reciprocal_rank(table: np.ndarray, relevant: dict[int, int]) -> float:
    """RR@10 by counting who stands above, ties by the greater id as trec_eval has them."""
    values = []
    for query, document in relevant.items():
        single = table[query].astype(np.float32)
        above = sum(
            single[other] > single[document] or (single[other] == single[document] and f"d{other}" > f"d{document}")
            for other in range(60)
        )
        values.append(1 / (above + 1) if above < 10 else 0)
    return sum(values) / len(values)


@pytest.mark.parametrize("how", ["concat", "sum"])
def test_mu_is_what_brute_force_finds(made, how):
    """Vectors are random, as the toy encoders' differ by so little that rounding would decide ranks."""
    random = np.random.default_rng(3)
    relevant = {int(query[1:]): int(next(iter(grades))[1:]) for query, grades in read_qrels(made.qrels).items()}
    for name in ("base", "32"):
        documents = random.normal(size=(60, 32)).astype(np.float32)
        without_files(made.folder / f"{name}-documents", made.folder / f"{name}-queries")
        np.save(made.folder / f"{name}-documents" / "vectors.npy", documents)
        np.save(
            made.folder / f"{name}-queries" / "vectors.npy",
            (0.3 * documents[[relevant[query] for query in range(20)]] + random.normal(size=(20, 32))).astype(
                np.float32
            ),
        )
    done = made.spar(
        made.folder / "base-documents",
        made.folder / "32-documents",
        "--how",
        how,
        "--dev-qrels",
        made.qrels,
        "--dev-query-vectors",
        made.folder / "base-queries",
        "--dev-query-vectors",
        made.folder / "32-queries",
        "-o",
        made.folder / "joined",
    )
    assert done.status == 0, done.err
    record = manifest_of(made.folder / "joined")
    values = {one["mu"]: one["value"] for one in record["tried"]}
    assert set(GRID) <= set(values) and len(set(values.values())) > 5
    for mu, value in values.items():
        assert value == pytest.approx(reciprocal_rank(expected(made, "32", mu, how), relevant), abs=1e-6)
    best = max(values.values())
    assert values[record["joined"]["mu"]] == best
    alone = [
        reciprocal_rank(made.of(name, "queries") @ made.of(name, "documents").T, relevant) for name in ("base", "32")
    ]
    name = f"{made.folder}/{('base', '32')[int(alone[1] > alone[0])]}-documents"
    said = f"RR@10 on 20 dev queries: {best:.4f} the joined space, {max(alone):.4f} {name}, the best input (p "
    assert said in done.err, done.err


def test_dev_queries_are_encoded_by_both(made):
    made_of = {
        "queries": ["--dev-queries", made.queries],
        "vectors": [
            "--dev-query-vectors",
            made.folder / "base-queries",
            "--dev-query-vectors",
            made.folder / "32-queries",
        ],
    }
    for out, words in made_of.items():
        done = made.spar(
            made.folder / "base-documents",
            made.folder / "32-documents",
            "--dev-qrels",
            made.qrels,
            *words,
            "--precision",
            "fp32",
            "-o",
            made.folder / out,
        )
        assert done.status == 0, done.err
    assert manifest_of(made.folder / "queries")["tried"] == manifest_of(made.folder / "vectors")["tried"]


class Names(dict):
    def __missing__(self, row):
        return f"d{row}"


def of_scores(*pairs: tuple[list[float], list[float]]) -> list[JointCandidates]:
    return [
        JointCandidates(f"q{n}", np.arange(len(first)), np.array(first), np.array(second))
        for n, (first, second) in enumerate(pairs)
    ]


def test_the_grid_goes_on_where_the_best_stands_at_its_end():
    qrels = {f"q{n}": {"d0": 1} for n in range(3)}
    # d0 leads for q0 above 200, for q1 below 400, for q2 above 9.5: 10 is the best of the first grid
    found = of_scores(([0.0, 200.0], [1.0, 0.0]), ([400.0, 0.0], [0.0, 1.0]), ([0.0, 9.5], [1.0, 0.0]))
    mu, tried = tune(found, Names(), qrels, "RR@10")
    assert 200 < mu < 400
    assert [one["mu"] for one in tried] == pytest.approx([*GRID, *(100 * value for value in GRID[1:])], rel=1e-4)
    found = of_scores(([0.0, 0.002], [1.0, 0.0]), ([0.004, 0.0], [0.0, 1.0]), ([0.15, 0.0], [0.0, 1.0]))
    mu, tried = tune(found, Names(), qrels, "RR@10")
    assert 0.002 < mu < 0.004 and tried[0]["mu"] == pytest.approx(0.001)
    useless = of_scores(([1.0, 0.0], [0.0, 1.0]), ([1.0, 0.0], [0.0, 1.0]))
    mu, tried = tune(useless, Names(), qrels, "RR@10")
    assert len(tried) == 19 and mu == 0.9, "0.1 to 0.9 are equal, the nearest to 1 is taken"
    endless = [([0.0, 9.5 * 100.0**power], [1.0, 0.0]) for power in range(6)]
    assert (
        len(tune(of_scores(*endless), Names(), {f"q{n}": {"d0": 1} for n in range(6)}, "RR@10")[1])
        == 19 + 18 * EXTENSIONS
    )


def test_ties_go_to_the_depth_weighted_accuracy():
    assert depth_weighted_accuracy([1, 3], depths=(1, 2, 4)) == (0.5 * 1 + 0.5 * 2 + 1 * 4) / 3
    ranks = [1, 7, float("inf"), 40, 100, 101]
    accuracies = {1: 1 / 6, 5: 1 / 6, 10: 2 / 6, 20: 2 / 6, 50: 3 / 6, 100: 4 / 6}
    assert depth_weighted_accuracy(ranks) == pytest.approx(sum(k * value for k, value in accuracies.items()) / 6)
    assert depth_weighted_accuracy([2, 6, 11]) == depth_weighted_accuracy([5, 10, 20]), "the program's six k alone"
    found = of_scores(([0.0, 9.0, 1.0], [1.0, 0.0, 0.0]))
    mu, _ = tune(found, Names(), {"q0": {"d0": 1}}, "Success@1")
    assert mu > 9, "10 x 1 > 9 puts it first"
    found = of_scores(([0.0, 9e9, *[1.0] * 5], [1.0, *[0.0] * 6]))
    mu, _ = tune(found, Names(), {"q0": {"d0": 1}}, "Success@1")
    assert mu == pytest.approx(10 / 9), "above 1 it is second and not seventh; of those the nearest to 1"
    found = of_scores(([0.0, 9e9, 1.0], [1.0, 0.0, 0.0]))
    mu, _ = tune(found, Names(), {"q0": {"d0": 1}}, "Success@1")
    assert mu == 1, "second or third is the same to the program's six k"


@pytest.mark.slow
def test_a_mu_that_was_tuned_with_other_ties_is_not_taken_for_this_one(made):
    words = [made.folder / "base-documents", made.folder / "16-documents", "-o", made.folder / "joined"]
    tuned = [*words, "--dev-qrels", made.qrels, "--dev-queries", made.queries]
    assert made.spar(*tuned).status == made.spar(*tuned).status == 0
    record = manifest_of(made.folder / "joined")
    del record["request"]["changes"], record["request"]["arguments"]["answer_match"]  # as 0.1.0 wrote it
    (made.folder / "joined" / "manifest.json").write_text(json.dumps(record))
    done = made.spar(*tuned)
    assert done.status == 2 and "since then equals in the tuning of mu are told apart" in done.err, done.err
    assert made.spar(*tuned, "--renew").status == 0


@pytest.mark.slow
def test_mu_is_tuned_on_answers(made):
    texts = {document["_id"]: document["text"] for document in made.documents}
    (made.folder / "answers.jsonl").write_text(
        "".join(
            json.dumps({"_id": f"q{n}", "answers": [" ".join(texts[f"d{n}"].split()[:3]).upper()]}) + "\n"
            for n in range(20)
        )
    )
    done = made.spar(
        made.folder / "base-documents",
        made.folder / "16-documents",
        "--dev-queries",
        made.queries,
        "--dev-answers",
        made.folder / "answers.jsonl",
        "--corpus",
        made.corpus,
        "--measure",
        "RR@10",
        "--precision",
        "fp32",
        "-o",
        made.folder / "joined",
    )
    assert done.status == 0, done.err
    same_as = made.spar(
        made.folder / "base-documents",
        made.folder / "16-documents",
        "--dev-queries",
        made.queries,
        "--dev-qrels",
        made.qrels,
        "--precision",
        "fp32",
        "-o",
        made.folder / "other",
    )
    assert same_as.status == 0
    assert manifest_of(made.folder / "joined")["tried"] == manifest_of(made.folder / "other")["tried"], (
        "each answer stands in the relevant document alone"
    )


@pytest.mark.slow
def test_mu_is_tuned_on_patterns_as_eval_matches_them(made):
    texts = {document["_id"]: document["text"] for document in made.documents}
    patterns = {f"q{n}": " ".join(texts[f"d{n}"].split()[:3]) for n in range(20)}
    (made.folder / "answers.jsonl").write_text(
        "".join(
            json.dumps({"_id": query, "answers": [words.replace(words[1], "[a-z]", 1)]}) + "\n"
            for query, words in patterns.items()
        )
    )
    words = [made.folder / "base-documents", made.folder / "16-documents", "--dev-queries", made.queries]
    words += ["--measure", "RR@10", "--precision", "fp32"]
    answered = ["--dev-answers", made.folder / "answers.jsonl", "--corpus", made.corpus]
    tried = {}
    for out, more in {
        "regex": [*answered, "--answer-match", "regex"],
        "string": answered,
        "qrels": ["--dev-qrels", made.qrels],
    }.items():
        done = made.spar(*words, *more, "-o", made.folder / out)
        assert done.status == 0, done.err
        tried[out] = manifest_of(made.folder / out)["tried"]
    assert tried["regex"] == tried["qrels"] and max(one["value"] for one in tried["regex"]) > 0
    assert {one["value"] for one in tried["string"]} == {0.0}
    done = made.spar(*words, "--dev-qrels", made.qrels, "--answer-match", "regex", "-o", made.folder / "bad")
    assert done.status == 2 and "--answer-match needs --dev-answers" in done.err


def test_a_stopped_join_continues(made, monkeypatch, interrupt_at):
    from drtools.formats import joined_vectors
    from drtools.methods.spar import joining

    words = [made.folder / "base-documents", made.folder / "16-documents", "--mu", 1]
    assert made.spar(*words, "-o", made.folder / "whole").status == 0
    monkeypatch.setattr(joining, "ROWS_A_BLOCK", 7)
    calls = interrupt_at(joined_vectors, "join", 4)
    assert made.spar(*words, "-o", made.folder / "parts").status == 130
    done = made.spar(*words, "-o", made.folder / "parts")
    assert done.status == 0 and "continuing" in done.err and len(calls) == 4 + 6
    assert (made.folder / "parts/vectors.npy").read_bytes() == (made.folder / "whole/vectors.npy").read_bytes()


def test_what_does_not_fit_is_refused(made, drtools, encoder_folder, second):
    folder, spar = made.folder, made.spar
    documents, other = folder / "base-documents", folder / "16-documents"
    refusals = {
        "pass one of --mu X": [documents, other],
        "tuning mu needs --dev-queries": [documents, other, "--dev-qrels", made.qrels],
        "join two folders of the same side": [documents, folder / "16-queries", "--mu", 1],
        "cannot be added": [documents, other, "--mu", 1, "--how", "sum"],
        "needs the --mu that was tuned": [folder / "base-queries", folder / "16-queries", "--mu", 1, "--no-copy"],
        "use --corpus": [documents, other, "--dev-answers", made.qrels, "--dev-queries", made.queries],
    }
    for words, arguments in refusals.items():
        done = spar(*arguments, "-o", folder / "bad")
        assert done.status == 2 and words in done.err, (words, done.err)
    without_files(other)
    (other / IDS).write_text((other / IDS).read_text().replace("d7\n", "x7\n"))
    assert "has no vector of 'd7'" in spar(documents, other, "--mu", 1, "-o", folder / "bad").err
    (other / IDS).write_text((other / IDS).read_text().replace("x7\n", "d7\n"))
    assert spar(documents, other, "--mu", 1, "--no-copy", "-o", folder / "named").status == 0
    search = [
        "search",
        "--vectors",
        folder / "named",
        "--precision",
        "fp32",
        "--queries",
        made.queries,
        "-o",
        folder / "x.run",
    ]
    assert "have 16 dimensions, those of" in drtools(*search, "--second-model", second[32]).err
    assert drtools(*search, "--model", second[16]).status == 2
    assert drtools(*search, "--model", encoder_folder, "--second-model", second[16]).status == 0
    (folder / "mu.tsv").write_text("q0\t1\nq1 2\n")
    assert "mu.tsv:2" in drtools(*search, "--mu-by-query", folder / "mu.tsv", "--overwrite").err
    (folder / "mu.tsv").write_text("q0\t1\n")
    assert "no mu was found for query 'q1'" in drtools(*search, "--mu-by-query", folder / "mu.tsv", "--overwrite").err
    assert (
        "not joined"
        in drtools("search", "--vectors", documents, "--mu", 2, "--queries", made.queries, "-o", folder / "y.run").err
    )
    record = manifest_of(other)
    (other / "manifest.json").write_text(json.dumps({**record, "fingerprint": "0" * 32}))
    assert "has changed since" in drtools(*search, "--overwrite").err


def test_flags_of_an_encoder_are_the_first_ones(made, drtools):
    """A query prompt of unknown letters changes the first part's vectors and leaves the second's."""
    folder = made.folder
    assert (
        drtools(
            "encode",
            "--model",
            manifest_of(folder / "base-queries")["model"],
            "--queries",
            made.queries,
            "--query-prompt",
            "fox hound: ",
            "--precision",
            "fp32",
            "--dtype",
            "float32",
            "-o",
            folder / "prompted-queries",
        ).status
        == 0
    )
    assert (
        made.spar(folder / "base-documents", folder / "16-documents", "--mu", 0.3, "-o", folder / "joined").status == 0
    )
    run = made.search(
        "a.run", "--vectors", folder / "joined", "--queries", made.queries, "--query-prompt", "fox hound: "
    )
    one, two = made.of("prompted", "queries").astype(np.float64), made.of("16", "queries").astype(np.float64)
    assert np.abs(one - made.of("base", "queries")).max() > 1e-3
    same(run, one @ made.of("base", "documents").T + 0.3 * two @ made.of("16", "documents").T)
    tried = {}
    for out, words in {
        "told": ["--dev-queries", made.queries, "--query-prompt", "fox hound: "],
        "vectors": ["--dev-query-vectors", folder / "prompted-queries", "--dev-query-vectors", folder / "16-queries"],
    }.items():
        done = made.spar(
            folder / "base-documents",
            folder / "16-documents",
            "--dev-qrels",
            made.qrels,
            *words,
            "--precision",
            "fp32",
            "-o",
            folder / out,
        )
        assert done.status == 0, done.err
        tried[out] = manifest_of(folder / out)["tried"]
    assert tried["told"] == tried["vectors"]


def test_a_named_folder_is_found_through_a_link(made, tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    assert (
        made.spar(
            made.folder / "base-documents",
            made.folder / "16-documents",
            "--mu",
            0.3,
            "--no-copy",
            "-o",
            tmp_path / "deep/named",
        ).status
        == 0
    )
    (tmp_path / "deep/er/link").symlink_to(tmp_path / "deep/named")
    assert open_vectors(tmp_path / "deep/er/link").array.shape == (60, 48)
    (tmp_path / "shortcut").symlink_to(tmp_path / "deep/er")
    assert (
        made.spar(
            made.folder / "base-documents",
            made.folder / "16-documents",
            "--mu",
            0.3,
            "--no-copy",
            "-o",
            tmp_path / "shortcut/named",
        ).status
        == 0
    )
    assert open_vectors(tmp_path / "shortcut/named").array.shape == (60, 48)


def test_mu_is_said_once_and_is_a_number_that_weighs(made, drtools):
    folder = made.folder
    pair = [folder / "base-documents", folder / "16-documents"]
    assert made.spar(*pair, "--mu", 0.3, "-o", folder / "joined").status == 0
    (folder / "mu.tsv").write_text("".join(f"q{n}\t1\n" for n in range(20)))
    search = ["search", "--vectors", folder / "joined", "--queries", made.queries, "-o", folder / "x.run"]
    for bad in ("nan", "inf", "-1"):
        for words in (["concat-spar", *pair, "-o", folder / "bad"], search):
            done = drtools(*words, f"--mu={bad}")
            assert done.status == 2 and f"--mu {bad}: expected a finite number" in done.err, done.err
    done = drtools(*search, "--mu", 1, "--mu-by-query", folder / "mu.tsv")
    assert done.status == 2 and "--mu and --mu-by-query" in done.err
    for flag, value in {
        "--dev-queries": made.queries,
        "--tune-on": "RR@10",
        "--corpus": made.corpus,
        "--dev-query-vectors": folder / "base-queries",
    }.items():
        done = made.spar(*pair, "--mu", 1, flag, value, "-o", folder / "bad")
        assert done.status == 2 and f"{flag}: this is for tuning mu" in done.err, done.err
    done = made.spar(*pair, "--mu", 1, "--query-prompt", "x", "-o", folder / "bad")
    assert done.status == 2 and "for encoding --dev-queries" in done.err
    done = made.spar(
        *pair,
        "--dev-answers",
        made.qrels,
        "--corpus",
        made.corpus,
        "--dev-queries",
        made.queries,
        "--measure",
        "R@100",
        "-o",
        folder / "bad",
    )
    assert done.status == 2 and "measure R@100 needs all relevant documents" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("source", ["vectors", "texts"])
def test_a_stopped_search_counts_each_cut_query_once(made, drtools, encoder_folder, monkeypatch, interrupt_at, source):
    from drtools.formats import trec
    from drtools.search import reranking, runs, sources

    assert (
        reranking.QUERIES_A_BLOCK <= runs.QUERIES_A_SAVE
        and runs.QUERIES_A_SAVE % reranking.QUERIES_A_BLOCK == 0
        and runs.QUERIES_A_SAVE % sources.QUERIES_A_BLOCK == 0
    )
    for module, name, size in (
        (sources, "QUERIES_A_BLOCK", 8),
        (reranking, "QUERIES_A_BLOCK", 4),
        (runs, "QUERIES_A_SAVE", 8),
    ):
        monkeypatch.setattr(module, name, size)
    (made.folder / "a.run").write_text("".join(f"q{n} Q0 d{n} 1 1.0 a\n" for n in range(20)))
    words = ["search", "--queries", made.queries, "--precision", "fp32", "--max-query-tokens", 3]
    words += (
        ["--vectors", made.folder / "base-documents"]
        if source == "vectors"
        else ["--model", encoder_folder, "--rerank", made.folder / "a.run", "--corpus", made.corpus]
    )
    assert drtools(*words, "-o", made.folder / "whole.run").status == 0
    calls = interrupt_at(trec, "write_run", 12)
    assert drtools(*words, "-o", made.folder / "parts.run").status == 130
    assert drtools(*words, "-o", made.folder / "parts.run").status == 0 and len(calls) == 12 + 12
    whole, parts = (
        json.loads((made.folder / f"{name}.run.manifest.json").read_text())["counts"] for name in ("whole", "parts")
    )
    assert whole == parts and whole["truncated"] == 20
