"""train-ranker.

It learns, continues bit for bit, trains as one in several processes, and its folder ranks elsewhere alike.
"""

import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import changed_by_flags
from preloaded import kill
from safetensors.numpy import load_file

from drtools.losses import contrastive, pointwise, ranknet
from drtools.methods.ranker.training import list_loss


@changed_by_flags
def command(toy, model, out, *more):
    return [
        "train-ranker",
        "--model",
        model,
        *toy.training,
        "--batch-queries",
        "5",
        "--negatives",
        "2",
        "--learning-rate",
        "1e-3",
        "--precision",
        "fp32",
        "--threads",
        "1",
        "-o",
        str(out),
        *map(str, more),
    ]


@pytest.fixture(scope="session")
def body(bert, tmp_path_factory):
    """Write the toy BERT with larger weights.

    In its own every text ends in nearly the same state, of which a ranker learns little.
    """
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("body") / "body"
    shutil.copytree(bert, folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value * 5 if value.ndim == 2 else value for name, value in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    return str(folder)


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize(
    "more",
    [
        ["--loss", "listwise"],
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (
                ["--loss", "pointwise", "--precision", "bf16"],
                ["--loss", "ranknet", "--gradient-caching", "--batch-tokens", "512"],
                ["--activation-checkpointing"],
            )
        ),
    ],
    ids=" ".join,
)
def test_it_learns(toy, body, drtools, tmp_path, more):
    done = drtools(
        *command(
            toy,
            body,
            tmp_path / "out",
            "--steps",
            "40",
            "--warmup-steps",
            "5",
            "--batch-queries",
            "20",
            "--learning-rate",
            "1e-2",
            "--dropout",
            "0",
            "--dev-examples",
            toy.examples,
            *more,
        )
    )
    assert done.status == 0, done.err
    made = manifest(tmp_path / "out")
    losses = [
        json.loads(line)["loss"]
        for line in (tmp_path / "out/training.jsonl").read_text().splitlines()
        if '"loss"' in line
    ]
    assert made["kind"] == "ranker" and losses[-1] < losses[0] - 0.05
    assert made["best"]["value"] > made["evaluations"][0]["nDCG@10"]


