"""The formats of other toolkits, against lines written by hand after their documentation and their own readers."""

import json
from collections import Counter
from pathlib import Path

import pytest

from drtools.errors import InputError
from drtools.formats.json_array import read_records
from drtools.formats.toolkit_rows import Joined, content_id
from drtools.formats.toolkit_tuples import plan
from drtools.formats.toolkits import FORMATS, Candidate, RecordLayout, Row

# as the README of each toolkit shows a record; keys and values written by hand
TEVATRON = """{"query_id": "q1", "query": "who hunts", "positive_passages": [\
{"docid": "d1", "title": "Fox", "text": "hunts hares"}],
"negative_passages": [{"docid": "d2", "title": "Anvil", "text": "is heavy"}, \
{"docid": "d3", "text": "no title"}], "answers": ["fox"]}"""
TEVATRON_DISTILL = """{"query_id": 7, "query": "who", "positive_passages": [\
{"docid": 1, "title": "", "text": "a", "score": 9.5}],
"negative_passages": [{"docid": 2, "title": "", "text": "b", "score": -1}]}"""
DPR = """{"dataset": "nq_train_psgs_w100", "question": "who hunts", "answers": ["fox", "a fox"],
"positive_ctxs": [{"title": "Fox", "text": "hunts hares", "score": 1000, "title_score": 1, "passage_id": "12"}],
"negative_ctxs": [{"title": "Lake", "text": "is wet", "score": 0, "title_score": 0, "psg_id": "77"}],
"hard_negative_ctxs": [{"title": "Anvil", "text": "is heavy", "score": "14.5", "title_score": 0, "passage_id": "3"}, \
{"title": null, "text": "no id"}]}"""
FLAGEMBEDDING = """{"query": "who hunts", "pos": ["fox"], "neg": ["anvil", "lake"], "pos_scores": [3], \
"neg_scores": [0.5, -2.25],
"prompt": "Find it: ", "type": "normal"}"""


def read(name: str, text: str) -> Row:
    return FORMATS[name].read(json.loads(text), "train.jsonl", 4)


def test_tevatron_is_read_as_its_readme_says():
    row = read("tevatron", TEVATRON)
    assert (row.query_id, row.query) == ("q1", "who hunts")
    assert row.positives == [Candidate("d1", "Fox", "hunts hares", None)]
    assert row.negatives == [Candidate("d2", "Anvil", "is heavy", None), Candidate("d3", "", "no title", None)]
    assert row.others == {"answers": ["fox"]}
    assert read("tevatron", TEVATRON_DISTILL) == Row(
        "7", "who", [Candidate("1", "", "a", 9.5)], [Candidate("2", "", "b", -1)], {}
    )


def test_dpr_is_read_with_its_easy_negatives_apart():
    row = read("dpr", DPR)
    assert (row.query_id, row.query) == (None, "who hunts")
    assert row.positives == [Candidate("12", "Fox", "hunts hares", 1000)]
    assert row.negatives == [
        Candidate("3", "Anvil", "is heavy", 14.5),
        Candidate(None, "", "no id", None),
    ]
    assert row.easy == [Candidate("77", "Lake", "is wet", 0)]
    assert row.others == {"dataset": "nq_train_psgs_w100", "answers": ["fox", "a fox"]}


def test_flagembedding_is_read_as_its_readme_says():
    row = read("flagembedding", FLAGEMBEDDING)
    assert row.query == "who hunts" and row.query_id is None
    assert row.positives == [Candidate(None, "", "fox", 3)]
    assert row.negatives == [Candidate(None, "", "anvil", 0.5), Candidate(None, "", "lake", -2.25)]
    assert row.others == {"prompt": "Find it: ", "type": "normal"}
    assert read("flagembedding", '{"query": "a", "pos": ["b"]}').negatives == []  # before its hn_mine


