import gzip
import io
import random

import pytest
import pytrec_eval

from drtools.errors import InputError
from drtools.formats import trec

GRADES = {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": -1}}


def write(path, content):
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n",
        "query_id\tcorpus_id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n",
        "\ufeffquery-id\tcorpus-id\tscore\r\nq1\td1\t2\r\nq1\td2\t0\r\n\r\nq2\td1\t-1",
        "q1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n",
        "q1 d1 2\nq1 d2 0\nq2 d1 -1\n",
        "q1 0 d1 2\nq1 0 d2 0\nq2 0 d1 -1\n",
        "q1\tQ0\td1\t2\nq1  Q0 d2\t 0\nq2 0 d1 -1 \n",
        "q1\td1\t2\nq1\td2\t0\nq1\td2\t0\nq2\td1\t-1\n",
    ],
)
@pytest.mark.parametrize("name", ["judged.tsv", "judged.qrels.gz"])
def test_judgements_of_every_form_are_told_apart_by_content(tmp_path, text, name):
    assert trec.read_qrels(write(tmp_path / name, text)) == GRADES


def test_ids_of_tab_separated_judgements_may_have_spaces(tmp_path):
    path = write(tmp_path / "q.tsv", "query-id\tcorpus-id\tscore\nq 1\tA title\t1\nq 1\t第一\u3000節\t1\n")
    assert trec.read_qrels(path) == {"q 1": {"A title": 1, "第一\u3000節": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "qid\tpid\trel\nq1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n",
        "query_id\tdoc_id\trelevance\nq1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n",
        "Query-ID Corpus-ID Score\nq1 d1 2\nq1 d2 0\nq2 d1 -1\n",
        "docid\tgrade\tqid\nd1\t2\tq1\nd2\t0\tq1\nd1\t-1\tq2\n",
        "query_id\titeration\tdoc_id\tlabel\nq1\t0\td1\t2\nq1\t\td2\t0\nq2\t0\td1\t-1\n",
        "topic iter docno judgment\nq1 0 d1 2\nq1 0 d2 0\nq2 0 d1 -1\n",
        "qid\tdocid\tscore\tassessor\tdate\nq1\td1\t2\ta\tb\nq1\td2\t0\ta\tb\nq2\td1\t-1\ta\tb\n",
    ],
)
def test_judgements_are_read_by_the_names_in_their_header(tmp_path, drtools, text):
    path = write(tmp_path / "judged.tsv", text)
    assert trec.read_qrels(path) == GRADES
    outcome = drtools("show", path)
    assert outcome.status == 0 and "judgements" in outcome.out.splitlines()[0]


@pytest.mark.parametrize("text", ["q1 0 d1 {}\n", "q1\td1\t{}\n", "query-id\tcorpus-id\tscore\nq1\td1\t{}\n"])
def test_grades_with_a_point_are_whole_numbers(tmp_path, drtools, text):
    for written, grade in {"1.0": 1, "2.": 2, "0.000": 0, "-1.0": -1, "+3": 3}.items():
        path = write(tmp_path / "judged", text.format(written))
        assert trec.read_qrels(path) == {"q1": {"d1": grade}}
        assert "judgements" in drtools("show", path).out
    for written in ("0.7", "1.01", "1e0", ".0", "1.0.0", "nan", "1,0", "10001.0"):
        with pytest.raises(InputError, match="expected"):
            trec.read_qrels(write(tmp_path / "judged", text.format(written)))


