"""ADORE's lists, loss and gradient against double loops; live search by several processes; the tool from end to end."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from drtools.errors import InputError
from drtools.methods.adore.batches import QueryBatch
from drtools.methods.adore.loss import AdoreLoss, Judged, StaticLists, candidates_of
from drtools.methods.adore.settings import Metric
from drtools.models.compute import Compute


class Frozen:
    """A live index of vectors at hand, searched by numpy."""

    def __init__(self, vectors):
        self.array = vectors

    def __len__(self):
        return len(self.array)

    def search(self, queries, depth):
        scores = queries @ self.array.T
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        return np.take_along_axis(scores, rows, 1), rows

    def vectors_of(self, rows, decoded):
        return self.array[rows]

    def tensor_of(self, rows, decoded):
        return torch.from_numpy(self.vectors_of(rows, decoded))


def naive_loss(queries, documents, judged, depth, metric, cut, append_missing):
    """The mean over queries of the mean over pairs, straight from the definition.

    Queries a float64 tensor with gradient.
    """
    total = 0.0
    for query, (relevant_rows, _) in zip(queries, judged, strict=True):
        scores = [
            float(sum(a * b for a, b in zip(query.tolist(), document, strict=True))) for document in documents.tolist()
        ]
        retrieved = sorted(range(len(documents)), key=lambda row: (-scores[row], row))[:depth]
        ranked = [(row, place + 1) for place, row in enumerate(retrieved)]
        missing = [row for row in relevant_rows if row not in retrieved]
        if append_missing or len(missing) == len(relevant_rows):
            ranked += [(row, depth + 1 + place) for place, row in enumerate(missing)]
        pairs = []
        for i, rank_i in ranked:
            for j, rank_j in ranked:
                if i in relevant_rows and j not in relevant_rows:
                    weight = {"rr": abs((rank_i <= cut) / rank_i - (rank_j <= cut) / rank_j), "none": 1.0}[metric]
                    pairs.append(weight * torch.log1p(torch.exp(query @ documents[j] - query @ documents[i])))
        total = total + sum(pairs) / len(pairs)
    return total / len(queries)


@pytest.mark.parametrize("append_missing", [False, True])
@pytest.mark.parametrize("metric,depth", [("rr@10", 8), ("rr@200", 8), ("rr@3", 20), ("none", 8)])
def test_loss_and_gradient_equal_a_double_loop(metric, depth, append_missing):
    random = np.random.default_rng(3)
    documents = random.integers(-2, 3, (30, 4)).astype(np.float32)  # few values, so that scores tie
    documents[7] = documents[3]
    queries = torch.tensor(random.integers(-2, 3, (5, 4)), dtype=torch.float64, requires_grad=True)
    judged = [
        Judged(np.array(rows), np.ones(len(rows), np.float32)) for rows in ([3], [7, 12], [0, 1, 2, 29], [25], [14, 15])
    ]
    name, _, cut = metric.partition("@")
    expected = naive_loss(
        queries, torch.tensor(documents, dtype=torch.float64), judged, depth, name, int(cut or 0), append_missing
    )
    (gradient,) = torch.autograd.grad(expected, queries)
    loss = AdoreLoss(
        Frozen(documents),
        {str(n): part for n, part in enumerate(judged)},
        depth=depth,
        metric=Metric.parse(metric),
        append_missing=append_missing,
        decoded=False,
        scale=1.0,
        negatives="live",
        seed=1,
        note_every_steps=10,
    )
    mine = queries.detach().float().requires_grad_()
    value, _ = loss(mine, QueryBatch({}, {}, [str(n) for n in range(5)], 0))
    torch.testing.assert_close(value, expected.detach().float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(value, mine)[0], gradient.float(), atol=1e-5, rtol=1e-5)


def test_what_is_appended_and_where():
    retrieved, judged = np.array([4, 9, 2, -1]), Judged(np.array([7, 9, 1]), np.array([1, 2, 1]))
    once = candidates_of(retrieved, judged, 200, append_missing=False)
    assert once.rows.tolist() == [4, 9, 2] and once.ranks.tolist() == [1, 2, 3] and once.gains.tolist() == [0, 2, 0]
    each = candidates_of(retrieved, judged, 200, append_missing=True)
    assert (
        each.rows.tolist() == [4, 9, 2, 7, 1]
        and each.ranks.tolist() == [1, 2, 3, 201, 202]
        and each.gains.tolist() == [0, 2, 0, 1, 1]
    )
    none = candidates_of(np.array([4, 2]), judged, 200, append_missing=False)
    assert none.rows.tolist() == [4, 2, 7, 9, 1] and none.ranks.tolist() == [1, 2, 201, 202, 203]


def naive_weight(metric, cut, ranks, gains, i, j):
    """What the pair of ranks i (relevant) and j weighs: by the definition of each metric, over the whole ranking."""
    if metric == "none":
        return 1.0
    if metric == "rr":
        return abs((ranks[i] <= cut) / ranks[i] - (ranks[j] <= cut) / ranks[j])
    swapped = dict(ranks) | {i: ranks[j], j: ranks[i]}
    if metric == "mrr":
        value = lambda places: max((places[row] <= cut) / places[row] for row in gains)  # noqa: E731
    else:
        value = lambda places: sum(  # noqa: E731
            gain * (places[row] <= cut) / math.log2(places[row] + 1) for row, gain in gains.items()
        )
    ideal = sum(gain / math.log2(place + 2) for place, gain in enumerate(sorted(gains.values(), reverse=True)[:cut]))
    return abs(value(swapped) - value(ranks)) / (ideal if metric == "ndcg" else 1)


@pytest.mark.parametrize("metric", ["none", "rr@5", "rr@30", "mrr@5", "ndcg@5", "ndcg@60"])
def test_random_negatives_and_relevant_documents_stand_at_their_ranks_in_the_corpus(metric):
    random = np.random.default_rng(5)
    documents = random.normal(size=(50, 4)).astype(np.float32)
    queries = torch.tensor(random.normal(size=(6, 4)), dtype=torch.float64, requires_grad=True)
    judged = [
        Judged(np.array(rows), np.array(grades, np.float32))
        for rows, grades in (
            ([3], [1]),
            ([7, 12], [2, 1]),
            ([0, 1, 49], [1, 3, 1]),
            ([25], [1]),
            ([14, 15], [1, 1]),
            ([9], [1]),
        )
    ]
    loss = AdoreLoss(
        Frozen(documents),
        {str(n): part for n, part in enumerate(judged)},
        depth=25,
        metric=Metric.parse(metric),
        append_missing=False,
        decoded=False,
        scale=1.0,
        negatives="random",
        seed=1,
        note_every_steps=10,
    )
    batch = QueryBatch({}, {}, [str(n) for n in range(6)], 3)
    drawn = loss._used(batch, np.empty((6, 4)))
    total, relevant_in_list = 0.0, 0
    name, _, cut = metric.partition("@")
    for query, own, rows in zip(queries, judged, drawn, strict=True):
        scores = torch.tensor(documents, dtype=torch.float64) @ query
        order = sorted(range(50), key=lambda row: (-scores[row].item(), row))
        ranks = {row: place for place, row in enumerate(order, start=1)}
        gains = dict(zip(own.rows.tolist(), own.grades.tolist(), strict=True))
        others = [row for row in rows.tolist() if row not in gains]
        relevant_in_list += len(rows) - len(others)
        pairs = [
            naive_weight(name, int(cut or 0), ranks, gains, i, j) * torch.log1p(torch.exp(scores[j] - scores[i]))
            for i in gains
            for j in others
        ]
        total = total + sum(pairs) / len(pairs)
    expected = total / 6
    (gradient,) = torch.autograd.grad(expected, queries)
    mine = queries.detach().float().requires_grad_()
    value, told = loss(mine, batch)
    torch.testing.assert_close(value, expected.detach().float(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.autograd.grad(value, mine)[0], gradient.float(), atol=1e-5, rtol=1e-4)
    assert relevant_in_list, "a drawn relevant document is not its query's negative, nor keeps the others out"
    assert expected.item() > 0 and bool(told) == (metric != "none")


def static_loss() -> AdoreLoss:
    """Return the loss of one query over twelve documents, with static lists."""
    return AdoreLoss(
        Frozen(np.eye(12, dtype=np.float32)),
        {"a": Judged(np.array([2]), np.ones(1, np.float32))},
        depth=4,
        metric=Metric.parse("rr@10"),
        append_missing=False,
        decoded=False,
        scale=1.0,
        negatives="static",
        seed=1,
        note_every_steps=1,
    )


@pytest.mark.parametrize("rows", [[[0, 12, 6, 2]], [[0, 5], [6, 2]], [0, 5, 6, 2], [[0.0, 5.0, 6.0, 2.0]]])
def test_static_lists_of_earlier_work_that_are_damaged_are_refused(tmp_path, rows):
    loss = static_loss()
    lists = StaticLists(loss, {"a": "words"}, None, Compute("cpu", "fp32", 64), 2)
    np.save(tmp_path / "lists.npy", np.array([[0, 5, -1, 2]]))
    lists.load(tmp_path / "lists.npy")
    assert loss.kept["a"].tolist() == [0, 5, 2]
    np.save(tmp_path / "lists.npy", np.array(rows))
    with pytest.raises(InputError, match="expected rows of 12 documents for 1 queries"):
        lists.load(tmp_path / "lists.npy")


def test_the_log_is_told_overlap_and_rr():
    loss = static_loss()
    loss.keep({"a": np.array([0, 5, 6, 2])})
    vector = torch.tensor([[4.0, 3.0, 2.0, 1.0] + [0.0] * 8], requires_grad=True)
    value, told = loss(vector, QueryBatch({}, {}, ["a"], 0))
    assert told == {"RR@10": pytest.approx(1 / 3), "overlap": 0.5}
    # ranked by the scores of the moment: 0 (4), 2 (2), 5 (0), 6 (0); the relevant one is second
    pairs = [
        abs(1 / 2 - 1) * math.log1p(math.exp(4 - 2)),
        abs(1 / 2 - 1 / 3) * math.log1p(math.exp(-2)),
        abs(1 / 2 - 1 / 4) * math.log1p(math.exp(-2)),
    ]
    assert value.item() == pytest.approx(sum(pairs) / 3, abs=1e-6)


def adore_command(toy, model, out, *more):
    return [
        "train-adore",
        "--model",
        model,
        "--queries",
        toy.queries,
        "--qrels",
        toy.qrels,
        "--learning-rate",
        "1e-3",
        "--batch-queries",
        "8",
        "--dev-qrels",
        toy.qrels,
        "--evaluate-every-steps",
        "10",
        "-o",
        out,
        *more,
    ]


@pytest.fixture
def served(toy, encoder_folder, drtools, tmp_path):
    """Vectors and an IVF index of the toy corpus, and a function that trains against them."""
    assert (
        drtools(
            "encode",
            "--model",
            encoder_folder,
            "--corpus",
            toy.corpus,
            "--precision",
            "fp32",
            "-o",
            tmp_path / "vectors",
        ).status
        == 0
    )
    assert (
        drtools("index", "--vectors", tmp_path / "vectors", "--factory", "IVF2,Flat", "-o", tmp_path / "ivf").status
        == 0
    )

    def train(out, *more):
        steps = [] if "--steps" in more else ["--steps", "30"]
        return drtools(*adore_command(toy, encoder_folder, out, *steps, *more))

    return train


@pytest.mark.parametrize(
    "more",
    [
        ["--vectors"],
        pytest.param(["--index", "--loss-vectors", "decoded"], marks=pytest.mark.slow),
        pytest.param(["--vectors", "--index", "--metric", "ndcg@10", "--append", "missing"], marks=pytest.mark.slow),
        pytest.param(["--vectors", "--negatives", "static", "--refresh-every-steps", "10"], marks=pytest.mark.slow),
        pytest.param(["--vectors", "--negatives", "random"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_it_gets_better_on_the_very_index(served, toy, drtools, tmp_path, more):
    paths = {"--vectors": tmp_path / "vectors", "--index": tmp_path / "ivf"}
    words = [part for word in more for part in ([word, paths[word]] if word in paths else [word])]
    outcome = served(tmp_path / "adore", *words)
    assert outcome.status == 0, outcome.err
    made = json.loads((tmp_path / "adore/manifest.json").read_text())
    values = [evaluation["nDCG@10"] for evaluation in made["evaluations"]]
    assert max(values) > values[0] + (0 if "random" in more else 0.03)
    log = [json.loads(line) for line in (tmp_path / "adore/training.jsonl").read_text().splitlines()]
    assert all(0 <= record["RR@10"] <= 1 and 0 < record["overlap"] <= 1 for record in log if "loss" in record)
    index = ["--index", tmp_path / "ivf"] if "--index" in more else ["--vectors", tmp_path / "vectors"]
    assert (
        drtools(
            "search",
            *index,
            "--model",
            tmp_path / "adore",
            "--queries",
            toy.queries,
            "--precision",
            "fp32",
            "-o",
            tmp_path / "run",
        ).status
        == 0
    )
    measured = json.loads(drtools("eval", "--qrels", toy.qrels, tmp_path / "run", "--json").out)["runs"][0]["measures"][
        "nDCG@10"
    ]
    assert measured == pytest.approx(max(values), abs=1e-6)


@pytest.mark.slow
def test_its_result_is_bound_to_the_index(served, toy, bert, drtools, tmp_path):
    assert served(tmp_path / "adore", "--vectors", tmp_path / "vectors").status == 0
    refused = drtools("encode", "--model", tmp_path / "adore", "--corpus", toy.corpus, "-o", tmp_path / "no")
    assert refused.status == 2 and "an encoder only for queries" in refused.err
    record = json.loads((tmp_path / "adore/manifest.json").read_text())
    frozen = json.loads((tmp_path / "vectors/manifest.json").read_text())
    assert (
        record["document_fingerprint"] == frozen["document_fingerprint"]
        and record["query_fingerprint"] != frozen["query_fingerprint"]
    )
    assert (
        drtools("encode", "--model", bert, "--pooling", "cls", "--corpus", toy.corpus, "-o", tmp_path / "others").status
        == 0
    )
    other = drtools(
        "search",
        "--vectors",
        tmp_path / "others",
        "--model",
        tmp_path / "adore",
        "--queries",
        toy.queries,
        "-o",
        tmp_path / "no.run",
    )
    assert other.status == 2 and "made by another encoder" in other.err
    again = served(tmp_path / "again", "--vectors", tmp_path / "others")
    assert again.status == 2 and "made by another encoder" in again.err
    twice = drtools(
        "train-adore",
        "--model",
        tmp_path / "adore",
        "--vectors",
        tmp_path / "vectors",
        "--queries",
        toy.queries,
        "--qrels",
        toy.qrels,
        "--steps",
        "2",
        "-o",
        tmp_path / "twice",
    )
    assert twice.status == 0, twice.err


def test_random_negatives_that_0_1_0_trained_on_are_not_continued(served, tmp_path, interrupt_at):
    words = ["--vectors", tmp_path / "vectors", "--negatives", "random", "--save-every-minutes", "0"]
    interrupt_at(AdoreLoss, "__call__", 12)
    assert served(tmp_path / "adore", *words).status == 130
    written = tmp_path / "adore.partial/request.json"
    request = json.loads(written.read_text())
    assert request.pop("changes")
    written.write_text(json.dumps(request))
    refused = served(tmp_path / "adore", *words)
    assert refused.status == 2 and "since then random negatives and relevant documents are weighed by" in refused.err


def test_what_cannot_be_meant_is_refused(served, toy, drtools, tmp_path):
    for more, words in (
        (["--index", tmp_path / "ivf"], "the exact vectors are needed"),
        (["--vectors", tmp_path / "vectors", "--loss-vectors", "decoded"], "an index is needed"),
        (["--vectors", tmp_path / "vectors", "--metric", "map"], "expected rr@K"),
        (["--loss-vectors", "decoded", "--index", tmp_path / "vectors"], "expected a FAISS index"),
        (["--vectors", tmp_path / "vectors", "--refresh-every-steps", "5"], "only static negatives"),
    ):
        outcome = served(tmp_path / "no", *more)
        assert outcome.status == 2 and words in outcome.err and not (tmp_path / "no").exists()


@pytest.mark.slow
def test_what_cannot_be_trained_on_is_counted(served, toy, tmp_path):
    with open(toy.qrels, "a") as stream:
        stream.write("q99\td1\t1\nq3\tzz\t1\nq4\td4\t0\n")
    lines = [line for line in Path(toy.qrels).read_text().splitlines() if not line.startswith("q4\td4\t1")]
    Path(toy.qrels).write_text("\n".join(lines) + "\n")
    outcome = served(tmp_path / "adore", "--vectors", tmp_path / "vectors")
    assert outcome.status == 0, outcome.err
    for words in (
        "1 judged query is not in",
        "1 query has no relevant document",
        "1 relevant document is not in the index",
    ):
        assert words in outcome.err


@pytest.mark.slow
def test_several_processes_equal_one(served, toy, encoder_folder, several, tmp_path):
    for name, more in (("exact", []), ("ivf", ["--index", str(tmp_path / "ivf")])):
        words = ["--vectors", str(tmp_path / "vectors"), "--steps", "4", "--dropout", "0", *more]
        assert served(tmp_path / f"one-{name}", *words).status == 0
        several(
            2,
            adore_command(toy, encoder_folder, tmp_path / f"two-{name}", *words),
        )
        one, two = (load_file(tmp_path / f"{count}-{name}/model.safetensors") for count in ("one", "two"))
        for key, value in one.items():
            np.testing.assert_allclose(two[key], value, atol=1e-5)
