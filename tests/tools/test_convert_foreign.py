"""drtools convert --from: training data, questions and runs in the forms that others publish; malformed ones."""

import gzip
import json
import os
import pickle
from pathlib import Path

import pytest

from drtools.formats import foreign_examples
from drtools.formats.answers import read_answers
from drtools.formats.corpora import read_corpus, read_queries
from drtools.formats.examples import read_examples
from drtools.formats.trec import read_run
from drtools.outputs.fingerprints import file_fingerprint


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def converted(drtools, name, *words, out="out"):
    outcome = drtools("convert", "--from", name, *words, "-o", out)
    assert outcome.status == 0, outcome.err
    return outcome


def examples(out="out"):
    return {
        each.query_id: (each.positives, each.negatives, each.positive_scores, each.negative_scores, each.scored_by)
        for each in read_examples(Path(out, "examples.jsonl"))
    }


HARD = {"0": [5, 7, 9], "2": [8]}


def test_drhards_negatives_get_the_positives_of_the_judgements_and_the_ids_of_the_maps(drtools, monkeypatch):
    Path("hard.json").write_text(json.dumps(HARD))
    Path("qrel.tsv").write_text("0\t0\t3\t1\n0\t0\t7\t1\n2\t0\t4\t1\n")
    converted(drtools, "drhard", "hard.json", "--qrels", "qrel.tsv")
    assert examples() == {"0": (["3", "7"], ["5", "9"], None, None, None), "2": (["4"], ["8"], None, None, None)}
    Path("q.pickle").write_bytes(pickle.dumps({1000 + n: n for n in range(3)}, protocol=4))
    Path("p.pickle").write_bytes(pickle.dumps({f"D{n}": n for n in range(10)}))
    monkeypatch.setattr(foreign_examples, "CHUNK", 3)  # entries over many reads
    maps = ["--query-map", "q.pickle", "--document-map", "p.pickle"]
    outcome = converted(drtools, "drhard", "hard.json", "--qrels", "qrel.tsv", *maps, out="named")
    assert examples("named")["1000"][:2] == (["D3", "D7"], ["D5", "D9"]) and examples("named")["1002"][1] == ["D8"]
    assert "1 negative is a positive of the query; kept as positives only" in outcome.err


@pytest.mark.slow
def test_hard_json_is_read_an_entry_at_a_time(site):
    """The reader sees no more than a few entries of a file, whatever its length."""
    import tracemalloc

    with open("hard.json", "w") as stream:
        stream.write("{" + ", ".join(f'"{n}": {list(range(200))}' for n in range(5000)) + "}")
    tracemalloc.start()
    assert sum(len(ids) for _, ids in foreign_examples.read_hard_json("hard.json")) == 1_000_000
    assert tracemalloc.get_traced_memory()[1] < Path("hard.json").stat().st_size
    tracemalloc.stop()


SIMLM = [
    {
        "query_id": "q1",
        "query": "one",
        "positives": {"doc_id": ["1"], "score": [2.5]},
        "negatives": {"doc_id": ["2", "3"], "score": [0.5, -1.0]},
    },
    {"query_id": "q2", "query": "two", "positives": {"doc_id": ["4"]}, "negatives": {"doc_id": []}},
]


def test_simlms_records_keep_scores_and_texts(drtools):
    Path("train.jsonl").write_text("".join(json.dumps(each) + "\n" for each in SIMLM))
    outcome = converted(drtools, "simlm", "train.jsonl", "--teacher", "reranker")
    teacher = f"reranker@{file_fingerprint(Path('train.jsonl'))}"
    assert examples() == {
        "q1": (["1"], ["2", "3"], [2.5], [0.5, -1.0], teacher),
        "q2": (["4"], [], None, None, None),
    }
    assert read_queries("out/queries.jsonl") == {"q1": "one", "q2": "two"}
    assert "1 query has no negative" in outcome.err