@pytest.mark.parametrize(
    "text, positives, negatives",
    [
        ('{"anchor": "q", "positive": "p"}', [("p", None)], []),
        ('{"query": "q", "positive": "p", "negative": "n"}', [("p", None)], [("n", None)]),
        ('{"question": "q", "answer": "p", "negative": "n", "scores": [0.9, 0.25]}', [("p", 0.9)], [("n", 0.25)]),
        (
            '{"anchor": "q", "positive": "p", "negative_1": "n", "negative_2": "m"}',
            [("p", None)],
            [("n", None), ("m", None)],
        ),
        (
            '{"negative_1": "n", "negative_2": "m", "positive": "p", "query": "q", "score": [3, 2, 1]}',
            [("p", 3)],
            [("n", 2), ("m", 1)],
        ),
        ('{"anchor": "q", "positive": "p", "label": 1}', [("p", None)], []),
        ('{"anchor": "q", "positive": "n", "label": 0}', [], [("n", None)]),
        (
            '{"anchor": "q", "positive": ["p", "n", "m"], "labels": [1, 0, 0]}',
            [("p", None)],
            [("n", None), ("m", None)],
        ),
    ],
)
def test_sentence_transformers_forms(text, positives, negatives):
    row = read("sentence-transformers", text)
    assert row.query == "q"
    assert [(item.text, item.score) for item in row.positives] == positives
    assert [(item.text, item.score) for item in row.negatives] == negatives


@pytest.mark.parametrize(
    "form, scores",
    [
        ("triplet", True),
        ("n-tuple", True),
        ("triplet", False),
        ("n-tuple", False),
        ("labeled-pair", False),
        ("labeled-list", False),
    ],
)
def test_what_mine_hard_negatives_writes_is_read(form, scores, tmp_path):
    """Compare with the miner itself, whose model is replaced by fixed vectors; q0 has p0, q1 has p1."""
    import torch
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    vectors = {
        "q0": [1, 0, 0],
        "q1": [0, 1, 0],
        "p0": [1, 0, 0],
        "p1": [0, 1, 0],
        "near0": [0.8, 0, 0.6],
        "near1": [0, 0.6, 0.8],
    }

    class Fixed:
        device = "cpu"

        def encode_query(self, texts, **_):
            return torch.tensor([vectors[text] for text in texts], dtype=torch.float32)

        encode_document = encode_query

        def similarity(self, a, b):
            return a @ b.T

        def similarity_pairwise(self, a, b):
            return (a * b).sum(-1)

    mined = mine_hard_negatives(
        Dataset.from_dict({"question": ["q0", "q1"], "answer": ["p0", "p1"]}),
        Fixed(),
        corpus=["near0", "near1"],
        num_negatives=2,
        output_format=form,
        output_scores=scores,
        verbose=False,
    )
    path = tmp_path / "mined.jsonl"
    mined.to_json(path)
    examples, documents, queries, _ = join("sentence-transformers", path)
    texts = {record["_id"]: record["text"] for record in documents}
    assert {record["text"]: record["_id"] for record in queries} == {"q0": content_id("q0"), "q1": content_id("q1")}
    q0, q1 = examples
    assert [texts[i] for i in q0.positives] == ["p0"] and [texts[i] for i in q1.positives] == ["p1"]
    assert (
        texts[q0.negatives[0]] == "near0"
        and texts[q1.negatives[0]] == "near1"
        and len(q0.negatives) == len(q1.negatives) == 2
    )
    if scores:
        assert q0.positive_scores == [1] and q0.negative_scores[0] == pytest.approx(0.8)
        assert q1.positive_scores == [1] and q1.negative_scores[0] == pytest.approx(0.6)
    else:
        assert q0.positive_scores is None and q0.negative_scores is None


def join(name: str, path: Path, **options):
    """Return (examples, documents, queries, counts) of a foreign file."""
    import io

    documents, queries = io.BytesIO(), io.BytesIO()
    joined = Joined(path, documents, queries, **options)
    for number, record in read_records(path):
        joined.add(number, FORMATS[name].read(record, path, number))
    examples = list(joined.examples())
    assert joined.is_retitled == (
        list(joined.retitled(documents.getvalue().splitlines(keepends=True)))
        != documents.getvalue().splitlines(keepends=True)
    )
    return (
        examples,
        [json.loads(line) for line in joined.retitled(documents.getvalue().splitlines(keepends=True))],
        [json.loads(line) for line in queries.getvalue().splitlines()],
        joined.counts,
    )


