"""Columns of a TSV are settled once: by a header's names, else by the first line; a row that differs is refused."""

import csv
import gzip
import random

import pytest

from drtools import reporting
from drtools.cli import console
from drtools.errors import InputError
from drtools.formats import tsv
from drtools.formats.answers import read_answers
from drtools.formats.corpora import Document, read_corpus, read_queries
from drtools.formats.corpus_store import open_store
from drtools.search.query_vectors import read_weights


def documents(path):
    return [document for _, document in read_corpus(path)]


def write(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    "header",
    [
        "pid\tpassage",
        "docid\ttext",
        "doc_id\ttext",
        "ID\tText",
        "_id\ttext",
        "corpus-id\tcontents",
        "Document ID\tBody",
        '"id"\t"text"',
        "\ufeffid\ttext",
    ],
)
def test_a_header_of_any_common_name_is_no_document(tmp_path, header):
    assert documents(write(tmp_path / "c.tsv", f"{header}\nd1\tOtters eat fish.\n")) == [
        Document("d1", "", "Otters eat fish.")
    ]


@pytest.mark.parametrize(
    "name",
    ["identifier", "documentid", "passageid", "key", "idx", "index", "guid", "No", "page_id", "wikipedia_id", "# id"],
)
def test_less_common_names_of_ids_are_no_documents_either(tmp_path, name):
    path = write(tmp_path / "c.tsv", f"{name}\ttext\nd1\tOtters eat fish.\n")
    assert documents(path) == [Document("d1", "", "Otters eat fish.")]
    assert read_queries(write(tmp_path / "q.tsv", "identifier\tquery\nq1\tfish\n")) == {"q1": "fish"}
    assert read_queries(write(tmp_path / "n.tsv", "number\ttitle\n301\tfish\n")) == {"301": "fish"}


def test_the_unnamed_index_of_pandas_is_no_column_of_ours(tmp_path):
    console.configure("test")
    rows = "\tid\ttext\n0\td1\tOtters eat fish.\n1\td2\tx\n"
    assert [each.id for each in documents(write(tmp_path / "c.tsv", rows))] == ["d1", "d2"]
    assert not reporting.notices()


@pytest.mark.parametrize(
    "line",
    ["d1\ttext", "1\tquestion", "key\tturns a lock", "no\tsays no", "D1\thttp://u\ttitle\tbody", "otters\ttext them"],
)
def test_words_that_are_names_too_are_data_where_they_are_data(tmp_path, line):
    assert [document.id for document in documents(write(tmp_path / "c.tsv", line))] == [line.split("\t")[0]]


@pytest.mark.parametrize(
    "header", ["doc title", "passage_title", "doc_title", "Document Title", "name", "title", "Wikipedia-Title"]
)
def test_a_title_by_another_name_is_a_title(tmp_path, header):
    console.configure("test")
    path = write(tmp_path / "c.tsv", f"id\t{header}\ttext\nd1\tT\tx y\n")
    assert documents(path) == [Document("d1", "T", "x y")] and not reporting.notices()


def test_columns_that_are_not_read_are_noted_each_time(tmp_path):
    path = write(tmp_path / "c.tsv", "id\tbody\tabstract\tyear\nd1\tx\ty\t1999\n")
    for _ in range(2):  # the second time the corpus is in the cache
        console.configure("test")
        assert open_store(str(path)).get("d1") == Document("d1", "", "x")
        (said,) = reporting.notices()
        assert "2 columns are not read (abstract, year); those that are: id from 'id', text from 'body'" in said
    console.configure("test")
    assert read_queries(write(tmp_path / "q.tsv", "topic_id\ttitle\tnarrative\n301\tfish\tx\n")) == {"301": "fish"}
    assert "1 column is not read (narrative)" in reporting.notices()[0]


@pytest.mark.parametrize(
    ("header", "twice"), [("id\ttext\ttext", "text"), ("id\tText\ttext", "Text"), ("id\tid\ttext", "id")]
)
def test_a_name_that_stands_twice_is_refused(tmp_path, header, twice):
    with pytest.raises(InputError, match=rf"c\.tsv:1: found two columns called '{twice}'"):
        documents(write(tmp_path / "c.tsv", f"{header}\nd1\tx\ty\n"))


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("id\ttext\ttitle", "d1\tx y\tT"),
        ("doc_id\ttitle\ttext", "d1\tT\tx y"),
        ("title\tid\tcontents", "T\td1\tx y"),
        ("docid\tlanguage\ttitle\tbody\tyear", "d1\ten\tT\tx y\t1999"),
    ],
)
def test_columns_are_what_the_header_calls_them(tmp_path, header, row):
    assert documents(write(tmp_path / "c.tsv", f"{header}\n{row}\n")) == [Document("d1", "T", "x y")]


