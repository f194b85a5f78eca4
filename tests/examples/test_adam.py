"""ADAM's Makefile: every command that it would run is one that the tools take.

Its chain runs on a toy collection, from runs made elsewhere.
"""

import json
from functools import partial
from pathlib import Path

import makefiles
import numpy as np
import pytest
from makefiles import parsed

make, printed = partial(makefiles.make, "adam"), partial(makefiles.printed, "adam")
TABLE = {"rand-kd", "hard-kd", "adam", "no-pacing", "no-reinforced", "no-noisy"}
ABLATION = {"adam", "no-reinforced", "no-noisy", "no-dark", "no-dark-pacing", "no-dark-pacing-supervised"}
LAMBDAS = {f"lambda-{weight}" for weight in ("0.001", "0.01", "0.05", "0.1", "0.5")}
TOKENS = {"adam", *(f"{arm}-tokens" for arm in ("rand-kd", "hard-kd", "no-reinforced", "no-noisy", "no-dark"))}
# target: its students on MS MARCO, on a collection of one's own, and how many tables it makes of a set of queries
TARGETS = {
    "table": (TABLE, TABLE, 4),
    "ablation": (ABLATION, ABLATION, 2),
    "reranked": (ABLATION, ABLATION, 2),
    "negatives": ({f"m-{m}" for m in (1, 5, 10, 15, 20)}, {f"m-{m}" for m in (1, 2, 4, 8)}, 2),
    "lambdas": (LAMBDAS, LAMBDAS, 2),
    "equal-tokens": (TOKENS, TOKENS, 2),
    "pictures": (TABLE, TABLE, 0),
    "teacher": (set(), set(), 1),
}


@pytest.fixture
def published(tmp_path):
    return makefiles.published_in(tmp_path / "msmarco")


@pytest.mark.parametrize("collection", ["passages", "own"])
@pytest.mark.parametrize("target", TARGETS)
def test_every_command_is_one_that_the_tools_take(published, beir, collection, target):
    of_passages, of_own, tables_a_set = TARGETS[target]
    arms = of_own if collection == "own" else of_passages
    where = f"DATA={beir}" if collection == "own" else f"MSMARCO={published}"
    commands = printed(target, where, "SEEDS=1 2", folder=beir)
    assert all(words[0] == "eval" or "--renew" in words for words in commands)
    values = [(words[0], parsed(words)) for words in commands]
    made = [given["output"] for tool, given in values if tool != "eval"]
    assert len(set(made)) == len(made)
    students = {Path(given["output"]).name for tool, given in values if tool == "distill-adam"}
    assert students == {f"{arm}-{seed}" for arm in arms for seed in (1, 2)}
    tables = [Path(words[-1]).name for words in commands if words[0] == "eval"]
    assert len(set(tables)) == len(tables) == tables_a_set * (1 if collection == "own" else 2)
    for words in commands:
        if words[0] == "eval" and target in ("ablation", "negatives", "lambdas", "equal-tokens"):
            assert {f"{Path(run).stem}" for run in parsed(words)["runs"]} <= students


def test_the_papers_settings(published):
    commands = printed("ablation", f"MSMARCO={published}", folder=published)
    students = {Path(parsed(words)["output"]).name: parsed(words) for words in commands if words[0] == "distill-adam"}
    expected = {
        "learning_rate": 5e-5,
        "batch_queries": 128,
        "max_query_tokens": 32,
        "max_document_tokens": 128,
        "optimizer": "adamw",
        "warmup_steps": None,
        "kl": "forward",
        "reduction": "mean",
        "with_positive": True,
        "negatives": 10,
        "model": "adam/start",
    }
    assert all({name: values[name] for name in expected} == expected for values in students.values())
    assert {
        name: (values["pacing"], tuple(values["without"] or ()), values["supervised_weight"])
        for name, values in students.items()
    } == {
        "adam-1": ("epochs", (), 0.01),
        "no-reinforced-1": ("epochs", ("reinforced",), 0.01),
        "no-noisy-1": ("epochs", ("noisy",), 0.01),
        "no-dark-1": ("epochs", ("reinforced", "noisy"), 0.01),
        "no-dark-pacing-1": ("none", ("reinforced", "noisy"), 0.01),
        "no-dark-pacing-supervised-1": ("none", ("reinforced", "noisy"), 0),
    }, "Table 3 is cumulative"
    dark = parsed(next(words for words in commands if words[0] == "make-dark-examples"))
    assert (dark["negatives"], dark["ratios"]) == (50, "0.15,0.25,0.35,0.45,0.55"), "a pool to draw ten from"


