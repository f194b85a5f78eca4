"""FGD's loss against naive loops over ragged documents."""

import math

import pytest
import torch

from drtools.losses import fine_grained, highest


@pytest.mark.parametrize("reverse", [False, True])
def test_fine_grained_by_naive_loops_over_ragged_documents(reverse):
    counts, negatives = [3, 1, 0, 2], [4, 2, 4, 0]
    generator = torch.Generator().manual_seed(4)
    teacher, student = (
        [torch.randn(4, 3, generator=generator), torch.randn(4, 4, generator=generator)] for _ in range(2)
    )
    pieces = torch.arange(3) < torch.tensor(counts)[:, None]
    kept = torch.arange(4) < torch.tensor(negatives)[:, None]

    def softmax(values):
        return [math.exp(value) / sum(map(math.exp, values)) for value in values]

    total = 0.0
    for query in range(4):
        divergences = []
        for piece in range(counts[query]):
            shares = [
                softmax([float(own[query, piece]), *map(float, others[query, : negatives[query]])])
                for own, others in (teacher, student)
            ]
            first, second = reversed(shares) if reverse else shares
            divergences.append(sum(p * math.log(p / q) for p, q in zip(first, second, strict=True)))
        total += sum(divergences) / counts[query] if divergences else 0.0
    student = [part.requires_grad_() for part in student]
    found = fine_grained(tuple(teacher), tuple(student), pieces, kept, reverse)
    assert found.item() == pytest.approx(total / 4, abs=1e-5) and total > 0.1
    found.backward()
    for part, there in zip(student, (pieces, kept), strict=True):
        assert torch.isfinite(part.grad).all() and (part.grad[~there] == 0).all() and part.grad.abs().max() > 0


def test_highest_takes_what_is_allowed():
    places, kept = highest(
        torch.tensor([[3.0, 9, 5, 7], [1, 2, 3, 4]]),
        torch.tensor([[True, False, True, True], [False, True, False, False]]),
        2,
    )
    assert places[0].tolist() == [3, 2] and kept.tolist() == [[True, True], [True, False]] and places[1, 0] == 1
    assert highest(torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool), 8)[0].shape == (2, 3)
