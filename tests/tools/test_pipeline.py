"""The tools one after another on the toy collection, each result against brute force."""

import json

import numpy as np
import pytest
import torch

from drtools.formats.examples import read_examples
from drtools.formats.trec import read_qrels, read_run
from drtools.formats.vectors import open_vectors


@pytest.fixture
def made(toy, encoder_folder, drtools):
    """Vectors of documents and queries in float32."""
    toy.model = encoder_folder
    for side, path in (("documents", toy.corpus), ("queries", toy.queries)):
        outcome = drtools(
            "encode",
            "--model",
            encoder_folder,
            f"--{side}",
            path,
            "--precision",
            "fp32",
            "--dtype",
            "float32",
            "-o",
            toy.folder / side,
        )
        assert outcome.status == 0, outcome.err
    toy.vectors, toy.query_vectors = open_vectors(toy.folder / "documents"), open_vectors(toy.folder / "queries")
    return toy


def brute_force(toy) -> dict[str, dict[str, float]]:
    scores = np.asarray(toy.query_vectors.array) @ np.asarray(toy.vectors.array).T
    names = [toy.vectors.ids[row] for row in range(60)]
    return {
        toy.query_vectors.ids[at]: dict(sorted(zip(names, row.tolist(), strict=True), key=lambda pair: -pair[1]))
        for at, row in enumerate(scores)
    }


def same(run, expected, depth):
    assert run.keys() == expected.keys()
    for query, hits in run.items():
        assert list(hits.values()) == pytest.approx(list(expected[query].values())[:depth], abs=1e-5)
        assert all(score == pytest.approx(expected[query][document], abs=1e-5) for document, score in hits.items())


def test_search_finds_what_brute_force_finds(made, drtools):
    assert drtools("index", "--vectors", made.folder / "documents", "-o", made.folder / "flat").status == 0
    assert (
        drtools(
            "index",
            "--vectors",
            made.folder / "documents",
            "--factory",
            "HNSW16",
            "--check",
            "-o",
            made.folder / "hnsw",
        ).status
        == 0
    )
    queries = ["--queries", made.queries, "--precision", "fp32", "--depth", "10"]
    ways = {
        "exact": ["--vectors", made.folder / "documents", *queries],
        "by vectors": [
            "--vectors",
            made.folder / "documents",
            "--query-vectors",
            made.folder / "queries",
            "--depth",
            "10",
        ],
        "flat": ["--index", made.folder / "flat", *queries],
        "hnsw": ["--index", made.folder / "hnsw", "--ef-search", "60", *queries],
    }
    for name, words in ways.items():
        outcome = drtools("search", *words, "-o", made.folder / f"{name}.run")
        assert outcome.status == 0, outcome.err
        same(read_run(made.folder / f"{name}.run"), brute_force(made), 10)


def test_reranking_by_vectors_and_by_texts_gives_the_encoders_scores(made, drtools):
    first = made.folder / "first.run"
    first.write_text("".join(f"q{n} Q0 d{m} {m + 1} {60 - m} t\n" for n in range(20) for m in range(5, 15)))
    expected = {
        query: {document: score for document, score in hits.items() if 5 <= int(document[1:]) < 15}
        for query, hits in brute_force(made).items()
    }
    for name, words in {"v": ["--vectors", made.folder / "documents"], "t": ["--corpus", made.corpus]}.items():
        outcome = drtools(
            "search",
            "--rerank",
            first,
            *words,
            "--model",
            made.model,
            "--precision",
            "fp32",
            "--queries",
            made.queries,
            "-o",
            made.folder / name,
        )
        assert outcome.status == 0, outcome.err
        same(read_run(made.folder / name), expected, 10)


def naive_negatives(hits, positives, count):
    return [document for document in list(hits)[:30] if document not in positives][:count]


