"""ADORE's Makefile: its commands are those that the tools take, with the paper's settings.

Its chain runs on a toy collection.
"""

import json
import shlex
from functools import partial

import makefiles
import pytest
from makefiles import parsed

README = makefiles.EXAMPLES / "star-adore" / "README.md"
STARTS = {"in-batch", "random", "warmup", "ance", "star"}
BYTES = (6, 12, 24, 48, 96)
make, printed = partial(makefiles.make, "star-adore"), partial(makefiles.printed, "star-adore")


@pytest.fixture
def published(tmp_path):
    return makefiles.published_in(tmp_path / "msmarco")


def tuned(commands: list[list[str]]) -> dict[str, dict[str, object]]:
    """Return what each train-adore gets, by the name of its output."""
    values = [parsed(words) for words in commands if words[0] == "train-adore"]
    return {value["output"].rpartition("/")[2]: value for value in values}


@pytest.mark.parametrize("collection", ["passages", "documents", "own"])
@pytest.mark.parametrize("goal", ["adore", "starts", "metrics", "negatives", "errors", "PQ=6 12 24 48 96"])
def test_every_command_is_one_that_the_tools_take(published, beir, collection, goal):
    where = [f"DATA={beir}"] if collection == "own" else [f"MSMARCO={published}", f"COLLECTION={collection}"]
    commands = printed(goal, *where, folder=beir)
    made = [parsed(words)["output"] for words in commands if words[0] != "eval"]
    assert len(made) == len(set(made))
    assert all(words[0] == "eval" or "--renew" in words for words in commands)
    assert set(tuned(commands)) == {
        "adore": {"adore-star"},
        "starts": {f"adore-{start}" for start in STARTS},
        "metrics": {"adore-star", "adore-star-none", "adore-star-mrr", "adore-star-ndcg"},
        "negatives": {"adore-warmup", "adore-warmup-random", "adore-warmup-static", "adore-warmup-refreshed"},
        "errors": set(),
    }.get(goal, {"adore-star", *(f"adore-star-through-PQ{count}" for count in BYTES)})


@pytest.mark.parametrize(("collection", "metric"), [("passages", "rr@200"), ("documents", "rr@10")])
def test_adore_has_the_papers_settings(published, collection, metric):
    commands = printed("starts", f"MSMARCO={published}", f"COLLECTION={collection}", folder=published)
    expected = {
        "optimizer": "adamw",
        "learning_rate": 5e-6,
        "batch_queries": 32,
        "weight_decay": 0.01,
        "clip": 1,
        "warmup_steps": 2000,
        "steps": 60000,
        "max_query_tokens": 64,
        "precision": "fp32",
        "depth": 200,
        "metric": metric,
        "index": None,
        "negatives": "live",
        "append": "if-none",
    }
    values = tuned(commands)
    for value in values.values():
        assert {name: value[name] for name in expected} == expected
    for start in STARTS - {"warmup"}:
        trained_on = "passages" if start in ("in-batch", "random") else collection
        assert (values[f"adore-{start}"]["model"], values[f"adore-{start}"]["vectors"]) == (
            f"star/{trained_on}/{start}",
            f"star/{collection}/{start}-vectors",
        )
    assert values["adore-warmup"]["model"] == "star/passages/warmup"  # the documents' too
    searched = [parsed(words) for words in commands if words[0] == "search"]
    assert {value["max_query_tokens"] for value in searched if "/adore-" in (value["model"] or "")} == {64}


def test_figure_4_starts_from_the_warm_up_and_weighs_random_negatives_alike(published):
    commands = printed("negatives", f"MSMARCO={published}", folder=published)
    assert {
        name: (value["negatives"], value["metric"], value["refresh_every_steps"], value["model"])
        for name, value in tuned(commands).items()
    } == {
        "adore-warmup": ("live", "rr@200", None, "star/passages/warmup"),
        "adore-warmup-static": ("static", "rr@200", None, "star/passages/warmup"),
        "adore-warmup-refreshed": ("static", "rr@200", 5000, "star/passages/warmup"),
        "adore-warmup-random": ("random", "none", None, "star/passages/warmup"),
    }
    for chosen in ("STARTS=star", "FIGURE_4=star"):
        assert "adore-star-random" in tuned(printed("negatives", f"MSMARCO={published}", chosen, folder=published))


