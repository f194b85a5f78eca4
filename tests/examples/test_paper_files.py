"""`make paper`: the public files of each paper, what is said where they are missing, and the chain that follows."""

import gzip
import json
import os
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import make_bert
from makefiles import DOCUMENTS, EXAMPLES, PASSAGES, make, parsed, printed, run_all

NEGATIVES = ["msmarco-hard-negatives.jsonl.gz", "cross-encoder-ms-marco-MiniLM-L-6-v2-scores.pkl.gz"]
QUESTIONS = ["psgs_w100.tsv", "nq-dev.qa.csv", "nq-test.qa.csv"]
TARGETS = ["trec-covid", *(f"lotte/{name}" for name in ("writing", "recreation", "technology", "lifestyle", "science"))]
MARCO = {  # by example: the files that it needs
    "star": PASSAGES,
    "star-adore": PASSAGES,
    "adam": PASSAGES,
    "fgd": [name.removesuffix(".gz") for name in (*PASSAGES[:5], *DOCUMENTS)],
    "ddr": [*PASSAGES[:5], *NEGATIVES],
}
# a setting of each paper by the tool that has it: learning rates, batches, steps and epochs of its section on training
SETTINGS = {
    "star": ("train-star", {"learning_rate": 1e-4, "batch_queries": 256, "steps": 50000, "optimizer": "lamb"}),
    "star-adore": ("train-adore", {"learning_rate": 5e-6, "batch_queries": 32, "steps": 60000, "metric": "rr@200"}),
    "adam": ("distill-adam", {"learning_rate": 5e-5, "batch_queries": 128}),
    "fgd": ("distill-fgd", {"learning_rate": 3e-6, "batch_queries": 64, "epochs": 20}),
    "ddr": ("train-rem", {"learning_rate": 2e-5, "batch_queries": 128, "hard_negatives": 3}),
    "spar": ("train-lexical", {}),
}


def needed(example: str, public: Path) -> list[Path]:
    """Return the files that an example needs, as they are published."""
    if example == "spar":
        return [public / "dpr", *(public / "nq" / name for name in QUESTIONS)]
    targets = [public / name / "qrels/test.tsv" for name in TARGETS] if example == "ddr" else []
    return [*(public / "msmarco" / name for name in MARCO[example]), *targets]


@pytest.mark.parametrize("example", SETTINGS)
def test_each_missing_file_is_named_with_its_place_and_page(example, tmp_path):
    """DRTOOLS and HF fail, as they do without a network."""
    done = make(example, "paper", "DRTOOLS=false", "HF=false", folder=tmp_path)
    missing = [line for line in done.stderr.splitlines() if line.startswith("missing: ")]
    assert done.returncode != 0
    assert sorted(line.split()[1] for line in missing) == sorted(map(str, needed(example, Path("public"))))
    assert all("from https://" in line for line in missing)
    assert not (tmp_path / example).exists(), "nothing of the chain was begun"


@pytest.mark.parametrize("example", SETTINGS)
def test_the_table_has_page_size_and_files_of_each(example, tmp_path):
    done = make(example, "paper-files", folder=tmp_path)
    assert done.returncode == 0 and not done.stderr
    for path in needed(example, Path("public")):
        assert str(path) in done.stdout.split(), path
    *titles, _ = [line for line in done.stdout.splitlines() if not line.startswith(" ")]  # the last is a note
    assert len(re.findall(r"^  page +https://", done.stdout, re.M)) == len(titles) > 1
    assert len(re.findall(r"^  fetched", done.stdout, re.M)) == len(titles)