@pytest.mark.parametrize("source", ["vectors", "index", "run"])
def test_mining_equals_a_naive_loop(made, drtools, source):
    drtools("index", "--vectors", made.folder / "documents", "-o", made.folder / "index")
    drtools(
        "search",
        "--vectors",
        made.folder / "documents",
        "--queries",
        made.queries,
        "--precision",
        "fp32",
        "-o",
        made.folder / "run",
    )
    paths = {"vectors": made.folder / "documents", "index": made.folder / "index", "run": made.folder / "run"}
    with open(made.qrels, "a") as qrels:
        qrels.write("q3\td9\t2\nq3\td10\t0\n")
    outcome = drtools(
        "mine-negatives",
        f"--{source}",
        paths[source],
        "--queries",
        made.queries,
        "--qrels",
        made.qrels,
        "--ranks",
        "1-30",
        "--negatives",
        "7",
        "--precision",
        "fp32",
        "-o",
        made.folder / "mined.jsonl",
    )
    assert outcome.status == 0, outcome.err
    scores, qrels = brute_force(made), read_qrels(made.qrels)
    examples = list(read_examples(made.folder / "mined.jsonl"))
    assert [example.query_id for example in examples] == list(qrels)
    for example in examples:
        assert set(example.positives) == {document for document, grade in qrels[example.query_id].items() if grade >= 1}
        assert example.negatives == naive_negatives(scores[example.query_id], example.positives, 7)
        assert example.negative_scores == pytest.approx(
            [scores[example.query_id][document] for document in example.negatives], abs=1e-5
        )
        assert example.positive_scores == pytest.approx(
            [scores[example.query_id][document] for document in example.positives], abs=1e-5
        )


def test_margins_compare_with_positives_beyond_the_ranks(made, drtools):
    drtools("index", "--corpus", made.corpus, "-o", made.folder / "bm25")
    scores = brute_force(made)
    outcome = drtools(
        "mine-negatives",
        "--vectors",
        made.folder / "documents",
        "--queries",
        made.queries,
        "--qrels",
        made.qrels,
        "--ranks",
        "1-30",
        "--relative-margin",
        "0.05",
        "--precision",
        "fp32",
        "-o",
        made.folder / "mined.jsonl",
    )
    assert " by --relative-margin" in outcome.err
    for example in read_examples(made.folder / "mined.jsonl"):
        lowest = min(scores[example.query_id][document] for document in example.positives)
        expected = [
            document
            for document in list(scores[example.query_id])[:30]
            if document not in example.positives and scores[example.query_id][document] <= lowest - abs(lowest) * 0.05
        ]
        assert example.negatives == expected[:30]
    # BM25 knows the score of a positive at whatever rank it stands
    assert (
        drtools(
            "mine-negatives",
            "--index",
            made.folder / "bm25",
            "--queries",
            made.queries,
            "--qrels",
            made.qrels,
            "--ranks",
            "1-2",
            "-o",
            made.folder / "b",
        ).status
        == 0
    )
    by_rank = list(read_examples(made.folder / "b"))
    assert len(by_rank) == 20 and all(example.positive_scores for example in by_rank)
    assert all(None not in example.positive_scores for example in by_rank)


def test_random_negatives_are_seeded_and_never_positive(made, drtools):
    words = [
        "mine-negatives",
        "--random",
        "--corpus",
        made.corpus,
        "--queries",
        made.queries,
        "--qrels",
        made.qrels,
        "--negatives",
        "9",
    ]
    outputs = [drtools(*words, "--seed", seed).out for seed in (1, 1, 2)]
    assert outputs[0] == outputs[1] != outputs[2] and outputs[0].count("\n") == 20
    for line in outputs[0].splitlines():
        example = json.loads(line)
        assert len(set(example["negatives"])) == 9 and not set(example["negatives"]) & set(example["positives"])


def test_labels_by_rank_alone(made, drtools):
    drtools(
        "search",
        "--vectors",
        made.folder / "documents",
        "--queries",
        made.queries,
        "--precision",
        "fp32",
        "-o",
        made.folder / "run",
    )
    (made.folder / "some").write_text("q3\td1\t1\nq5\td2\t1\nq99\td2\t1\n")
    words = ["mine-negatives", "--run", made.folder / "run", "--queries", made.queries, "--only", made.folder / "some"]
    for labels in (["--by-rank", "3:8-9"], ["--qrels", made.qrels, "--ranks", "1-9", "--negatives", "2"]):
        some = drtools(*words, *labels)
        assert [json.loads(line)["query_id"] for line in some.out.splitlines()] == ["q3", "q5"], some.err
    (made.folder / "some").write_text("q99\td2\t1\n")
    assert drtools(*words, "--by-rank", "3:8-9").status == drtools(*words, "--qrels", made.qrels).status == 2
    outcome = drtools("mine-negatives", "--run", made.folder / "run", "--queries", made.queries, "--by-rank", "3:8-9")
    assert outcome.out.count("\n") == 20
    for line in outcome.out.splitlines():
        ranked = list(brute_force(made)[json.loads(line)["query_id"]])
        assert json.loads(line)["positives"] == ranked[:3] and json.loads(line)["negatives"] == ranked[7:9]