def test_errors_are_counted_over_each_models_own_documents(published):
    commands = printed("errors", f"MSMARCO={published}", "ERRORS=random star adore-star", folder=published)
    found = {parsed(words)["output"]: parsed(words) for words in commands if words[0] in ("analyze", "encode")}
    for of, grade in (("dev", 1), ("dl19", 2)):
        value = found[f"star/passages/{of}-errors"]
        assert (value["min_rel"], value["depth"]) == (grade, 200)
        assert list(value["vectors"]) == [f"star/passages/{start}-vectors" for start in ("random", "star", "star")]
        models = {"random": 32, "star": 32, "adore-star": 64}
        assert list(value["query_vectors"]) == [f"star/passages/{of}/{model}-queries" for model in models]
        for model, length in models.items():
            made = found[f"star/passages/{of}/{model}-queries"]
            assert (made["model"], made["max_query_tokens"]) == (f"star/passages/{model}", length)


def test_errors_on_documents_count_the_grades_that_their_table_counts(published):
    commands = printed("errors", f"MSMARCO={published}", "COLLECTION=documents", folder=published)
    found = {parsed(words)["output"]: parsed(words)["min_rel"] for words in commands if words[0] == "analyze"}
    assert found == {"star/documents/dev-errors": 1, "star/documents/dl19-errors": 1}


def test_an_index_is_trained_through_and_searched_beside_the_vectors(published):
    commands = printed(
        f"MSMARCO={published}", "STARTS=warmup", "PQ=48", "INDEX=IVF64,Flat", "PROBE=--nprobe 8", folder=published
    )
    for factory, nprobe in {"PQ48": 8, "IVF64,Flat": 8}.items():
        value = tuned(commands)[f"adore-warmup-through-{factory}"]
        assert (value["index"], value["loss_vectors"], value["nprobe"]) == (
            f"star/passages/warmup-index-{factory}",
            "exact",
            nprobe,
        )
        runs = {parsed(words)["output"]: parsed(words) for words in commands if words[0] == "search"}
        for name in ("warmup", "adore-warmup", f"adore-warmup-through-{factory}"):
            on_index, exact = runs[f"star/passages/dev/{name}-on-{factory}.run"], runs[f"star/passages/dev/{name}.run"]
            assert (
                on_index["index"].endswith(f"warmup-index-{factory}")
                and on_index["model"].endswith(name)
                and on_index["nprobe"] == nprobe
            )
            assert exact["vectors"].endswith("warmup-vectors") and exact["nprobe"] is None


def test_an_unknown_start_is_said(published):
    assert "STARTS: best, expected some of" in make(f"MSMARCO={published}", "STARTS=best", folder=published).stderr


def test_the_readmes_commands_are_ones_that_the_tools_take():
    commands = [
        shlex.split(line)[1:]
        for line in README.read_text().replace("\\\n", " ").splitlines()
        if line.startswith("    drtools ")
    ]
    assert {parsed(words) and words[0] for words in commands} >= {"analyze", "encode"}


@pytest.mark.slow
def test_the_chain_runs_and_a_second_run_does_nothing(beir, encoder_folder, drtools):
    """From a ready encoder, without STAR: exactly, by static negatives, and through an index."""
    words = [
        "adore",
        "negatives",
        "errors",
        "ERRORS=zero-shot adore-zero-shot",
        f"DATA={beir}",
        f"OUT={beir / 'out'}",
        f"MODEL={encoder_folder}",
        "STARTS=zero-shot",
        "PQ=4x4",
        "NEGATIVES=static",
        "ADORE_STEPS=10",
        "ADORE_BATCH=4",
        "DEPTH=20",
        "METRIC=rr@20",
        "ENCODE_DOCUMENT_TOKENS=60",
    ]
    makefiles.run_all(printed(*words, folder=beir), drtools)
    again = make(*words, folder=beir)
    assert again.returncode == 0, again.stderr
    assert "drtools " not in again.stdout
    for run in (
        "zero-shot",
        "adore-zero-shot",
        "adore-zero-shot-static",
        "adore-zero-shot-through-PQ4x4",
        "adore-zero-shot-through-PQ4x4-on-PQ4x4",
    ):
        assert f"test/{run}.run" in again.stdout
    assert json.loads((beir / "out" / "adore-zero-shot" / "manifest.json").read_text())["steps"] == 10
    assert list((beir / "out" / "figure-4-zero-shot").glob("*.png"))
    errors = json.loads((beir / "out" / "test-errors" / "analysis.json").read_text())["errors"]["runs"]
    assert all(run["exact"] for run in errors.values()) and len(errors) == 2
