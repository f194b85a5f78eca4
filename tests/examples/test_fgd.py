"""FGD's Makefile.

Every command is one that the tools take, the settings are the paper's, and the chain runs on a toy collection.
"""

from functools import partial
from pathlib import Path

import makefiles
import pytest
from makefiles import parsed

from drtools.cli.flags.encoder import PieceFlags

make, printed = partial(makefiles.make, "fgd"), partial(makefiles.printed, "fgd")
ARMS = {"contrastive", "document", "fgd", "no-passages", "no-sentences", "mean", "rgat"}


@pytest.fixture
def published(tmp_path):
    return makefiles.published_in(tmp_path / "msmarco")


@pytest.mark.parametrize("collection", ["documents", "own"])
def test_every_command_is_one_that_the_tools_take(published, beir, collection):
    where = [f"DATA={beir}"] if collection == "own" else [f"MSMARCO={published}"]
    commands = printed("table", "analysis", *where, "SEEDS=1 2", folder=beir)
    values = [parsed(words) for words in commands if words[0] != "eval"]
    assert all("--renew" in words for words in commands if words[0] != "eval")
    outputs = [each["output"] for each in values]
    assert len(set(outputs)) == len(outputs) and {f"fgd/{arm}-{seed}" for arm in ARMS for seed in (1, 2)} <= set(
        outputs
    )
    for arm in ("fgd", "contrastive"):
        assert next(each for each in values if each["output"] == f"fgd/{arm}-2")["seed"] == 2


def test_distillation_has_the_papers_settings(published):
    commands = printed(f"MSMARCO={published}", folder=published)
    values = parsed(next(words for words in commands if words[0] == "distill-fgd" and words[-1].endswith("/fgd-42")))
    expected = {
        "learning_rate": 3e-6,
        "batch_queries": 64,
        "hard_negatives": 8,
        "epochs": 20,
        "warmup_steps": 1000,
        "weight_decay": 0.01,
        "max_document_tokens": 512,
        "max_query_tokens": 32,
        "passage_tokens": None,
        "sentence_tokens": None,
        "levels": "passage,sentence",
        "spans": None,
        "optimizer": "adamw",
    }
    assert {name: values[name] for name in expected} == expected
    assert PieceFlags().settled({}) == PieceFlags(passage_tokens=128, sentence_tokens=64, least_piece_tokens=16)


def by_output(commands: list[list[str]]) -> dict[str, tuple[str, dict[str, object]]]:
    """Return (tool, values) of what writes, by the output's name."""
    values = [(words[0], parsed(words)) for words in commands if words[0] != "eval"]
    return {value["output"].removeprefix("fgd/"): (tool, value) for tool, value in values}


def test_the_stages_follow_the_paper(published):
    """RoBERTa -> ED-MLM -> passages -> stage 1 on that retriever's negatives -> its own negatives -> stage 2."""
    made = by_output(printed("table", f"MSMARCO={published}", "ARMS=fgd", folder=published))
    adapted, passages, first, start, mined, fgd = (
        made[name][1] for name in ("pretrained", "passages", "retriever.jsonl", "start", "mined.jsonl", "fgd-42")
    )
    assert (adapted["model"], adapted["objective"], adapted["pooling"]) == ("roberta-base", "ed-mlm", "cls")
    pretraining = {
        "learning_rate": 1e-4, "batch_queries": 2048, "epochs": 3, "weight_decay": 0, "warmup_steps": 4000,
        "schedule": None, "crops": None, "mask_unit": None, "stride": None, "crop_tokens": None,
        "decoder_start": None, "decoder_head": None, "decoder_layers": None,
    }  # fmt: skip
    assert {name: adapted[name] for name in pretraining} == pretraining, "the tool's defaults are the paper's"
    assert passages["model"] == "fgd/pretrained" and passages["corpus"] == [f"{published}/collection.tsv"]
    assert made["body-vectors"][1]["model"] == start["model"] == "fgd/passages"
    assert first["vectors"] == "fgd/body-vectors" and first["ranks"] == mined["ranks"] == "1-100"
    assert start["examples"] == ["fgd/retriever.jsonl"] and start["epochs"] == 2
    assert mined["vectors"] == "fgd/start-vectors" and made["start-vectors"][1]["model"] == "fgd/start"
    assert fgd["model"] == "fgd/start" and fgd["examples"] == ["fgd/scored.jsonl"]
    assert adapted["gradient_caching"] and start["gradient_caching"] and fgd["gradient_caching"]
    assert "bm25.jsonl" not in made and "bm25/train.run" not in made


