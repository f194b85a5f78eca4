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


TO = ["--examples", "FILE", "--corpus", "FILE", "--queries", "FILE", "-o", "out", "--to"]


@pytest.mark.parametrize(
    "words, expected",
    [
        ([], "no conversion was chosen"),
        (["--from", "dpr", "FILE", "--to", "dpr"], "--from and --to were given"),
        (["--from", "dpr"], "--from needs FILE"),
        (["--to", "dpr", "--corpus", "FILE"], "--to needs --examples and --queries"),
        (["--vectors", "FILE"], "--vectors needs --model"),
        (["--from", "dpr", "FILE", "--dtype", "float16", "-o", "out"], "--dtype cannot be used with --from"),
        (["--from", "dpr", "FILE"], "--from writes a folder"),
        (["--from", "dpr", "FILE", "-o", "-"], "--from writes a folder"),
        (["--from", "bge", "FILE", "-o", "out"], "bge"),
        (["--from", "dpr", "nothing.json", "-o", "out"], "no such file"),
        (["--from", "tevatron", "FILE", "--easy-negatives", "drop", "-o", "out"], "--easy-negatives is only for dpr"),
        (["--from", "dpr", "FILE", "--negatives", "3", "-o", "out"], "--negatives cannot be used with --from"),
        ([*TO, "dpr", "--negatives", "3"], "--negatives is only for sentence-transformers, not for dpr"),
        ([*TO, "tevatron", "--max-rows", "3"], "--max-rows is only for sentence-transformers, not for tevatron"),
        ([*TO, "tevatron", "--dry-run"], "--dry-run is only for sentence-transformers, not for tevatron"),
        ([*TO, "dpr", "--without-negatives", "keep"], "--without-negatives is only for tevatron and flagembedding"),
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
    assert loaded.column_names == ["anchor", "positive", "negative", "scores"] and len(loaded) == 3 + 1 + 2
    assert loaded[1] == {
        "anchor": "question 0",
        "positive": "Title 1 text of 1 é 狐",
        "negative": "Title 3 text of 3 é 狐",
        "scores": [2, 0.25],
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


@pytest.fixture
def uneven(tmp_path) -> Path:
    """Write 20 queries with 30 positives and 25 negatives each: 15,000 pairs of them."""
    folder = tmp_path / "uneven"
    folder.mkdir()
    write_jsonl(folder / "corpus.jsonl", [{"_id": f"d{n}", "text": f"text of document {n}"} for n in range(60)])
    write_jsonl(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"question {n}"} for n in range(20)])
    write_jsonl(
        folder / "examples.jsonl",
        [
            {
                "query_id": f"q{n}",
                "positives": [f"d{i}" for i in range(30)],
                "negatives": [f"d{i}" for i in range(30, 55)],
            }
            for n in range(20)
        ],
    )
    return folder


def test_positives_are_not_multiplied_by_negatives(drtools, uneven, tmp_path):
    """Check the count that is told before against the file, and that nothing of the examples is lost."""
    path = tmp_path / "train.jsonl"
    told = write_as(drtools, "sentence-transformers", uneven, path, "--dry-run")
    assert told.status == 0 and told.out == "" and not path.exists()
    assert told.err.startswith("20 examples make 600 rows of a positive and 10 negatives, about ")
    outcome = write_as(drtools, "sentence-transformers", uneven, path)
    assert outcome.status == 0 and outcome.err.splitlines()[0] == told.err.splitlines()[0]
    assert len(lines(path)) == 20 * 30 and f"{path}: 600 records" in outcome.err and "note" not in outcome.err
    about = float(told.err.split("about ")[1].split(" kB")[0]) * 1000
    assert about == pytest.approx(path.stat().st_size, rel=0.15)
    assert drtools("convert", "--from", "sentence-transformers", path, "-o", tmp_path / "back").status == 0
    assert as_texts(tmp_path / "back") == as_texts_of_whole(uneven)


def as_texts_of_whole(folder: Path) -> list:
    """Return `as_texts` of a folder whose documents have no title."""
    corpus = lines(folder / "corpus.jsonl")
    write_jsonl(folder / "corpus.jsonl", [record | {"title": ""} for record in corpus])
    return as_texts(folder)


def test_rows_are_capped(drtools, uneven, tmp_path):
    refused = said(write_as(drtools, "sentence-transformers", uneven, tmp_path / "a.jsonl", "--max-rows", "500"))
    assert "20 examples make 600 rows" in refused and "expected at most 500 rows" in refused
    assert not (tmp_path / "a.jsonl").exists() and not (tmp_path / "a.jsonl.partial").exists()
    outcome = write_as(
        drtools,
        "sentence-transformers",
        uneven,
        tmp_path / "b.jsonl",
        *("--max-rows", "500", "--rows-per-query", "3", "--negatives", "7", "--strict"),
    )
    assert outcome.status == 0 and "20 examples make 60 rows of a positive and 7 negatives" in outcome.err
    assert "20 examples have more than 3 rows" in outcome.err
    records = lines(tmp_path / "b.jsonl")
    assert len(records) == 60 and {len(record) for record in records} == {9}
    assert {record["positive"] for record in records} == {f"text of document {n}" for n in range(3)}
    repeated = write_as(drtools, "sentence-transformers", uneven, tmp_path / "c.jsonl", "--negatives", "26")
    assert repeated.status == 0 and "20 examples have fewer than 26 negatives; their rows repeat them" in repeated.err
    strict = write_as(drtools, "sentence-transformers", uneven, tmp_path / "d.jsonl", "--negatives", "26", "--strict")
    assert strict.status == 2


def test_what_an_earlier_version_wrote_is_not_taken_for_the_same(drtools, ours, tmp_path):
    path = tmp_path / "train.jsonl"
    assert write_as(drtools, "sentence-transformers", ours, path).status == 0
    assert "already done" in write_as(drtools, "sentence-transformers", ours, path).err
    beside = tmp_path / "train.jsonl.manifest.json"
    record = json.loads(beside.read_text())
    del record["request"]["changes"]
    for flag in ("negatives", "rows_per_query", "without_negatives", "easy_negatives"):
        del record["request"]["arguments"][flag]
    beside.write_text(json.dumps(record))
    refused = said(write_as(drtools, "sentence-transformers", ours, path))
    assert "since then rows are n-tuples in place of each positive with each negative" in refused


@pytest.mark.slow
@pytest.mark.parametrize("scores", [False, True])
def test_sentence_transformers_trains_on_its_tuples(scores, drtools, ours, encoder_folder, tmp_path):
    """Train with the losses whose documentation asks for n-tuples, without and with a teacher's scores."""
    from datasets import load_dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, losses
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments

    path = tmp_path / "train.jsonl"
    assert write_as(drtools, "sentence-transformers", ours, path, "--negatives", "2").status == 0
    data = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert data.column_names == ["anchor", "positive", "negative_1", "negative_2", "scores"] and len(data) == 2 + 1 + 1
    model = SentenceTransformer(encoder_folder, device="cpu")
    loss = losses.MarginMSELoss(model) if scores else losses.MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=Arguments(
            str(tmp_path / "out"), max_steps=2, per_device_train_batch_size=2, report_to="none", use_cpu=True
        ),
        train_dataset=data if scores else data.remove_columns("scores"),
        loss=loss,
    )
    assert 0 < trainer.train().training_loss < 100


