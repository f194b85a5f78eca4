"""drtools collection: the folder that it writes, from files, ir_datasets offline and the hub's cache; stops, faults."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from drtools.formats.collections import folder as writing
from drtools.formats.corpora import read_corpus, read_queries
from drtools.formats.trec import read_qrels
from drtools.outputs import manifest

TOPICS = """<top>
<num> Number: 051
<title> what do otters eat
</top>
<top>
<num> MB052
<title> tools
</top>
"""
DOCS = "".join(f"<DOC>\n<DOCNO>d{n}</DOCNO>\n<TITLE>t{n}</TITLE>\n<TEXT>text {n}</TEXT>\n</DOC>\n" for n in range(60))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Give a folder with a small native collection, in which commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    Path("docs.sgml").write_text(DOCS)
    Path("topics.txt").write_text(TOPICS)
    Path("qrels.txt").write_text("51 0 d3 1\n51 0 d4 0\nMB052 0 d5 2\n")
    return tmp_path


ALL = ["docs.sgml", "topics.txt", "qrels.txt"]


def refused(outcome, status=2):
    assert outcome.status == status and "Traceback" not in outcome.err and outcome.err.count("\n") == 1, outcome.err
    return outcome.err.removeprefix("drtools collection: ").rstrip("\n")


def test_native_files_become_a_folder_that_every_tool_reads(site, drtools):
    outcome = drtools("collection", *ALL, "-o", "out")
    assert outcome.status == 0 and "out: 60 documents, 2 queries, 3 judgements in test\n" in outcome.err
    documents = [document for _, document in read_corpus("out/corpus.jsonl")]
    assert [tuple(each) for each in documents] == [(f"d{n}", f"t{n}", f"text {n}") for n in range(60)]
    assert read_queries("out/queries.jsonl") == {"51": "what do otters eat", "MB052": "tools"}
    assert read_qrels("out/qrels/test.tsv") == {"51": {"d3": 1, "d4": 0}, "MB052": {"d5": 2}}
    record = manifest.read(Path("out"))
    assert record["kind"] == "collection" and record["counts"]["documents"] == 60
    assert record["judgements"] == {"test": 3}
    assert "out: already done" in drtools("collection", *ALL, "-o", "out").err
    assert "made by another request" in refused(drtools("collection", *ALL[:1], "-o", "out"))
    assert drtools("show", "out/corpus.jsonl").status == 0
    same = drtools("collection", "out", "-o", "again")
    assert same.status == 0
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes()


def test_a_stopped_job_continues_to_the_same_bytes(site, drtools, interrupt_at, monkeypatch):
    drtools("collection", *ALL, "-o", "whole")
    monkeypatch.setattr(writing, "DOCUMENTS_BETWEEN_SAVES", 10)
    with monkeypatch.context():
        interrupt_at(writing.SeenIds, "add", 38)
        assert drtools("collection", *ALL, "-o", "out").status == 130
    monkeypatch.setattr(writing.SeenIds, "add", lambda self, each: self.hashes.append(writing._hash(each)))
    assert not Path("out").exists() and Path("out.partial/corpus.jsonl").exists()
    outcome = drtools("collection", *ALL, "-o", "out")
    assert outcome.status == 0 and "continuing the work of an earlier process" in outcome.err
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()
    assert manifest.read(Path("out"))["counts"] == manifest.read(Path("whole"))["counts"]


def test_what_cannot_be_one_folder_is_refused(site, drtools):
    Path("docs.sgml").write_text(DOCS + "<DOC><DOCNO>d7</DOCNO>x</DOC>")
    words = refused(drtools("collection", *ALL, "-o", "out"))
    assert words.startswith("the document id 'd7' occurs twice, as document 8 and 61 of the source")
    Path("docs.sgml").write_text(DOCS)
    Path("more.tsv").write_text("51\tanother text\n")
    words = refused(drtools("collection", *ALL, "--queries", "more.tsv", "-o", "out"))
    assert words.startswith("more.tsv: the query '51' has another text at topics.txt:1")
    Path("other.qrels").write_text("51 0 d3 0\n")
    words = refused(drtools("collection", *ALL, "--qrels", "other.qrels", "-o", "out"))
    assert words.startswith("other.qrels: document 'd3' has grade 0 for query '51', but grade 1 before")
    assert refused(drtools("collection", "qrels.txt", "-o", "out")).startswith("neither documents nor queries")
    assert not Path("out").exists() and not Path("out.partial").exists()


def test_judgements_without_a_text_are_counted_and_refused_when_strict(site, drtools):
    Path("qrels.txt").write_text("51 0 d3 1\n51 0 d99 1\n53 0 d1 1\n")
    outcome = drtools("collection", *ALL, "-o", "out")
    assert "1 judged query has no text (for instance '53', qrels.txt)" in outcome.err
    assert "1 judged document is not in the corpus (for instance 'd99', qrels.txt)" in outcome.err
    assert read_qrels("out/qrels/test.tsv")["51"] == {"d3": 1, "d99": 1}
    assert drtools("collection", *ALL, "--strict", "-o", "strict").status == 2 and not Path("strict").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "a folder is written, and none was named; use -o FOLDER"),
        (["-o", "out"], "no source was named; name files or a data set; --list shows what is known"),
        ([*ALL, "--split", "a/b", "-o", "out"], "--split 'a/b', expected a name such as train"),
        (
            ["cranfeld", "-o", "out"],
            "cranfeld: no such file or folder, and no data set of this name; did you mean cran",
        ),
        (["zzzz", "-o", "out"], "zzzz: no such file or folder, and no data set of this name; --list shows the names"),
        (
            ["beir", "-o", "out"],
            "beir: has neither documents nor queries; name a part of it, for instance beir/arguana",
        ),
        (
            ["cranfield", "vaswani", "-o", "out"],
            "cranfield and vaswani have different documents; make a folder of each",
        ),
        (["--corpus", "nothing", "-o", "out"], "nothing: no such file or folder (--corpus)"),
        (["docs.sgml", "-o", "docs.sgml"], "-o docs.sgml: is the input docs.sgml, which would be replaced"),
    ],
)
def test_wrong_usage(site, drtools, words, expected):
    assert refused(drtools("collection", *words)).startswith(expected)


def test_the_list_has_files_and_names(site, drtools):
    names = [line.split("\t")[0] for line in drtools("collection", "--list").out.splitlines()]
    assert {"TREC SGML", "LoTTE folder", "cranfield", "beir/scifact/train", "msmarco-passage/dev/small"} <= {*names}


# ir_datasets, whose home is settled when it is imported: commands run as processes of their own

CRANFIELD = {
    "docs.txt": "".join(
        f".I {n}\n.T\ntitle {n} .\n.A\nauthor\n.B\nbib\n.W\ntitle {n} .\ntext of {n}\nover lines\n" for n in range(1, 6)
    ),
    "queries.txt": ".I 001\n.W\nwhat flows\n.I 004\n.W\nwhich wing\n",
    "qrels.txt": "1 2 2\n1 3 -1\n2 5 4\n",
}
PEER = """
import ir_datasets, json, sys
name = sys.argv[1]
data = ir_datasets.load(name)
print(json.dumps([
    {each.doc_id: each.default_text().strip() for each in data.docs_iter()},
    {each.query_id: each.default_text() for each in data.queries_iter()},
    [[each.query_id, each.doc_id, each.relevance] for each in data.qrels_iter()],
]))
"""


@pytest.fixture
def home(site):
    """Give the home of ir_datasets with two generated collections and an archive of BEIR's."""
    lotte = {
        "collection.tsv": "0\tan answer\n1\tanother\n",
        "questions.forum.tsv": "0\thow\n",
        "qas.forum.jsonl": '{"qid": 0, "query": "how", "answer_pids": [1, 0]}\n',
        "questions.search.tsv": "5\twhat\n",
        "qas.search.jsonl": '{"qid": 5, "query": "what", "answer_pids": [1]}\n',
    }
    for folder, files in (("cranfield", CRANFIELD), ("lotte/lotte_extracted/lotte/technology/test", lotte)):
        (site / "home" / folder).mkdir(parents=True)
        for name, text in files.items():
            (site / "home" / folder / name).write_text(text)
    (site / "home/beir/scifact").mkdir(parents=True)
    archived = {
        "scifact/corpus.jsonl": '{"_id": "4", "title": "T", "text": "x", "metadata": {}}\n',
        "scifact/queries.jsonl": '{"_id": "1", "text": "one", "metadata": {}}\n',
        "scifact/qrels/train.tsv": "query-id\tcorpus-id\tscore\n1\t4\t1\n",
        "scifact/qrels/test.tsv": "query-id\tcorpus-id\tscore\n1\t4\t2\n",
    }
    with zipfile.ZipFile(site / "home/beir/scifact/source.zip", "w") as archive:
        for name, text in archived.items():
            archive.writestr(name, text)
    return site / "home"


