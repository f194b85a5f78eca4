"""FGD's loss of a batch against loops that choose, gather and compare piece by piece."""

import numpy as np
import pytest
import torch

from drtools.methods.fgd.batches import Level, PieceBatch
from drtools.methods.fgd.loss import FgdLoss

QUERIES, NEGATIVES, PASSAGES, SENTENCES, SIZE = 3, 4, 3, 5, 6
COUNT = QUERIES * (1 + NEGATIVES)
KEPT = 4


def batch_of(seed: int = 0) -> PieceBatch:
    """Make documents of 1 to 3 passages and of as many sentences as there may be in these.

    Query 2 has a document of one piece.
    """
    random = np.random.default_rng(seed)
    passages = random.integers(1, PASSAGES + 1, COUNT)
    passages[2] = 1
    sentences = np.minimum(SENTENCES, 2 * passages - random.integers(0, 2, COUNT))
    sentences[2] = 1
    levels = [
        Level(np.arange(size) < counts[:, None], random.normal(size=(COUNT, size)).astype(np.float32))
        for counts, size in ((passages, PASSAGES), (sentences, SENTENCES))
    ]
    owner = np.concatenate([np.arange(QUERIES), np.repeat(np.arange(QUERIES), NEGATIVES)])
    relevant = np.zeros((QUERIES, COUNT), bool)
    relevant[range(QUERIES), range(QUERIES)] = True
    parents = np.minimum(np.arange(SENTENCES) // 2, passages[:, None] - 1)
    scores = random.normal(size=COUNT).astype(np.float32)
    scores[-1] = np.nan
    return PieceBatch({}, {}, relevant, owner, scores, *levels, parents, (passages == 1) & (sentences == 1))


def divergence(teacher: list[float], student: list[float], reverse: bool) -> float:
    first, second = (
        np.exp(values) / np.exp(values).sum()
        for values in (np.array(teacher, np.float64), np.array(student, np.float64))
    )
    first, second = (second, first) if reverse else (first, second)
    return float((first * np.log(first / second)).sum())


def by_loops(queries, vectors, batch, levels, weight, scale, reverse) -> float:
    score = lambda query, document, place: scale * float(queries[query] @ vectors[document, place])  # noqa: E731
    total = dict.fromkeys(levels, 0.0)
    contrast = 0.0
    for query in range(QUERIES):
        everyone = np.array([score(query, document, 0) for document in range(COUNT)])
        contrast += np.log(np.exp(everyone).sum()) - everyone[query]
        own = [document for document in range(QUERIES, COUNT) if batch.owner[document] == query]
        if "document" in levels:
            listed = [document for document in (query, *own) if not np.isnan(batch.scores[document])]
            total["document"] += divergence(
                [batch.scores[document] for document in listed], [everyone[document] for document in listed], reverse
            )
        chosen = None
        for name, level, first in (("passage", batch.passages, 1), ("sentence", batch.sentences, 1 + PASSAGES)):
            if name not in levels:
                continue
            candidates = [
                (document, place)
                for document in own
                for place in np.flatnonzero(level.there[document])
                if chosen is None or (document, batch.parents[document, place]) in chosen
            ]
            candidates = sorted(candidates, key=lambda pair: -score(query, pair[0], first + pair[1]))[:KEPT]
            if name == "passage":
                chosen = set(candidates)
            pieces = np.flatnonzero(level.there[query])
            if name == "sentence" and "passage" in levels and batch.passages.there[query].sum() == len(pieces) == 1:
                continue
            total[name] += sum(
                divergence(
                    [level.scores[query, piece], *(level.scores[pair] for pair in candidates)],
                    [
                        score(query, query, first + piece),
                        *(score(query, document, first + place) for document, place in candidates),
                    ],
                    reverse,
                )
                for piece in pieces
            ) / len(pieces)
    return weight * contrast / QUERIES + sum(total.values()) / QUERIES


@pytest.mark.parametrize(
    "levels",
    [("passage", "sentence"), ("document", "passage", "sentence"), ("document",), ("passage",), ("sentence",)],
    ids="+".join,
)
@pytest.mark.parametrize("reverse", [False, True])
def test_every_ablation_by_loops(levels, reverse):
    batch = batch_of()
    generator = torch.Generator().manual_seed(1)
    queries, vectors = (
        torch.randn(QUERIES, SIZE, generator=generator),
        torch.randn(COUNT, 1 + PASSAGES + SENTENCES, SIZE, generator=generator),
    )
    loss = FgdLoss(
        levels,
        PASSAGES,
        0.7,
        weight=0.2,
        negative_pieces=KEPT,
        direction="student-teacher" if reverse else "teacher-student",
    )
    rows = vectors.flatten(1).clone().requires_grad_()
    value, told = loss(queries.clone().requires_grad_(), rows, batch)
    assert value.item() == pytest.approx(by_loops(queries, vectors, batch, levels, 0.2, 0.7, reverse), abs=1e-4)
    assert set(told) == {"contrastive", *(f"{level} KL" for level in levels)}
    value.backward()
    lacking = ~torch.from_numpy(
        np.concatenate([np.ones((COUNT, 1), bool), batch.passages.there, batch.sentences.there], 1)
    )
    assert (rows.grad.unflatten(1, (-1, SIZE))[lacking] == 0).all(), "nothing is learnt from what is not there"


def test_negatives_are_chosen_as_they_score_now():
    batch = batch_of()
    loss = FgdLoss(
        ("passage",),
        PASSAGES,
        1.0,
        weight=0.0,
        negative_pieces=1,
        direction="teacher-student",
    )
    generator = torch.Generator().manual_seed(1)
    queries, vectors = (
        torch.randn(QUERIES, SIZE, generator=generator),
        torch.randn(COUNT, 1 + PASSAGES + SENTENCES, SIZE, generator=generator),
    )
    own = vectors[QUERIES : QUERIES + NEGATIVES, 1 : 1 + PASSAGES] @ queries[0]
    first = (
        queries[0] * (own.max() + 1) / queries[0].square().sum()
    )  # scores 1 above all others: first, and far from a share of 0 or 1
    values = []
    for document in (QUERIES, QUERIES + 1):
        moved = vectors.clone()
        moved[document, 1] = first
        rows = moved.flatten(1).requires_grad_()
        values.append(loss(queries, rows, batch)[0])
        values[-1].backward()
        touched = rows.grad.unflatten(1, (-1, SIZE))[QUERIES : QUERIES + NEGATIVES, 1:].abs().sum(-1).nonzero().tolist()
        assert touched == [[document - QUERIES, 0]], "no other piece of query 0's documents was taken"