ROW = Row(
    "q1",
    "who hunts",
    [Candidate("d1", "Fox", "hunts hares", 2.5), Candidate("d4", "", "lynx", 2)],
    [Candidate("d2", "Anvil", "is heavy", -1.5), Candidate("d3", "", "lake", 0)],
    {"answers": ["fox"]},
)
WRITTEN = {  # by hand
    "tevatron": [
        {
            "query_id": "q1",
            "query": "who hunts",
            "answers": ["fox"],
            "positive_passages": [
                {"docid": "d1", "title": "Fox", "text": "hunts hares", "score": 2.5},
                {"docid": "d4", "title": "", "text": "lynx", "score": 2},
            ],
            "negative_passages": [
                {"docid": "d2", "title": "Anvil", "text": "is heavy", "score": -1.5},
                {"docid": "d3", "title": "", "text": "lake", "score": 0},
            ],
        }
    ],
    "dpr": [
        {
            "question": "who hunts",
            "answers": ["fox"],
            "query_id": "q1",
            "negative_ctxs": [],
            "positive_ctxs": [
                {"title": "Fox", "text": "hunts hares", "score": 2.5, "passage_id": "d1"},
                {"title": "", "text": "lynx", "score": 2, "passage_id": "d4"},
            ],
            "hard_negative_ctxs": [
                {"title": "Anvil", "text": "is heavy", "score": -1.5, "passage_id": "d2"},
                {"title": "", "text": "lake", "score": 0, "passage_id": "d3"},
            ],
        }
    ],
    "flagembedding": [
        {
            "query": "who hunts",
            "query_id": "q1",
            "answers": ["fox"],
            "pos": ["Fox hunts hares", "lynx"],
            "neg": ["Anvil is heavy", "lake"],
            "pos_scores": [2.5, 2],
            "neg_scores": [-1.5, 0],
        }
    ],
    "sentence-transformers": [
        {"anchor": "who hunts", "positive": "Fox hunts hares", "negative": "Anvil is heavy", "scores": [2.5, -1.5]},
        {"anchor": "who hunts", "positive": "lynx", "negative": "lake", "scores": [2, 0]},
    ],
}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written(name):
    assert FORMATS[name].write(ROW, RecordLayout(negatives=True, scores=True)) == WRITTEN[name]


def test_separator_pairs_and_scores_left_out():
    layout = RecordLayout(negatives=False, scores=False, title_separator=" | ")
    assert FORMATS["sentence-transformers"].write(ROW, layout) == [
        {"anchor": "who hunts", "positive": "Fox | hunts hares"},
        {"anchor": "who hunts", "positive": "lynx"},
    ]
    assert "pos_scores" not in FORMATS["flagembedding"].write(ROW, layout)[0]


def numbered(positives: int, negatives: int) -> Row:
    def documents(letter, count):
        return [Candidate(f"{letter}{i}", "", f"{letter}{i}", float(i)) for i in range(count)]

    return Row("q", "a", documents("p", positives), documents("n", negatives), {})


def test_tuples_by_hand():
    """Five negatives, two a row: the third row begins again with the first."""
    write, row = FORMATS["sentence-transformers"].write, numbered(2, 5)
    columns = ("positive", "negative_1", "negative_2")
    texts = [["p0", "n0", "n1"], ["p1", "n2", "n3"], ["p0", "n4", "n0"]]
    scores = [[0, 0, 1], [1, 2, 3], [0, 4, 0]]
    whole = write(row, RecordLayout(negatives=True, scores=True, size=2))
    assert whole == [
        {"anchor": "a"} | dict(zip(columns, text, strict=True)) | {"scores": score}
        for text, score in zip(texts, scores, strict=True)
    ]
    assert write(row, RecordLayout(negatives=True, scores=True, size=2, most_rows=2)) == whole[:2]
    assert write(row, RecordLayout(negatives=False, scores=False, most_rows=1)) == [{"anchor": "a", "positive": "p0"}]
    short = write(numbered(1, 2), RecordLayout(negatives=True, scores=False, size=5))
    assert [list(record.values()) for record in short] == [["a", "p0", "n0", "n1", "n0", "n1", "n0"]]
    assert write(numbered(2, 0), RecordLayout(negatives=True, scores=False, size=2)) == []