def run(program, home, *words, **more):
    """Run a command without a network: every fetch goes to a port of this machine where nobody listens."""
    closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    env = {**os.environ, **closed, "IR_DATASETS_HOME": str(home), "IR_DATASETS_DL_TRIES": "1", **more}
    program = [program] if isinstance(program, str) else program
    return subprocess.run([*program, *map(str, words)], env=env, capture_output=True, text=True, timeout=120)


def peer(home, name):
    """Return what ir_datasets' own iterators give."""
    done = subprocess.run(
        [sys.executable, "-c", PEER, name], env={**os.environ, "IR_DATASETS_HOME": str(home)}, capture_output=True
    )
    return json.loads(done.stdout)


def written(folder):
    """Return texts by id, queries, and judgements by split of a folder."""
    texts = {each.id: f"{each.title} {each.text}".strip() for _, each in read_corpus(Path(folder, "corpus.jsonl"))}
    judged = {
        path.stem: [[query, *pair] for query, grades in read_qrels(path).items() for pair in grades.items()]
        for path in sorted(Path(folder, "qrels").glob("*.tsv"))
    }
    return texts, read_queries(Path(folder, "queries.jsonl")), judged


def test_a_data_set_of_ir_datasets_is_read_without_a_network_as_it_reads_it(home, program):
    done = run(program, home, "collection", "cranfield", "-o", "out")
    assert done.returncode == 0, done.stderr
    texts, queries, judged = written("out")
    assert [texts, queries, judged["test"]] == peer(home, "cranfield") and len(texts) == 5
    first = next(read_corpus("out/corpus.jsonl"))[1]
    assert (first.title, first.text) == ("title 1 .", "title 1 .\ntext of 1\nover lines")
    assert not list(home.rglob("*.pklz4"))


