"""The document with a query's own id, as BEIR leaves it out: dropped from the results before they are cut."""

import json
import random
from pathlib import Path

import pytest
import pytrec_eval
from conftest import write_jsonl

from drtools.formats.identical import without_identical, without_own
from drtools.formats.trec import read_run


def beir(qrels, results, ks):
    """What BEIR's EvaluateRetrieval.evaluate does with ignore_identical_ids (its default): nDCG@k and Recall@k."""
    results = {query: dict(documents) for query, documents in results.items()}
    for query in results:
        for document in list(results[query]):
            if query == document:
                results[query].pop(document)
    names = {f"ndcg_cut.{','.join(map(str, ks))}", f"recall.{','.join(map(str, ks))}"}
    scores = pytrec_eval.RelevanceEvaluator(qrels, names).evaluate(results)
    return {
        f"{ours}@{k}": sum(found[f"{theirs}_{k}"] for found in scores.values()) / len(scores)
        for ours, theirs in (("nDCG", "ndcg_cut"), ("R", "recall"))
        for k in ks
    }


def test_the_public_report(tmp_path, drtools):
    # beir-cellar/beir#91 and lightonai/pylate#198: ArguAna and Quora hold the query among the documents
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\narg1\targ2\t1\n")
    (tmp_path / "r.run").write_text("arg1 Q0 arg1 1 9 x\narg1 Q0 arg2 2 8 x\n")
    values = {}
    for words in ([], ["--ignore-identical-ids"]):
        outcome = drtools("eval", "--qrels", tmp_path / "qrels.tsv", tmp_path / "r.run", "--json", *words)
        assert outcome.status == 0, outcome.err
        values[bool(words)] = json.loads(outcome.out)["runs"][0]["measures"]
        assert ("1 query lists a document with the same id, which was left out" in outcome.err) == bool(words), (
            outcome.err
        )
    assert values[False]["nDCG@10"] == pytest.approx(0.6309, abs=1e-4) and values[False]["RR@10"] == 0.5
    assert values[True]["nDCG@10"] == 1.0 and values[True]["RR@10"] == 1.0


@pytest.fixture
def arguments(tmp_path):
    """A run in which queries stand at any rank, or not at all, and its judgements."""
    generator = random.Random(4)
    names = [f"a{n}" for n in range(60)]
    run, qrels = {}, {}
    for query in names[:25]:
        listed = generator.sample(names, 30)
        run[query] = {document: float(30 - place) for place, document in enumerate(listed)}
        qrels[query] = {document: generator.randint(1, 3) for document in generator.sample(names, 4)}
    with open(tmp_path / "a.run", "w") as stream:
        for query, hits in run.items():
            stream.writelines(f"{query} Q0 {each} {at} {hits[each]} x\n" for at, each in enumerate(hits, start=1))
    with open(tmp_path / "qrels", "w") as stream:
        stream.writelines(f"{query} 0 {each} {grade}\n" for query in qrels for each, grade in qrels[query].items())
    return tmp_path, run, qrels


def test_evals_figures_are_beirs(arguments, drtools):
    folder, run, qrels = arguments
    assert 5 < sum(query in hits for query, hits in run.items()) < 25
    expected = beir(qrels, run, [1, 3, 5, 10, 20])
    words = ["--measures", ",".join(expected), "--json", "--ignore-identical-ids"]
    outcome = drtools("eval", "--qrels", folder / "qrels", folder / "a.run", *words)
    assert json.loads(outcome.out)["runs"][0]["measures"] == pytest.approx(expected, abs=1e-12)
    kept = drtools("eval", "--qrels", folder / "qrels", folder / "a.run", *words[:-1])
    assert json.loads(kept.out)["runs"][0]["measures"] != pytest.approx(expected, abs=1e-4)


def test_a_list_without_its_query_keeps_its_order_and_scores(arguments):
    _, run, _ = arguments
    found, count = without_identical(run)
    assert count == sum(query in hits for query, hits in run.items()) > 0
    for query, hits in run.items():
        assert list(found[query].items()) == [(each, score) for each, score in hits.items() if each != query]
        assert without_own("nobody", hits) is hits


def test_a_fusion_ranks_without_the_queries_own_documents(arguments, drtools):
    folder, run, _ = arguments
    words = ["fuse", folder / "a.run", folder / "a.run", "--ignore-identical-ids", "--depth", 7, "-o", folder / "f.run"]
    outcome = drtools(*words)
    assert outcome.status == 0, outcome.err
    for query, hits in read_run(folder / "f.run").items():
        others = [document for document in run[query] if document != query]
        assert hits == {document: pytest.approx(2 / (60 + place)) for place, document in enumerate(others[:7], start=1)}