def test_a_tuned_fusion_is_the_best_of_the_grid(made, drtools):
    from drtools.evaluation.tuning import GRID

    drtools("index", "--corpus", made.corpus, "-o", made.folder / "bm25")
    drtools("search", "--index", made.folder / "bm25", "--queries", made.queries, "-o", made.folder / "bm25.run")
    drtools(
        "search",
        "--vectors",
        made.folder / "documents",
        "--queries",
        made.queries,
        "--precision",
        "fp32",
        "-o",
        made.folder / "dense.run",
    )
    runs = [made.folder / "dense.run", made.folder / "bm25.run"]
    outcome = drtools("fuse", *runs, "--method", "linear", "--tune", made.qrels, "-o", made.folder / "tuned.run")
    assert outcome.status == 0, outcome.err

    def value(run):
        return json.loads(drtools("eval", "--qrels", made.qrels, run, "--json").out)["runs"][0]["measures"]["nDCG@10"]

    values = {}
    for weight in GRID:
        drtools("fuse", *runs, "--method", "linear", "--weights", f"1,{weight}", "-o", made.folder / f"w{weight}")
        values[weight] = value(made.folder / f"w{weight}")
    chosen = json.loads((made.folder / "tuned.run.manifest.json").read_text())["weights"][1]
    assert value(made.folder / "tuned.run") == max(values.values()) == values[chosen]


def test_eval_prints_marks_and_gates(made, drtools):
    (made.folder / "good.run").write_text("".join(f"q{n} Q0 d{n} 1 2 t\n" for n in range(20)))
    (made.folder / "bad.run").write_text("".join(f"q{n} Q0 d{n + 30} 1 2 t\nq{n} Q0 d{n} 2 1 t\n" for n in range(20)))
    outcome = drtools(
        "eval",
        "--qrels",
        made.qrels,
        made.folder / "bad.run",
        made.folder / "good.run",
        "--measures",
        "RR@10,MRR@1,P@1",
    )
    assert (
        outcome.status == 0
        and "0.5000" in outcome.out
        and "1.0000*" in outcome.out
        and "20 judged queries" in outcome.out
    )
    worse = drtools(
        "eval", "--qrels", made.qrels, made.folder / "good.run", made.folder / "bad.run", "--gate", "RR@10>=-0.005"
    )
    assert worse.status == 3 and "-0.5000" in worse.err
    assert (
        drtools(
            "eval", "--qrels", made.qrels, made.folder / "bad.run", made.folder / "good.run", "--gate", "RR@10>=-0.005"
        ).status
        == 0
    )
    lines = drtools(
        "eval", "--qrels", made.qrels, made.folder / "bad.run", "--measures", "RR@10", "--per-query"
    ).out.splitlines()
    assert len(lines) == 21 and lines[-1].endswith("RR@10\tall\t0.5000")


def test_a_person_sees_titles_and_snippets(made, drtools):
    drtools("index", "--vectors", made.folder / "documents", "-o", made.folder / "index")
    outcome = drtools("search", "--index", made.folder / "index", "--depth", "3", made.documents[7]["text"])
    assert outcome.status == 0, outcome.err
    assert made.documents[7]["title"] in outcome.out and outcome.out.splitlines()[0].startswith("  1")


def test_dry_runs_do_nothing(made, drtools):
    for words in (
        ["index", "--vectors", made.folder / "documents", "--factory", "HNSW16"],
        ["index", "--corpus", made.corpus],
        ["encode", "--model", made.model, "--corpus", made.corpus],
    ):
        outcome = drtools(*words, "--dry-run", "-o", made.folder / "none")
        assert outcome.status == 0 and "about" in outcome.err and not list(made.folder.glob("none*"))