def test_several_names_share_a_folder_and_the_split_is_what_they_add(home, program):
    names = ["lotte/technology/test/forum", "lotte/technology/test/search"]
    done = run(program, home, "collection", *names, "-o", "out")
    assert done.returncode == 0, done.stderr
    texts, queries, judged = written("out")
    assert texts == {"0": "an answer", "1": "another"} and queries == {"0": "how", "5": "what"}
    assert judged == {"forum": [["0", "1", 1], ["0", "0", 1]], "search": [["5", "1", 1]]}


def test_beir_is_read_from_its_archive_and_no_pickle_is_written(home, program):
    for name, splits in (("beir/scifact", {"train", "test"}), ("beir/scifact/test", {"test"})):
        out = name.replace("/", "-")
        done = run(program, home, "collection", name, "-o", out)
        assert done.returncode == 0, done.stderr
        texts, queries, judged = written(out)
        assert texts == {"4": "T x"} and queries == {"1": "one"} and {*judged} == splits
        assert judged["test"] == [["1", "4", 2]]
    assert not list(home.rglob("*.pklz4"))


def test_a_data_set_that_is_not_there_ends_in_one_line(home, program):
    done = run(program, home, "collection", "vaswani", "-o", "out")
    assert done.returncode == 1 and "Traceback" not in done.stderr and not Path("out").exists()
    assert "drtools collection: vaswani: could not be fetched" in done.stderr.splitlines()[-1]
    assert f"without a network, put its files into {home}/vaswani" in done.stderr
    Path(home, "cranfield/qrels.txt").write_text("1 2\n")
    done = run(program, home, "collection", "cranfield", "-o", "out")
    assert done.returncode == 2 and "expected 3 columns, got 2" in done.stderr and "Traceback" not in done.stderr


