"""drtools convert, by its command line: training files read and written, there and back."""

import gzip
import json
from pathlib import Path

import pytest

WORDS = "drtools convert: "


def lines(path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def write_jsonl(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def said(outcome) -> str:
    """Return the one line of a refusal, and check that it is one."""
    assert outcome.status == 2 and outcome.out == "" and "Traceback" not in outcome.err
    assert outcome.err.count("\n") == 1 and outcome.err.startswith(WORDS), outcome.err
    return outcome.err


@pytest.mark.parametrize(
    "words, expected",
    [
        ([], "none of --vectors, --from, --to was given"),
        (["--from", "dpr", "FILE", "--to", "dpr"], "--from and --to was given"),
        (["--from", "dpr"], "--from needs FILE"),
        (["--to", "dpr", "--corpus", "FILE"], "--to needs --examples and --queries"),
        (["--vectors", "FILE"], "--vectors needs --ids and --model"),
        (["--from", "dpr", "FILE", "--dtype", "float16", "-o", "out"], "--dtype does not go with --from"),
        (["--from", "dpr", "FILE"], "--from writes a folder"),
        (["--from", "dpr", "FILE", "-o", "-"], "--from writes a folder"),
        (["--from", "bge", "FILE", "-o", "out"], "bge"),
        (["--from", "dpr", "nothing.json", "-o", "out"], "no such file"),
    ],
)
def test_wrong_usage(words, expected, drtools, tmp_path):
    (tmp_path / "file").write_text("[]")
    assert expected in said(drtools("convert", *[str(tmp_path / "file") if word == "FILE" else word for word in words]))


@pytest.fixture
def ours(tmp_path) -> Path:
    """Write a collection with titles, several positives, uneven negatives, scores and further keys."""
    folder = tmp_path / "ours"
    folder.mkdir()
    documents = [
        {"_id": f"d{n}", "title": f"Title {n}" if n % 2 else "", "text": f"text of {n} é 狐"} for n in range(9)
    ]
    write_jsonl(folder / "corpus.jsonl", documents)
    write_jsonl(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"question {n}"} for n in range(3)])
    write_jsonl(
        folder / "examples.jsonl",
        [
            {
                "query_id": "q0",
                "positives": ["d0", "d1"],
                "negatives": ["d2", "d3", "d4"],
                "positive_scores": [4.5, 2],
                "negative_scores": [1, 0.25, -3],
                "answers": ["a"],
            },
            {
                "query_id": "q1",
                "positives": ["d5"],
                "negatives": ["d2"],
                "positive_scores": [0.1],
                "negative_scores": [0],
                "answers": ["b"],
            },
            {
                "query_id": "q2",
                "positives": ["d8"],
                "negatives": ["d7", "d6"],
                "positive_scores": [7],
                "negative_scores": [6, 5],
                "answers": [],
            },
        ],
    )
    return folder


def write_as(drtools, name: str, folder: Path, path: Path, *more: str):
    return drtools(
        "convert",
        "--to",
        name,
        "--examples",
        folder / "examples.jsonl",
        "--corpus",
        folder / "corpus.jsonl",
        "--queries",
        folder / "queries.jsonl",
        "-o",
        path,
        *more,
    )


def as_texts(folder: Path) -> list:
    """Return a folder's examples with every id replaced by its text."""
    documents = {
        record["_id"]: f"{record['title']} {record['text']}".strip() for record in lines(folder / "corpus.jsonl")
    }
    queries = {record["_id"]: record["text"] for record in lines(folder / "queries.jsonl")}
    return [
        {
            "query": queries[example["query_id"]],
            "positives": [documents[i] for i in example["positives"]],
            "negatives": [documents[i] for i in example["negatives"]],
            "scores": [example.get("positive_scores"), example.get("negative_scores")],
        }
        for example in lines(folder / "examples.jsonl")
    ]


