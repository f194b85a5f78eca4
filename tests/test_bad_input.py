"""What users hand over by mistake.

One line that names the place and the next move, the right exit status, nothing left behind.
"""

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Toy, make_bert

from drtools.cli.main import main


@pytest.fixture(scope="session")
def made(encoder_folder, tmp_path_factory):
    """The toy collection with everything that tools make of it: vectors, an index, a run."""
    toy = Toy(tmp_path_factory.mktemp("made"))
    commands = [
        [
            "encode",
            "--model",
            encoder_folder,
            "--corpus",
            toy.corpus,
            "--precision",
            "fp32",
            "-o",
            toy.folder / "vectors",
        ],
        [
            "encode",
            "--model",
            encoder_folder,
            "--queries",
            toy.queries,
            "--precision",
            "fp32",
            "-o",
            toy.folder / "query-vectors",
        ],
        ["index", "--vectors", toy.folder / "vectors", "-o", toy.folder / "index"],
        ["index", "--corpus", toy.corpus, "-o", toy.folder / "bm25"],
        [
            "search",
            "--vectors",
            toy.folder / "vectors",
            "--queries",
            toy.queries,
            "--precision",
            "fp32",
            "-o",
            toy.folder / "a.run",
        ],
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRTOOLS_CACHE", str(tmp_path_factory.mktemp("made-cache")))
        for words in commands:
            main([str(word) for word in words])
    return toy.folder


@pytest.fixture
def world(made, encoder_folder, tmp_path):
    """A copy of it for one test to spoil."""
    toy = Toy(tmp_path)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    toy.model, toy.run = encoder_folder, str(tmp_path / "a.run")
    return toy


def text(world, name, content, mode="w"):
    path = world.folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)
    return str(path)


def encode(world, corpus, *more):
    return ["encode", "--model", world.model, "--corpus", corpus, "-o", world.folder / "out", *more]


def train(world, **paths):
    files = {"corpus": world.corpus, "queries": world.queries, "examples": world.examples, **paths}
    return [
        "train-star",
        "--model",
        world.model,
        "--steps",
        "1",
        "-o",
        world.folder / "out",
        *(word for name, path in files.items() for word in (f"--{name}", path)),
    ]


def other_model(world, hidden=32):
    import torch

    from drtools.models.encoder import Encoder
    from drtools.models.encoder_files import load_body, save_encoder
    from drtools.models.heads import Normalize
    from drtools.models.settings import EncoderSettings

    body, tokenizer = load_body(Path(make_bert(world.folder / f"bert{hidden}", seed=9, hidden=hidden)))
    save_encoder(
        Encoder(body, tokenizer, EncoderSettings(("mean",), [{"kind": "normalize"}]), torch.nn.Sequential(Normalize())),
        world.folder / f"other{hidden}",
    )
    return str(world.folder / f"other{hidden}")


def without(world, name, folder="vectors"):
    shutil.copytree(world.folder / folder, world.folder / "broken")
    (world.folder / "broken" / name).unlink()
    return str(world.folder / "broken")


def npy(world, array, ids=None):
    np.save(world.folder / "x.npy", array)
    rows = ids if ids is not None else [f"d{n}" for n in range(len(array))]
    text(world, "ids.txt", "".join(f"{row}\n" for row in rows))
    return [
        "convert",
        "--vectors",
        world.folder / "x.npy",
        "--ids",
        world.folder / "ids.txt",
        "--model",
        world.model,
        "-o",
        world.folder / "out",
    ]


