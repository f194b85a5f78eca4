"""Runs and judgements of other programs are those that TREC's columns would hold, or are refused with their line."""

import gzip
import json

import pytest

from drtools.errors import InputError
from drtools.formats import trec

SCORES = {"q1": {"d1": 2.5, "d 2": 2.5, "d3": 7.0}, "q2": {"d1": -1.0}}
GRADES = {"q1": {"d1": 2, "d3": 0}, "q2": {"d1": 1}}
LINES = [(query, document, value) for query, values in SCORES.items() for document, value in values.items()]
JUDGED = [(query, document, value) for query, values in GRADES.items() for document, value in values.items()]
RUNS = {
    "run.json": json.dumps(SCORES),
    "indented.json": json.dumps(SCORES, indent=2),
    "header.csv": "score,query_id,doc_id\n"
    + "".join(f'{score},{query},"{document}"\n' for query, document, score in LINES),
    "trec.csv": "".join(f"{query},Q0,{document},9,{score},tag\n" for query, document, score in LINES),
    "pyterrier.tsv": "qid\tdocid\tdocno\trank\tscore\tquery\n"
    + "".join(
        f"{query}\t{row}\t{document}\t{row}\t{score}\twords\n" for row, (query, document, score) in enumerate(LINES)
    ),
}
QRELS = {
    "qrels.json": json.dumps(GRADES),
    "indented.json": json.dumps(GRADES, indent=1),
    "floats.json": json.dumps({q: {d: float(g) for d, g in grades.items()} for q, grades in GRADES.items()}),
    "header.csv": "query-id,corpus-id,score\n" + "".join(f"{q},{d},{g}\n" for q, d, g in JUDGED),
    "three.csv": "".join(f"{q},{d},{g}\n" for q, d, g in JUDGED),
    "four.csv": "".join(f"{q},0,{d},{g}\n" for q, d, g in JUDGED),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_of_others_are_ordered_as_trec_eval_orders_them(tmp_path, name):
    (tmp_path / name).write_text(RUNS[name])
    expected = {"q1": [("d3", 7.0), ("d1", 2.5), ("d 2", 2.5)], "q2": [("d1", -1.0)]}
    assert {query: list(hits.items()) for query, hits in trec.read_run(tmp_path / name).items()} == expected
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(RUNS[name].encode()))
    assert trec.read_run(packed) == trec.read_run(tmp_path / name)


def test_three_columns_are_ranks_or_scores(tmp_path, capsys):
    path = tmp_path / "msmarco"
    path.write_text("q1\ta\t1\nq1\tz\t2\nq2\tb\t1\nq1\tc\t3\n")
    run = trec.read_run(path)
    assert {query: list(hits) for query, hits in run.items()} == {"q1": ["a", "z", "c"], "q2": ["b"]}
    assert run["q1"]["z"] == 1 / 2
    assert list(trec.read_run(path, rank_order=True)["q1"]) == ["a", "z", "c"]
    path.write_text("q1 a 0.5\nq1 z 2\nq2 b 1\n")
    assert {query: list(hits) for query, hits in trec.read_run(path).items()} == {"q1": ["z", "a"], "q2": ["b"]}


def test_ranks_decide_if_asked(tmp_path):
    (tmp_path / "run.csv").write_text("qid,docid,rank,score\nq,a,2,9\nq,b,1,3\n")
    assert list(trec.read_run(tmp_path / "run.csv")["q"]) == ["a", "b"]
    assert list(trec.read_run(tmp_path / "run.csv", rank_order=True)["q"]) == ["b", "a"]


def check_refused(read, path, line: int, found: str) -> None:
    """Hold that reading a file ends in an error that names its line and says what was found."""
    with pytest.raises(InputError) as refusal:
        read(path)
    assert str(refusal.value).startswith(f"{path}:{line}: ") and found in str(refusal.value), refusal.value


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ("q d1 1\nq d2 0\n", 1, "may be ranks, scores or grades"),
        ("q d1 1\np d2 1\n", 1, "may be ranks, scores or grades"),  # judgements, one for each query
        ("q d1 2\nq d2 1\n", 1, "may be ranks, scores or grades"),
        ("q d1 1\nq d2 2\nq d3\n", 3, "expected query, document and a rank or a score"),
        ("query-id\tcorpus-id\tscore\nq\td\t1\n", 1, "expected 6"),  # BEIR's judgements
        ("qid,docid,score\nq,d,1\nq,e\n", 3, "found 2 columns"),
        ("qid,docid,score\nq,d,high\n", 2, "found 'high', expected a score"),
        ("qid,docid,score\nq,d,1\nq,d,2\n", 3, "already listed"),
        ("qid,docid,rank,score\nq,d,first,1\n", 2, "found 'first', expected a rank"),
        ('{"q": {"d": 1, "e": "x"}}', 1, "document 'e' of query 'q' has 'x'"),
        ('{"q": {"d": 1}, "p": 3}', 1, "query 'p' has '3'"),
        ('{"q": {"d": 1}', 1, "not JSON"),
        ('{"q": {"d": true}}', 1, "expected a number"),
        ('{"_id": "q", "text": "words"}\n', 1, "expected 6"),
    ],
)
def test_runs_of_others_are_refused_with_their_line(tmp_path, content, line, found):
    path = tmp_path / "a.run"
    path.write_text(content)
    check_refused(trec.read_run, path, line, found)


def test_json_has_no_ranks(tmp_path):
    (tmp_path / "run.json").write_text(RUNS["run.json"])
    with pytest.raises(InputError, match="has no ranks"):
        trec.read_run(tmp_path / "run.json", rank_order=True)


@pytest.mark.parametrize("name", QRELS)
def test_judgements_of_others(tmp_path, name):
    (tmp_path / name).write_text(QRELS[name])
    assert trec.read_qrels(tmp_path / name) == GRADES


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ('{"q": {"d": 1.5}}', 1, "found '1.5', expected a grade"),
        ('{"q": {"d": "1"}}', 1, "expected a number"),
        ("query_id,doc_id,relevance\nq,d,1\nq,,2\n", 3, "found 3 columns, expected 3 that are not empty"),
        ("q,d,1\nq,e\n", 2, "found 2 columns"),
        ("q,d,1\nq,d,2\n", 2, "but grade 1 in line 1"),
        ("a,b,c\n", 1, "found 1 column"),
    ],
)
def test_judgements_of_others_are_refused_with_their_line(tmp_path, content, line, found):
    path = tmp_path / "qrels"
    path.write_text(content)
    check_refused(trec.read_qrels, path, line, found)
