"""Corpora in every form are read alike; the store gives back every byte, by row and by id."""

import gzip
import json
from pathlib import Path

import pytest

from drtools import reporting
from drtools.errors import InputError
from drtools.formats.corpora import Document, document_text, read_corpus, read_queries
from drtools.formats.corpus_store import open_store
from drtools.formats.ids import Ids


def documents(path):
    return [document for _, document in read_corpus(path)]


def test_each_form_of_corpus_gives_the_same_documents(tmp_path):
    expected = [Document("1", "", 'löwe "a"'), Document("2", "t", "two")]
    forms = {
        "beir.jsonl": '{"_id": "1", "title": "", "text": "löwe \\"a\\"", "metadata": {}}\n{"_id": "2", "title": "t", '
        '"text": "two"}\n',
        "pyserini.jsonl": '{"id": 1, "contents": "löwe \\"a\\""}\n{"id": "2", "title": "t", "contents": "two"}\n',
        "tevatron.jsonl": '{"docid": "1", "title": null, "text": "löwe \\"a\\""}\n\n{"docid": "2", "title": "t", '
        '"text": "two"}\r\n',
        "dpr.tsv": 'id\ttext\ttitle\n1\tlöwe "a"\t\n2\ttwo\tt\n',
    }
    for name, text in forms.items():
        (tmp_path / name).write_bytes(text.encode())
        assert documents(tmp_path / name) == expected, name
        with gzip.open(tmp_path / f"{name}.gz", "wb") as stream:
            stream.write(text.encode())
        assert documents(tmp_path / f"{name}.gz") == expected, name
    (tmp_path / "marco.tsv").write_text("7\ta passage\n")
    assert documents(tmp_path / "marco.tsv") == [Document("7", "", "a passage")]
    (tmp_path / "marco-docs.tsv").write_text("D1\thttp://u\ttitle\tbody\n")
    assert documents(tmp_path / "marco-docs.tsv") == [Document("D1", "http://u title", "body")]


def test_the_text_of_a_document():
    assert document_text("t", "x ") == "t x"
    assert document_text("", " x") == "x"
    assert document_text("t", "x", " [SEP] ") == "t [SEP] x"
    assert document_text("", "x", " [SEP] ") == "x"


def test_queries_in_each_form(tmp_path):
    for name, text in {
        "q.jsonl": '{"_id": "a", "text": "x y"}\n',
        "q.tsv": "a\tx y\n",
        "t.jsonl": '{"query_id": "a", "query": "x y"}\n',
    }.items():
        (tmp_path / name).write_text(text)
        assert read_queries(tmp_path / name) == {"a": "x y"}


def test_the_store_gives_back_everything(tmp_path):
    records = [{"_id": f"d{n}", "title": "t" * (n % 3), "text": f"text \u2028 {n} 漢字\n\x00"} for n in range(5000)]
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    store = open_store(str(path))
    assert len(store) == 5000 and store.empty == 0
    assert [document._asdict() | {"_id": document.id} for document in store.rows(4090, 4100)] == [
        {"id": record["_id"], **record} for record in records[4090:4100]
    ]
    assert store.get("d4321") == Document("d4321", "t", records[4321]["text"])
    assert store.get("nope") is None and store.missing(["d1", "nope"]) == ["nope"]
    assert store.rows_of([]) == [] and store.rows_of([*(f"no{n}" for n in range(1200)), "d1"])[-1] == store.ids_at(
        range(len(store))
    ).index("d1")
    assert all(
        store.at(row) == store.get(document_id) for row, document_id in enumerate(store.ids_at(range(len(store))))
    )
    assert store.ids_at([0, 4999]) == ["d0", "d4999"]
    assert open_store(str(path)).path == store.path


def test_duplicate_ids_fail_with_their_lines(tmp_path, cache):
    path = tmp_path / "c.jsonl"
    path.write_text('{"_id": "a", "text": "x"}\n\n{"_id": "b", "text": "x"}\n{"_id": "a", "text": "y"}\n')
    with pytest.raises(InputError, match=r"c.jsonl:4: the document id 'a' is also on line 1"):
        open_store(str(path))
    assert not list((cache / "stores").glob("*.sqlite")) and not list((cache / "stores").glob("*.partial"))


def test_ids_by_row_and_row_by_id(tmp_path):
    names = [f"id-{n}-é" for n in range(1000)]
    (tmp_path / "ids.txt").write_text("\n".join(names) + "\n")
    ids = Ids(tmp_path / "ids.txt")
    assert len(ids) == 1000 and [ids[row] for row in range(1000)] == names
    assert [ids.row_of(name) for name in names] == list(range(1000)) and ids.row_of("none") is None
    (tmp_path / "none.txt").write_text("")
    assert len(Ids(tmp_path / "none.txt")) == 0


def test_quotes_of_csv_go_where_dprs_header_says_that_it_is_csv(tmp_path):
    import csv

    rows = [
        ("1", 'Aaron ( or ; ""Aharon"") is "a prophet"', "Aaron"),
        ("2", '"a" and "b"', '"Heroes"'),
        ("3", "plain", "it's"),
        ("4", "", "x"),
    ]
    with open(tmp_path / "psgs_w100.tsv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows([("id", "text", "title"), *rows])
    assert '"""Heroes"""' in (tmp_path / "psgs_w100.tsv").read_text()
    assert documents(tmp_path / "psgs_w100.tsv") == [Document(name, title, text) for name, text, title in rows]
    (tmp_path / "bare.tsv").write_text('id\ttext\ttitle\n1\t"a" and "b"\t"\n')
    assert documents(tmp_path / "bare.tsv") == [Document("1", '"', '"a" and "b"')], (
        "no CSV: quotes within are not doubled"
    )
    (tmp_path / "marco.tsv").write_text('7\t"a passage"\n')
    assert documents(tmp_path / "marco.tsv") == [Document("7", "", '"a passage"')]


def test_a_mark_of_byte_order_before_dprs_header(tmp_path):
    (tmp_path / "psgs.tsv").write_bytes(b'\xef\xbb\xbfid\ttext\ttitle\n1\t"he said ""yes"""\tA\n')
    assert documents(tmp_path / "psgs.tsv") == [Document("1", "A", 'he said "yes"')]


def test_columns_that_are_not_read_are_noted_whoever_builds_the_store(tmp_path, monkeypatch):
    """Also when another process builds it while this one waits for the lock."""
    corpus = tmp_path / "corpus.tsv"
    corpus.write_text("id\ttext\tyear\nd1\tfox\t1999\n")
    open_store(str(corpus))
    reporting.install(reporting.Reporter())
    exists, asked = Path.exists, []

    def late(path, **follow):
        asked.append(path)
        return exists(path, **follow) and len(asked) > 1

    monkeypatch.setattr(Path, "exists", late)
    open_store(str(corpus))
    assert len(reporting.notices()) == 1 and "year" in reporting.notices()[0]