# name: (command of a world, words that the one line must hold)
MALFORMED = {
    "broken JSON": (
        lambda w: encode(w, text(w, "c.jsonl", '{"_id": "a", "text": "x"}\n{"_id": "b", "text":\n')),
        ["c.jsonl:2", "not JSON"],
    ),
    "a JSON list as a line": (
        lambda w: encode(w, text(w, "c.jsonl", '["a", "b"]\n')),
        ["c.jsonl:1", "expected an object"],
    ),
    "a document without text": (
        lambda w: encode(w, text(w, "c.jsonl", '{"_id": "a", "body": "x"}\n')),
        ["c.jsonl:1", "'text'", "'body'"],
    ),
    "a document without id": (lambda w: encode(w, text(w, "c.jsonl", '{"text": "x"}\n')), ["c.jsonl:1", "'_id'"]),
    "an empty id": (lambda w: encode(w, text(w, "c.jsonl", '{"_id": "", "text": "x"}\n')), ["c.jsonl:1", "not empty"]),
    "white space in an id": (
        lambda w: encode(w, text(w, "c.jsonl", '{"_id": "a b", "text": "x"}\n')),
        ["c.jsonl:1", "white space"],
    ),
    "a text that is a number": (
        lambda w: encode(w, text(w, "c.jsonl", '{"_id": "a", "text": 3}\n')),
        ["c.jsonl:1", "expected a string"],
    ),
    "duplicate documents": (
        lambda w: encode(w, text(w, "c.jsonl", '{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n')),
        ["c.jsonl:2", "also on line 1"],
    ),
    "duplicate queries": (
        lambda w: ["search", "--vectors", w.folder / "vectors", "--queries", text(w, "q.tsv", "1\tfox\n1\thare\n")],
        ["q.tsv:2", "also on line 1"],
    ),
    "Latin-1": (
        lambda w: encode(
            w, text(w, "c.jsonl", '{"_id": "a", "text": "x"}\n{"_id": "b", "text": "caf\xe9"}\n'.encode("latin-1"))
        ),
        ["c.jsonl:2", "UTF-8", "0xe9"],
    ),
    "UTF-16": (
        lambda w: encode(w, text(w, "c.jsonl", '{"_id": "a", "text": "x"}\n'.encode("utf-16"))),
        ["c.jsonl:1", "UTF-16", "iconv -f utf-16 -t utf-8"],
    ),
    "truncated gzip": (
        lambda w: encode(w, text(w, "c.jsonl.gz", gzip.compress(Path(w.corpus).read_bytes())[:-20])),
        ["c.jsonl.gz:", "cut short or damaged"],
    ),
    "not gzip at all": (
        lambda w: encode(w, text(w, "c.jsonl.gz", '{"_id": "a", "text": "x"}\n')),
        ["c.jsonl.gz:1", "not gzip"],
    ),
    "an empty corpus": (lambda w: encode(w, text(w, "c.jsonl", "")), ["c.jsonl", "no documents"]),
    "an empty gzip corpus": (lambda w: encode(w, text(w, "c.jsonl.gz", gzip.compress(b""))), ["no documents"]),
    "no queries": (
        lambda w: ["search", "--vectors", w.folder / "vectors", "--queries", text(w, "q.jsonl", "\n")],
        ["no queries"],
    ),
    "queries of three columns": (
        lambda w: ["search", "--vectors", w.folder / "vectors", "--queries", text(w, "q.tsv", "1\ta\tb\n")],
        ["q.tsv:1", "3 columns"],
    ),
    "five columns in a corpus": (lambda w: encode(w, text(w, "c.tsv", "1\ta\tb\tc\td\n")), ["c.tsv:1", "5 columns"]),
    "a run of 5 columns": (
        lambda w: ["eval", "--qrels", w.qrels, text(w, "x.run", "q0 Q0 d1 1 0.5\n")],
        ["x.run:1", "5 columns"],
    ),
    "a run with a word as score": (
        lambda w: ["eval", "--qrels", w.qrels, text(w, "x.run", "q0 Q0 d1 1 0.5 t\nq0 Q0 d2 2 high t\n")],
        ["x.run:2", "high"],
    ),
    "a run with NaN": (
        lambda w: ["eval", "--qrels", w.qrels, text(w, "x.run", "q0 Q0 d1 1 nan t\n")],
        ["x.run:1", "nan"],
    ),
    "a document twice in a run": (
        lambda w: ["eval", "--qrels", w.qrels, text(w, "x.run", "q0 Q0 d1 1 0.5 t\nq0 Q0 d1 2 0.4 t\n")],
        ["x.run:2", "d1"],
    ),
    "qrels of two columns": (lambda w: ["eval", "--qrels", text(w, "x.qrels", "q0 d1\n"), w.run], ["x.qrels:1"]),
    "qrels with a word as grade": (
        lambda w: ["eval", "--qrels", text(w, "x.qrels", "q0 0 d1 good\n"), w.run],
        ["x.qrels:1", "good"],
    ),
    "qrels that contradict themselves": (
        lambda w: ["eval", "--qrels", text(w, "x.qrels", "q0 0 d1 1\nq0 0 d1 2\n"), w.run],
        ["x.qrels:2"],
    ),
    "empty qrels": (lambda w: ["eval", "--qrels", text(w, "x.qrels", ""), w.run], ["x.qrels"]),
    "a run of other queries": (
        lambda w: ["eval", "--qrels", text(w, "x.qrels", "zz 0 d1 1\n"), w.run],
        ["none of the 1 judged queries"],
    ),
    "an unknown measure": (lambda w: ["eval", "--qrels", w.qrels, w.run, "--measures", "nDGC@10"], ["nDGC@10", "nDCG"]),
    "a gate without a number": (
        lambda w: ["eval", "--qrels", w.qrels, w.run, w.run, "--gate", "RR@10>much"],
        ["--gate"],
    ),
    "another encoder's index": (
        lambda w: ["search", "--index", w.folder / "index", "--model", other_model(w), "fox"],
        ["another encoder"],
    ),
    "another encoder's vectors": (
        lambda w: ["search", "--vectors", w.folder / "vectors", "--model", other_model(w), "fox"],
        ["another encoder"],
    ),
    "other dimensions": (
        lambda w: ["search", "--vectors", w.folder / "vectors", "--model", other_model(w, 16), "fox"],
        ["32 dimensions", "16"],
    ),
    "queries as documents": (
        lambda w: ["search", "--vectors", w.folder / "query-vectors", "fox"],
        ["vectors of queries"],
    ),
    "vectors without a manifest": (
        lambda w: ["search", "--vectors", without(w, "manifest.json"), "fox"],
        ["manifest.json", "convert"],
    ),
    "vectors without their array": (
        lambda w: ["search", "--vectors", without(w, "vectors.npy"), "fox"],
        ["vectors.npy"],
    ),
    "an index that is vectors": (lambda w: ["search", "--index", w.folder / "vectors", "fox"], ["--vectors"]),
    "NaN vectors": (lambda w: npy(w, np.where(np.eye(60, 32) > 0, np.nan, 1).astype("float32")), ["x.npy", "NaN"]),
    "vectors of one dimension": (lambda w: npy(w, np.ones(60, "float32")), ["x.npy"]),
    "more ids than vectors": (lambda w: npy(w, np.ones((60, 32), "float32"), range(61)), ["61", "60"]),
    "a truncated npy": (
        lambda w: (lambda words: (Path(words[2]).write_bytes(Path(words[2]).read_bytes()[:500]), words)[1])(
            npy(w, np.ones((60, 32), "float32"))
        ),
        ["x.npy"],
    ),
    "a pickled npy": (lambda w: npy(w, np.array([{"a": 1}] * 3, object)), ["x.npy", "found Python objects"]),
    "a text as an npy": (
        lambda w: (npy(w, np.ones((60, 32), "float32")), text(w, "x.npy", "0.1 0.2\n"))[0],
        ["x.npy", "found another format"],
    ),
    "an unknown FAISS factory": (
        lambda w: ["index", "--vectors", w.folder / "vectors", "--factory", "Flatt", "-o", w.folder / "out"],
        ["Flatt"],
    ),
    "too few vectors to train on": (
        lambda w: ["index", "--vectors", w.folder / "vectors", "--factory", "IVF1024,Flat", "-o", w.folder / "out"],
        ["1,024"],
    ),
    "an unknown language": (
        lambda w: ["index", "--corpus", w.corpus, "--language", "xx", "-o", w.folder / "out"],
        ["'xx'"],
    ),
    "examples without positives": (
        lambda w: train(w, examples=text(w, "e.jsonl", '{"query_id": "q1", "negatives": []}\n')),
        ["e.jsonl:1", "positives"],
    ),
    "a positive that is a negative": (
        lambda w: train(
            w, examples=text(w, "e.jsonl", '{"query_id": "q1", "positives": ["d1"], "negatives": ["d1"]}\n')
        ),
        ["e.jsonl:1", "'d1'"],
    ),
    "a query twice in examples": (
        lambda w: train(
            w, examples=text(w, "e.jsonl", '{"query_id": "q1", "positives": ["d1"], "negatives": []}\n' * 2)
        ),
        ["e.jsonl:2", "also on line 1"],
    ),
    "scores that do not fit": (
        lambda w: train(
            w,
            examples=text(
                w,
                "e.jsonl",
                '{"query_id": "q1", "positives": ["d1"], "negatives": ["d2"], "negative_scores": [1, 2]}\n',
            ),
        ),
        ["e.jsonl:1", "2 numbers"],
    ),
    "examples of another collection": (
        lambda w: train(w, examples=text(w, "e.jsonl", '{"query_id": "z", "positives": ["y"], "negatives": []}\n')),
        ["belong together"],
    ),
    "a missing file": (lambda w: encode(w, w.folder / "nowhere.jsonl"), ["nowhere.jsonl", "no such file"]),
    "a folder as a corpus": (lambda w: encode(w, w.folder), ["a folder was found"]),
    "a bare body": (
        lambda w: ["encode", "--model", make_bert(w.folder / "bare"), "--corpus", w.corpus, "-o", w.folder / "out"],
        ["--pooling"],
    ),
    "a model folder without a model": (
        lambda w: ["encode", "--model", w.folder, "--corpus", w.corpus, "-o", w.folder / "out"],
        ["config.json"],
    ),
    "damaged weights": (
        lambda w: (
            Path(other_model(w), "model.safetensors").write_bytes(b"x" * 99),
            ["encode", "--model", other_path(w), "--corpus", w.corpus, "-o", w.folder / "out"],
        )[1],
        ["could not be loaded"],
    ),
    "more tokens than positions": (lambda w: encode(w, w.corpus, "--max-document-tokens", "999"), ["64 positions"]),
    "an unknown flag": (lambda w: encode(w, w.corpus, "--bacth-tokens", "9"), ["--bacth-tokens"]),
    "a word for a number": (lambda w: encode(w, w.corpus, "--batch-tokens", "many"), ["--batch-tokens", "integer"]),
    "a missing flag": (lambda w: ["encode", "--corpus", w.corpus], ["--output"]),
    "two sources": (
        lambda w: [
            "mine-negatives",
            "--queries",
            w.queries,
            "--qrels",
            w.qrels,
            "--run",
            w.run,
            "--vectors",
            w.folder / "vectors",
        ],
        ["--vectors and --run"],
    ),
    "bad ranks": (
        lambda w: ["mine-negatives", "--queries", w.queries, "--qrels", w.qrels, "--run", w.run, "--ranks", "9-3"],
        ["--ranks 9-3"],
    ),
    "no relevant grade": (
        lambda w: ["mine-negatives", "--queries", w.queries, "--qrels", w.qrels, "--run", w.run, "--min-rel", "3"],
        ["--min-rel"],
    ),
    "one run to fuse": (lambda w: ["fuse", w.run], ["two or more"]),
    "weights for other runs": (lambda w: ["fuse", w.run, w.run, "--weights", "1,2,3"], ["3 weights for 2 runs"]),
    "a question and queries": (
        lambda w: ["search", "--vectors", w.folder / "vectors", "--queries", w.queries, "fox"],
        ["either"],
    ),
    "an output that is not ours": (
        lambda w: (os.mkdir(w.folder / "out"), encode(w, w.corpus))[1],
        ["not a finished output"],
    ),
    "an unknown tool": (lambda w: ["encodes"], ["no tool is named 'encodes'", "did you mean encode"]),
    "a tool that is like none": (lambda w: ["xyzzy"], ["no tool is named 'xyzzy'", "train-star"]),
    "a question without quotes": (lambda w: ["search", "--index", w.folder / "bm25", "the", "fox"], ["fox", "quotes"]),
    "queries with a header that is not known": (
        lambda w: ["search", "--index", w.folder / "bm25", "--queries", text(w, "q.tsv", "qid\tword\n1\tfox\n")],
        ["q.tsv:1", "header", "text"],
    ),
    "a tab within a query": (
        lambda w: ["search", "--index", w.folder / "bm25", "--queries", text(w, "q.tsv", "1\tfox\n2\tred\tfox\n")],
        ["q.tsv:2", "3 columns", "line 1 has 2"],
    ),
    "a tab within a passage": (
        lambda w: encode(w, text(w, "c.tsv", "1\ta\n2\tb\tc\n")),
        ["c.tsv:2", "3 columns", "line 1 has 2"],
    ),
    "judgements with a header that is not known": (
        lambda w: ["eval", "--qrels", text(w, "x.tsv", "qid\tname\trel\nq1\td1\t1\n"), w.run],
        ["x.tsv:1", "query-id"],
    ),
    "a grade that is no whole number": (
        lambda w: ["eval", "--qrels", text(w, "x.tsv", "q1\td1\t0.7\n"), w.run],
        ["x.tsv:1", "'0.7'", "a whole number"],
    ),
    "a flag given twice": (lambda w: encode(w, w.corpus, "--dtype", "float16", "--dtype", "float32"), ["--dtype was"]),
    "a folder that is there as an output": (lambda w: [*encode(w, w.corpus)[:-1], "."], ["name the output itself"]),
    "gzip without its name": (
        lambda w: encode(w, text(w, "c.jsonl", gzip.compress(b'{"_id": "a", "text": "b"}'))),
        ["c.jsonl:1", "add .gz"],
    ),
    "a file for an index": (
        lambda w: ["search", "--index", w.corpus, "fox"],
        ["a file was found where an index folder was expected"],
    ),
    "nothing to show": (lambda w: ["show", text(w, "x", "")], ["the file is empty"]),
}


