"""ADAM's formulas against naive loops over lists, the choice of queries by hand, and the share of each step."""

import math
import random

import numpy as np
import pytest
import torch

from drtools.cli.flags.training import TrainingFlags
from drtools.errors import InputError
from drtools.losses import adam, confidence, kl_of_lists, most_confident
from drtools.methods.adam.batches import AdamBatch
from drtools.methods.adam.loss import adam_loss
from drtools.methods.adam.pacing import share_of_step

B, D, DOCUMENTS, REINFORCED = 5, 6, 17, 9


def softmax(values):
    return [math.exp(value) / sum(math.exp(other) for other in values) for value in values]


def naive_kl(first, second):
    return sum(p * math.log(p / q) for p, q in zip(softmax(first), softmax(second), strict=True))


def random_lists(seed=0):
    """Lists of different lengths: 1 + m own items, then dark ones, then nothing."""
    draw = random.Random(seed)
    own, dark = [1 + draw.randint(1, 3) for _ in range(B)], [draw.randint(0, 4) for _ in range(B)]
    longest = max(map(sum, zip(own, dark, strict=True)))
    place = np.arange(longest)
    is_own = np.stack([place < count for count in own])
    is_dark = np.stack([(place >= count) & (place < count + more) for count, more in zip(own, dark, strict=True)])
    columns = np.random.default_rng(seed).integers(0, DOCUMENTS + REINFORCED, (B, longest)) * (is_own | is_dark)
    teacher = np.random.default_rng(seed + 1).normal(0, 2, (B, longest)).astype(np.float32)
    return columns, is_own, is_dark, teacher


def vectors(seed=3):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, D, generator=generator, dtype=torch.float64, requires_grad=True)
        for count in (B, DOCUMENTS, REINFORCED)
    ]


def naive_adam(queries, documents, reinforced, lists, share, *, scale, weight, with_positive, reverse, reduction):
    """The loss by the paper's words, query by query, in Python's floats; a function of vectors as lists."""
    columns, is_own, is_dark, teacher = lists
    everything = documents + reinforced
    supervised, divergences, confidences = [], [], []
    for b in range(B):
        student = [
            scale * sum(x * y for x, y in zip(queries[b], everything[column], strict=True)) for column in columns[b]
        ]
        own = [at for at in range(len(student)) if is_own[b, at]]
        supervised.append(-math.log(softmax([student[at] for at in own])[0]))
        confidences.append(math.log(softmax([float(teacher[b, at]) for at in own])[0]))
        listed = own[0 if with_positive else 1 :] + [at for at in range(len(student)) if is_dark[b, at]]
        mine, theirs = [student[at] for at in listed], [float(teacher[b, at]) for at in listed]
        divergences.append(naive_kl(mine, theirs) if reverse else naive_kl(theirs, mine))
    kept = sorted(range(B), key=lambda b: (-confidences[b], b))[: math.ceil(share * B)]
    distilled = sum(divergences[b] for b in kept)
    if reduction == "sum":  # Eq. 9 sums both terms
        return weight * sum(supervised) + distilled
    return weight * sum(supervised) / B + distilled / len(kept)


@pytest.mark.parametrize(
    "change",
    [{}, {"with_positive": True}, {"reverse": True}, {"reduction": "sum"}, {"weight": 0.0}, {"scale": 5.0}],
    ids=str,
)
@pytest.mark.parametrize("share", [1.0, 0.75, 0.5])
def test_the_joined_loss_equals_naive_loops(change, share):
    settings = {"scale": 1.0, "weight": 0.01, "with_positive": False, "reverse": False, "reduction": "mean"} | change
    lists, parts = random_lists(), vectors()
    batch = AdamBatch({}, {"query": [B]}, *lists, share, 0)
    value, noted = adam_loss(**settings, gather=lambda own, counts: own)(*parts, batch)
    plain = [part.tolist() for part in parts]
    assert value.item() == pytest.approx(naive_adam(*plain, lists, share, **settings), rel=1e-5)
    assert noted["kept_share"] == pytest.approx(math.ceil(share * B) / B)
    gradients = torch.autograd.grad(value, parts)
    for part, row, at in (
        (0, 2, 1),
        (1, int(lists[0][0, 0]) % DOCUMENTS, 4),
        (2, 3, 0),
    ):  # a number of each, by differences
        step, values = 1e-4, []
        for sign in (1, -1):
            moved = [part.tolist() for part in parts]
            moved[part][row][at] += sign * step
            values.append(naive_adam(*moved, lists, share, **settings))
        assert gradients[part][row, at].item() == pytest.approx(
            (values[0] - values[1]) / (2 * step), rel=1e-2, abs=1e-5
        )