def test_whole_documents_are_scored_if_an_arm_reads_them(beir):
    for arms, only in (("fgd mean", True), ("fgd document", False), ("document-too", False)):
        scored = by_output(printed("table", f"DATA={beir}", f"ARMS={arms}", folder=beir))["scored.jsonl"][1]
        assert bool(scored["only_pieces"]) == only, arms


def test_the_teacher_ranks_passages_or_if_asked_documents(published, beir):
    passages = by_output(printed("table", f"MSMARCO={published}", folder=published))["teacher"][1]
    assert passages["corpus"] == [f"{published}/collection.tsv"] and passages["examples"] == ["fgd/passages-bm25.jsonl"]
    assert passages["queries"] == [f"{published}/queries.train.tsv"]
    for words in ([f"MSMARCO={published}", "TEACHER_OF=documents"], [f"DATA={beir}"]):
        documents = by_output(printed("table", *words, folder=beir))["teacher"][1]
        assert documents["examples"] == ["fgd/bm25.jsonl"]
        assert documents["corpus"][0] in ("fgd/corpus.jsonl.gz", f"{beir}/corpus.jsonl")
    assert "expected passages or documents" in make(f"MSMARCO={published}", "TEACHER_OF=x", folder=beir).stderr


def test_stage_1_of_a_collection_of_ones_own(beir):
    for stage, examples in ((None, "fgd/bm25.jsonl"), ("retriever", "fgd/retriever.jsonl")):
        words = [f"STAGE_1={stage}"] if stage else []
        made = by_output(printed("table", f"DATA={beir}", *words, folder=beir))
        assert made["start"][1]["examples"] == [examples] and ("body-vectors" in made) == bool(stage)
    assert "expected retriever or bm25" in make(f"DATA={beir}", "STAGE_1=random", folder=beir).stderr


def test_the_tables_measure_as_the_paper_and_nist_do(published):
    commands = printed("table", f"MSMARCO={published}", folder=published)
    dev, dl19 = (parsed(words) for words in commands if words[0] == "eval")
    assert (dev["measures"], dev["rank_order"], dev["alpha"]) == ("RR@100,R@100", True, 0.01)
    assert (dl19["measures"], dl19["min_rel"], dl19["alpha"]) == ("nDCG@10,R@100", 1, 0.05)
    made = by_output(commands)
    runs = {name: made[f"bm25/{name}.run"][1] for name in ("dev", "dl19")}
    assert {name: (run["k1"], run["b"]) for name, run in runs.items()} == {"dev": (4.46, 0.82), "dl19": (0.9, 0.4)}


def test_the_readme_quotes_the_student_of_a_document_ranker():
    rows = (makefiles.EXAMPLES / "fgd" / "README.md").read_text().splitlines()
    (row,) = [line for line in rows if ".438" in line]
    assert row.startswith("| FGD, taught by a document ranker |") and not any("the teacher | ." in row for row in rows)


def test_each_arm_is_what_its_name_says(published):
    arms = {
        "document": {"levels": "document"},
        "document-too": {"levels": "document,passage,sentence"},
        "no-passages": {"levels": "sentence"},
        "no-sentences": {"levels": "passage"},
        "mean": {"spans": "mean"},
        "rgat": {"spans": "rgat"},
        "reverse": {"kl": "student-teacher"},
        "fgd": {},
    }
    usual = {"levels": "passage,sentence", "spans": None, "kl": "teacher-student"}
    commands = printed(f"MSMARCO={published}", f"ARMS={' '.join(arms)}", folder=published)
    found = {
        words[-1].rsplit("/", 1)[1].removesuffix("-42"): parsed(words)
        for words in commands
        if words[0] == "distill-fgd"
    }
    assert {name: {flag: values[flag] for flag in usual} for name, values in found.items()} == {
        name: usual | more for name, more in arms.items()
    }


