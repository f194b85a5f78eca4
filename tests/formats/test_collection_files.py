"""Native files of collections: each published form made here and read back; malformed ones."""

import bz2
import gzip
import io
import json
import lzma
import shutil
import tarfile
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from drtools.cli.main import tool_names
from drtools.errors import InputError
from drtools.formats.collections.files import parts_of
from drtools.formats.collections.parts import ReadingOptions
from drtools.formats.collections.sources import parts_of_sources
from drtools.formats.corpora import read_corpus

OPTIONS = ReadingOptions()
TEXTS = {"d1": ("Otters", "They eat fish, mostly."), "d2": ("", 'A "plane"\tcuts wood.'), "d3": ("Füße", "gehen\nweit")}


def held(*sources, options=OPTIONS, **named):
    """Return {id: (title, text)}, {id: text}, {split: {(query, document): grade}}, {id: answers} of sources."""
    parts = parts_of_sources([str(each) for each in sources], {k: [str(v)] for k, v in named.items()}, options)
    documents = {each.id: (each.title, each.text) for start in parts.documents for _, each in start()}
    queries = {each.id: each.text for start in parts.queries for each in start()}
    judged = {}
    for split, start in parts.judgements:
        judged.setdefault(split, {}).update({(each.query_id, each.document_id): each.grade for each in start()})
    answers = {each.query_id: each.answers for start in parts.answers for each in start()}
    return documents, queries, judged, answers


def test_trec_documents_have_number_headline_and_text(tmp_path):
    path = tmp_path / "disk.txt"
    path.write_text(
        "<?xml version='1.0'?>\n<DOCS>\n<DOC>\n<DOCNO> FT-1 </DOCNO>\n<DOCID>x</DOCID>\n<HEADLINE>\nOtters &amp;\n"
        "fish\n</HEADLINE>\n<LP>Lead.</LP>\n<TEXT>\nThey <b>eat</b>.<!-- no -->\n<P>More</P></TEXT>\n</DOC>\n"
        '<doc id="7"><docno>FT-2</docno><title>Planes</title>cut wood</doc><DOC><DOCNO>FT-3</DOCNO></DOC>\n</DOCS>\n'
    )
    documents, *rest = held(path)
    assert documents == {
        "FT-1": ("Otters & fish", "Lead. They eat. More"),
        "FT-2": ("Planes", "cut wood"),
        "FT-3": ("", ""),
    }
    assert rest == [{}, {}, {}]


CLASSIC = """<top>
<num> Number: 051
<title> Topic:  what do
otters eat

<desc> Description:
Food of otters.

<narr> Narrative:
Any fish counts.

</top>

<top>
<num>MB052</num>
<query> tools </query>
<desc>that cut</desc>
</top>
"""
XML = """<?xml version="1.0" encoding="UTF-8"?>
<topics task="x">
  <topic number="51"><query>what do otters eat</query><question>Food of otters.</question></topic>
  <topic number="MB052" type="faceted">
    <title>tools</title><description>that cut</description><subtopic number="1">no</subtopic>
  </topic>
</topics>
"""


@pytest.mark.parametrize("text", [CLASSIC, XML], ids=["classic", "xml"])
@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("title", {"51": "what do otters eat", "MB052": "tools"}),
        ("description", {"51": "Food of otters.", "MB052": "that cut"}),
    ],
)
def test_topics_have_a_number_and_the_field_that_is_asked_for(tmp_path, text, field, expected):
    path = tmp_path / "topics"
    path.write_text(text)
    assert held(path, options=ReadingOptions(topic_field=field))[1] == expected


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Otter",
            "paragraphs": [
                {
                    "context": "Otters eat fish.",
                    "qas": [
                        {"id": "a", "question": "What?", "answers": [{"text": "fish", "answer_start": 11}] * 2},
                        {"id": "b", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                },
                {"context": "They swim.", "qas": [{"id": "c", "question": "How?", "answers": [{"text": "swim"}]}]},
            ],
        },
        {"title": "Otter", "paragraphs": [{"context": "They swim.", "qas": []}]},
    ],
}