def test_tuples_hold_every_positive_and_every_negative_and_no_product():
    for positives in (1, 2, 7, 30):
        for negatives in (1, 3, 10, 25):
            for size in range(1, min(negatives, 10) + 1):
                records = FORMATS["sentence-transformers"].write(
                    numbered(positives, negatives), RecordLayout(negatives=True, scores=False, size=size)
                )
                assert len(records) == max(positives, -(-negatives // size))
                assert {tuple(record)[2:] for record in records} == {
                    ("negative",) if size == 1 else tuple(f"negative_{i}" for i in range(1, size + 1))
                }
                rows = [list(record.values())[1:] for record in records]
                assert {row[0] for row in rows} == {f"p{i}" for i in range(positives)}
                assert {text for row in rows for text in row[1:]} == {f"n{i}" for i in range(negatives)}
                assert all(len(set(row)) == size + 1 for row in rows)  # none stands twice in a row


@pytest.mark.parametrize("asked, most_rows, size", [(None, None, 3), (4, None, 4), (1, None, 1), (None, 2, 3)])
def test_the_plan_is_what_is_written(asked, most_rows, size):
    rows = [numbered(1, 12), numbered(9, 3), numbered(2, 0), numbered(4, 40)]
    rows[0].positives[0] = Candidate("x", "A title", "é" * 500, 1.0)
    planned = plan(rows, RecordLayout(negatives=True, scores=False, most_rows=most_rows), asked)
    written = [record for row in rows for record in FORMATS["sentence-transformers"].write(row, planned.layout)]
    assert planned.layout.size == size and planned.rows == len(written) > 0 and planned.examples == 3
    size_of_file = sum(len(json.dumps(record, ensure_ascii=False).encode()) + 1 for record in written)
    assert planned.size == pytest.approx(size_of_file, rel=0.15)
    assert planned.short == (asked == 4) and planned.cut == (3 if most_rows else 0)
    many = plan([numbered(1, 30), numbered(1, 20)], RecordLayout(negatives=True, scores=False))
    assert many.layout.size == 10 and many.rows == 5
    pairs = plan([numbered(3, 0), numbered(1, 0)], RecordLayout(negatives=False, scores=False))
    assert pairs.rows == 4 and "4 rows of a positive, about" in pairs.words("1 kB")


def test_dpr_file_suits_dprs_own_way_of_reading():
    """Take the sample apart in the same steps as DPR's training data set does."""
    sample = json.loads(json.dumps(FORMATS["dpr"].write(ROW, RecordLayout(True, True))))[0]
    groups = [
        [(context["text"], context["title"]) for context in sample[key]]
        for key in ("positive_ctxs", "negative_ctxs", "hard_negative_ctxs")
    ]
    assert groups == [[("hunts hares", "Fox"), ("lynx", "")], [], [("is heavy", "Anvil"), ("lake", "")]]


def test_rows_of_one_query_are_joined(tmp_path):
    path = tmp_path / "triplets.jsonl"
    path.write_text(
        "\n".join(
            json.dumps(record)
            for record in [
                {"anchor": "a", "positive": "p1", "negative": "n1"},
                {"anchor": "b", "positive": "p1", "negative": "n1"},
                {"anchor": "a", "positive": "p2", "negative": "n2"},
                {"anchor": "a", "positive": "p1", "negative": "n2"},
                {"anchor": "a", "positive": "n1", "negative": "n3"},  # n1 was a negative of a
            ]
        )
    )
    examples, documents, queries, counts = join("sentence-transformers", path)
    texts = {record["_id"]: record["text"] for record in documents}
    assert [
        (example.query_id, [texts[i] for i in example.positives], [texts[i] for i in example.negatives])
        for example in examples
    ] == [(content_id("a"), ["p1", "p2", "n1"], ["n2", "n3"]), (content_id("b"), ["p1"], ["n1"])]
    assert sorted(texts.values()) == ["n1", "n2", "n3", "p1", "p2"] and [record["text"] for record in queries] == [
        "a",
        "b",
    ]
    assert {key: value for key, value in counts.items() if value} == {"contradictions": 1}
    assert all(len(i) == 20 and int(i, 16) >= 0 for i in texts)


@pytest.mark.parametrize(
    ("easy", "first", "second", "left_out"),
    [("drop", [], [], 3), ("append", ["77"], ["77"], 0), ("fill", [], ["77"], 1)],
)
def test_easy_negatives_are_no_hard_ones(easy, first, second, left_out, tmp_path):
    """`fill` is DPR's own program: easy ones only where there is no hard one. A positive is never one."""
    path = tmp_path / "train.json"
    positive = {"text": "y", "psg_id": "8"}
    negatives = [*json.loads(DPR)["negative_ctxs"], positive]
    without = {"question": "b", "positive_ctxs": [positive], "negative_ctxs": negatives}
    path.write_text(json.dumps([json.loads(DPR), without]))
    examples, documents, _, counts = join("dpr", path, easy=easy)
    hard = ["3", content_id("", "no id")]
    assert [example.negatives for example in examples] == [[*hard, *first], second]
    assert examples[0].negative_scores == ([14.5, None, 0] if first else [14.5, None])
    assert [record["_id"] for record in documents] == ["12", *hard, "77", "8"]
    assert counts["easy"] == left_out and counts["without negatives"] == (not second)
    assert counts["filled"] == (easy == "fill") and counts["contradictions"] == bool(second)


def tevatron_records(path: Path, *passages: dict) -> Path:
    records = [
        {"query_id": f"q{i}", "query": f"query {i}", "positive_passages": [passage], "negative_passages": []}
        for i, passage in enumerate(passages)
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@pytest.mark.parametrize("titles", [["T", "", "T"], ["", "T", ""], ["", None, "T"], ["T", None, "T"]])
@pytest.mark.parametrize("name", ["id", "no id"])
def test_a_document_that_is_titled_somewhere_is_the_titled_one(titles, name, tmp_path):
    given = {"docid": "d"} if name == "id" else {}
    passages = [given | {"text": "words"} | ({} if title is None else {"title": title}) for title in titles]
    path = tevatron_records(tmp_path / "train.jsonl", *passages, given | {"title": "T", "text": "words"})
    examples, documents, _, counts = join("tevatron", path)
    the_one = "d" if name == "id" else content_id("T", "words")
    assert documents == [{"_id": the_one, "title": "T", "text": "words"}]
    assert [example.positives for example in examples] == [[the_one]] * 4
    assert {key: value for key, value in counts.items() if value} == {"retitled": 1, "without negatives": 4}


def test_two_titles_or_two_texts_of_one_id_are_refused(tmp_path):
    for second, third in (({"title": "", "text": "x"}, {"title": "U", "text": "x"}), ({"title": "", "text": "y"}, {})):
        path = tevatron_records(
            tmp_path / "train.jsonl",
            *({"docid": "d"} | passage for passage in ({"title": "T", "text": "x"}, second, third) if passage),
        )
        line = 3 if third else 2
        with pytest.raises(InputError, match=rf"train.jsonl:{line}: document 'd' has another text in line 1"):
            join("tevatron", path)


def test_untitled_documents_of_their_own_stay(tmp_path):
    path = tevatron_records(
        tmp_path / "train.jsonl",
        {"text": "alone"},
        {"title": "T", "text": "x"},
        {"title": "U", "text": "x"},
        {"text": "x"},
    )
    examples, documents, _, counts = join("tevatron", path)
    assert [(record["title"], record["text"]) for record in documents] == [("", "alone"), ("T", "x"), ("U", "x")]
    assert counts["retitled"] == 1 and examples[3].positives == [content_id("T", "x")] == examples[1].positives


def test_contradictions_are_by_text_and_oddities_counted(tmp_path):
    path = tmp_path / "train.jsonl"
    passages = [
        {"docid": docid, "title": "T", "text": text}
        for docid, text in (("d1", "same"), ("d2", "same"), ("d3", "other"))
    ]
    path.write_text(
        "\n".join(
            json.dumps(record)
            for record in [
                {
                    "query_id": "q",
                    "query": "x",
                    "positive_passages": passages[:1],
                    "negative_passages": [*passages[1:], passages[2]],
                    "answers": [1],
                },
                {
                    "query_id": "q",
                    "query": "x",
                    "positive_passages": [passages[0] | {"score": 1}],
                    "negative_passages": [],
                    "answers": [2],
                },
                {
                    "query_id": "q",
                    "query": "x",
                    "positive_passages": [passages[0] | {"score": 2}],
                    "negative_passages": [],
                },
                {"query_id": "r", "query": "y", "positive_passages": [], "negative_passages": passages[:1]},
            ]
        )
    )
    examples, documents, _, counts = join("tevatron", path)
    assert [example.record() for example in examples] == [
        {"query_id": "q", "positives": ["d1"], "negatives": ["d3"], "positive_scores": [1], "answers": [1]},
        {"query_id": "r", "positives": [], "negatives": ["d1"]},
    ]
    assert counts == Counter({"contradictions": 1, "repeated": 1, "disagreeing": 2, "without positives": 1})
    assert [record["_id"] for record in documents] == ["d1", "d2", "d3"]


ARRAY = f"[\n{DPR},\n\n{DPR}\n]\n"


def test_array_and_lines_are_read_with_their_line_numbers(tmp_path):
    array, lines = tmp_path / "a.json", tmp_path / "b.jsonl"
    array.write_bytes(b"\xef\xbb\xbf" + ARRAY.encode())
    lines.write_text(json.dumps(json.loads(DPR)) + "\n\n" + json.dumps(json.loads(DPR)))
    assert [(number, record) for number, record in read_records(array)] == [(2, json.loads(DPR)), (7, json.loads(DPR))]
    assert [number for number, _ in read_records(lines)] == [1, 3]
    array.write_text("[]")
    assert list(read_records(array)) == []


@pytest.mark.parametrize(
    "text, where, words",
    [
        ("[\n{}\n", ":3: ", "whole"),
        ("[\n{}\n{}]", ":3: ", "comma"),
        ("[{},\n1]", ":2: ", "expected an object"),
        ("[{}]\n[{}]", ":1: ", "follows"),
        ('[\n{"a": "\\ud800"}]', ":2: ", "not JSON"),
        ('[{"a": NaN}]', ":1: ", "not JSON"),
        ('[{"a": 1,\n"b": }]', ":2: ", "not JSON"),
        ("[" + '{"a":' * 200000, ":1: ", "deep"),
    ],
)
def test_broken_arrays(text, where, words, tmp_path):
    path = tmp_path / "train.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        list(read_records(path))
    assert where in str(caught.value) and words in str(caught.value) and "\n" not in str(caught.value)


def test_array_in_another_encoding(tmp_path):
    path = tmp_path / "train.json"
    path.write_bytes(b'[\n{"a": "caf\xe9"}\n]')
    with pytest.raises(InputError, match=r"train.json:2: byte 11 is not UTF-8"):
        list(read_records(path))


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("tevatron", '{"query_id": "q", "text": "x"}', "query: found no such key"),
        ("tevatron", '{"query_id": "q", "query": "x", "positive_document_ids": ["d"]}', "positive_document_ids"),
        ("tevatron", '{"query_id": "q", "query": "x"}', "positive_passages: found nothing"),
        ("tevatron", '{"query_id": "q", "query": "x", "positive_passages": ["d"]}', "holds a str"),
        (
            "tevatron",
            '{"query_id": "q", "query": "x", "positive_passages": [{"docid": "d"}]}',
            "text: found no such key",
        ),
        (
            "tevatron",
            '{"query_id": "q", "query": "x", "positive_passages": [{"docid": "d e", "text": ""}]}',
            "white space",
        ),
        (
            "tevatron",
            '{"query_id": "q", "query": "x", "positive_passages": [], "positives": []}',
            "'positives' means something else",
        ),
        ("dpr", '{"question": "x", "positive_ctxs": [{"text": "a", "score": "high"}]}', "the score is 'high'"),
        ("dpr", '{"question": "x", "positive_ctxs": [{"text": "a", "score": true}]}', "the score is True"),
        ("dpr", '{"question": 5, "positive_ctxs": []}', "question: found int"),
        ("dpr", '{"question": "x", "positive_ctxs": [{"text": "a", "title": 7}]}', "title: found int"),
        ("flagembedding", '{"query": "x", "pos": "a"}', "pos: found str"),
        ("flagembedding", '{"query": "x", "pos": [5]}', "pos: found int"),
        ("flagembedding", '{"query": "x", "pos": ["a"], "pos_scores": [1, 2]}', "pos_scores: found 2 numbers"),
        ("sentence-transformers", '{"anchor": "x"}', "expected the keys anchor"),
        ("sentence-transformers", '{"a": "x", "b": "y", "c": "z"}', "expected the keys anchor"),
        (
            "sentence-transformers",
            '{"anchor": "x", "positive": "y", "score": 0.7}',
            "does not say which text is a positive",
        ),
        (
            "sentence-transformers",
            '{"anchor": "x", "positive": "y", "label": 3}',
            "does not say which text is a positive",
        ),
        (
            "sentence-transformers",
            '{"anchor": "x", "positive": ["y", "z"], "labels": [1]}',
            "does not say which text is a positive",
        ),
        (
            "sentence-transformers",
            '{"anchor": "x", "positive": "y", "negative": "z", "label": 1.5}',
            "expected a list of 2 numbers",
        ),
        ("sentence-transformers", '{"anchor": "x", "positive": "y", "negative": null}', "negative: found NoneType"),
    ],
)
def test_what_is_refused(name, text, words):
    with pytest.raises(InputError) as caught:
        read(name, text)
    assert (
        str(caught.value).startswith("train.jsonl:4: ") and words in str(caught.value) and "\n" not in str(caught.value)
    )