@pytest.mark.parametrize("name", ["tevatron", "dpr", "sentence-transformers", "flagembedding"])
def test_there_and_back(name, drtools, ours, tmp_path):
    written = tmp_path / "theirs.jsonl.gz"
    assert write_as(drtools, name, ours, written).status == 0
    outcome = drtools("convert", "--from", name, written, "-o", tmp_path / "back")
    assert outcome.status == 0 and "3 queries and 9 documents" in outcome.err and "note" not in outcome.err
    assert as_texts(tmp_path / "back") == as_texts(ours)
    if name in ("tevatron", "dpr"):  # these know ids and titles
        assert lines(tmp_path / "back" / "examples.jsonl") == lines(ours / "examples.jsonl")
        assert sorted(lines(tmp_path / "back" / "corpus.jsonl"), key=lambda d: d["_id"]) == lines(ours / "corpus.jsonl")
    if name != "sentence-transformers":
        assert lines(tmp_path / "back" / "queries.jsonl") == lines(ours / "queries.jsonl")
        assert [example["answers"] for example in lines(tmp_path / "back" / "examples.jsonl")] == [["a"], ["b"], []]
    # and once more there: the same file
    assert write_as(drtools, name, tmp_path / "back", tmp_path / "again.jsonl").status == 0
    again, first = (tmp_path / "again.jsonl").read_bytes(), gzip.decompress(written.read_bytes())
    assert (
        again == first
        if name != "sentence-transformers"
        else lines(tmp_path / "again.jsonl") == [json.loads(line) for line in first.splitlines()]
    )