def test_paragraphs_of_squad_become_documents_and_questions_queries(tmp_path):
    path = tmp_path / "dev-v2.0.json"
    path.write_text(json.dumps(SQUAD))
    documents, queries, judged, answers = held(path)
    assert list(documents.values()) == [("Otter", "Otters eat fish."), ("Otter", "They swim.")]
    first, second = documents
    assert queries == {"a": "What?", "b": "Why?", "c": "How?"}
    assert judged == {"dev": {("a", first): 1, ("c", second): 1}} and answers == {"a": ["fish"], "c": ["swim"]}
    assert parts_of(str(path), None, OPTIONS).cautions == (f"{path}: 1 question has no answer, and so no judgement",)


def csv_of(delimiter, names):
    import csv

    stream = io.StringIO()
    rows = csv.writer(stream, delimiter=delimiter)
    rows.writerows([names, *([each, *texts] for each, texts in TEXTS.items())])
    return stream.getvalue().encode()


def table_of(names, write):
    columns = [list(TEXTS), [title for title, _ in TEXTS.values()], [text for _, text in TEXTS.values()]]
    table, stream = pyarrow.table(dict(zip(names, columns, strict=True))), pyarrow.BufferOutputStream()
    if write == "parquet":
        pyarrow.parquet.write_table(table, stream, row_group_size=2)
    else:
        kind = pyarrow.ipc.new_file if write == "file" else pyarrow.ipc.new_stream
        with kind(stream, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return stream.getvalue().to_pybytes()


def json_of(names, array):
    records = [dict(zip(names, [each, *texts], strict=True)) for each, texts in TEXTS.items()]
    return (json.dumps(records) if array else "".join(json.dumps(each) + "\n" for each in records)).encode()


USUAL, NAMED = ["doc_id", "title", "passage"], ["key", "head", "body_of_it"]
TABLES = {
    "csv": lambda names: csv_of(",", names),
    "semicolons.csv": lambda names: csv_of(";", names),
    "tsv": lambda names: csv_of("\t", names),
    "jsonl": lambda names: json_of(names, False),
    "json": lambda names: json_of(names, True),
    "parquet": lambda names: table_of(names, "parquet"),
    "feather": lambda names: table_of(names, "file"),
    "arrow": lambda names: table_of(names, "stream"),
}


@pytest.mark.parametrize("form", TABLES)
def test_tables_are_read_by_usual_names_of_columns_and_by_named_ones(tmp_path, form):
    usual, named = tmp_path / f"corpus.{form}", tmp_path / f"other.{form}"
    usual.write_bytes(TABLES[form](["_id", "title", "text"]))
    assert held(usual)[0] == TEXTS
    usual.write_bytes(TABLES[form](USUAL))
    if form != "jsonl":  # whose keys are BEIR's, Pyserini's and Tevatron's
        assert held(usual)[0] == TEXTS
    named.write_bytes(TABLES[form](NAMED))
    options = ReadingOptions("key", "body_of_it", "head")
    assert held(documents=named, options=options)[0] == TEXTS
    with pytest.raises(InputError, match="no column 'nothing'"):
        held(documents=named, options=options._replace(text_column="nothing"))


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_queries_and_judgements_are_tables_too(tmp_path, form):
    rows = {
        "queries": (["query_id", "query"], [["q1", "fish"]]),
        "qrels": (["qid", "docid", "relevance"], [["q1", "d1", 2]]),
    }
    paths = []
    for name, (columns, values) in rows.items():
        path = tmp_path / f"{name}.{form}"
        if form == "parquet":
            pyarrow.parquet.write_table(pyarrow.table(dict(zip(columns, zip(*values, strict=True), strict=True))), path)
        elif form == "csv":
            path.write_text("".join(",".join(map(str, each)) + "\n" for each in [columns, *values]))
        else:
            path.write_text("".join(json.dumps(dict(zip(columns, each, strict=True))) + "\n" for each in values))
        paths.append(path)
    assert held(*paths)[1:3] == ({"q1": "fish"}, {"test": {("q1", "d1"): 2}})


PACK = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("end", ["gz", "zst", *(pytest.param(end, marks=pytest.mark.slow) for end in ("bz2", "xz"))])
def test_packed_files_are_read_and_damaged_ones_named(tmp_path, end):
    content = b"".join(b'{"_id": "d%d", "text": "text %d of it"}\n' % (n, n * n * 7919) for n in range(30_000))
    path = tmp_path / f"corpus.jsonl.{end}"
    path.write_bytes(PACK[end](content))
    plain = tmp_path / "corpus.jsonl"
    plain.write_bytes(content)
    assert held(path) == held(plain) and len(held(path)[0]) == 30_000
    assert list(read_corpus(path)) == list(read_corpus(plain))
    path.write_bytes(PACK[end](content)[:-40])
    with pytest.raises(InputError, match=rf"corpus\.jsonl\.{end}:\d+: the \w+ stream is cut short or damaged"):
        held(path)
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"corpus\.jsonl\.{end}:1: the name ends in \.{end}, but the file is not"):
        held(path)