@pytest.mark.parametrize("example", SETTINGS)
def test_with_its_files_the_chain_follows_with_the_papers_settings(example, tmp_path):
    for path in needed(example, tmp_path / "public"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for folder in TARGETS:
        for name in ("corpus.jsonl", "queries.jsonl"):
            (tmp_path / "public" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "public" / folder / name).touch()
    commands = printed(example, "paper", folder=tmp_path)
    assert not [words for words in commands if words[0] in ("collection", "import-model")], "all files are there"
    tool, settings = SETTINGS[example]
    trained = [parsed(words) for words in commands if words[0] == tool]
    trained = [each for each in trained if example != "star" or Path(each["output"]).name == "star"]  # not a baseline
    assert trained
    for name, value in settings.items():
        assert {each[name] for each in trained} == {value}, name
    if example == "ddr":
        converted = [parsed(words) for words in commands if words[0] == "convert"]
        assert [Path(each["scores"]).name for each in converted] == NEGATIVES[1:]


@pytest.mark.parametrize("example", SETTINGS)
def test_what_a_tool_can_fetch_is_a_command_that_it_takes(example, tmp_path):
    commands = printed(example, "paper-fetch", folder=tmp_path)
    for words in commands:
        words = words[: words.index("||")]
        assert words[0] in ("collection", "import-model")
        assert Path(str(parsed(words)["output"])).parts[0] == "public"
    assert len(commands) == {"ddr": 7}.get(example, 1)


def test_files_that_collection_writes_are_found(tmp_path):
    passages = tmp_path / "public/msmarco/passages"
    judged = [f"qrels/{split}.tsv" for split in ("train", "dev-small", "trec-dl-2019-judged")]
    for name in ("corpus.jsonl", "queries.jsonl", *judged):
        (passages / name).parent.mkdir(parents=True, exist_ok=True)
        (passages / name).touch()
    commands = printed("star", "paper", folder=tmp_path)
    (mined, *_) = [parsed(words) for words in commands if words[0] == "mine-negatives"]
    assert Path(mined["queries"]) == Path("public/msmarco/passages/queries.jsonl")
    assert Path(mined["qrels"]) == Path("public/msmarco/passages/qrels/train.tsv")
    measured = {parsed(words)["qrels"] for words in commands if words[0] == "eval"}
    assert {Path(each).name for each in measured} == {"dev-small.tsv", "trec-dl-2019-judged.tsv"}


def test_no_package_registry_is_named():
    for path in [*EXAMPLES.glob("*.mk"), *EXAMPLES.glob("*/paper.mk")]:
        assert not re.search(r"pypi|npmjs|crates\.io|proxy\.golang", path.read_text()), path


@pytest.mark.slow
def test_ddrs_chain_runs_on_tiny_files_of_the_published_form(toy, drtools, tmp_path, monkeypatch):
    """The public negatives become examples with scores; adaptation and trainings are checked by --dry-run."""
    monkeypatch.chdir(tmp_path)
    marco = tmp_path / "public/msmarco"
    marco.mkdir(parents=True)
    documents = [json.loads(line) for line in Path(toy.corpus).read_text().splitlines()]
    numbers = {document["_id"]: number for number, document in enumerate(documents)}
    queries = [json.loads(line) for line in Path(toy.queries).read_text().splitlines()]
    qids = {query["_id"]: number for number, query in enumerate(queries)}
    examples = [json.loads(line) for line in Path(toy.examples).read_text().splitlines()]
    (marco / "collection.tsv").write_text("".join(f"{numbers[each['_id']]}\t{each['text']}\n" for each in documents))
    for name in ("queries.train.tsv", "queries.dev.small.tsv"):
        (marco / name).write_text("".join(f"{qids[each['_id']]}\t{each['text']}\n" for each in queries))
    judged = "".join(f"{qids[each['query_id']]}\t0\t{numbers[each['positives'][0]]}\t1\n" for each in examples)
    for name in ("qrels.train.tsv", "qrels.dev.small.tsv"):
        (marco / name).write_text(judged)
    records, scores = [], {}
    for each in examples:
        qid, held = qids[each["query_id"]], [numbers[one] for one in (*each["positives"], *each["negatives"])]
        records.append({"qid": qid, "pos": held[:1], "neg": {"bm25": held[1:]}})
        scores[qid] = {one: float(place) for place, one in enumerate(held)}
    with gzip.open(marco / NEGATIVES[0], "wt") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in records)
    with gzip.open(marco / NEGATIVES[1], "wb") as stream:
        pickle.dump(scores, stream)
    target = tmp_path / "public/trec-covid"
    (target / "qrels").mkdir(parents=True)
    shutil.copy(toy.corpus, target / "corpus.jsonl")
    shutil.copy(toy.queries, target / "queries.jsonl")
    (target / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    bert = make_bert(tmp_path / "bert", positions=256)
    small = ("DATA_TARGETS=public/trec-covid", f"MODEL={bert}", "SYSTEMS=ddr", "FIRST=")
    commands = printed("ddr", "paper", *small, folder=tmp_path)
    made = [words for words in commands if words[0] == "convert"]
    run_all(made, drtools)
    written = [json.loads(line) for line in (tmp_path / "ddr/public/examples.jsonl").read_text().splitlines()]
    assert len(written) == len(examples) and all(each["scored_by"] for each in written)
    adapted = next(words for words in commands if words[0] == "mlm-adapt")
    outcome = drtools(*adapted, "--dry-run")
    assert outcome.status == 0, outcome.err
    shorter = "SOURCE_ADAPT=--steps 2 --head-steps 1 --batch-documents 4 --crop-tokens 16"
    shown = printed("ddr", "paper", *small, shorter, folder=tmp_path)
    run_all([next(words for words in shown if words[0] == "mlm-adapt")], drtools)
    trained = next(words for words in commands if words[0] == "train-rem")
    outcome = drtools(*trained, "--dry-run", "--lora-rank", "2", "--adapter-size", "2")
    assert outcome.status == 0, outcome.err


@pytest.mark.slow
def test_without_a_network_the_tools_fail_and_the_files_are_named(tmp_path):
    """The tools themselves, with proxies that nobody serves."""
    dead = "http://127.0.0.1:9"
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), dead)
    done = subprocess.run(
        ["make", "-f", EXAMPLES / "ddr/Makefile", "paper", "DATA_TARGETS=public/trec-covid", "HF=false"],
        cwd=tmp_path,
        env={**os.environ, **proxies, "IR_DATASETS_HOME": str(tmp_path / "home"), "IR_DATASETS_DL_TRIES": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
    assert "passages: not fetched" in done.stderr and "missing: public/msmarco/collection.tsv" in done.stderr