BUILD = "import ir_datasets; ir_datasets.load('cranfield').docs_store().build()"
POISON = """
import os, pickle, pathlib, sys, lz4.block
class Payload:
    def __reduce__(self):
        return os.system, (f"touch {sys.argv[2]}",)
content = lz4.block.compress(pickle.dumps((Payload(),)), store_size=True)
path = next(pathlib.Path(sys.argv[1]).rglob("bin"))
path.write_bytes(len(content).to_bytes(4, "little") + content + bytes(max(0, path.stat().st_size - len(content) - 4)))
"""


def test_a_pickle_in_the_home_of_ir_datasets_runs_no_code(home, program, tmp_path):
    env = {**os.environ, "IR_DATASETS_HOME": str(home)}
    subprocess.run([sys.executable, "-c", BUILD], env=env, check=True, capture_output=True)
    assert list(home.rglob("*.pklz4"))
    done = run(program, home, "collection", "cranfield", "-o", "plain")  # a store of plain values is read
    assert done.returncode == 0 and written("plain")[0] == peer(home, "cranfield")[0]
    mark = tmp_path / "mark"
    subprocess.run([sys.executable, "-c", POISON, home / "cranfield", mark], check=True)
    done = run(program, home, "collection", "cranfield", "-o", "out")
    assert done.returncode == 2 and not mark.exists() and not Path("out").exists()
    assert "a stored pickle is not of plain values (it names posix.system" in done.stderr


@pytest.mark.slow
def test_a_data_set_on_the_hub_is_read_from_its_cache(site):
    import pyarrow
    import pyarrow.parquet

    program = [sys.executable, "-m", "drtools"]  # the hub's client reads its settings when it is imported
    revision = "0123456789abcdef0123456789abcdef01234567"
    kept = site / "hub/datasets--mteb--toy"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs/main").write_text(revision)
    tables = {
        "corpus/corpus-00000-of-00001.parquet": {"_id": ["d1"], "title": ["T"], "text": ["x"]},
        "queries/queries-00000-of-00001.parquet": {"_id": ["q1"], "text": ["one"]},
        "data/test-00000-of-00001.parquet": {"query-id": ["q1"], "corpus-id": ["d1"], "score": [1.0]},
    }
    for name, columns in tables.items():
        path = kept / "snapshots" / revision / name
        path.parent.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    cached = {"HF_HUB_CACHE": str(site / "hub"), "HF_HUB_OFFLINE": "1"}
    done = run(program, site / "home", "collection", "hf:mteb/toy", "-o", "out", **cached)
    assert done.returncode == 0, done.stderr
    assert written("out") == ({"d1": "T x"}, {"q1": "one"}, {"test": [["q1", "d1", 1]]})
    done = run(program, site / "home", "collection", "hf:mteb/other", "-o", "other", **cached)
    assert done.returncode == 1 and "hf:mteb/other: is not in the hub's cache" in done.stderr
    done = run(program, site / "home", "collection", "hf:mteb/toy/x", "-o", "other", **cached)
    assert done.returncode == 2 and "the hub has no such data set" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_million_documents_take_no_more_memory_than_their_ids(site):
    """Hold that memory grows by the 8 bytes of each id, and by no text, from 100,000 documents to 1,000,000."""
    peak = {}
    for count in (100_000, 1_000_000):
        home = site / f"home{count}"
        folder = home / "lotte/lotte_extracted/lotte/technology/test"
        folder.mkdir(parents=True)
        with open(folder / "collection.tsv", "w") as stream:
            stream.writelines(f"{n}\t{' '.join(f'word{n * k % 9973}' for k in range(1, 30))}\n" for n in range(count))
        words = [
            sys.executable,
            "-m",
            "drtools",
            "collection",
            "lotte/technology/test",
            "-o",
            str(site / f"out{count}"),
        ]
        process = subprocess.Popen(words, env={**os.environ, "IR_DATASETS_HOME": str(home)}, stderr=subprocess.PIPE)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, process.stderr.read()
        peak[count] = usage.ru_maxrss * 1024
        with open(site / f"out{count}/corpus.jsonl", "rb") as stream:
            assert sum(1 for _ in stream) == count
    assert peak[1_000_000] - peak[100_000] < 900_000 * 8 + (24 << 20), peak