def beir_files():
    return {
        "corpus.jsonl": '{"_id": "d1", "title": "T", "text": "x", "metadata": {}}\n{"_id": "d2", "text": "y"}\n',
        "queries.jsonl": '{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "two"}\n',
        "qrels/train.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\n",
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq2\td2\t2\n",
        "README.md": "# words\n",
    }


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def zipped(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


BEIR = (
    {"d1": ("T", "x"), "d2": ("", "y")},
    {"q1": "one", "q2": "two"},
    {"train": {("q1", "d1"): 1}, "test": {("q2", "d2"): 2}},
    {},
)


def test_a_folder_and_an_archive_of_beir_are_read_whole_or_by_split(tmp_path):
    folder = write_files(tmp_path / "scifact", beir_files())
    archive = zipped(tmp_path / "s.zip", {f"scifact/{name}": text for name, text in beir_files().items()})
    for source in (folder, archive):
        assert held(source) == BEIR
        assert held(source, options=ReadingOptions(split="train"))[2] == {"train": {("q1", "d1"): 1}}


LAYOUTS = {
    "lotte": (
        {
            "collection.tsv": "0\tan answer\n1\tanother\n",
            "metadata.jsonl": '{"dataset": "forum", "domain": "technology"}\n',
            "questions.forum.tsv": "0\thow\n",
            "questions.search.tsv": "0\twhat\n",
            "qas.forum.jsonl": '{"qid": 0, "query": "how", "answer_pids": [1, 0]}\n',
            "qas.search.jsonl": '{"qid": 0, "query": "what", "answer_pids": [1]}\n',
        },
        "forum",
        ({"0": ("", "an answer"), "1": ("", "another")}, {"0": "how"}, {"forum": {("0", "1"): 1, ("0", "0"): 1}}, {}),
    ),
    "cpr": (
        {
            "corpus.tsv": "1\t海上女神妈祖\n2\t尼康\n",
            "train.query.txt": "7\t海神妈祖\n",
            "dev.query.txt": "8\t尼康z62\n",
            "qrels.train.tsv": "7\t0\t1\t1\n",
            "qrels.dev.tsv": "8\t0\t2\t1\n",
        },
        None,
        (
            {"1": ("", "海上女神妈祖"), "2": ("", "尼康")},
            {"7": "海神妈祖", "8": "尼康z62"},
            {"train": {("7", "1"): 1}, "dev": {("8", "2"): 1}},
            {},
        ),
    ),
    "cmedqa": (
        {
            "question.csv": 'question_id,content\n5,"头痛, 怎么办"\n6,发烧\n',
            "answer.csv": 'ans_id,question_id,content\n50,5,"休息, 喝水"\n60,6,看医生\n',
            "train_candidates.txt": "question_id,pos_ans_id,neg_ans_id\n5,50,60\n5,50,61\n",
            "test_candidates.txt": "question_id,ans_id,cnt,label\n6,60,1,1\n6,50,0,0\n",
        },
        None,
        (
            {"50": ("", "休息, 喝水"), "60": ("", "看医生")},
            {"5": "头痛, 怎么办", "6": "发烧"},
            {"train": {("5", "50"): 1}, "test": {("6", "60"): 1}},
            {},
        ),
    ),
    "dureader-retrieval": (
        {
            "passage-collection/part-00": "-\t-\t第一\t0\n-\t-\t第二\t0\n",
            "passage-collection/part-01": "-\t-\t第三\t0\n",
            "passage-collection/passage2id.map.json": '{"0": "pa", "1": "pb", "2": "pc"}',
            "dev/dev.json": '{"question_id": "qa", "question": "问", '
            '"answer_paragraphs": [{"paragraph_id": "pc", "paragraph_text": "第三"}]}\n',
        },
        None,
        ({"pa": ("", "第一"), "pb": ("", "第二"), "pc": ("", "第三")}, {"qa": "问"}, {"dev": {("qa", "pc"): 1}}, {}),
    ),
    "dureader": (
        {
            "devset/search.dev.json": json.dumps(
                {
                    "question": "问 ",
                    "answer_docs": [1],
                    "documents": [
                        {"title": "无", "paragraphs": ["no"], "most_related_para": 0},
                        {"title": "题", "paragraphs": ["a", "第\n二"], "most_related_para": 1},
                    ],
                }
            )
            + "\n"
        },
        None,
        None,
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layouts_have_a_reader(tmp_path, name):
    files, split, expected = LAYOUTS[name]
    folder = write_files(tmp_path / name, files)
    if expected is None:  # ids are the MD5 of the text, as in the published code
        from hashlib import md5

        query, document = (md5(text.encode()).hexdigest() for text in ("问", "题 第 二"))
        expected = ({document: ("题", "第 二")}, {query: "问"}, {"dev": {(query, document): 1}}, {})
    assert held(folder, options=ReadingOptions(split=split)) == expected


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.bz2"])
@pytest.mark.parametrize("name", ["beir", *(name for name, (*_, expected) in LAYOUTS.items() if expected)])
def test_a_tar_archive_is_read_as_the_folder_in_it(tmp_path, name, ending):
    files, split, expected = LAYOUTS.get(name, (beir_files(), None, BEIR))
    folder = write_files(tmp_path / "published", files)
    archive = tmp_path / f"archive{ending}"
    with tarfile.open(archive, f"w:{ {'.tar': '', '.tar.bz2': 'bz2'}.get(ending, 'gz') }".replace(" ", "")) as packed:
        packed.add(folder, "published")
    shutil.rmtree(folder)
    assert held(archive, options=ReadingOptions(split=split)) == expected
    assert sorted(tmp_path.iterdir()) == [archive], "nothing is unpacked beside it"


def test_an_error_in_a_tar_archive_names_the_archive_and_its_file(tmp_path):
    folder = write_files(
        tmp_path / "published", beir_files() | {"corpus.jsonl": '{"_id": "d1", "text": "x"}\n{"_id"\n'}
    )
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as packed:
        packed.add(folder, "published")
    with pytest.raises(InputError, match=r"x\.tar\.gz!published/corpus\.jsonl:2"):
        held(tmp_path / "x.tar.gz")


def test_what_is_published_in_archives_is_read_there(tmp_path):
    files, _, expected = LAYOUTS["cmedqa"]
    for name, text in files.items():
        zipped(tmp_path / name.replace(".csv", ".zip").replace(".txt", ".zip"), {name: text})
    assert held(tmp_path) == expected


DOC = "<DOC>\n<DOCNO>a</DOCNO>\nx\n</DOC>\n"
BAD = {  # name, content, what the message says
    "no number": ("c.sgml", DOC + "<DOC>\nx</DOC>", r"c\.sgml:5: a document has no <DOCNO>; give"),
    "open document": ("c.sgml", DOC + "<DOC>\n<DOCNO>b</DOCNO>\n<DOC>", r"c\.sgml:7: <DOC> was found in .* line 5"),
    "cut document": ("c.sgml", DOC + "<DOC>\n<DOCNO>b</DOCNO>\nx", r"c\.sgml:5: the file ends within a document"),
    "only an end": ("c.sgml", DOC + "</DOC>", r"c\.sgml:5: </DOC> without <DOC>"),
    "text between": ("c.sgml", DOC + "words\n" + DOC, r"c\.sgml:5: found 'words' outside of a document"),
    "id with space": ("c.sgml", "<DOC><DOCNO>a b</DOCNO></DOC>", r"c\.sgml:1: the id 'a b' holds white space"),
    "latin1": ("c.sgml", DOC.replace("x", "é").encode("latin1"), r"c\.sgml:3: byte 1 is not UTF-8"),
    "other markup": ("c.sgml", "<html><body></body></html>", r"c\.sgml:1: found markup that is not known"),
    "topic without number": ("t.txt", "<top>\n<title> x\n</top>", r"t\.txt:1: a topic has no number \(found title\)"),
    "topic without title": (
        "t.txt",
        "<top>\n<num> 1\n<desc> x\n</top>",
        r"t\.txt:1: a topic has no title .*topic_field",
    ),
    "field outside": (
        "t.txt",
        "<top><num> 1 <title> x </top>\n<num> 2",
        r"t\.txt:2: <num> was found outside of a topic",
    ),
    "bad xml": ("t.xml", "<topics>\n<topic number='1'><title>x</topic></topics>", r"t\.xml:2: not well-formed XML"),
    "doctype": ("t.xml", "<!DOCTYPE x [<!ENTITY a 'b'>]>\n<topics></topics>", r"t\.xml:1: found a DOCTYPE"),
    "xml without number": (
        "t.xml",
        "<topics>\n<topic><title>x</title></topic></topics>",
        r"t\.xml:2: a topic has no number",
    ),
    "xml without topics": ("t.xml", "<topics></topics>", r"t\.xml:1: no <topic>"),
    "squad cut": ("s.json", json.dumps(SQUAD, indent=1)[:-9], r"s\.json:\d+: not JSON .*is the file whole"),
    "squad context": (
        "s.json",
        '{"data": [{"paragraphs": [{"context": 5, "qas": []}]}]}',
        r"s\.json: article 1, paragraph 1: context is int, expected \{",
    ),
    "squad twice": (
        "s.json",
        json.dumps({"data": SQUAD["data"][:1] * 2}),
        r"s\.json: article 2, paragraph 1: the question id 'a' is also at .*article 1, paragraph 1",
    ),
    "csv columns": ("corpus.csv", "id,title,text\na,b,c\nd,e\n", r"corpus\.csv:3: 2 columns, but the header has 3"),
    "csv quote": ("corpus.csv", 'id,title,text\na,b,"c\nd,e,f\n', r"corpus\.csv:2: not CSV"),
    "csv twice": ("corpus.csv", "id,text,text\na,b,c\n", r"corpus\.csv:1: found two columns called 'text'"),
    "csv no text": (
        "corpus.csv",
        "id,words\na,b\n",
        r"corpus\.csv:2: no column is called like the text \(found id, words\)",
    ),
    "csv id": ("corpus.csv", "id,text\n,b\n", r"corpus\.csv:2: the id is ''"),
    "csv grade": ("qrels.csv", "qid,docid,rel\nq,d,high\n", r"qrels\.csv:2: rel is 'high', expected a whole number"),
    "json text": ("corpus.json", '[{"_id": "a", "text": 5}]', r"corpus\.json:1: text is int, expected a string"),
    "json cut": ("corpus.json", '[{"_id": "a", "text": "b"},\n', r"corpus\.json:2: not JSON .*is the array whole"),
    "parquet cut": ("corpus.parquet", table_of(USUAL, "parquet")[:-3], r"corpus\.parquet: could not be read"),
    "arrow cut": ("corpus.arrow", table_of(USUAL, "stream")[:-60], r"corpus\.arrow: could not be read"),
    "parquet text": (
        "corpus.parquet",
        lambda path: pyarrow.parquet.write_table(pyarrow.table({"id": ["a"], "text": [None], "n": [1]}), path),
        r"corpus\.parquet: row 1: text is NoneType, expected a string",
    ),
    "zip cut": (
        "x.zip",
        lambda path: path.write_bytes(zipped(path, beir_files()).read_bytes()[:-30]),
        r"x\.zip: not a whole zip",
    ),
    "zip empty": ("x.zip", lambda path: zipped(path, {"README.md": "x"}), r"x\.zip: no file of documents, queries or"),
    "role": (
        "x.jsonl",
        '{"_id": "a", "text": "b"}\n',
        r"x\.jsonl: could hold documents or queries .*corpus or queries",
    ),
    "empty": ("corpus.jsonl", "", r"corpus\.jsonl: the file is empty"),
    "not judgements": ("qrels.txt", "a b\n", r"qrels\.txt:1: is named as judgements, but has none in its first line"),
    "lotte pids": (
        "qas.forum.jsonl",
        '{"qid": 1, "query": "x", "answer_pids": 5}\n',
        r"qas\.forum\.jsonl:1: answer_pids is int",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_file_is_named_with_its_place(tmp_path, name):
    file, content, expected = BAD[name]
    path = tmp_path / file
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=expected) as refused:
        held(path)
    assert str(refused.value).startswith(str(path)) and "\n" not in str(refused.value)


def bad_layout(name, file, text):
    return {**LAYOUTS[name][0], file: text}


BAD_LAYOUTS = {
    "cmedqa label": (
        bad_layout("cmedqa", "test_candidates.txt", "question_id,ans_id,cnt,label\n6,60,1,yes\n"),
        r"test_candidates\.txt:2: label is 'yes', expected 0 or 1",
    ),
    "cmedqa column": (bad_layout("cmedqa", "answer.csv", "ans_id,text\n1,x\n"), r"answer\.csv:2: content is NoneType"),
    "dureader passage": (
        bad_layout("dureader-retrieval", "passage-collection/part-01", "only text\n"),
        r"part-01:1: 1 columns, expected four",
    ),
    "dureader map": (
        bad_layout("dureader-retrieval", "passage-collection/passage2id.map.json", '{"0": "pa"}'),
        r"part-00:2: passage 1 has no id in ",
    ),
    "dureader paragraph": (
        bad_layout(
            "dureader",
            "devset/search.dev.json",
            '{"question": "x", "answer_docs": [0], '
            '"documents": [{"title": "t", "paragraphs": [], "most_related_para": 0}]}\n',
        ),
        r"search\.dev\.json:1: most_related_para is 0 of 0",
    ),
    "dureader document": (
        bad_layout("dureader", "devset/search.dev.json", '{"question": "x", "answer_docs": [3], "documents": []}\n'),
        r"search\.dev\.json:1: answer_docs names document 3 of 0",
    ),
}


@pytest.mark.parametrize("name", BAD_LAYOUTS)
def test_a_malformed_file_of_a_layout_is_named_with_its_place(tmp_path, name):
    files, expected = BAD_LAYOUTS[name]
    with pytest.raises(InputError, match=expected):
        held(write_files(tmp_path / "f", files))


def test_the_tool_is_there():
    assert "collection" in tool_names()