@pytest.mark.parametrize(
    "content, line, found",
    [
        ("", 1, "no judgement"),
        ("query-id\tcorpus-id\tscore\n", 1, "no judgement"),
        ("q1 d1\n", 1, "found 2 columns, expected 3 (query-id"),
        ("q1 0 d1 1 x\n", 1, "found 5 columns, expected 3 (query-id"),
        (
            "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\n",
            3,
            "found 2 columns, expected 3 non-empty ones as in the first line",
        ),
        ("q1 0 d1 1\nq1 d1 1\n", 2, "found 3 columns, expected 4 non-empty ones as in the first line"),
        ("q1\t\t1\n", 1, "found 3 columns"),
        ("q1\td1\thigh\n", 1, "found 'high', expected a grade"),
        ("q1\td1\t0.7\n", 1, "found '0.7', expected a grade"),
        ("q1\t0\t\t1\nq2\t0\t\t1\n", 1, "found 4 columns, one of them empty"),
        ("q1\t0\td1\t1\nq1\t0\t\t1\n", 2, "found 3 columns, expected 4 non-empty ones"),
        ("q1 0 1\nq2 0 1\n", 1, "the document in the third"),
        ("q1\tQ0\t1\nq1\tQ0\t1\n", 1, "the document in the third"),
        ("qid\tdocid\trel\nq1\td1\t1\nq1\t\t1\n", 3, "found 3 columns, expected 3 non-empty ones"),
        ("qid\titer\tdocid\trel\nq1\t0\td1\t1\nq1\td1\t1\n", 3, "found 3 columns, expected 4 non-empty ones"),
        ("qid\tname\trel\nq1\td1\t1\n", 1, "expected a judgement or the header"),
        ("q1 0 d1 1.5\n", 1, "found '1.5', expected a grade"),
        ("q1\td1\t1\nq1\td2\t1\n\nq1\td1\t2\n", 4, "has grade 2 for query q1, but grade 1 in line 1"),
        (b"q1\td1\t1\nq1\td\xe9\t1\n", 2, "not UTF-8"),
    ],
)
def test_bad_judgements_are_refused_with_their_line(tmp_path, content, line, found):
    path = write(tmp_path / "judged.tsv", content)
    with pytest.raises(InputError) as refusal:
        trec.read_qrels(path)
    assert str(refusal.value).startswith(f"{path}:{line}: ") and found in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_truncated_gzip_is_refused(tmp_path):
    for content, read in [("q1\td1\t1\n" * 999, trec.read_qrels), ("q1 Q0 d1 1 1.5 t\n", trec.read_run)]:
        path = tmp_path / "cut.gz"
        path.write_bytes(gzip.compress(content.encode())[:-9])
        with pytest.raises(InputError, match=r"cut\.gz:\d+: .*cut short"):
            read(path)


def test_a_missing_file_stays_an_os_error(tmp_path):
    for read in (trec.read_qrels, trec.read_run):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")


RUN = """\
q1 Q0 d1 1 3.5 tag
q1 Q0 d2 2 2 tag
q2 Q0 d1 1 -1e-3 tag
q2 Q0 d9 2 -.5 tag
"""
HITS = {"q1": [("d1", 3.5), ("d2", 2.0)], "q2": [("d1", -0.001), ("d9", -0.5)]}


def listed(run):
    return {query: list(hits.items()) for query, hits in run.items()}


@pytest.mark.parametrize(
    "text",
    [
        RUN,
        RUN[:-1],
        RUN.replace(" ", "\t"),
        RUN.replace(" ", "  "),
        RUN.replace("\n", " \n\n"),
        RUN.replace("\n", "\r\n"),
        "\ufeff" + RUN,
        "".join(sorted(RUN.splitlines(keepends=True), key=lambda line: line.split()[3])),
    ],
)
@pytest.mark.parametrize("name", ["a.run", "a.run.gz"])
def test_runs_of_any_spacing_are_read(tmp_path, text, name):
    run = trec.read_run(write(tmp_path / name, text))
    assert listed(run) == HITS and list(run) == ["q1", "q2"]
    assert all(type(score) is float for hits in run.values() for score in hits.values())


def test_long_ids_are_read(tmp_path):
    made = {"q" * 5000: {"d" * 5000: 1.0}, "q": {"d": 1.0}}
    text = "".join(
        f"{query} Q0 {document} 1 {score} t\n" for query, hits in made.items() for document, score in hits.items()
    )
    assert trec.read_run(write(tmp_path / "a.run", text)) == made


def test_a_run_without_a_line_is_empty(tmp_path):
    assert trec.read_run(write(tmp_path / "a.run", "")) == {}


@pytest.mark.parametrize(
    "content, line, found",
    [
        (RUN + "q2 Q0 d3 3 1\n", 5, "found 5 columns, expected 6"),
        ("a\nb c d e f\n", 1, "found 1 column, expected 6"),
        ("q Q0 d\nq Q0 d 1 2 t x y z\n", 1, "found 3 columns, expected 6"),
        (RUN + "q2 Q0 d3 3 1 my tag\n", 5, "found 7 columns, expected 6"),
        (RUN + "q2 Q0 d3 3 high tag\n", 5, "found 'high', expected a score"),
        (RUN + "q2 Q0 d3 3 nan tag\n", 5, "found 'nan', expected a score"),
        (RUN + "q1 Q0 d2 3 1 tag\n", 5, "document d2 is already listed for query q1 in line 2"),
        (RUN.encode() + b"q2 Q0 d\xff 3 1 tag\n", 5, "not UTF-8"),
        (RUN.encode() + b"q2 Q0 d3 3 1 t\xff\n", 5, "not UTF-8"),
    ],
)
def test_bad_runs_are_refused_with_their_line(tmp_path, content, line, found):
    path = write(tmp_path / "a.run", content)
    with pytest.raises(InputError) as refusal:
        trec.read_run(path)
    assert str(refusal.value).startswith(f"{path}:{line}: ") and found in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_rank_order_goes_by_the_rank_column(tmp_path):
    path = write(tmp_path / "a.run", "q Q0 a 2 1 t\nq Q0 b 1 0.5 t\np Q0 a 1 1 t\nq Q0 c 3 7 t\n")
    assert listed(trec.read_run(path, rank_order=True)) == {
        "q": [("b", 0.5), ("a", 1.0), ("c", 7.0)],
        "p": [("a", 1.0)],
    }
    assert [document for document, _ in trec.read_run(path)["q"].items()] == ["c", "a", "b"]


