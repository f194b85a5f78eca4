"""What every training tool can do, seen through train-contrastive.

Two encoders, LoRA, heads, several files, caching, the card.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import changed_by_flags
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer


@changed_by_flags
def command(toy, encoder_folder, out, *more):
    return [
        "train-contrastive",
        "--model",
        encoder_folder,
        *toy.training,
        "--batch-queries",
        "8",
        "--learning-rate",
        "1e-3",
        "--precision",
        "fp32",
        "-o",
        str(out),
        *more,
    ]


def vectors(drtools, model, toy, side, out):
    texts = ["--corpus", toy.corpus] if side == "document" else ["--queries", toy.queries]
    done = drtools("encode", "--model", model, *texts, "--dtype", "float32", "--precision", "fp32", "-o", out)
    assert done.status == 0, done.err
    return np.load(out / "vectors.npy")


def texts(toy):
    return [f"{document['title']} {document['text']}" for document in toy.documents]


def query_texts(toy):
    return [json.loads(line)["text"] for line in Path(toy.queries).read_text().splitlines()]


@pytest.mark.parametrize(
    "more",
    [
        [],
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (
                ["--lora-rank", "4"],
                ["--head", "projection"],
                ["--untied"],
                ["--query-prompt", "fox: ", "--document-prompt", "hill ", "--gradient-caching", "--batch-tokens", "64"],
                ["--activation-checkpointing"],
                ["--precision", "bf16"],
            )
        ),
        pytest.param(["--untied", "--lora-rank", "4", "--head", "projection"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_it_learns_and_its_folder_loads_everywhere_with_the_same_vectors(toy, encoder_folder, drtools, tmp_path, more):
    done = drtools(
        *command(
            toy,
            encoder_folder,
            tmp_path / "out",
            "--steps",
            "30",
            "--evaluate-every-steps",
            "15",
            "--dev-qrels",
            toy.qrels,
            *more,
        )
    )
    assert done.status == 0, done.err
    made = json.loads((tmp_path / "out/manifest.json").read_text())
    log = [json.loads(line) for line in (tmp_path / "out/training.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in log if "loss" in record]
    assert losses[-1] < losses[0]
    slowly = {"--lora-rank", "projection"} & set(more)  # few weights, or a head that begins at random
    assert made["best"]["value"] > made["evaluations"][0]["nDCG@10"] - 1e-9 + (0 if slowly else 0.03)
    peer = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(
        vectors(drtools, tmp_path / "out", toy, "document", tmp_path / "d"), peer.encode_document(texts(toy)), atol=1e-5
    )
    np.testing.assert_allclose(
        vectors(drtools, tmp_path / "out", toy, "query", tmp_path / "q"), peer.encode_query(query_texts(toy)), atol=1e-5
    )


def test_lora_leaves_the_frozen_weights_alone(toy, encoder_folder, drtools, tmp_path):
    assert drtools(*command(toy, encoder_folder, tmp_path / "out", "--steps", "3", "--lora-rank", "2")).status == 0
    before, after = load_file(Path(encoder_folder) / "model.safetensors"), load_file(tmp_path / "out/model.safetensors")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed and all(
        name.endswith("weight") and before[name].ndim == 2 and "embeddings" not in name for name in changed
    )


@pytest.mark.slow
def test_caching_trains_the_same_weights(toy, encoder_folder, drtools, tmp_path):
    words = ["--steps", "5", "--dropout", "0", "--batch-tokens", "64"]
    assert drtools(*command(toy, encoder_folder, tmp_path / "kept", *words)).status == 0
    assert drtools(*command(toy, encoder_folder, tmp_path / "cached", *words, "--gradient-caching")).status == 0
    kept, cached = (load_file(tmp_path / name / "model.safetensors") for name in ("kept", "cached"))
    for name in kept:
        np.testing.assert_allclose(kept[name], cached[name], atol=1e-5)


@pytest.mark.slow
def test_several_files_each_with_its_corpus(toy, encoder_folder, drtools, tmp_path):
    for name in ("corpus.jsonl", "queries.jsonl", "examples.jsonl"):
        (tmp_path / f"other-{name}").write_text((toy.folder / name).read_text())
    words = [
        "--examples",
        tmp_path / "other-examples.jsonl",
        "--corpus",
        tmp_path / "other-corpus.jsonl",
        "--queries",
        tmp_path / "other-queries.jsonl",
        "--weight",
        "1",
        "--weight",
        "2",
        "--title-separator",
        " ",
        "--title-separator",
        " fox ",
        "--epochs",
        "1",
    ]
    done = drtools(*command(toy, encoder_folder, tmp_path / "out", *words))
    assert done.status == 0, done.err
    made = json.loads((tmp_path / "out/manifest.json").read_text())
    assert made["steps"] == 8, "60 visits, 8 a step"
    assert made["queries"] == 40
    done = drtools(*command(toy, encoder_folder, tmp_path / "bad", "--weight", "1", "--weight", "2"))
    assert done.status == 2 and "--weight was given 2 times with 1 --examples" in done.err
    assert drtools(*command(toy, encoder_folder, tmp_path / "bad", "--weight", "0")).status == 2


@pytest.mark.slow
def test_tensorboard_shows_what_the_log_holds(toy, encoder_folder, drtools, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert (
        drtools(
            *command(toy, encoder_folder, tmp_path / "out", "--steps", "20", "--tensorboard", tmp_path / "board")
        ).status
        == 0
    )
    shown = EventAccumulator(str(tmp_path / "board"))
    shown.Reload()
    log = [json.loads(line) for line in (tmp_path / "out/training.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(
        [event.value for event in shown.Scalars("loss")], [record["loss"] for record in log], rtol=1e-6
    )


def test_the_card_says_how_it_was_made(toy, encoder_folder, drtools, tmp_path):
    assert (
        drtools(*command(toy, encoder_folder, tmp_path / "out", "--steps", "4", "--dev-qrels", toy.qrels)).status == 0
    )
    card = (tmp_path / "out/README.md").read_text()
    assert "train-contrastive" in card and "examples.jsonl" in card and str(tmp_path) not in card
    best = json.loads((tmp_path / "out/manifest.json").read_text())["best"]
    assert f"{best['value']:.4f}" in card


def test_patience_ends_it(toy, encoder_folder, drtools, tmp_path):
    words = [
        "--steps",
        "400",
        "--evaluate-every-steps",
        "2",
        "--patience",
        "3",
        "--dev-qrels",
        toy.qrels,
        "--learning-rate",
        "1e-9",
    ]
    assert drtools(*command(toy, encoder_folder, tmp_path / "out", *words)).status == 0
    made = json.loads((tmp_path / "out/manifest.json").read_text())
    assert made["steps"] < 400 and made["steps"] == made["best"]["step"] + 6


def test_dev_may_have_a_corpus_of_its_own(toy, encoder_folder, drtools, tmp_path):
    lines = Path(toy.corpus).read_text().splitlines()
    (tmp_path / "dev.jsonl").write_text("\n".join(lines[:20]) + "\n")
    words = ["--steps", "2", "--dev-qrels", toy.qrels, "--dev-documents", "0"]
    values = []
    for more in ([], ["--dev-corpus", tmp_path / "dev.jsonl"]):
        assert drtools(*command(toy, encoder_folder, tmp_path / f"out{len(more)}", *words, *more)).status == 0
        values.append(json.loads((tmp_path / f"out{len(more)}/manifest.json").read_text())["evaluations"][0]["nDCG@10"])
    assert values[1] > values[0], "a third of the documents to confuse it with"


def scored(toy, by="toy@1"):
    """Give the examples a teacher's scores, drawn at random; the first example's last negative has none."""
    draw = np.random.default_rng(4)
    examples = [json.loads(line) for line in Path(toy.examples).read_text().splitlines()]
    for number, example in enumerate(examples):
        for kind in ("positive", "negative"):
            example[f"{kind}_scores"] = draw.normal(
                2 if kind == "positive" else 0, 3, len(example[f"{kind}s"])
            ).tolist()
        if number == 0:
            example["negative_scores"][-1] = None
        example |= {"scored_by": by} if by else {}
    Path(toy.examples).write_text("".join(json.dumps(example) + "\n" for example in examples))
    return examples


def test_it_learns_a_teachers_margins(toy, encoder_folder, drtools, tmp_path):
    """Where a batch holds every query with all its negatives, its loss is the mean of all squares, by a loop."""
    examples = scored(toy)
    assert {len(example["positives"]) for example in examples} == {1}
    most = max(len(example["negatives"]) for example in examples)
    words = command(toy, encoder_folder, tmp_path / "out", "--loss", "margin-mse", "--hard-negatives", most)
    words[words.index("--batch-queries") + 1], words[words.index("--learning-rate") + 1] = len(examples), "1e-12"
    done = drtools(*words, "--dropout", "0", "--steps", "10")
    assert done.status == 0 and "1 document of the examples has no score" in done.err, done.err
    peer = SentenceTransformer(encoder_folder, device="cpu")
    documents = dict(zip([each["_id"] for each in toy.documents], peer.encode(texts(toy)), strict=True))
    ids = [json.loads(line)["_id"] for line in Path(toy.queries).read_text().splitlines()]
    queries = dict(zip(ids, peer.encode(query_texts(toy)), strict=True))
    scale = json.loads((tmp_path / "out/manifest.json").read_text())["scale"]
    squares = []
    for example in examples:
        query, (positive,), (of_positive,) = (
            queries[example["query_id"]],
            example["positives"],
            example["positive_scores"],
        )
        for negative, of_negative in zip(example["negatives"], example["negative_scores"], strict=True):
            if of_negative is not None:
                margin = scale * float(query @ (documents[positive] - documents[negative]))
                squares.append((margin - (of_positive - of_negative)) ** 2)
    assert len(squares) == sum(len(example["negatives"]) for example in examples) - 1
    (logged,) = map(json.loads, (tmp_path / "out/training.jsonl").read_text().splitlines())
    assert logged["loss"] == pytest.approx(np.mean(squares), rel=1e-4)


def test_margins_need_a_teacher(toy, encoder_folder, drtools, tmp_path):
    words = command(toy, encoder_folder, tmp_path / "out", "--loss", "margin-mse", "--steps", "1")
    done = drtools(*words)
    assert done.status == 2 and "run teacher-score" in done.err and "--accept-scores" in done.err
    done = drtools(*words, "--hard-negatives", "0")
    assert done.status == 2 and "margins need negatives" in done.err
    scored(toy, by=None)
    assert drtools(*words).status == 2
    assert drtools(*words, "--accept-scores").status == 0
    plain = command(toy, encoder_folder, tmp_path / "plain", "--steps", "1")
    assert drtools(*plain).status == 0
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("out", "plain")]
    assert any(not np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
