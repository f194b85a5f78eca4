"""Each loss against a double loop over its formula, gradients included."""

import math

import torch

from drtools.losses import ranknet, scores


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
    queries, documents = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.randn(10, 5, dtype=torch.float64, requires_grad=True)
    keep = torch.rand(4, 10) > 0.3
    keep[range(4), range(4)] = False
    expected = naive_ranknet(queries, documents, keep, 3.0)
    expected_gradients = torch.autograd.grad(expected, [queries, documents])
    ours_queries, ours_documents = queries.detach().float().requires_grad_(), documents.detach().float().requires_grad_()
    table = scores(ours_queries, ours_documents, 3.0)
    ours = ranknet(table.diagonal(), table, keep)
    torch.testing.assert_close(ours, expected.float())
    for mine, theirs in zip(torch.autograd.grad(ours, [ours_queries, ours_documents]), expected_gradients, strict=True):
        torch.testing.assert_close(mine, theirs.float(), atol=1e-5, rtol=1e-5)


def test_a_worked_example():
    table = torch.tensor([[2.0, 1.0, 3.0], [0.0, 1.0, -1.0]])  # two queries, their positives on the diagonal, one hard negative
    keep = torch.tensor([[False, True, True], [True, False, True]])
    by_hand = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1)) + math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2))) / 4
    torch.testing.assert_close(ranknet(table.diagonal(), table, keep), torch.tensor(by_hand))


def test_large_scores_stay_finite():
    table = torch.tensor([[0.0, 1000.0]])
    assert ranknet(table[:, 0], table, torch.tensor([[False, True]])) == 1000