def test_colberts_lines_of_a_query_are_one_example(drtools):
    Path("triples.json").write_text("[0, 12, 48]\n[0, 13, 48]\n[0, 12, 13]\n[1, 5, 6, 7]\n")
    converted(drtools, "colbert", "triples.json")
    assert examples() == {"0": (["12", "13"], ["48"], None, None, None), "1": (["5"], ["6", "7"], None, None, None)}
    Path("scored.json").write_text("[7, [1, 9.5], [2, 0.25], [3, -4]]\n")
    converted(drtools, "colbert", "scored.json", "--teacher", "minilm", out="scored")
    scored = examples("scored")["7"]
    assert scored[:4] == (["1"], ["2", "3"], [9.5], [0.25, -4]) and scored[4].startswith("minilm@")


def test_ms_marcos_triples_of_ids_and_of_texts(drtools):
    Path("ids.tsv.gz").write_bytes(gzip.compress(b"q1\t1\t2\nq1\t1\t3\nq2\t4\t2\n"))
    converted(drtools, "msmarco-id-triples", "ids.tsv.gz")
    assert examples() == {"q1": (["1"], ["2", "3"], None, None, None), "q2": (["4"], ["2"], None, None, None)}
    Path("texts.tsv").write_text('what is "it"\ta thing\tno thing\nwhat is "it"\ta thing\tanother\n')
    Path("rocket.tsv").write_text("问\tnull\t对\t题\t错\t0\n", encoding="utf-8")
    for file, expected in (
        ("texts.tsv", {'what is "it"': ([("", "a thing")], [("", "no thing"), ("", "another")])}),
        ("rocket.tsv", {"问": ([("", "对")], [("题", "错")])}),
    ):
        converted(drtools, "triples", file, out=f"of-{file}")
        texts = {each.id: (each.title, each.text) for _, each in read_corpus(f"of-{file}/corpus.jsonl")}
        queries = read_queries(f"of-{file}/queries.jsonl")
        found = {
            queries[query]: ([texts[each] for each in held[0]], [texts[each] for each in held[1]])
            for query, held in examples(f"of-{file}").items()
        }
        assert found == expected


