"""train-star from end to end on the toy collection.

It learns, continues bit for bit, and its folder loads everywhere.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import changed_by_flags
from preloaded import kill
from safetensors.numpy import load_file


@changed_by_flags
def command(toy, encoder_folder, out, *more):
    return [
        "train-star",
        "--model",
        encoder_folder,
        *toy.training,
        "--batch-queries",
        "8",
        "--learning-rate",
        "1e-3",
        "--dev-qrels",
        toy.qrels,
        "--precision",
        "fp32",
        "--threads",
        "1",
        "-o",
        str(out),
        *more,
    ]


def test_training_improves_dev_and_the_best_checkpoint_is_kept(toy, encoder_folder, drtools, tmp_path):
    outcome = drtools(*command(toy, encoder_folder, tmp_path / "star", "--steps", "30", "--evaluate-every-steps", "10"))
    assert outcome.status == 0, outcome.err
    manifest = json.loads((tmp_path / "star/manifest.json").read_text())
    values = [evaluation["nDCG@10"] for evaluation in manifest["evaluations"]]
    assert [evaluation["step"] for evaluation in manifest["evaluations"]] == [0, 10, 20, 30]
    assert max(values) > values[0] + 0.05, "trained on these very queries, it must get better at them"
    assert manifest["best"]["value"] == max(values)
    assert manifest["scale"] == 20, "the toy encoder is normalized"
    assert not (tmp_path / "star/working").exists()
    log = [json.loads(line) for line in (tmp_path / "star/training.jsonl").read_text().splitlines()]
    steps, devs = [record for record in log if "loss" in record], [record for record in log if "dev nDCG@10" in record]
    assert [record["step"] for record in steps] == [10, 20, 30] and [record["step"] for record in devs] == [
        0,
        10,
        20,
        30,
    ]
    for record in steps:
        assert record["gradient_norm"] > 0 and record["queries_per_second"] > 0 and record["tokens_per_second"] > 0
        assert 0 <= record["padding_share"] < 1 and 0 < record["matmul_share"] < 1
    again = drtools(*command(toy, encoder_folder, tmp_path / "star", "--steps", "30", "--evaluate-every-steps", "10"))
    assert again.status == 0 and "already done" in again.err


@pytest.mark.slow
def test_the_best_weights_give_the_dev_value_of_the_manifest(toy, encoder_folder, drtools, tmp_path):
    drtools(
        *command(
            toy,
            encoder_folder,
            tmp_path / "star",
            "--steps",
            "30",
            "--evaluate-every-steps",
            "5",
            "--dev-documents",
            "0",
        )
    )
    best = json.loads((tmp_path / "star/manifest.json").read_text())["best"]["value"]
    drtools(
        "encode",
        "--model",
        tmp_path / "star",
        "--corpus",
        toy.corpus,
        "--dtype",
        "float32",
        "--precision",
        "fp32",
        "-o",
        tmp_path / "v",
    )
    drtools(
        "search",
        "--vectors",
        tmp_path / "v",
        "--model",
        tmp_path / "star",
        "--queries",
        toy.queries,
        "--precision",
        "fp32",
        "-o",
        tmp_path / "run",
    )
    outcome = drtools("eval", "--qrels", toy.qrels, tmp_path / "run", "--json")
    assert abs(json.loads(outcome.out)["runs"][0]["measures"]["nDCG@10"] - best) < 1e-6


def test_refreshed_negatives_are_what_the_model_ranks_high_and_is_not_relevant(toy, encoder_folder, drtools, tmp_path):
    from drtools.cli.flags.mining import MiningFlags
    from drtools.encoding.loop import encode_texts
    from drtools.formats.corpus_store import open_store
    from drtools.methods.star import HardNegativeRefresh
    from drtools.models.compute import Compute
    from drtools.models.loader import load_encoder
    from drtools.training.distributed import World
    from drtools.training.examples import usable_examples
    from drtools.training.sampling import ExampleSource

    store = open_store(toy.corpus)
    source = ExampleSource(usable_examples(toy.examples, toy.queries, store), store)
    model, computing = load_encoder(encoder_folder), Compute("cpu", "fp32", 256)
    refresh = HardNegativeRefresh([source], model, computing, World(), 5, MiningFlags(ranks="2-9", negatives=4))
    refresh.make(tmp_path / "refreshed-5", 5, lambda: None)
    refresh.load(tmp_path / "refreshed-5")
    documents = (
        encode_texts(model, [source.text(row) for row in range(60)], "document", computing)[0]
        .astype(np.float16)
        .astype(np.float32)
    )
    for text, positives, negatives in zip(
        source.examples.queries, source.examples.positives, source.examples.negatives, strict=True
    ):
        ranked = np.argsort(-(documents @ encode_texts(model, [text], "query", computing)[0][0]), kind="stable")
        assert negatives.tolist() == [row for row in ranked[1:9].tolist() if row not in positives][:4]
    drawn = HardNegativeRefresh(
        [source], model, computing, World(), 5, MiningFlags(ranks="1-40", negatives=4, draw="random")
    )
    lists = []
    for step in (5, 10):
        drawn.make(tmp_path / f"refreshed-{step}", step, lambda: None)
        drawn.load(tmp_path / f"refreshed-{step}")
        lists.append([each.tolist() for each in source.examples.negatives])
    assert lists[0] != lists[1] and all(len(each) == 4 for each in lists[0]), "of all these ranks, anew each time"


@pytest.mark.slow
def test_a_refresh_changes_what_is_learnt_from(toy, encoder_folder, drtools, tmp_path):
    for name, more in (("static", []), ("refreshed", ["--refresh-every-steps", "4"])):
        assert drtools(*command(toy, encoder_folder, tmp_path / name, "--steps", "8", *more)).status == 0
    static, refreshed = (load_file(tmp_path / name / "model.safetensors") for name in ("static", "refreshed"))
    assert any(not np.array_equal(static[name], refreshed[name]) for name in static)
    assert not list((tmp_path / "refreshed").glob("*refreshed*"))


@pytest.mark.slow
def test_every_form_learns(toy, encoder_folder, drtools, tmp_path):
    for more in (
        ["--alpha", "0.1"],
        ["--negatives", "own"],
        ["--negatives", "in-batch"],
        ["--negatives", "random"],
        ["--optimizer", "lamb", "--learning-rate", "1e-2"],
    ):
        out = tmp_path / "-".join(more).replace("--", "")
        assert (
            drtools(*command(toy, encoder_folder, out, "--steps", "30", "--evaluate-every-steps", "10", *more)).status
            == 0
        )
        made = json.loads((out / "manifest.json").read_text())
        assert made["best"]["value"] > made["evaluations"][0]["nDCG@10"], more


def test_what_cannot_be_meant_is_refused(toy, encoder_folder, drtools, tmp_path):
    for more, words in (
        (["--alpha", "1", "--negatives", "own"], "only static negatives"),
        (["--refresh-every-steps", "3", "--negatives", "random"], "no mined negatives"),
        (["--hard-negatives", "0", "--negatives", "own"], "nothing would be left"),
    ):
        outcome = drtools(*command(toy, encoder_folder, tmp_path / "star", *more))
        assert outcome.status == 2 and words in outcome.err


@pytest.mark.slow
def test_what_cannot_be_trained_on_is_counted(toy, encoder_folder, drtools, tmp_path):
    lines = Path(toy.examples).read_text().splitlines()
    odd = [
        {"query_id": "q99", "positives": ["d1"], "negatives": []},
        {"query_id": "q0", "positives": ["zz"], "negatives": ["d3"]},
        {"query_id": "q1", "positives": ["d1"], "negatives": ["yy"]},
    ]
    Path(toy.examples).write_text("\n".join([json.dumps(record) for record in odd] + lines[2:]) + "\n")
    arguments = command(toy, encoder_folder, tmp_path / "star", "--steps", "2")
    assert drtools(*arguments, "--strict").status == 2
    outcome = drtools(*arguments)
    assert outcome.status == 0, outcome.err
    for words in (
        "1 examples have a query that",
        "1 examples have no positive in the corpus",
        "2 documents of the examples",
        "1 examples have no negative",
    ):
        assert words in outcome.err


@pytest.mark.bits
@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_weights(
    toy, encoder_folder, drtools, tmp_path, program, environment
):
    arguments = (
        "--steps",
        "60",
        "--evaluate-every-steps",
        "7",
        "--save-every-minutes",
        "0",
        "--threads",
        "2",
        "--refresh-every-steps",
        "17",
        "--refresh-ranks",
        "1-20",
        "--refresh-negatives",
        "3",
    )
    assert drtools(*command(toy, encoder_folder, tmp_path / "whole", *arguments)).status == 0
    whole = load_file(tmp_path / "whole/model.safetensors")
    words = [program, *command(toy, encoder_folder, tmp_path / "killed", *arguments)]
    for pause, number in ((2.6, signal.SIGKILL), (0.4, signal.SIGTERM), (1.3, signal.SIGKILL)):
        process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while (
            time.monotonic() < deadline
            and process.poll() is None
            and not list((tmp_path / "killed.partial/working").glob("checkpoint-*"))
        ):
            time.sleep(0.02)
        time.sleep(pause / 10)
        status = kill(process, number)
        process.stderr.close()
        assert status in (-number, 143, 0)
    assert subprocess.run(words, env=environment, capture_output=True).returncode == 0
    again = load_file(tmp_path / "killed/model.safetensors")
    assert whole.keys() == again.keys() and all(np.array_equal(whole[name], again[name]) for name in whole)


@pytest.mark.slow
def test_a_stop_is_heard_within_a_refresh_and_nothing_before_it_is_lost(
    toy, encoder_folder, drtools, tmp_path, monkeypatch
):
    import signal

    from drtools.encoding import loop
    from drtools.methods import star

    words = command(toy, encoder_folder, tmp_path / "out", "--steps", "8", "--refresh-every-steps", "4")
    plain, chunks = loop.encode_tokens, []

    def stopped(*inputs):
        if len(inputs[1].lengths) > 10:  # another caller's
            return plain(*inputs)
        chunks.append(inputs)
        if len(chunks) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        plain(*inputs)

    monkeypatch.setattr(star, "CHUNK", 10)
    monkeypatch.setattr(loop, "encode_tokens", stopped)
    assert drtools(*words).status == 143 and len(chunks) == 2
    assert json.loads((tmp_path / "out.partial/state.json").read_text())["step"] == 4
    monkeypatch.setattr(loop, "encode_tokens", plain)
    again = drtools(*words)
    assert again.status == 0 and "continuing" in again.err
    assert (
        drtools(*command(toy, encoder_folder, tmp_path / "whole", "--steps", "8", "--refresh-every-steps", "4")).status
        == 0
    )
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "whole"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_strict_is_not_passed_by_saying_it_again(toy, encoder_folder, drtools, tmp_path):
    words = command(
        toy,
        encoder_folder,
        tmp_path / "out",
        "--steps",
        "5",
        "--max-query-tokens",
        "3",
        "--strict",
        "--dev-qrels",
        toy.qrels,
    )
    for _ in range(2):
        outcome = drtools(*words)
        assert outcome.status == 2 and "longer than their limit and were cut" in outcome.err, outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--alpha", "-3"], "--alpha -3: expected a weight above 0"),
        (["--refresh-every-steps", "2", "--hard-negatives", "0"], "the mined negatives would not be used"),
        (["--refresh-ranks", "5-2"], "--refresh-ranks 5-2"),
        (["--weight", "0.001"], "an epoch would visit none"),
        (["--weight", "nan"], "--weight nan: expected"),
        (
            ["--negatives", "own", "--refresh-every-steps", "2", "--refresh-ranks", "300-400"],
            "no query has a negative among these ranks",
        ),
    ],
)
def test_what_nothing_can_be_learnt_from_is_refused(toy, encoder_folder, drtools, tmp_path, words, said):
    outcome = drtools(*command(toy, encoder_folder, tmp_path / "out", "--steps", "30", *words))
    assert outcome.status == 2 and said in outcome.err and "internal" not in outcome.err, outcome.err


def test_fewer_negatives_than_are_drawn_are_counted(toy, encoder_folder, drtools, tmp_path):
    outcome = drtools(*command(toy, encoder_folder, tmp_path / "out", "--steps", "1", "--hard-negatives", "9"))
    assert outcome.status == 0 and "20 examples have fewer negatives of their own than the 9 to draw" in outcome.err, (
        outcome.err
    )


@pytest.mark.slow
def test_a_damaged_checkpoint_is_said_in_one_line(toy, encoder_folder, drtools, tmp_path, monkeypatch):
    from drtools.training.gradients import Gradients

    plain, steps = Gradients.of, []

    def stopping(self, *inputs):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return plain(self, *inputs)

    words = command(toy, encoder_folder, tmp_path / "out", "--steps", "6", "--save-every-minutes", "0")
    monkeypatch.setattr(Gradients, "of", stopping)
    assert drtools(*words).status == 130
    monkeypatch.setattr(Gradients, "of", plain)
    next((tmp_path / "out.partial/working").glob("checkpoint-*")).write_bytes(b"")
    outcome = drtools(*words)
    assert (
        outcome.status == 2 and "the checkpoint is damaged or missing" in outcome.err and "internal" not in outcome.err
    ), outcome.err
    overwritten = drtools(*words, "--overwrite")
    assert overwritten.status == 0, overwritten.err


def test_queries_without_negatives_count_also_where_an_earlier_process_mined_them(tmp_path):
    from types import SimpleNamespace

    from drtools import reporting
    from drtools.methods.star import HardNegativeRefresh

    with open(tmp_path / "refreshed-1200", "wb") as stream:
        np.savez(stream, **{"flat-0": np.array([3, 4, 5]), "starts-0": np.array([0, 2, 2, 3, 3])})
    refresh = HardNegativeRefresh.__new__(HardNegativeRefresh)
    refresh.world, refresh.sources = SimpleNamespace(is_first=True), [SimpleNamespace(examples=SimpleNamespace())]
    refresh.load(tmp_path / "refreshed-1200")
    assert reporting.notices() == ["2 of 4 queries had no negative after the refresh at step 1,200"]
    assert refresh.sources[0].examples.negatives.lengths.tolist() == [2, 0, 1, 0]
