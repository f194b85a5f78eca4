"""Each loss against a double loop over its formula, gradients included."""

import math

import numpy as np
import pytest
import torch

from drtools.losses import adore, contrastive, lambda_weights, masked_language, pointwise, ranknet, scores, token_losses
from drtools.methods.contrastive import contrastive_loss, margin_mse_loss
from drtools.methods.star import star_loss
from drtools.training.pairs import PairBatch


def naive_ranknet(queries, documents, keep, scale):
    """Sum softplus(s(q, n) - s(q, p)) over the kept pairs by loops in float64, divided by how many they are."""
    total, pairs = 0.0, 0
    for b in range(len(queries)):
        positive = scale * sum(queries[b][k] * documents[b][k] for k in range(queries.shape[1]))
        for c in range(len(documents)):
            if keep[b][c]:
                negative = scale * sum(queries[b][k] * documents[c][k] for k in range(queries.shape[1]))
                total, pairs = total + torch.log1p(torch.exp(negative - positive)), pairs + 1
    return total / pairs


def test_ranknet_and_its_gradient_equal_a_double_loop():
    torch.manual_seed(0)
    queries, documents = (
        torch.randn(4, 5, dtype=torch.float64, requires_grad=True),
        torch.randn(10, 5, dtype=torch.float64, requires_grad=True),
    )
    keep = torch.rand(4, 10) > 0.3
    keep[range(4), range(4)] = False
    expected = naive_ranknet(queries, documents, keep, 3.0)
    expected_gradients = torch.autograd.grad(expected, [queries, documents])
    ours_queries, ours_documents = (
        queries.detach().float().requires_grad_(),
        documents.detach().float().requires_grad_(),
    )
    table = scores(ours_queries, ours_documents, 3.0)
    ours = ranknet(table.diagonal(), table, keep)
    torch.testing.assert_close(ours, expected.float())
    for mine, theirs in zip(torch.autograd.grad(ours, [ours_queries, ours_documents]), expected_gradients, strict=True):
        torch.testing.assert_close(mine, theirs.float(), atol=1e-5, rtol=1e-5)


def test_a_worked_example():
    table = torch.tensor(
        [[2.0, 1.0, 3.0], [0.0, 1.0, -1.0]]
    )  # two queries, their positives on the diagonal, one hard negative
    keep = torch.tensor([[False, True, True], [True, False, True]])
    by_hand = (
        math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1)) + math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2))
    ) / 4
    torch.testing.assert_close(ranknet(table.diagonal(), table, keep), torch.tensor(by_hand))


def test_large_scores_stay_finite():
    table = torch.tensor([[0.0, 1000.0]])
    assert ranknet(table[:, 0], table, torch.tensor([[False, True]])) == 1000


def naive_contrastive(queries, documents, relevant, scale):
    """-log of the positive's share among itself and what is not relevant, by loops."""
    total = 0.0
    for b in range(len(queries)):
        weights = [
            torch.exp(scale * (queries[b] * documents[c]).sum())
            for c in range(len(documents))
            if c == b or not relevant[b][c]
        ]
        total = total - torch.log(torch.exp(scale * (queries[b] * documents[b]).sum()) / sum(weights))
    return total / len(queries)


def naive_star(queries, documents, relevant, owner, scale, alpha):
    """Mean over own hard negatives plus alpha times the mean over the documents of other rows, by loops."""
    own, others = [], []
    for b in range(len(queries)):
        for c in range(len(documents)):
            pair = torch.log1p(
                torch.exp(scale * ((queries[b] * documents[c]).sum() - (queries[b] * documents[b]).sum()))
            )
            if relevant[b][c] or c == b:
                continue
            (own if owner[c] == b else others).append(pair)
    return sum(own) / len(own) + alpha * sum(others) / len(others)


def random_batch():
    torch.manual_seed(2)
    queries, documents = (torch.randn(count, 5, dtype=torch.float64, requires_grad=True) for count in (4, 11))
    owner = [0, 1, 2, 3, 0, 0, 1, 2, 2, 3, 3]
    relevant = torch.zeros(4, 11, dtype=torch.bool)
    relevant[range(4), range(4)] = True
    relevant[1, 2] = relevant[3, 5] = True  # another query's positive; another's hard negative
    return queries, documents, relevant, owner