QUESTIONS = {
    "dpr.qa.csv": (
        'who won\t[\'A\', "B\'s"]\n"who ""really"" won"\t"[\'x ""y""\', \'z\']"\n',
        {"0": ("who won", ["A", "B's"]), "1": ('who "really" won', ['x "y"', "z"])},
    ),
    "nq-open.jsonl": ('{"question": "who", "answer": ["A", "B"]}\n', {"0": ("who", ["A", "B"])}),
    "P17.test.json": (
        '[{"question": "Where is X?", "answers": ["France"]},\n {"question": "And Y?", "answers": ["Peru"]}]',
        {"0": ("Where is X?", ["France"]), "1": ("And Y?", ["Peru"])},
    ),
    "PAQ.metadata.jsonl": (
        '{"question": "who", "subsets": ["L1"], "answer": "A", "passage_score": -4.1, "answers": '
        '[{"passage_id": "20", "offset": 3, "text": "A", "extractor": "L"}, '
        '{"passage_id": "7", "offset": 1, "text": "A", "extractor": "NE"}]}\n',
        {"0": ("who", ["A"])},
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_become_queries_and_answers(drtools, name):
    text, expected = QUESTIONS[name]
    Path(name).write_text(text)
    converted(drtools, "questions", name)
    answers = read_answers("out/answers.jsonl")
    assert {each: (text, answers[each]) for each, text in read_queries("out/queries.jsonl").items()} == expected
    assert Path("out/examples.jsonl").exists() == ("PAQ" in name)
    if "PAQ" in name:
        assert examples() == {"0": (["20", "7"], [], None, None, None)}


def test_runs_of_ms_marco_and_dpr_become_trec_runs(drtools):
    Path("run.tsv").write_text("q1\td9\t2\nq1\td1\t1\nq1\td5\t10\nq2\td3\t1\n")
    converted(drtools, "msmarco-run", "run.tsv")
    assert {query: list(hits) for query, hits in read_run("out/run.trec").items()} == {
        "q1": ["d1", "d9", "d5"],
        "q2": ["d3"],
    }
    contexts = [
        {"id": "8", "title": "T", "text": "x", "score": "70.5", "has_answer": False},
        {"id": "wiki:9", "title": "T", "text": "x", "score": 81.25, "has_answer": True},
    ]
    Path("nq.json").write_text(json.dumps([{"question": "who", "answers": ["A"], "ctxs": contexts}], indent=4))
    converted(drtools, "dpr-output", "nq.json", out="dpr")
    assert read_run("dpr/run.trec") == {"0": {"wiki:9": 81.25, "8": 70.5}}
    assert read_queries("dpr/queries.jsonl") == {"0": "who"} and read_answers("dpr/answers.jsonl") == {"0": ["A"]}


def test_systems_and_their_number_are_chosen(drtools):
    record = {"qid": 1, "pos": [10], "neg": {"bm25": [1, 2, 3], "ance": [4, 2, 5], "tas": [6]}}
    Path("neg.jsonl").write_text(json.dumps(record) + "\n")
    chosen = ["--system", "bm25", "--system", "ance", "--per-system", "2"]
    converted(drtools, "msmarco-hard-negatives", "neg.jsonl", *chosen)
    assert examples()["1"][:2] == (["10"], ["1", "4", "2"])
    outcome = drtools("convert", "--from", "msmarco-hard-negatives", "neg.jsonl", "--system", "bm52", "-o", "none")
    assert outcome.status == 2 and "no query has negatives of bm52, expected some of ance, bm25, tas" in outcome.err


class Payload:
    def __reduce__(self):
        return os.system, ("touch executed",)


QRELS = ["--qrels", "q.tsv"]
MAPS = [*QRELS, "--document-map", "map.pickle"]
BAD = {  # format, its further flags, content, what the message says
    "hard cut": ("drhard", QRELS, '{"1": [2, 3', "no list of documents follows entry 0"),
    "hard list": ("drhard", QRELS, "[1, 2]", "f:1: found '[1, 2]', expected {\"query\": [document, ...], ...}"),
    "hard id": ("drhard", QRELS, '{"1": [2], "3": [4.5]}', "entry 2: the id is 4.5"),
    "hard more": ("drhard", QRELS, '{"1": [2]} {"2": [3]}', "something follows the object of 1 entries"),
    "hard empty": ("drhard", QRELS, "{}", "f: no records, expected training data of drhard"),
    "hard map": ("drhard", MAPS, '{"1": [2]}', "f: entry 1: document 2 is not in the map of document numbers"),
    "simlm list": (
        "simlm",
        [],
        '{"query_id": "1", "positives": ["2"], "negatives": {"doc_id": []}}\n',
        'f:1: positives is list, expected {"doc_id"',
    ),
    "simlm scores": (
        "simlm",
        [],
        '{"query_id": "1", "positives": {"doc_id": ["2"], "score": [1, 2]}, "negatives": {"doc_id": []}}\n',
        "f:1: positives has 1 ids and other scores",
    ),
    "simlm score": (
        "simlm",
        [],
        '{"query_id": "1", "positives": {"doc_id": ["2"], "score": ["x"]}, "negatives": {"doc_id": []}}\n',
        "f:1: a score is 'x', expected a number",
    ),
    "teacher": (
        "simlm",
        ["--teacher", "t"],
        '{"query_id": "1", "positives": {"doc_id": ["2"]}, "negatives": {"doc_id": ["3"]}}\n',
        "f: the file has no scores; leave out --teacher",
    ),
    "colbert object": ("colbert", [], "[1, 2, 3]\n{}\n", "f:2: found {}, expected [query, positive, negative, ...]"),
    "colbert json": ("colbert", [], "[1, 2, 3\n", "f:1: not JSON"),
    "colbert pair": ("colbert", [], "[1, [2, 3, 4]]\n", "f:1: found [2, 3, 4], expected a document, or"),
    "apart": ("colbert", [], "[1, 2, 3]\n[2, 3, 4]\n[1, 5, 6]\n", "f:3: query '1' occurs again after other queries"),
    "id columns": ("msmarco-id-triples", [], "1\t2\t3\n1\t2\n", "f:2: 2 columns, expected query<TAB>positive"),
    "id blank": ("msmarco-id-triples", [], "1\t2\t3 4\n", "f:1: the id '3 4' holds white space"),
    "triple columns": ("triples", [], "a\tb\tc\na\tb\n", "f:2: 2 columns, expected query, positive and negative"),
    "triple empty": ("triples", [], "a\tb\t \n", "f:1: a text is empty; leave the line out"),
    "question": ("questions", [], "who won\t['A']\nwho lost\tnobody\n", "f:2: no question with answers was found"),
    "question quote": ("questions", [], "who\t['A']\n\"who\t['A']\n", "f:2: not CSV with tabs"),
    "question record": ("questions", [], '{"question": "who"}\n', "f:1: no question with answers was found"),
    "questions": ("questions", [], "\n", "f:1: no questions"),
    "run columns": ("msmarco-run", [], "1\t2\t1\n1\t3\n", "f:2: found '1 3', expected query, document and rank"),
    "run rank": ("msmarco-run", [], "1\t2\t1\n1\t3\t1\n", "f:2: rank 1 of query '1' occurs twice"),
    "run document": ("msmarco-run", [], "1\t2\t1\n1\t2\t2\n", "f:2: document 2 of query '1' occurs twice"),
    "run apart": ("msmarco-run", [], "1\t2\t1\n2\t2\t1\n1\t3\t2\n", "f:3: query '1' occurs again"),
    "run zero": ("msmarco-run", [], "1\t2\t0\n", "f:1: found '1 2 0'"),
    "dpr keys": ("dpr-output", [], '[{"question": "who", "positive_ctxs": []}]', "f:1: found the keys question, pos"),
    "dpr score": (
        "dpr-output",
        [],
        '[{"question": "who", "ctxs": [{"id": "1", "score": "high"}]}]',
        "f:1: a score is 'high', expected a number",
    ),
    "dpr twice": (
        "dpr-output",
        [],
        '[{"question": "who", "ctxs": [{"id": "1", "score": 2}, {"id": "1", "score": 1}]}]',
        "f:1: passage '1' occurs twice",
    ),
    "dpr cut": ("dpr-output", [], '[{"question": "who",\n', "f:2: not JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_file_is_one_line_with_its_place(drtools, name):
    form, flags, content, expected = BAD[name]
    Path("f").write_text(content)
    Path("q.tsv").write_text("1\t0\t2\t1\n")
    Path("map.pickle").write_bytes(pickle.dumps({5: 1}))
    outcome = drtools("convert", "--from", form, "f", *flags, "-o", "out")
    assert outcome.status == 2 and outcome.err.count("\n") == 1 and "Traceback" not in outcome.err, outcome.err
    assert expected in outcome.err
    assert not Path("out").exists()


@pytest.mark.parametrize("content", [pickle.dumps({1: Payload()}), pickle.dumps(Payload(), 0), pickle.dumps([1]), b"x"])
def test_a_map_runs_no_code(drtools, content):
    Path("f").write_text('{"1": [2]}')
    Path("q.tsv").write_text("1\t0\t2\t1\n")
    Path("map.pickle").write_bytes(content)
    outcome = drtools("convert", "--from", "drhard", "f", *MAPS, "-o", "out")
    assert (
        outcome.status == 2 and outcome.err.startswith("drtools convert: map.pickle: ") and outcome.err.count("\n") == 1
    )
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--from", "drhard", "f"], "f: drhard needs --qrels; pass the judgements of its preprocessing"),
        (["--from", "colbert", "f", "--qrels", "f"], "--qrels is only for drhard, not for colbert"),
        (["--from", "drhard", "f", "--teacher", "t"], "--teacher is only for simlm and colbert, not for drhard"),
        (["--from", "dpr", "f", "--system", "bm25"], "--system is only for msmarco-hard-negatives, not for dpr"),
    ],
)
def test_flags_go_with_their_formats(drtools, words, expected):
    Path("f").write_text("{}")
    outcome = drtools("convert", *words, "-o", "out")
    assert outcome.status == 2 and expected in outcome.err