def drawn_negatives(negatives: list, group_size: int) -> list:
    """Draw a row's negatives as Tevatron and FlagEmbedding do: with repetition where there are too few.

    Both end with an error at a row that has none (random.choices of an empty list, a division by zero), unless a
    group is the positive alone.
    """
    import random

    if len(negatives) < group_size - 1:
        return random.choices(negatives, k=group_size - 1)
    return random.sample(negatives, group_size - 1)


@pytest.mark.parametrize("name, key", [("tevatron", "negative_passages"), ("flagembedding", "neg")])
def test_every_row_has_negatives_for_trainers_that_draw_them(name, key, drtools, ours, tmp_path):
    from datasets import load_dataset

    examples = lines(ours / "examples.jsonl")
    examples[1] |= {"negatives": [], "negative_scores": []}
    examples[2] |= {"negatives": ["gone"], "negative_scores": [1]}
    write_jsonl(ours / "examples.jsonl", examples)
    path = tmp_path / "train.jsonl"
    outcome = write_as(drtools, name, ours, path)
    assert outcome.status == 0 and "2 examples have no negative; left out" in outcome.err
    data = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert data["query"][:] == ["question 0"]
    for group_size in (1, 2, 8):
        assert [len(drawn_negatives(row[key], group_size)) for row in data] == [group_size - 1]
    assert write_as(drtools, name, ours, tmp_path / "strict.jsonl", "--strict").status == 2
    told = write_as(drtools, name, ours, tmp_path / "dropped.jsonl", "--without-negatives", "drop")
    assert told.status == 0 and (tmp_path / "dropped.jsonl").read_bytes() == path.read_bytes()
    kept = write_as(drtools, name, ours, tmp_path / "kept.jsonl", "--without-negatives", "keep")
    assert kept.status == 0 and "2 examples have no negative" in kept.err
    assert [len(record[key]) for record in lines(tmp_path / "kept.jsonl")] == [3, 0, 0]
    with pytest.raises(IndexError):
        drawn_negatives(lines(tmp_path / "kept.jsonl")[1][key], 2)
    write_jsonl(ours / "examples.jsonl", examples[1:2])
    assert "no example has a negative in the corpus" in said(write_as(drtools, name, ours, tmp_path / "none.jsonl"))
    assert write_as(drtools, name, ours, tmp_path / "pairs", "--without-negatives", "keep").status == 0