def test_a_list_of_one_or_none_costs_nothing_and_has_no_nan():
    student = torch.zeros(2, 3, requires_grad=True)
    values = kl_of_lists(
        torch.tensor([[900.0, 5, 5], [1, 2, 3]]), student, torch.tensor([[True, False, False], [False, False, False]])
    )
    values.sum().backward()
    assert values.tolist() == [0, 0] and student.grad.abs().max() == 0


def test_large_logits_stay_finite():
    teacher, student = (
        torch.tensor([[1000.0, 0.0, -1000.0]]),
        torch.tensor([[-1000.0, 0.0, 1000.0]], requires_grad=True),
    )
    value = kl_of_lists(teacher, student, torch.ones(1, 3, dtype=torch.bool))
    value.backward()
    assert value.item() == pytest.approx(2000) and student.grad.isfinite().all()


def test_confidence_is_of_the_positive_among_its_own_negatives_alone():
    teacher = torch.tensor([[2.0, 1.0, 50.0], [0.0, 3.0, -1.0]])
    listed = torch.tensor([[True, True, False], [True, True, True]])
    expected = [math.log(softmax([2, 1])[0]), math.log(softmax([0, 3, -1])[0])]
    assert confidence(teacher, listed).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    "share,count", [(1.0, 10), (0.95, 10), (0.9, 9), (0.55, 6), (0.5, 5), (1 - 4 / 9, 6), (0.1 + 0.2, 3)]
)
def test_the_most_confident_are_kept_and_the_first_of_equals(share, count):
    values = torch.tensor([0.0, -1, -1, -1, -5, -1, -1, 0, -1, -1])
    order = [0, 7, 1, 2, 3, 5, 6, 8, 9, 4]
    assert most_confident(values, share).nonzero().flatten().tolist() == sorted(order[:count])


def test_a_worked_example():
    loss = adam(torch.tensor([1.0, 3.0]), torch.tensor([5.0, 7.0]), torch.tensor([True, False]), 0.01)
    assert loss.item() == pytest.approx(0.01 * 2 + 5)
    both = torch.tensor([True, True])
    assert adam(torch.tensor([1.0, 3.0]), torch.tensor([5.0, 7.0]), both, 0.01, "sum").item() == pytest.approx(
        0.01 * 4 + 12
    ), "both terms are sums"


@pytest.mark.parametrize(
    "flags,shares",
    [
        (TrainingFlags(epochs=4, batch_queries=10), {0: 1, 9: 1, 10: 7 / 8, 25: 6 / 8, 39: 5 / 8}),
        (TrainingFlags(steps=40, batch_queries=10), {0: 1, 9: 1, 10: 7 / 8, 39: 5 / 8}),
        (TrainingFlags(steps=5, batch_queries=10), {0: 1, 4: 1}),
        (TrainingFlags(minutes=3, epochs=2, batch_queries=10), {0: 1, 10: 3 / 4}),
        (TrainingFlags(batch_queries=10), {0: 1, 10: 1 - 1 / 6, 20: 1 - 2 / 6}),
    ],
    ids=str,
)
def test_the_share_falls_from_one_towards_a_half_by_epochs(flags, shares):
    share_of = share_of_step("epochs", flags, queries=100, default_epochs=3)
    assert {step: share_of(step) for step in shares} == pytest.approx(shares)


def test_the_other_paces():
    flags = TrainingFlags(steps=10, batch_queries=10)
    assert [share_of_step("steps", flags, 1000, 3)(step) for step in (0, 5, 9)] == pytest.approx([1, 0.75, 0.55])
    assert share_of_step("none", TrainingFlags(minutes=1), 100, 3)(99) == 1
    with pytest.raises(InputError, match="only minutes 1 was given"):
        share_of_step("epochs", TrainingFlags(minutes=1), 100, 3)


def test_a_query_without_negatives_never_takes_anothers_place():
    teacher = torch.tensor([[1.0, 0.5], [3.0, 0.0], [0.0, 2.0]])
    listed = torch.tensor([[True, True], [True, False], [True, True]])
    assert most_confident(confidence(teacher, listed), 2 / 3).tolist() == [True, False, True]