def test_the_sweeps_change_one_number(published):
    usual = {"negatives": 10, "supervised_weight": 0.01, "pacing": "epochs", "without": None, "with_positive": True}
    for target, flag, prefix in (("negatives", "negatives", "m-"), ("lambdas", "supervised_weight", "lambda-")):
        commands = printed(target, f"MSMARCO={published}", folder=published)
        found = {Path(parsed(words)["output"]).name: parsed(words) for words in commands if words[0] == "distill-adam"}
        assert len(found) == 5
        for name, values in found.items():
            value = float(name.removeprefix(prefix).removesuffix("-1"))
            assert {each: values[each] or None for each in usual} == usual | {flag: value}


@pytest.mark.parametrize("collection", ["passages", "own"])
def test_teacher_and_student_read_one_length(published, beir, collection):
    where = f"DATA={beir}" if collection == "own" else f"MSMARCO={published}"
    commands = printed("table", "pictures", where, folder=beir)
    (student,) = {
        (given["max_query_tokens"], given["max_document_tokens"])
        for given in (parsed(words) for words in commands if words[0] == "distill-adam")
    }
    read = [
        (given["max_query_tokens"], given["max_document_tokens"])
        for given in (parsed(words) for words in commands if words[0] in ("teacher-score", "train-ranker"))
    ]
    # A student's lengths count [CLS] and [SEP], a teacher's do not
    assert set(read) == {(student[0] - 2, student[1] - 2)} and len(read) == 4


def test_the_positive_is_distilled_unless_eq_9_is_asked_for(beir):
    arms = ["adam", "no-pacing", "no-reinforced", "no-noisy", "no-dark", "no-dark-pacing", "no-supervised"]
    both = ["with-positive", "without-positive"]
    for more, expected in ([], True), (["POSITIVE=--without-positive"], False):
        commands = printed("table", f"DATA={beir}", f"ARMS={' '.join(arms + both)}", *more, folder=beir)
        has = {
            Path(parsed(words)["output"]).name[:-2]: parsed(words)["with_positive"]
            for words in commands
            if words[0] == "distill-adam"
        }
        assert has == dict.fromkeys(arms, expected) | {"with-positive": True, "without-positive": False}


def test_arms_take_equal_steps_and_beside_that_equal_tokens(beir, published):
    def steps_of(*words, where=f"DATA={beir}", flag="steps"):
        commands = printed(*words, where, folder=beir)
        return {
            Path(parsed(words)["output"]).name: parsed(words)[flag] for words in commands if words[0] == "distill-adam"
        }

    tokens = {"rand-kd": 180, "hard-kd": 180, "adam": 50, "no-pacing": 50, "no-reinforced": 90, "no-noisy": 69}
    assert steps_of("table", "M=4", "STEPS=50") == {f"{arm}-1": 50 for arm in tokens}
    assert steps_of("table", "M=4", "STEPS=50", "EQUAL=tokens") == {f"{arm}-1": count for arm, count in tokens.items()}
    expected = {f"{arm}-tokens-1": count for arm, count in tokens.items() if arm not in ("adam", "no-pacing")}
    found = steps_of("equal-tokens", "M=4", "STEPS=50")
    assert found == expected | {"adam-1": 50, "no-dark-tokens-1": 180}
    epochs = steps_of("equal-tokens", where=f"MSMARCO={published}", flag="epochs")
    assert epochs["adam-1"] == 3 and epochs["hard-kd-tokens-1"] == pytest.approx(3 * 36 / 11, rel=1e-4)


