"""DDR's Makefile: its commands are those that the tools take, with the paper's settings; one REM serves all targets.

Its chain runs on a toy collection.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import makefiles
import pytest
from makefiles import parsed

SIZES = ("batch_queries", "crop_tokens")
make, printed = partial(makefiles.make, "ddr"), partial(makefiles.printed, "ddr")


@pytest.fixture
def targets(beir):
    """Two targets, the collection under other names."""
    for name in ("first", "second"):
        (beir / name / "qrels").mkdir(parents=True)
        for file in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
            shutil.copy(beir / file, beir / name / file)
    return f"DATA_TARGETS={beir}/first {beir}/second/"


def outputs(commands, tool):
    """Return what a tool gets, by its output."""
    return {value["output"]: value for value in (parsed(words) for words in commands if words[0] == tool)}


@pytest.mark.parametrize("goal", ["tables", "ablations", "distilled"])
@pytest.mark.parametrize("paper", ["", "english", "chinese"])
def test_every_command_is_one_that_the_tools_take(beir, targets, tmp_path, paper, goal):
    where = f"MSMARCO={makefiles.published_in(tmp_path / 'msmarco')}" if paper == "english" else f"DATA_SOURCE={beir}"
    commands = printed(goal, where, targets, f"PAPER={paper}", "TEACHER=some/ranker", folder=beir)
    made = [parsed(words)["output"] for words in commands if words[0] != "eval"]
    assert len(made) == len(set(made)) and all(words[0] == "eval" or "--renew" in words for words in commands)
    rems = {
        "tables": {"rem", "rem-df"},
        "ablations": {"rem", "rem-df", "rem-lora96", "rem-lora192", "rem-adapter"},
        "distilled": {"rem-distilled"},
    }[goal]
    trained = {Path(output).name for output in outputs(commands, "train-rem")}
    assert trained == rems, "a REM is trained once, however many the targets"
    dams = ("dam",) if goal == "distilled" else ("dam", "dam-plain")
    assert set(outputs(commands, "mlm-adapt")) == {
        "ddr/source-dam",
        *(f"ddr/{name}/{dam}" for name in ("first", "second") for dam in dams),
    }
    tables = [parsed(words) for words in commands if words[0] == "eval"]
    assert len(tables) == 2 and all("R@1000" in table["measures"].split(",") for table in tables)
    if paper:
        assert {table["measures"] for table in tables} == {"nDCG@10,R@1000"}


def test_who_starts_from_whom(beir, targets):
    commands = printed("ablations", f"DATA_SOURCE={beir}", targets, "MODEL=plain", folder=beir)
    adapted, rems, vectors = (outputs(commands, tool) for tool in ("mlm-adapt", "train-rem", "encode"))
    assert (
        adapted["ddr/source-dam"]["model"] == adapted["ddr/first/dam-plain"]["model"] == "plain"
        and adapted["ddr/first/dam"]["model"] == "ddr/source-dam"
    )
    assert rems["ddr/rem"]["model"] == "ddr/source-dam" and rems["ddr/rem-df"]["model"] == "plain"
    sizes = {name.removeprefix("ddr/rem"): (value["lora_rank"], value["adapter_size"]) for name, value in rems.items()}
    assert sizes == {"": (192, 192), "-df": (192, 192), "-lora96": (96, 0), "-lora192": (192, 0), "-adapter": (0, 192)}
    both = {name: (value["body"], value["rem"]) for name, value in vectors.items() if "/first/" in name}
    dam, plain = "ddr/first/dam", "ddr/first/dam-plain"
    assert both == {
        f"ddr/first/{name}-vectors": pair
        for name, pair in {
            "ddr": (dam, "ddr/rem"),
            "ddr-si": (plain, "ddr/rem"),
            "ddr-df": (plain, "ddr/rem-df"),
            "ddr-lora96": (dam, "ddr/rem-lora96"),
            "ddr-lora192": (dam, "ddr/rem-lora192"),
            "ddr-adapter": (dam, "ddr/rem-adapter"),
            "dr": (None, None),
            "ddr-d": (None, None),
            "zero-shot": (None, None),
        }.items()
    }
    fine_tuned = outputs(commands, "train-contrastive")
    assert fine_tuned["ddr/dr"]["model"] == "plain" and fine_tuned["ddr/first/ddr-d"]["model"] == dam


def test_the_papers_settings(beir, targets, tmp_path):
    english = printed(
        f"MSMARCO={makefiles.published_in(tmp_path / 'msmarco')}",
        targets,
        "PAPER=english",
        "LOTTE=first",
        "LONG=second",
        folder=beir,
    )
    chinese = printed(f"DATA_SOURCE={beir}", targets, "PAPER=chinese", folder=beir)

    def holds(value, **expected):
        assert {name: value[name] for name in expected} == expected

    common = {
        "schedule": "constant",
        "weight_decay": 0.01,
        "warmup_steps": 1000,
        "mask_share": None,
        "objective": "mlm",
        "gradient_caching": True,
    }
    adapted = outputs(english, "mlm-adapt")
    holds(
        adapted["ddr/source-dam"],
        learning_rate=5e-5,
        batch_queries=1024,
        crop_tokens=100,
        steps=100_000,
        pooling="mean",
        **common,
    )
    holds(adapted["ddr/first/dam"], learning_rate=2e-5, batch_queries=1024, crop_tokens=100, steps=50_000, **common)
    holds(adapted["ddr/second/dam"], learning_rate=2e-5, batch_queries=512, crop_tokens=190, steps=20_000, **common)
    trained = {
        "batch_queries": 128,
        "epochs": 5,
        "hard_negatives": 3,
        "schedule": "constant",
        "warmup_steps": 0,
        "weight_decay": 0,
        "clip": 1,
        "gradient_caching": True,
        "max_query_tokens": 24,
        "max_document_tokens": 128,
    }
    holds(
        outputs(english, "train-rem")["ddr/rem"],
        learning_rate=2e-5,
        lora_rank=192,
        adapter_size=192,
        adapter_scale=4,
        loss="contrast",
        **trained,
    )
    holds(outputs(english, "train-contrastive")["ddr/dr"], learning_rate=1e-5, **trained)
    for commands in (english, chinese):
        assert {
            (value["max_query_tokens"], value["max_document_tokens"])
            for tool in ("encode",)
            for value in outputs(commands, tool).values()
        } == {(512, 512)}
    holds(
        outputs(chinese, "mlm-adapt")["ddr/source-dam"],
        learning_rate=5e-5,
        crop_tokens=256,
        steps=6000,
        pooling="mean+normalize",
        **common,
    )
    holds(outputs(chinese, "train-rem")["ddr/rem"], epochs=1, hard_negatives=0, max_document_tokens=384, scale=20)
    assert {value["language"] for value in outputs(chinese, "index").values()} == {"zh"}


def test_margins_are_learnt_by_all_weights_and_by_the_rem(beir, targets, tmp_path):
    published = makefiles.published_in(tmp_path / "msmarco")
    words = ["distilled", f"MSMARCO={published}", targets, "PAPER=english"]
    commands = printed(*words, folder=beir)
    (scored,) = outputs(commands, "teacher-score").values()
    assert scored["teacher"] == ["cross-encoder/ms-marco-MiniLM-L-6-v2"] and scored["examples"] == "ddr/negatives.jsonl"
    trained = outputs(commands, "train-rem") | outputs(commands, "train-contrastive")
    starts = {name.removeprefix("ddr/"): value["model"] for name, value in trained.items()}
    assert starts == {
        "rem-distilled": "ddr/source-dam",
        "dr-distilled": "bert-base-uncased",
        "first/ddr-d-distilled": "ddr/first/dam",
        "second/ddr-d-distilled": "ddr/second/dam",
    }
    for value in trained.values():
        assert (value["loss"], value["hard_negatives"], value["epochs"]) == ("margin-mse", 3, 20)
        assert value["examples"] == ["ddr/scored.jsonl"] and value["batch_queries"] == 128
    for public in ("msmarco-hard-negatives.jsonl.gz", "cross-encoder-ms-marco-MiniLM-L-6-v2-scores.pkl.gz"):
        (published / public).touch()
        commands = printed("tables", *words, folder=beir)
        (converted,) = (parsed(words) for words in commands if words[0] == "convert")
        assert converted["from_format"] == "msmarco-hard-negatives" and not outputs(commands, "mine-negatives")
        assert (converted["scores"] is None) == bool(outputs(commands, "teacher-score")) == ("pkl" not in public)
        trained = outputs(commands, "train-rem") | outputs(commands, "train-contrastive")
        of_margins = {name for name in trained if "distilled" in name}
        for name, value in trained.items():
            scored = name in of_margins and "pkl" not in public
            assert value["examples"] == ["ddr/scored.jsonl" if scored else "ddr/public/examples.jsonl"]
        assert len(of_margins) == 4 and len(trained) == 4 + 3
    without = make("distilled", f"DATA_SOURCE={beir}", targets, "PAPER=chinese", folder=beir)
    assert "distilled: set TEACHER=CROSS-ENCODER" in without.stderr


def test_lottes_documents_are_long_and_adapted_to_for_longer(beir, targets, tmp_path):
    published = makefiles.published_in(tmp_path / "msmarco")
    for folder in ("lotte/write", "lotte-tech", "charlotte/covid"):
        (beir / folder / "qrels").mkdir(parents=True)
        for file in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
            shutil.copy(beir / file, beir / folder / file)
    words = [f"MSMARCO={published}", "PAPER=english", "DATA_TARGETS=lotte/write lotte-tech charlotte/covid"]
    adapted = outputs(printed(*words, folder=beir), "mlm-adapt")
    settings = {
        name: (adapted[f"ddr/{name}/{dam}"]["steps"], *(adapted[f"ddr/{name}/{dam}"][key] for key in SIZES))
        for name in ("write", "lotte-tech", "covid")
        for dam in ("dam", "dam-plain")
    }
    long, short = (50_000, 512, 190), (20_000, 1024, 100)
    assert settings == {"write": long, "lotte-tech": long, "covid": short}


def test_what_cannot_be_meant_is_said(beir, targets):
    for words, wanted in (
        ([targets], "use DATA_SOURCE="),
        ([f"DATA_SOURCE={beir}"], "use DATA_TARGETS="),
        ([f"DATA_SOURCE={beir}", "DATA_TARGETS=a/x b/x"], "two folders of one name"),
        ([f"DATA_SOURCE={beir}", targets, "PAPER=french"], "expected english or chinese"),
        ([f"DATA_SOURCE={beir}", targets, "SYSTEMS=dd"], "expected some of dr"),
    ):
        assert wanted in make(*words, folder=beir).stderr


@pytest.mark.slow
def test_the_chain_runs_with_bm25_made_elsewhere_and_a_second_run_does_nothing(beir, targets, encoder_folder, drtools):
    out = beir / "out"
    for name in ("first", "second"):
        (out / name).mkdir(parents=True)
        (out / name / "bm25.run").write_text("q16 Q0 d16 1 2.0 x\n")
    shutil.copy(beir / "examples.jsonl", out / "negatives.jsonl")
    small = "--batch-documents 4 --crop-tokens 20 --dev-documents 4 --steps 2 --head-steps 1"
    words = [
        f"DATA_SOURCE={beir}",
        targets,
        f"OUT={out}",
        f"MODEL={encoder_folder}",
        "FIRST=bm25 zero-shot",
        f"SOURCE_ADAPT={small}",
        f"TARGET_ADAPT={small}",
        "SNAPSHOTS=--snapshot-steps 1,2",
        "LEARN=--batch-queries 4 --steps 2 --hard-negatives 1",
        "TRAIN_TOKENS=--max-document-tokens 40",
        "ENCODE_TOKENS=--max-document-tokens 40",
        "MORE=--precision fp32 --threads 1",
    ]
    commands = printed(*words, folder=beir)
    assert not any(words[0] in ("index", "mine-negatives") for words in commands), "what is there is kept"
    makefiles.run_all(commands, drtools)
    again = make(*words, folder=beir)
    assert again.returncode == 0, again.stderr
    assert "drtools " not in again.stdout
    for name in ("first", "second"):
        table = (out / f"{name}.txt").read_text()
        assert all(f"{name}/{system}.run" in table for system in ("dr", "ddr", "ddr-df", "ddr-si", "bm25", "zero-shot"))
        manifest = json.loads((out / name / "ddr-vectors/manifest.json").read_text())
        assert (manifest["model"], manifest["rem"]) == (str(out / name / "dam"), str(out / "rem"))
    assert {Path(path).name for path in (out / "first/dam/snapshots").iterdir()} == {"1", "2"}
    curve = make("-n", "curve", *words, folder=beir).stdout
    assert "for step in $(ls" in curve and "dam/snapshots/$step --rem" in curve