def test_a_url_is_part_of_the_title(tmp_path):
    expected = [Document("d1", "http://u T", "x y")]
    assert documents(write(tmp_path / "a.tsv", "docid\turl\ttitle\tbody\nd1\thttp://u\tT\tx y\n")) == expected
    assert documents(write(tmp_path / "b.tsv", "d1\thttp://u\tT\tx y\n")) == expected


@pytest.mark.parametrize(
    "header",
    ["query_id\tquery_text", "qid\tquery", "id\tsentence", "query-id\ttext", "topic\tquery", "topic_id\ttitle"],
)
def test_queries_with_a_header(tmp_path, header):
    assert read_queries(write(tmp_path / "q.tsv", f"{header}\nq1\tfish\nq2\tswim\n")) == {"q1": "fish", "q2": "swim"}
    assert read_queries(write(tmp_path / "turned.tsv", "lang\tquestion\tqid\nen\tfish\tq1\n")) == {"q1": "fish"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id\tsummary\nd1\tx\n", ":1: found a header (id, summary) without a known name for the text"),
        ("title\ttext\nT\tx\n", ":1: found a header (title, text) without a known name for the id"),
        ("reference\ttext\nd1\tx\n", ":1: found a header (reference, text) without a known name for the id"),
        ("\ttext\n0\tx\n", ":1: found a header (, text) without a known name for the id"),
        ("question\tanswers\nwhat\t['x']\n", ":1: found a header (question, answers) without a known name"),
        ("ref\ttitle\turl\nd1\tT\tx\n", ":1: found a header (ref, title, url) without a known name"),
        ("d1\tx\nd2\tx\ty\n", ":2: 3 columns, but line 1 has 2"),
        ("d1\tx\ty\nd2\tx\n", ":2: 2 columns, but line 1 has 3"),
        ("id\ttext\ttitle\nd1\tx\tT\n\nd2\tx\n", ":4: 2 columns, but line 1 has 3"),
        ("d1\tx\n\td2\tx\n", ":2: 3 columns"),
        ("d1\n", ":1: not JSON"),
        ("d1\tx\nd2\n", ":2: 1 column, but line 1 has 2"),
        ("a\tb\tc\td\te\n", ":1: 5 columns, expected `id text`"),
    ],
)
def test_rows_with_other_columns_are_refused_with_their_line(tmp_path, text, said):
    path = write(tmp_path / "c.tsv", text)
    with pytest.raises(InputError) as refusal:
        documents(path)
    assert str(refusal.value).startswith(f"{path}{said}"), refusal.value


def test_a_tab_within_a_query_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"q\.tsv:2: 3 columns, but line 1 has 2"):
        read_queries(write(tmp_path / "q.tsv", "q1\twood tool\nq2\tdefault\tconstraints\n"))