def test_dev_ranks_a_run_anew_as_teacher_score_does(toy, body, drtools, tmp_path):
    run = tmp_path / "first.run"
    run.write_text(
        "".join(f"q{n} Q0 d{(n + step) % 60} {step} {50 - step} x\n" for n in range(20) for step in (3, 0, 9, 30))
    )
    words = [
        "--steps",
        "8",
        "--dev-run",
        run,
        "--dev-qrels",
        toy.qrels,
        "--dev-depth",
        "3",
        "--evaluate-every-steps",
        "8",
        "--max-query-tokens",
        "9",
        "--max-document-tokens",
        "12",
    ]
    done = drtools(*command(toy, body, tmp_path / "out", *words))
    assert done.status == 0, done.err
    made = manifest(tmp_path / "out")
    assert (
        drtools(
            "teacher-score",
            "--teacher",
            tmp_path / "out",
            "--run",
            run,
            "--corpus",
            toy.corpus,
            "--queries",
            toy.queries,
            "--depth",
            3,
            "--precision",
            "fp32",
            "-o",
            tmp_path / "ranked.run",
        ).status
        == 0
    )
    measured = list(made["evaluations"][made["best"]["step"] // 8].items())[1:]
    assert measured
    for measure, value in measured:
        report = drtools("eval", "--qrels", toy.qrels, "--measures", measure, tmp_path / "ranked.run")
        assert f"{value:.4f}" in report.out, (measure, value, report.out)
    card = (tmp_path / "out/README.md").read_text()
    assert (
        "CrossEncoder(" in card
        and "pipeline_tag: text-ranking" in card
        and "| pair, with special tokens | 24 |" in card
        and str(tmp_path) not in card
    )


@pytest.mark.parametrize(
    "more",
    [["--dev-run", "RUN"], ["--dev-qrels", "QRELS"], ["--dev-examples", "EXAMPLES", "--dev-qrels", "QRELS"]],
    ids=" ".join,
)
def test_what_does_not_make_a_dev_set_is_refused(toy, body, drtools, tmp_path, more):
    (tmp_path / "a.run").write_text("q0 Q0 d0 1 1 x\n")
    given = {"RUN": tmp_path / "a.run", "QRELS": toy.qrels, "EXAMPLES": toy.examples}
    done = drtools(*command(toy, body, tmp_path / "out", "--steps", "1", *(given.get(word, word) for word in more)))
    assert done.status == 2 and "--dev-run" in done.err and not (tmp_path / "out.partial").exists()


def test_examples_without_negatives_are_refused(toy, body, drtools, tmp_path):
    from tests.conftest import write_jsonl

    toy.examples = write_jsonl(tmp_path / "bare.jsonl", [{"query_id": "q1", "positives": ["d1"], "negatives": []}])
    done = drtools(*command(toy, body, tmp_path / "out", "--steps", "1"))
    assert done.status == 2 and "no example has a negative" in done.err


@pytest.mark.bits
@pytest.mark.slow
def test_killed_and_repeated_it_ends_in_the_same_weights(toy, body, drtools, tmp_path, program, environment):
    words = [
        "--steps",
        "40",
        "--save-every-minutes",
        "0.001",
        "--dev-examples",
        toy.examples,
        "--evaluate-every-steps",
        "20",
    ]
    assert drtools(*command(toy, body, tmp_path / "whole", *words)).status == 0
    process = subprocess.Popen(
        [program, *command(toy, body, tmp_path / "killed", *words)], env=environment, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (tmp_path / "killed.partial/state.json").exists():
        time.sleep(0.01)
    kill(process)
    assert not (tmp_path / "killed").exists()
    done = drtools(*command(toy, body, tmp_path / "killed", *words))
    assert done.status == 0 and "continuing the work" in done.err
    one, more = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(np.array_equal(one[name], more[name]) for name in one)


@pytest.mark.slow
def test_two_processes_equal_one(toy, body, drtools, tmp_path, several):
    # pointwise, as lists leave the head's bias without a gradient but rounding's, which Lamb makes as large as any
    words = ["--steps", "4", "--dropout", "0", "--optimizer", "lamb", "--loss", "pointwise"]
    assert drtools(*command(toy, body, tmp_path / "one", *words)).status == 0
    several(2, command(toy, body, tmp_path / "more", *words))
    one, more = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "more"))
    start = load_file(Path(body) / "model.safetensors")
    for name, value in one.items():
        np.testing.assert_allclose(more[name], value, atol=1e-5)
    assert max(np.abs(value - one[f"bert.{name}"]).max() for name, value in start.items()) > 1e-3


def test_gradients_are_those_of_plain_autograd(toy, body, tmp_path):
    from transformers import AutoTokenizer

    from drtools.formats.corpus_store import open_store
    from drtools.methods.ranker.batches import RankedBatches
    from drtools.models.compute import Compute
    from drtools.models.cross_encoder import new_cross_encoder
    from drtools.training.distributed import World
    from drtools.training.examples import usable_examples
    from drtools.training.gradients import Gradients
    from drtools.training.sampling import ExampleSource

    store = open_store(toy.corpus)
    batches = RankedBatches(
        [ExampleSource(usable_examples(toy.examples, toy.queries, store), store)],
        new_cross_encoder(body, 1),
        batch_queries=6,
        negatives=3,
        seed=1,
    )
    model, batch = batches.encoder, batches(2)
    loss, _ = Gradients(model, Compute("cpu", "fp32", 100), World(), caching=False, parallel=False).of(
        batch, list_loss(contrastive), 1
    )
    found = {name: parameter.grad.clone() for name, parameter in model.model.named_parameters()}
    model.zero_grad()
    tokenizer = AutoTokenizer.from_pretrained(body)
    texts = [f"{document['title']} {document['text']}" for document in toy.documents]
    expected = 0.0
    for visit, listed in zip(batches.visits(2), batch.lists, strict=True):
        first, *others = (
            tokenizer.decode([token for token, kind in zip(ids, types, strict=True) if kind == 1 and token > 4])
            for ids, types in zip(*batch.tokens["pair"].inputs(listed)[::2], strict=True)
        )
        assert first == texts[int(visit.source.examples.query_ids[visit.at][1:])], "the query's positive stands first"
        documents = [first, *others]
        logits = model.model(**tokenizer([visit.query] * 4, documents, padding=True, return_tensors="pt")).logits[:, 0]
        expected = expected + torch.nn.functional.cross_entropy(logits[None], torch.tensor([0])) / 6
    expected.backward()
    assert abs(loss - float(expected.detach())) < 1e-5
    for name, parameter in model.model.named_parameters():
        np.testing.assert_allclose(found[name], parameter.grad, atol=1e-5)


def test_losses_of_lists_equal_naive_loops():
    logits = torch.tensor([[1.5], [0.2], [-0.4], [0.3], [2.0], [0.9]])
    lists = [[0, 1, 2], [3, 4], [5]]

    class Batch:
        import numpy as np

        lists = np.array([[0, 1, 2], [3, 4, -1], [5, -1, -1]])

    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    values = [[float(logits[at]) for at in one] for one in lists]
    listwise = np.mean([np.log(np.exp(one).sum()) - one[0] for one in values])
    pairs = [softplus(other - one[0]) for one in values for other in one[1:]]
    points = [softplus(-one[0]) for one in values] + [softplus(other) for one in values for other in one[1:]]
    for form, expected in ((contrastive, listwise), (ranknet, np.mean(pairs)), (pointwise, np.mean(points))):
        assert abs(float(list_loss(form)(logits, Batch)[0]) - expected) < 1e-6


def test_a_head_drawn_at_random_is_never_the_best(toy, bert, drtools, tmp_path):
    """At a rate that changes next to nothing no evaluation beats the start, and yet what is written was trained."""
    done = drtools(
        "train-ranker",
        "--model",
        bert,
        *toy.training,
        "--dev-examples",
        toy.examples,
        "--steps",
        2,
        "--evaluate-every-steps",
        1,
        "--learning-rate",
        "1e-12",
        "--batch-queries",
        4,
        "--max-document-tokens",
        8,
        "-o",
        tmp_path / "ranker",
    )
    manifest = json.loads((tmp_path / "ranker" / "manifest.json").read_text())
    assert done.status == 0, done.err
    assert [entry["step"] for entry in manifest["evaluations"]] == [0, 1, 2] and manifest["best"]["step"] > 0
    assert "texts trained on since the start were longer than their limit and were cut" in done.err