def other_path(world):
    return str(world.folder / "other32")


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_input_is_one_line_and_exit_2(world, drtools, name):
    build, words = MALFORMED[name]
    command = build(world)
    before = set(os.listdir(world.folder))
    outcome = drtools(*command)
    lines = outcome.err.strip().splitlines()
    assert outcome.status == 2, outcome.err
    assert lines[-1].startswith("drtools") and "Traceback" not in outcome.err and "internal error" not in outcome.err, (
        outcome.err
    )
    assert sum(line.startswith("drtools ") or line.startswith("drtools:") for line in lines) == 1
    for word in words:
        assert word in lines[-1], lines[-1]
    assert "unsafe" not in lines[-1] and "pickle" not in lines[-1], "advice of a library that no user should follow"
    assert set(os.listdir(world.folder)) - before <= {"other32", "other16"}, "nothing may be left behind"


def records(world, *more):
    return text(
        world, "c.jsonl", Path(world.corpus).read_text() + "".join(json.dumps(record) + "\n" for record in more)
    )


# name: (command of a world, what must be counted at the end)
ODD = {
    "an empty text": (
        lambda w: encode(w, records(w, {"_id": "e", "text": ""}, {"_id": "f", "title": " ", "text": " \n"})),
        "2 of 62 texts were empty",
    ),
    "a text of a million words": (
        lambda w: encode(w, records(w, {"_id": "e", "text": "fox " * 1_000_000})),
        "1 of 61 texts were longer than 64 tokens and were cut",
    ),
    "an empty query": (
        lambda w: [
            "search",
            "--vectors",
            w.folder / "vectors",
            "--depth",
            "5",
            "--queries",
            text(w, "q.tsv", "1\tfox\n2\t \n"),
            "-o",
            w.folder / "out.run",
        ],
        "1 of 2 queries were empty",
    ),
    "more hits asked than documents": (
        lambda w: [
            "search",
            "--vectors",
            w.folder / "vectors",
            "--depth",
            "99",
            "--queries",
            w.queries,
            "-o",
            w.folder / "out.run",
        ],
        "20 of 20 queries have fewer than 99 hits",
    ),
    "words that no document holds": (
        lambda w: [
            "search",
            "--index",
            w.folder / "bm25",
            "--depth",
            "1",
            "--queries",
            text(w, "q.tsv", "1\tfox\n2\tzzz\n3\tthe\n"),
            "-o",
            w.folder / "out.run",
        ],
        "2 of 3 queries have no hits",
    ),
    "an empty document for Lucene": (
        lambda w: ["index", "--corpus", records(w, {"_id": "e", "text": ""}), "-o", w.folder / "out"],
        "1 of 61 documents were empty",
    ),
    "qrels for documents that the corpus lacks": (
        lambda w: [
            *train(w, examples=text(w, "e.jsonl", Path(w.examples).read_text().replace('"d1"]', '"gone"]'))),
            "--dev-qrels",
            text(w, "x.qrels", "q1 0 d1 1\nq1 0 gone 1\n"),
            "--dev-documents",
            "10",
        ],
        "1 document of the dev qrels is not in the corpus",
    ),
    "judged queries without text": (
        lambda w: [
            "mine-negatives",
            "--queries",
            w.queries,
            "--run",
            w.run,
            "--negatives",
            "3",
            "--qrels",
            text(w, "x.qrels", "q1 0 d1 1\nnone 0 d1 1\n"),
            "-o",
            w.folder / "out.jsonl",
        ],
        "1 of the 2 judged queries are not in",
    ),
    "queries without relevant documents": (
        lambda w: [
            "mine-negatives",
            "--queries",
            w.queries,
            "--run",
            w.run,
            "--negatives",
            "3",
            "--qrels",
            text(w, "x.qrels", "q1 0 d1 1\nq2 0 d2 0\n"),
            "-o",
            w.folder / "out.jsonl",
        ],
        "1 query has no document of grade 1 or more",
    ),
    "queries that fall short of negatives": (
        lambda w: [
            "mine-negatives",
            "--queries",
            w.queries,
            "--run",
            w.run,
            "--negatives",
            "60",
            "--qrels",
            w.qrels,
            "-o",
            w.folder / "out.jsonl",
        ],
        "20 queries have fewer than 60 negatives",
    ),
    "a run that lacks judged queries": (
        lambda w: ["eval", "--qrels", text(w, "x.qrels", "q1 0 d1 1\nnone 0 d1 1\n"), w.run],
        "lacks 1 of the 2 judged queries",
    ),
    "runs of different queries": (
        lambda w: ["fuse", w.run, text(w, "x.run", "q1 Q0 d1 1 0.5 t\n"), "-o", w.folder / "out.run"],
        "does not have 19 of the 20 queries",
    ),
}


LONG = "a text of a million words"


@pytest.mark.parametrize("name", [*(name for name in ODD if name != LONG), pytest.param(LONG, marks=pytest.mark.slow)])
def test_odd_input_is_counted_and_refused_only_when_strict(world, drtools, name):
    build, words = ODD[name]
    command = build(world)
    strict = drtools(*command, "--strict")
    assert strict.status == 2 and words in strict.err.splitlines()[-1], strict.err
    assert not any(
        path.name.startswith("out") and not path.name.endswith(".partial") for path in world.folder.iterdir()
    )
    outcome = drtools(*command)
    assert outcome.status == 0, outcome.err
    assert words in outcome.err and "Traceback" not in outcome.err