@pytest.fixture
def searched(tmp_path, encoder_folder, drtools):
    """Eight texts that are documents and queries; vectors with pieces, two indexes and a run of them."""
    words = "otters eat fish rivers planes cut wood lathes turn metal hills".split()
    generator = random.Random(1)
    texts = [{"_id": f"t{n}", "text": " ".join(generator.choices(words, k=6))} for n in range(8)]
    corpus = write_jsonl(tmp_path / "corpus.jsonl", texts)
    queries = write_jsonl(tmp_path / "queries.jsonl", [*texts[:5], {"_id": "other", "text": "fish in rivers"}])
    fp32 = ["--precision", "fp32"]
    model = ["--model", encoder_folder, *fp32]
    for command in (
        ["index", "--corpus", corpus, "-o", tmp_path / "bm25"],
        ["encode", *model, "--corpus", corpus, "--pieces", "--spans", "mean", "-o", tmp_path / "vectors"],
        ["index", "--vectors", tmp_path / "vectors", "-o", tmp_path / "faiss"],
        ["search", "--index", tmp_path / "bm25", "--queries", queries, "-o", tmp_path / "bm25.run"],
    ):
        outcome = drtools(*command)
        assert outcome.status == 0, outcome.err
    vectors = ["--vectors", tmp_path / "vectors", *fp32]
    return tmp_path, {
        "lucene": ["--index", tmp_path / "bm25"],
        "faiss": ["--index", tmp_path / "faiss", *fp32],
        "vectors": vectors,
        "pieces": [*vectors, "--multi-vector", "--rescore", 0],
        "rerank vectors": [*vectors, "--rerank", tmp_path / "bm25.run"],
        "rerank texts": [*model, "--corpus", corpus, "--rerank", tmp_path / "bm25.run"],
    }


@pytest.mark.parametrize("name", ["lucene", "faiss", "vectors", "pieces", "rerank vectors", "rerank texts"])
def test_a_search_gives_as_many_others_as_were_asked_for(searched, drtools, name):
    folder, sources = searched
    found = {}
    for words in (["--depth", 8], ["--depth", 3, "--ignore-identical-ids"]):
        out = folder / f"{len(found)}.run"
        outcome = drtools("search", *sources[name], "--queries", folder / "queries.jsonl", *words, "-o", out)
        assert outcome.status == 0, outcome.err
        found[len(found)] = read_run(out)
    assert "5 queries found a document with the same id, which was left out" in outcome.err, outcome.err
    every, without = found[0], found[1]
    assert without.keys() == every.keys() and len(every) == 6
    for query, hits in every.items():
        others = [(document, score) for document, score in hits.items() if document != query]
        if name.startswith("rerank"):  # the run is cut before its documents are scored anew
            listed = [each for each in read_run(folder / "bm25.run")[query] if each != query][:3]
            others = [(document, score) for document, score in others if document in listed]
        assert [document for document, _ in others[:3]] == list(without[query])
        assert [score for _, score in others[:3]] == pytest.approx(list(without[query].values()), abs=1e-6)
    assert all(query not in hits for query, hits in without.items())
    if not name.startswith("rerank") and name != "lucene":
        assert all(len(hits) == 3 for hits in without.values())


def test_gamma_is_tuned_on_lists_without_the_queries_own_documents(searched, drtools):
    folder, sources = searched
    (folder / "qrels").write_text("t2 0 t2 1\n")
    tune = [*sources["pieces"], "--tune", folder / "qrels", "--tune-measure", "RR@1"]
    for name, words, best in (("with", [], 1.0), ("without", ["--ignore-identical-ids"], 0.0)):
        out = folder / f"{name}.run"
        outcome = drtools("search", *tune, *words, "--queries", folder / "queries.jsonl", "-o", out)
        assert outcome.status == 0, outcome.err
        tried = json.loads(Path(f"{out}.manifest.json").read_text())["tried"]
        assert max(value for _, value in tried) == best, name


def test_a_question_has_no_id(searched, drtools):
    refused = drtools("search", *searched[1]["lucene"], "fish in rivers", "--ignore-identical-ids")
    assert refused.status == 2 and "a question has no id" in refused.err, refused.err