def check(naive, ours, queries, documents):
    expected = torch.autograd.grad(naive(queries, documents), [queries, documents])
    mine = [part.detach().float().requires_grad_() for part in (queries, documents)]
    value = ours(*mine)
    torch.testing.assert_close(value, naive(queries, documents).float())
    for gradient, theirs in zip(torch.autograd.grad(value, mine), expected, strict=True):
        torch.testing.assert_close(gradient, theirs.float(), atol=1e-5, rtol=1e-5)


def batch_of(relevant, owner):
    return PairBatch({}, {}, relevant.numpy(), np.array(owner))


def test_contrastive_equals_a_double_loop():
    queries, documents, relevant, owner = random_batch()
    check(
        lambda q, d: naive_contrastive(q, d, relevant, 2.0),
        lambda q, d: contrastive_loss(2.0)(q, d, batch_of(relevant, owner))[0],
        queries,
        documents,
    )


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_the_weighted_form_of_star_equals_a_double_loop(alpha):
    queries, documents, relevant, owner = random_batch()
    check(
        lambda q, d: naive_star(q, d, relevant, owner, 2.0, alpha),
        lambda q, d: star_loss(2.0, alpha=alpha)(q, d, batch_of(relevant, owner))[0],
        queries,
        documents,
    )


@pytest.mark.parametrize("negatives", ["static", "own", "in-batch", "random"])
def test_each_form_sees_its_pairs_and_no_others(negatives):
    queries, documents, relevant, owner = random_batch()
    wanted = {
        "static": lambda b, c: True,
        "own": lambda b, c: c >= 4 and owner[c] == b,
        "in-batch": lambda b, c: c < 4,
        "random": lambda b, c: c >= 4,
    }[negatives]
    keep = [[not relevant[b][c] and wanted(b, c) for c in range(11)] for b in range(4)]
    check(
        lambda q, d: naive_ranknet(q, d, keep, 2.0),
        lambda q, d: star_loss(2.0, negatives)(q, d, batch_of(relevant, owner))[0],
        queries,
        documents,
    )


def test_a_query_whose_candidates_are_all_relevant_costs_nothing():
    table = torch.tensor([[5.0, 9.0]])
    assert contrastive(table[:, 0], table, torch.tensor([[False, False]])) == 0


def measure_of(metric, cut, grades, ideal):
    """RR or DCG / ideal of grades in rank order, by their definitions."""
    if metric == "mrr":
        return next((1 / rank for rank, grade in enumerate(grades[:cut], start=1) if grade), 0.0)
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades[:cut], start=1)) / ideal


@pytest.mark.parametrize("cut", [1, 3, 10, 200])
@pytest.mark.parametrize("metric", ["rr", "mrr", "ndcg", "none"])
def test_lambda_weights_equal_the_swap_they_stand_for(metric, cut):
    random = np.random.default_rng(cut)
    for _ in range(5):
        count = 14
        grades = random.permutation([2, 1, 1] + [0] * (count - 3)).astype(float)
        ideal = measure_of("ndcg", cut, sorted(grades, reverse=True), 1.0)
        ranks = torch.arange(1, count + 1)
        weights = lambda_weights(
            metric, cut, ranks, torch.tensor(grades > 0), torch.tensor(grades, dtype=torch.float32), ideal
        )
        for at, i in enumerate(np.flatnonzero(grades > 0)):
            for column, j in enumerate(np.flatnonzero(grades == 0)):
                worth = [1 / (place + 1) if place < cut else 0 for place in (i, j)]
                swapped = grades.copy()
                swapped[[i, j]] = swapped[[j, i]]
                expected = {
                    "rr": lambda: abs(worth[0] - worth[1]),
                    "none": lambda: 1.0,
                    "mrr": lambda: abs(measure_of("mrr", cut, swapped, 1) - measure_of("mrr", cut, grades, 1)),
                    "ndcg": lambda: abs(
                        measure_of("ndcg", cut, swapped, ideal) - measure_of("ndcg", cut, grades, ideal)
                    ),
                }[metric]()
                assert weights[at, column].item() == pytest.approx(expected, abs=1e-6)