@pytest.mark.parametrize("names", [("id", "text", "title"), ("id", "title", "text")])
def test_what_the_csv_module_and_pandas_write_is_read_back(tmp_path, names):
    """2,000 texts at random, of quotes, tabs and line breaks: each is read as it was or refused, never another text."""
    generator = random.Random(3)
    pieces = ["otter", " ", '"', '""', "\t", "\n", "\n\n", '"\n', '\n"', '6" pipe', "ü", ","]
    path, refused = tmp_path / "c.tsv", 0
    for n in range(2000):
        text = "x" + "".join(generator.choices(pieces, k=generator.randint(0, 9))) + "x"
        rows = [{"id": f"d{n}", "text": text, "title": 'a "T"'}, {"id": "last", "text": 'b "c"', "title": "U"}]
        with open(path, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
            writer.writerows([names, *([row[name] for name in names] for row in rows)])
        try:
            found = documents(path)
        except InputError as refusal:
            assert str(refusal).startswith(f"{path}:")
            refused += 1
            continue
        assert found == [Document(row["id"], row["title"], row["text"]) for row in rows]
    assert refused < 40


def test_a_line_break_within_quotes_never_makes_two_documents(tmp_path):
    dpr = 'id\ttext\ttitle\n1\t"first line of planes\nsecond"\tPlanes\n2\t"otters swim"\tOtters\n'
    expected = [Document("1", "Planes", "first line of planes\nsecond"), Document("2", "Otters", "otters swim")]
    assert documents(write(tmp_path / "dpr.tsv", dpr)) == expected
    (tmp_path / "dpr.tsv.gz").write_bytes(gzip.compress(dpr.replace("\n", "\r\n").encode()))
    assert documents(tmp_path / "dpr.tsv.gz") == expected
    last = 'id\ttitle\ttext\n1\tPlanes\t"first\n\nthird\tcolumn"\n2\tOtters\tx\n'
    assert documents(write(tmp_path / "last.tsv", last)) == [
        Document("1", "Planes", "first\n\nthird\tcolumn"),
        Document("2", "Otters", "x"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('d1\t"first line\nd9\tsecond line"\nd2\totters swim\n', 2),
        ('d1\tx\nd2\t"first\nd3\tsecond\nd4\tthird"\n', 4),
        ('d1\t"whole"\nd2\t"first\nd3\tsecond"\n', 3),
        ('id\ttitle\ttext\n1\tT\t"first\n2\tU\tsecond"\n', 2),
        ('id\ttext\n1\t"first\nand so on\n', 2),
    ],
)
def test_a_quote_that_may_go_over_several_lines_is_refused(tmp_path, text, line):
    path = write(tmp_path / "c.tsv", text)
    with pytest.raises(InputError) as refusal:
        documents(path)
    assert str(refusal.value).startswith(f"{path}:{line}: "), refusal.value
    assert "quote" in str(refusal.value)


@pytest.mark.parametrize(
    "texts",
    [
        ['"Otters" eat ""fish""', 'say "hi"'],
        ['a 6" pipe', '"never closed', 'and 7"'],
        ['"never closed', 'he said "no" and left', 'ends with 6"'],
        ['"one', '"two', 'three"'],
        ['"all of it"', "plain"],
    ],
)
def test_quotes_are_text_in_a_file_without_a_header(tmp_path, texts):
    """As in MS MARCO's collection, where a passage may begin with a quote that it does not close."""
    path = write(tmp_path / "c.tsv", "".join(f"d{n}\t{text}\n" for n, text in enumerate(texts)))
    assert [document.text for document in documents(path)] == texts


def test_a_quote_that_was_opened_long_ago_is_text(tmp_path):
    lines = ['d\t"never closed', *(f"e{n}\tplain" for n in range(tsv.LONGEST_RECORD)), 'f\tends with 6"']
    assert len(documents(write(tmp_path / "c.tsv", "\n".join(lines)))) == len(lines)


def test_a_column_longer_than_the_csv_module_takes(tmp_path):
    text = "otter " * 50_000 + '"said"\n' + "b"
    with open(tmp_path / "c.tsv", "w", newline="") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows([("id", "text", "title"), ("1", text, "T")])
    assert documents(tmp_path / "c.tsv") == [Document("1", "T", text)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"_id": "a", "text": "x"}', '{"id": "b", "text": "y"}'], "c.jsonl:2: no '_id' among the keys"),
        (['{"_id": "a", "text": "x"}', '{"_id": "b", "contents": "y"}'], "c.jsonl:2: no 'text' among the keys"),
        (['{"_id": "a", "text": "x"}', "b\ty"], "c.jsonl:2: not JSON"),
    ],
)
def test_the_keys_of_json_lines_are_settled_by_the_first(tmp_path, lines, said):
    path = write(tmp_path / "c.jsonl", "\n".join(lines))
    for read in (documents, read_queries):
        with pytest.raises(InputError) as refusal:
            read(path)
        assert said in str(refusal.value)


def test_the_first_key_wins_in_every_line(tmp_path):
    path = write(
        tmp_path / "c.jsonl", '{"id": "a", "contents": "x"}\n{"_id": 1, "id": "b", "text": "z", "contents": "y"}\n'
    )
    assert documents(path) == [Document("a", "", "x"), Document("b", "", "y")]
    assert read_queries(path) == {"a": "x", "b": "y"}


def test_answers_are_of_one_form(tmp_path):
    path = write(tmp_path / "a.tsv", "what is it\t['a']\n{curly} who\t['b', \"c\"]\n")
    assert read_answers(path) == {"0": ["a"], "1": ["b", "c"]}
    path = write(tmp_path / "a.jsonl", '{"_id": "q", "answers": ["a"]}\nwho\t[\'b\']\n')
    with pytest.raises(InputError, match=r"a\.jsonl:2: not JSON"):
        read_answers(path)


def test_weights_of_queries_may_have_a_header(tmp_path):
    path = write(tmp_path / "mu.tsv", "query-id\tmu\nq1\t0.5\nq2\t2\n")
    assert (
        read_weights(str(path))
        == {"q1": 0.5, "q2": 2.0}
        == read_weights(str(write(tmp_path / "bare.tsv", "q1\t0.5\nq2\t2\n")))
    )