@pytest.mark.parametrize(
    "ranks, found",
    [("1 1", ":2: rank 1 of query q already has document d0"), ("1 x", ":2: found 'x', expected a rank")],
)
def test_bad_ranks_matter_in_rank_order_alone(tmp_path, ranks, found):
    path = write(tmp_path / "a.run", "".join(f"q Q0 d{i} {rank} {9 - i} t\n" for i, rank in enumerate(ranks.split())))
    with pytest.raises(InputError, match=found):
        trec.read_run(path, rank_order=True)
    assert list(trec.read_run(path)["q"]) == ["d0", "d1"]


def made_run(seed):
    """Scores with many ties, some only as 32-bit floats, and ids whose byte order is not that of numbers or of case."""
    rng = random.Random(seed)
    ids = [f"{rng.choice('aBéz字𝄞')}{rng.randrange(30)}" for _ in range(60)]
    scores = [rng.choice([0.1, 0.25, 3.0, -2.0, 1e300, 2e300]) + rng.choice([0, 1e-12, 0.5]) for _ in ids]
    return {
        f"q{seed}": dict(zip(ids, scores, strict=True)),
        "único": dict(zip(ids, sorted(scores, reverse=True), strict=True)),
    }


def trec_eval_order(hits):
    """Rank each document by asking trec_eval for the reciprocal rank with that document alone relevant."""

    def reciprocal_rank(document):
        return pytrec_eval.RelevanceEvaluator({"q": {document: 1}}, {"recip_rank"}).evaluate({"q": hits})["q"][
            "recip_rank"
        ]

    return sorted(hits, key=reciprocal_rank, reverse=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 16])
def test_the_order_is_that_of_trec_eval_however_the_file_is_cut_and_mixed(tmp_path, monkeypatch, seed, block_bytes):
    monkeypatch.setattr(trec, "BLOCK_BYTES", block_bytes)
    made = made_run(seed)
    lines = [
        f"{query} Q0 {document} 1 {score!r} t\n" for query, hits in made.items() for document, score in hits.items()
    ]
    if seed % 2:
        random.Random(seed).shuffle(lines)
    path = write(tmp_path / "a.run", "".join(lines))
    run = trec.read_run(path)
    assert run == made
    for query, hits in made.items():
        assert list(run[query]) == list(trec.rank(hits)) == trec_eval_order(hits)
    assert listed(trec._read_run_by_block(str(path), False)) == listed(trec._read_run_by_line(str(path), False))


def test_a_written_run_reads_back_the_same(tmp_path):
    import numpy as np

    run = {query: trec.rank(hits) for query, hits in made_run(7).items()}
    run["none"] = {}
    run["single"] = {"d": np.float32(0.1)}
    with open(tmp_path / "a.run", "wb") as stream:
        trec.write_run(stream, run.items(), "drtools")
    first = (tmp_path / "a.run").read_text().splitlines()[0].split()
    assert (first[0], first[1], first[3], first[5]) == ("q7", "Q0", "1", "drtools")
    del run["none"]  # a query without hits has no line
    for rank_order in (False, True):
        assert listed(trec.read_run(tmp_path / "a.run", rank_order)) == listed(run)


@pytest.mark.parametrize(
    "query, document, tag", [("q 1", "d", "t"), ("q", "d\u00a01", "t"), ("q", "", "t"), ("q", "d", "my tag")]
)
def test_names_with_white_space_are_not_written_into_a_run(query, document, tag):
    with pytest.raises(InputError, match="white space"):
        trec.write_run(io.BytesIO(), [(query, {document: 1.0})], tag)


def test_written_judgements_read_back_the_same(tmp_path):
    qrels = {**GRADES, "q 3": {"A title": 1}}
    with open(tmp_path / "q.tsv", "wb") as stream:
        trec.write_qrels(stream, qrels)
    assert (tmp_path / "q.tsv").read_text().startswith("query-id\tcorpus-id\tscore\nq1\td1\t2\n")
    assert trec.read_qrels(tmp_path / "q.tsv") == qrels


@pytest.mark.parametrize("document", ["", "a\tb", "a\nb", " a"])
def test_ids_that_a_column_cannot_hold_are_not_written_into_judgements(document):
    with pytest.raises(InputError, match="rename"):
        trec.write_qrels(io.BytesIO(), {"q": {document: 1}})