def test_models_and_runs_of_ones_own(beir):
    for name in ("train", "dev", "test"):
        (beir / f"{name}.run").touch()
    commands = printed(
        "table",
        f"DATA={beir}",
        "TEACHER=one/teacher another/one",
        "START=some/encoder",
        *(f"{name.upper()}_RUN={beir}/{name}.run" for name in ("train", "dev", "test")),
        folder=beir,
    )
    assert {words[0] for words in commands} == {
        "encode",
        "mine-negatives",
        "make-dark-examples",
        "teacher-score",
        "distill-adam",
        "search",
        "eval",
    }
    assert {tuple(parsed(words)["teacher"]) for words in commands if words[0] == "teacher-score"} == {
        ("one/teacher", "another/one")
    }
    assert {parsed(words)["model"] for words in commands if words[0] == "distill-adam"} == {"some/encoder"}


def test_the_tables_measure_as_the_paper_and_nist_do(published):
    commands = printed("table", f"MSMARCO={published}", "ARMS=adam", folder=published)
    dev, dl19 = (parsed(words) for words in commands if words[0] == "eval")
    assert (dev["measures"], dev["rank_order"], dev["alpha"]) == ("RR@10,R@50,R@1000", True, 0.01)
    assert dl19["measures"].split(",") == ["nDCG@10", "RR@10", "R@100", "R@1000", "R(rel=1)@100"]
    assert (dl19["min_rel"], dl19["alpha"]) == (2, 0.05)
    commands = printed("teacher", f"MSMARCO={published}", folder=published)
    searches = [parsed(words) for words in commands if words[0] == "search"]
    bm25 = {value["output"].split("/")[-2]: (value["k1"], value["b"]) for value in searches if value["index"]}
    assert {name: bm25[name] for name in ("dev", "dl19")} == {"dev": (0.82, 0.68), "dl19": (0.9, 0.4)}


def test_what_cannot_be_meant_is_said(beir, tmp_path):
    assert "use MSMARCO=" in make(folder=tmp_path).stderr
    assert "ARMS: best, expected some of rand-kd" in make(f"DATA={beir}", "ARMS=best", folder=tmp_path).stderr


@pytest.mark.slow
def test_the_chain_runs_and_a_second_run_does_nothing(beir, encoder_folder, drtools):
    """The commands are those that make prints, in its order, in this process.

    Then make itself finds nothing left to do.
    """
    draw, given = np.random.default_rng(1), []
    for split in ("train", "dev", "test"):
        queries = [line.split("\t")[0] for line in (beir / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]]
        lines = [
            f"{query} Q0 d{document} {rank} {60 - rank} x\n"
            for query in queries
            for rank, document in enumerate(draw.permutation(60)[:20], start=1)
        ]
        (beir / f"{split}.run").write_text("".join(lines))
        given.append(f"{split.upper()}_RUN={beir / f'{split}.run'}")
    words = [
        f"DATA={beir}",
        f"OUT={beir / 'out'}",
        f"MODEL={encoder_folder}",
        *given,
        "ARMS=rand-kd hard-kd adam",
        "STEPS=2",
        "BATCH=4",
        "M=2",
        "POOL=3",
        "DOCUMENT_TOKENS=32",
        "QUERY_TOKENS=16",
        "ENCODE_DOCUMENT_TOKENS=60",
        "RANKER_STEPS=2",
    ]
    makefiles.run_all(printed("table", "teacher", "pictures", *words, folder=beir), drtools)
    again = make("table", "teacher", "pictures", *words, folder=beir)
    assert again.returncode == 0, again.stderr
    assert "drtools " not in again.stdout, again.stdout
    for run in ("start", "rand-kd-1", "hard-kd-1", "adam-1", "teacher"):
        assert f"test/{run}.run" in again.stdout
    for picture in ("scores/soft-labels.png", "scores/scores.png", "agreement-1/agreement.png"):
        assert (beir / "out" / picture).exists()
    agreement = json.loads((beir / "out/agreement-1/analysis.json").read_text())["agreement"]
    assert list(agreement) == ["encoder", "rand-kd-1", "hard-kd-1", "adam-1"]