def test_a_worked_example_of_adore():
    # a list of three: the relevant document stands second, with scores 3, 2, 1
    scores_of_list = torch.tensor([3.0, 2.0, 1.0], requires_grad=True)
    relevant = torch.tensor([False, True, False])
    weights = lambda_weights("rr", 10, torch.tensor([1, 2, 3]), relevant, relevant.float(), 1.0)
    torch.testing.assert_close(weights, torch.tensor([[1 - 1 / 2, 1 / 2 - 1 / 3]]))
    loss = adore(scores_of_list, relevant, weights)
    by_hand = (0.5 * math.log(1 + math.exp(3 - 2)) + (1 / 6) * math.log(1 + math.exp(1 - 2))) / 2
    torch.testing.assert_close(loss, torch.tensor(by_hand))
    loss.backward()

    def pull(difference: float) -> float:
        return 1 / (1 + math.exp(-difference))  # the derivative of softplus

    torch.testing.assert_close(
        scores_of_list.grad, torch.tensor([0.5 * pull(1) / 2, -(0.5 * pull(1) + pull(-1) / 6) / 2, pull(-1) / 6 / 2])
    )


def test_margin_mse_equals_a_double_loop():
    queries, documents, relevant, owner = random_batch()
    random, count = np.random.default_rng(4), len(queries)
    teacher = random.normal(size=len(owner)).astype(np.float32)
    teacher[1] = teacher[count + 2] = np.nan  # a positive, all of whose pairs go, and a negative

    def naive(q, d):
        squares = []
        for c in range(count, len(owner)):
            b = owner[c]
            if not np.isnan(teacher[b]) and not np.isnan(teacher[c]):
                squares.append(
                    (2.0 * (q[b] * d[b]).sum() - 2.0 * (q[b] * d[c]).sum() - (float(teacher[b]) - float(teacher[c])))
                    ** 2
                )
        assert 0 < len(squares) < len(owner) - count
        return sum(squares) / len(squares)

    batch = batch_of(relevant, owner)._replace(scores=teacher)
    check(naive, lambda q, d: margin_mse_loss(2.0)(q, d, batch)[0], queries, documents)
    nothing, _ = margin_mse_loss(2.0)(
        queries.float(), documents.float(), batch._replace(scores=np.full(len(owner), np.nan, np.float32))
    )
    assert nothing == 0 and torch.equal(torch.autograd.grad(nothing, queries)[0], torch.zeros_like(queries))


def test_masked_language_equals_a_loop_over_tokens():
    torch.manual_seed(1)
    logits, labels, text = torch.randn(6, 9, requires_grad=True), torch.tensor([3, 0, 8, 3, 1, 5]), [0, 0, 2, 2, 2, 3]
    losses = token_losses(logits.bfloat16(), labels)
    assert losses.dtype == torch.float32
    rounded = logits.detach().bfloat16().double()
    by_hand = [
        -math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
        for row, label in zip(rounded.tolist(), labels.tolist(), strict=True)
    ]
    assert losses.tolist() == pytest.approx(by_hand, abs=1e-5)
    sums = torch.tensor(
        [sum(value for value, owner in zip(by_hand, text, strict=True) if owner == number) for number in range(4)]
    )
    assert masked_language(sums, torch.tensor([2.0, 0.0, 3.0, 1.0])).item() == pytest.approx(sum(by_hand) / 6)
    assert masked_language(torch.zeros(2), torch.zeros(2)) == 0


def test_pointwise_is_the_binary_cross_entropy_of_the_pairs_that_are_there():
    torch.manual_seed(3)
    table, keep = (5 * torch.randn(4, 6)).requires_grad_(), torch.rand(4, 5) > 0.4
    pairs = [(table[row, 0], 1.0) for row in range(4)] + [
        (table[row, 1 + column], 0.0) for row in range(4) for column in range(5) if keep[row, column]
    ]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.stack([score for score, _ in pairs]), torch.tensor([label for _, label in pairs])
    )
    ours = pointwise(table[:, 0], table[:, 1:], keep)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(torch.autograd.grad(ours, table), torch.autograd.grad(expected, table))