def test_vectors_of_queries_do_not_stand_for_their_words(made, drtools):
    (made.folder / "first.run").write_text("q0 Q0 d0 1 1 x\n")
    for source in (
        ["--rerank", made.folder / "first.run", "--corpus", made.corpus, "--model", made.model],
        ["--index", made.folder / "lucene"],
    ):
        if source[0] == "--index":
            assert drtools("index", "--corpus", made.corpus, "-o", made.folder / "lucene").status == 0
        outcome = drtools("search", *source, "--query-vectors", made.folder / "documents", "-o", made.folder / "none")
        assert outcome.status == 2 and "--query-vectors: for vectors or a FAISS index" in outcome.err, outcome.err


def test_a_search_refuses_what_it_would_not_use(made, drtools):
    for words, said in (
        (["fox", "--only", made.qrels], "--only needs --queries"),
        (["fox", "--k1", "1.2"], "--k1 and --b are for Lucene indexes"),
        (["fox", "--rm3-terms", "20"], "use --rm3 too"),
    ):
        outcome = drtools("search", *words, "--vectors", made.folder / "documents", "--model", made.model)
        assert outcome.status == 2 and said in outcome.err, outcome.err


def test_documents_that_are_cut_while_a_run_is_ranked_anew_are_counted(made, drtools):
    (made.folder / "few.run").write_text("q0 Q0 d0 1 1 x\nq0 Q0 d1 2 .5 x\n")
    outcome = drtools(
        "search",
        "--rerank",
        made.folder / "few.run",
        "--corpus",
        made.corpus,
        "--model",
        made.model,
        "--max-document-tokens",
        "5",
        "--queries",
        made.queries,
        "--only",
        made.qrels,
        "-o",
        made.folder / "again.run",
    )
    assert (
        outcome.status == 0 and "2 of the 2 documents encoded were longer than their limit and were cut" in outcome.err
    ), outcome.err


def test_an_index_and_its_check_take_the_vectors_that_they_are_for(made, drtools, encoder_folder, bert, tmp_path):
    drtools(
        "encode", "--model", made.model, "--queries", made.queries, "--precision", "fp32", "-o", made.folder / "queries"
    )
    other = tmp_path / "other"
    assert drtools("encode", "--model", bert, "--pooling", "mean", "--queries", made.queries, "-o", other).status == 0
    for words, said in (
        (["--vectors", made.folder / "queries"], "vectors of queries, expected vectors of documents"),
        (
            ["--vectors", made.folder / "documents", "--check-queries", made.folder / "documents"],
            "vectors of documents, expected vectors of queries",
        ),
        (["--vectors", made.folder / "documents", "--check-queries", other], "--check-queries"),
        (
            ["--vectors", made.folder / "documents", "--factory", "HNSW8_PQ4x4"],
            "FAISS always makes an index of distances",
        ),
        (["--vectors", made.folder / "documents", "--document-vectors"], "--document-vectors: this is for Lucene"),
        (["--corpus", made.corpus, "--factory", "Flat"], "--factory: this is for FAISS"),
    ):
        outcome = drtools("index", *words, "-o", made.folder / "no-index")
        assert outcome.status == 2 and said in outcome.err and not (made.folder / "no-index").exists(), outcome.err
    outcome = drtools(
        "index",
        "--vectors",
        made.folder / "documents",
        "--check-queries",
        made.folder / "queries",
        "-o",
        made.folder / "checked",
    )
    assert outcome.status == 0 and "recall of the exact top" in outcome.err and "20 queries" in outcome.err, outcome.err


def test_a_lucene_index_is_searched_by_no_encoder(made, drtools):
    assert drtools("index", "--corpus", made.corpus, "-o", made.folder / "bm25").status == 0
    for words in (
        ["search", "--queries", made.queries, "--query-prompt", "x"],
        ["mine-negatives", "--queries", made.queries, "--qrels", made.qrels, "--query-prompt", "x"],
    ):
        outcome = drtools(*words, "--index", made.folder / "bm25", "--model", made.model, "-o", made.folder / "none")
        assert outcome.status == 2 and "Lucene index, which is searched without an encoder" in outcome.err, outcome.err