def test_easy_negatives_of_dpr(drtools, tmp_path):
    passages = {key: [{"title": key, "text": key, "psg_id": key}] for key in ("easy", "hard", "good")}
    record = {
        "question": "who",
        "answers": ["x"],
        "positive_ctxs": passages["good"],
        "negative_ctxs": passages["easy"],
        "hard_negative_ctxs": passages["hard"],
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps([record]))
    convert = ("convert", "--from", "dpr", path)
    for choice, negatives, told in (
        ((), ["hard"], "note: 1 easy negative (negative_ctxs) were not added to the hard ones; to add them, pass"),
        (("--easy-negatives", "drop", "--strict"), ["hard"], "1 easy negative (negative_ctxs) were not added"),
        (("--easy-negatives", "fill", "--strict"), ["hard"], "1 easy negative (negative_ctxs) were not added"),
        (("--easy-negatives", "append", "--strict"), ["hard", "easy"], "1 query and 3 documents"),
    ):
        folder = tmp_path / "-".join(("out", *choice))
        outcome = drtools(*convert, *choice, "-o", folder)
        assert outcome.status == 0 and told in outcome.err
        assert [example["negatives"] for example in lines(folder / "examples.jsonl")] == [negatives]
        assert [document["_id"] for document in lines(folder / "corpus.jsonl")] == ["good", "hard", "easy"]
    assert drtools(*convert, "--strict", "-o", tmp_path / "strict").status == 2


def test_a_title_that_stands_in_one_record_alone(drtools, tmp_path):
    records = [
        {"query_id": f"q{n}", "query": f"query {n}", "positive_passages": [{"docid": "d", "title": title, "text": "x"}]}
        for n, title in enumerate(("", "A title", ""))
    ]
    path = write_jsonl(tmp_path / "theirs.jsonl", records)
    outcome = drtools("convert", "--from", "tevatron", path, "-o", tmp_path / "out")
    assert outcome.status == 0 and "3 queries and 1 document" in outcome.err
    assert "1 document has a title in one record and none in another; the title was kept" in outcome.err
    assert lines(tmp_path / "out" / "corpus.jsonl") == [{"_id": "d", "title": "A title", "text": "x"}]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "corpus.jsonl",
        "queries.jsonl",
        "examples.jsonl",
        "manifest.json",
    }
    assert drtools("convert", "--from", "tevatron", path, "-o", tmp_path / "strict", "--strict").status == 2


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
        "1 example has a query without a text",
        "1 document of the examples is not in the corpus",
        "1 example has no negative; triplets cannot hold them",
        "3 examples have scores that were left out, because",
    ):
        assert words in outcome.err, words
    assert {tuple(record) for record in lines(tmp_path / "train.jsonl")} == {("anchor", "positive", "negative")}
    assert write_as(drtools, "sentence-transformers", ours, tmp_path / "strict.jsonl", "--strict").status == 2
    assert not (tmp_path / "strict.jsonl").exists()
    outcome = write_as(drtools, "tevatron", ours, tmp_path / "tevatron.jsonl")
    assert "1 example has keys that tevatron cannot hold" in outcome.err and "have scores" not in outcome.err
    records = lines(tmp_path / "tevatron.jsonl")
    assert [len(record["negative_passages"]) for record in records] == [3, 1] and "dark" not in records[0]
    write_jsonl(ours / "examples.jsonl", [{"query_id": "q9", "positives": ["d0"], "negatives": []}])
    assert "no example has a query text" in said(write_as(drtools, "dpr", ours, tmp_path / "dpr.json"))


def test_a_negative_with_a_positives_text_is_left_out(drtools, ours, tmp_path):
    with open(ours / "corpus.jsonl", "a") as stream:
        stream.write(json.dumps({"_id": "twin", "title": "Title 5", "text": "text of 5 é 狐"}) + "\n")
    examples = lines(ours / "examples.jsonl")
    examples[1] |= {"negatives": ["twin", "d2"], "negative_scores": [1, 0]}
    write_jsonl(ours / "examples.jsonl", examples)
    outcome = write_as(drtools, "tevatron", ours, tmp_path / "train.jsonl")
    assert "1 negative has the same text as a positive" in outcome.err
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
        and "1 negative has the same text as a positive" in outcome.err
        and "1 document is twice in a list" in outcome.err
    )
    outcome = drtools("convert", "--from", "flagembedding", "-", "-o", tmp_path / "bad", stdin=b"{")
    assert "standard input:1: not JSON" in said(outcome)