def test_the_curve_of_gamma_is_drawn_on_dev(published, beir):
    for where, folder in ((f"MSMARCO={published}", published), (f"DATA={beir}", beir)):
        commands = printed("analysis", where, folder=folder)
        curve = next(parsed(words) for words in commands if words[0] == "analyze" and "--tuned" in words)
        assert [words[words.index("--tune") + 1] for words in commands if words[-1] in curve["tuned"]] == [
            f"{published}/msmarco-docdev-qrels.tsv" if folder == published else f"{beir}/qrels/dev.tsv"
        ]


def test_margins_are_of_the_same_pairs_for_all_arms(published):
    commands = printed("analysis", f"MSMARCO={published}", folder=published)
    value = next(parsed(words) for words in commands if words[0] == "analyze" and "--margins" in words)
    assert list(value["examples"]) == ["fgd/dev/pairs.jsonl"] and not value["runs"]
    arms = ("contrastive", "document", "fgd")
    assert list(value["vectors"]) == [f"fgd/vectors/{arm}-42" for arm in arms]
    assert list(value["query_vectors"]) == [f"fgd/dev/{arm}-42-queries" for arm in arms]
    pairs = next(parsed(words) for words in commands if words[-1] == "fgd/dev/pairs.jsonl")
    assert (pairs["run"], pairs["ranks"], pairs["negatives"]) == ("fgd/dev/start.run", "1-100", 100)


def test_what_was_made_elsewhere_is_taken(beir, tmp_path):
    (tmp_path / "runs").mkdir()
    for name in ("train", "test"):
        (tmp_path / "runs" / f"{name}.run").touch()
    commands = printed(
        f"DATA={beir}",
        f"BM25={tmp_path / 'runs'}",
        "TEACHER=some/ranker",
        "START=some/encoder",
        "ARMS=fgd",
        folder=beir,
    )
    assert [words[0] for words in commands] == [
        "encode",
        "mine-negatives",
        "teacher-score",
        "distill-fgd",
        "encode",
        "search",
        "search",
        "teacher-score",
        "eval",
    ]
    assert {value for words in commands for value in parsed(words).get("teacher") or () if words[0] != "eval"} == {
        "some/ranker"
    }


def test_what_cannot_be_meant_is_said(tmp_path):
    assert "use MSMARCO=" in make(folder=tmp_path).stderr


@pytest.mark.slow
def test_the_chain_runs_and_a_second_run_does_nothing(beir, encoder_folder, drtools, tmp_path):
    (tmp_path / "runs").mkdir()
    for name in ("train", "test"):  # so that the test needs no Java
        (tmp_path / "runs" / f"{name}.run").write_text(
            "".join(
                f"q{query} Q0 d{(query + step) % 60} 1 {30 - step} x\n"
                for query in range(20)
                for step in range(0, 30, 3)
            )
        )
    words = [
        "table",
        "analysis",
        f"DATA={beir}",
        f"OUT={beir / 'out'}",
        f"MODEL={encoder_folder}",
        f"BM25={tmp_path / 'runs'}",
        "BUDGET=--steps 1",
        "BATCH=4",
        "DOCUMENT_TOKENS=60",
        "NEGATIVES=2",
        "SIZES=--passage-tokens 16 --sentence-tokens 8 --least-piece-tokens 3",
    ]
    makefiles.run_all(printed(*words, folder=beir), drtools)
    again = make(*words, folder=beir)
    assert again.returncode == 0 and "drtools " not in again.stdout, again.stderr + again.stdout
    table = Path(beir / "out/test-42.txt").read_text()
    for name in (*ARMS, "multi-vector", "teacher", "start"):
        assert name in table