def test_sentence_transformers_file_loads_as_triplets(drtools, ours, tmp_path):
    from datasets import load_dataset

    outcome = write_as(drtools, "sentence-transformers", ours, tmp_path / "train.jsonl")
    assert outcome.status == 0 and "3 examples have keys that sentence-transformers cannot hold" in outcome.err
    loaded = load_dataset(
        "json", data_files=str(tmp_path / "train.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.column_names == ["anchor", "positive", "negative", "scores"] and len(loaded) == 2 * 3 + 1 + 2
    assert loaded[1] == {
        "anchor": "question 0",
        "positive": "text of 0 é 狐",
        "negative": "Title 3 text of 3 é 狐",
        "scores": [4.5, 0.25],
    }


def test_other_files_load_as_data_sets(drtools, ours, tmp_path):
    """Tevatron and FlagEmbedding read their files with load_dataset, DPR with json.load."""
    from datasets import load_dataset

    for name in ("tevatron", "flagembedding", "dpr"):
        assert write_as(drtools, name, ours, tmp_path / f"{name}.json").status == 0
    tevatron, flag = (
        load_dataset(
            "json", data_files=str(tmp_path / f"{name}.json"), split="train", cache_dir=str(tmp_path / "cache")
        )
        for name in ("tevatron", "flagembedding")
    )
    assert {"query_id", "query", "positive_passages", "negative_passages"} <= set(tevatron.column_names)
    assert tevatron[1]["negative_passages"] == [{"docid": "d2", "title": "", "text": "text of 2 é 狐", "score": 0}]
    assert {"query", "pos", "neg", "pos_scores", "neg_scores"} <= set(flag.column_names)
    assert flag[0]["pos"] == ["text of 0 é 狐", "Title 1 text of 1 é 狐"] and flag[0]["neg_scores"] == [1, 0.25, -3]
    samples = json.loads((tmp_path / "dpr.json").read_text())
    assert [len(sample["hard_negative_ctxs"]) for sample in samples] == [3, 1, 2]
    assert [context["title"] for context in samples[0]["positive_ctxs"]] == ["", "Title 1"]


def test_standard_output_and_separator(drtools, ours):
    outcome = write_as(drtools, "flagembedding", ours, "-", "--title-separator", " [SEP] ")
    assert outcome.status == 0
    assert json.loads(outcome.out.splitlines()[0])["pos"][1] == "Title 1 [SEP] text of 1 é 狐"


def test_what_cannot_be_said_is_counted(drtools, ours, tmp_path):
    examples = lines(ours / "examples.jsonl")
    examples[0] |= {"dark": [{"kind": "noisy", "positive": "d0", "ratio": 0.15, "seed": 1}]}
    examples[1] |= {"negatives": [], "negative_scores": []}
    examples[2] |= {"negatives": ["d7", "gone"], "negative_scores": [6, None]}
    examples += [{"query_id": "q9", "positives": ["d0"], "negatives": []}]
    write_jsonl(ours / "examples.jsonl", examples)
    with open(ours / "queries.jsonl", "a") as stream:
        stream.write('{"_id": "q4", "text": "four"}\n')
    outcome = write_as(drtools, "sentence-transformers", ours, tmp_path / "train.jsonl")
    assert outcome.status == 0
    for words in (
        "1 examples have a query without a text",
        "1 documents of the examples are not in the corpus",
        "1 examples have no negative; triplets cannot say them",
        "3 examples have scores, which",
    ):
        assert words in outcome.err, words
    assert {tuple(record) for record in lines(tmp_path / "train.jsonl")} == {("anchor", "positive", "negative")}
    assert write_as(drtools, "sentence-transformers", ours, tmp_path / "strict.jsonl", "--strict").status == 2
    assert not (tmp_path / "strict.jsonl").exists()
    outcome = write_as(drtools, "tevatron", ours, tmp_path / "tevatron.jsonl")
    assert "1 examples have keys that tevatron cannot hold" in outcome.err and "have scores" not in outcome.err
    records = lines(tmp_path / "tevatron.jsonl")
    assert [len(record["negative_passages"]) for record in records] == [3, 0, 1] and "dark" not in records[0]
    write_jsonl(ours / "examples.jsonl", [{"query_id": "q9", "positives": ["d0"], "negatives": []}])
    assert "no example has a query text" in said(write_as(drtools, "dpr", ours, tmp_path / "dpr.json"))


def test_a_negative_with_a_positives_text_is_left_out(drtools, ours, tmp_path):
    with open(ours / "corpus.jsonl", "a") as stream:
        stream.write(json.dumps({"_id": "twin", "title": "Title 5", "text": "text of 5 é 狐"}) + "\n")
    examples = lines(ours / "examples.jsonl")
    examples[1] |= {"negatives": ["twin", "d2"], "negative_scores": [1, 0]}
    write_jsonl(ours / "examples.jsonl", examples)
    outcome = write_as(drtools, "tevatron", ours, tmp_path / "train.jsonl")
    assert "1 negatives have the text of a positive" in outcome.err
    assert [passage["docid"] for passage in lines(tmp_path / "train.jsonl")[1]["negative_passages"]] == ["d2"]


@pytest.mark.parametrize(
    "records, words",
    [
        ([], "no records"),
        (
            [
                {"query_id": "q", "query": "x", "positive_passages": [{"docid": "d", "text": "a"}]},
                {"query_id": "r", "query": "x", "positive_passages": [{"docid": "d", "text": "b"}]},
            ],
            "theirs.jsonl:2: document 'd' has another text in line 1",
        ),
        (
            [
                {"query_id": "q", "query": "x", "positive_passages": []},
                {"query_id": "q", "query": "y", "positive_passages": []},
            ],
            "theirs.jsonl:2: query 'q' has another text in line 1",
        ),
        ([{"query_id": "q", "query": "x"}], "theirs.jsonl:1: positive_passages"),
    ],
)
def test_training_files_that_are_refused(records, words, drtools, tmp_path):
    path = write_jsonl(tmp_path / "theirs.jsonl", records)
    assert words in said(drtools("convert", "--from", "tevatron", path, "-o", tmp_path / "out"))
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_reading_from_standard_input(drtools, tmp_path):
    outcome = drtools(
        "convert",
        "--from",
        "flagembedding",
        "-",
        "-o",
        tmp_path / "out",
        stdin=b'{"query": "a", "pos": ["b", "b"], "neg": ["b", "c"]}\n',
    )
    assert (
        outcome.status == 0
        and "1 negatives are also a positive" in outcome.err
        and "1 documents stand twice" in outcome.err
    )
    outcome = drtools("convert", "--from", "flagembedding", "-", "-o", tmp_path / "bad", stdin=b"{")
    assert "standard input:1: not JSON" in said(outcome)