def test_a_run_ranked_anew_may_lack_the_last_queries(made, drtools, monkeypatch):
    from drtools.search.opening import open_source
    from drtools.search.specs import SourceSpec

    (made.folder / "part.run").write_text("q0 Q0 d0 1 1 x\n")
    outcome = drtools(
        "search",
        "--rerank",
        made.folder / "part.run",
        "--corpus",
        made.corpus,
        "--model",
        made.model,
        "--queries",
        made.queries,
        "-o",
        made.folder / "again.run",
    )
    assert outcome.status == 0 and "19 of 20 queries have no hits" in outcome.err, outcome.err
    (made.folder / "other.run").write_text("z Q0 d0 1 1 x\n")
    outcome = drtools(
        "search",
        "--rerank",
        made.folder / "other.run",
        "--corpus",
        made.corpus,
        "--model",
        made.model,
        "--queries",
        made.queries,
        "-o",
        made.folder / "none.run",
    )
    assert outcome.status == 2 and "holds none of these queries" in outcome.err
    spec = SourceSpec(rerank=str(made.folder / "part.run"), corpus=str(made.corpus))
    source = open_source(spec, *encoder_of(made))
    assert [found.hits for found in source.search([("q7", "fox"), ("q8", "owl")], 10, {})] == [{}, {}], (
        "as after a stop behind the last query that has a list"
    )


def encoder_of(made):
    from drtools.cli.flags.compute import ComputeFlags
    from drtools.cli.flags.encoder import EncoderFlags

    return EncoderFlags(model=str(made.model)), ComputeFlags(precision="fp32")


def test_what_mining_would_not_use_is_refused_and_what_it_cuts_is_said(made, drtools):
    base = ["mine-negatives", "--queries", made.queries, "-o", made.folder / "mined"]
    for words, said in (
        (
            ["--qrels", made.qrels, "--random", "--corpus", made.corpus, "--max-score", "5"],
            "--max-score: random documents have no score",
        ),
        (
            ["--by-rank", "2:5-9", "--vectors", made.folder / "documents", "--max-score", "0.1", "--negatives", "2"],
            "--negatives and --max-score: cannot be used with --by-rank 2:5-9",
        ),
        (["--qrels", made.qrels, "--run", made.qrels, "--model", made.model], "--model: a run needs no encoder"),
    ):
        outcome = drtools(*base, *words)
        assert outcome.status == 2 and said in outcome.err, outcome.err
    outcome = drtools(
        *base,
        "--qrels",
        made.qrels,
        "--vectors",
        made.folder / "documents",
        "--max-query-tokens",
        "3",
        "--precision",
        "fp32",
    )
    assert outcome.status == 0 and "20 of 20 queries were cut" in outcome.err, outcome.err


def test_an_encoding_goes_on_in_the_precision_that_it_was_begun_in(made, drtools, monkeypatch, tmp_path):
    from drtools.outputs.work import Work

    words = [
        "encode",
        "--model",
        made.model,
        "--corpus",
        made.corpus,
        "--dtype",
        "float32",
        "--chunk",
        "20",
        "-o",
        tmp_path / "vectors",
    ]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    save, calls = Work.save, []

    def stopping(self, *spans, **state):
        save(self, *spans, **state)
        calls.append(state)
        raise KeyboardInterrupt

    monkeypatch.setattr(Work, "save", stopping)
    assert drtools(*words).status == 130 and calls[0]["precision"] == "fp32"
    monkeypatch.setattr(Work, "save", save)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    again = drtools(*words)
    assert (
        again.status == 0
        and "continuing" in again.err
        and json.loads((tmp_path / "vectors/manifest.json").read_text())["precision"] == "fp32"
    ), again.err
    assert (
        drtools(
            "encode",
            "--model",
            made.model,
            "--corpus",
            made.corpus,
            "--precision",
            "fp32",
            "--dtype",
            "float32",
            "-o",
            tmp_path / "whole",
        ).status
        == 0
    )
    assert (tmp_path / "vectors/vectors.npy").read_bytes() == (tmp_path / "whole/vectors.npy").read_bytes()


def test_documents_are_not_chosen_by_judgements(made, drtools):
    outcome = drtools(
        "encode", "--model", made.model, "--corpus", made.corpus, "--only", made.qrels, "-o", made.folder / "some"
    )
    assert outcome.status == 2 and "--only is for --queries" in outcome.err, outcome.err
