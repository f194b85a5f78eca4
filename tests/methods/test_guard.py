"""Guards against false negatives and the loss of lists, against sentence-transformers and loops."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, GISTEmbedLoss
from torch.nn.functional import normalize

from drtools.errors import InputError
from drtools.methods.contrastive import contrastive_loss, kl_loss
from drtools.methods.guard import Guard, GuardSpec
from drtools.methods.star import star_loss
from drtools.training.matryoshka import matryoshka
from drtools.training.pairs import PairBatch

COUNT, SIZE = 8, 6


def vectors_of(random, count, size=SIZE):
    return normalize(torch.from_numpy(random.normal(size=(count, size))).float(), dim=-1)


def batch_of(scores=None):
    relevant = np.zeros((COUNT, 2 * COUNT), bool)
    relevant[range(COUNT), range(COUNT)] = True
    counts = {"query": [COUNT], "document": [2 * COUNT]}
    return PairBatch({"query": None, "document": None}, counts, relevant, np.tile(np.arange(COUNT), 2), scores)


class OfGuide(Guard):
    """A guard with the scores of a guide at hand."""

    def __init__(self, margin, table):
        super().__init__(margin, guide="a guide")
        self.table = table

    def _of_guide(self, batch):
        return self.table


@pytest.mark.parametrize("margin", [0.0, 0.2, -0.3])
def test_the_guarded_softmax_equals_gist(encoder_folder, margin):
    random = np.random.default_rng(0)
    queries, documents = vectors_of(random, COUNT).requires_grad_(), vectors_of(random, 2 * COUNT).requires_grad_()
    theirs = [vectors_of(random, COUNT), vectors_of(random, 2 * COUNT)]
    guard = OfGuide(margin, theirs[0] @ theirs[1].T)
    value, metrics = contrastive_loss(20.0, guard)(queries, documents, batch_of())
    student, guide = (SentenceTransformer(encoder_folder, device="cpu") for _ in range(2))
    loss = GISTEmbedLoss(
        student, guide, temperature=0.05, margin=-margin, contrast_anchors=False, contrast_positives=False
    )
    parts = {
        "student": [queries, documents[:COUNT], documents[COUNT:]],
        "guide": [theirs[0], theirs[1][:COUNT], theirs[1][COUNT:]],
    }
    loss.must_retokenize = False
    student.forward = lambda features, **_: {"sentence_embedding": parts["student"][features["at"]]}
    guide.forward = lambda features, **_: {"sentence_embedding": parts["guide"][features["at"]]}
    expected = loss([{"at": at} for at in range(3)], None)
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(
        torch.autograd.grad(value, [queries, documents]),
        torch.autograd.grad(expected, [queries, documents]),
        strict=True,
    ):
        spheres = queries if len(one) == COUNT else documents  # they normalize again, we do not
        along = [part - (part * spheres).sum(1, keepdim=True) * spheres for part in (one, other)]
        torch.testing.assert_close(*along, atol=1e-5, rtol=1e-4)
    table = guard.table.numpy()
    masked = sum(
        table[at, other] > table[at, at] + np.float32(margin)
        for at in range(COUNT)
        for other in range(2 * COUNT)
        if at != other
    )
    assert metrics == {"masked": masked} and guard.counts == {"masked": masked, "negatives": COUNT * (2 * COUNT - 1)}
    assert 0 < masked < COUNT * (2 * COUNT - 1)


@pytest.mark.parametrize("negatives", ["static", "own", "in-batch"])
def test_ranknet_by_a_loop_with_the_students_own_margin(negatives):
    random = np.random.default_rng(1)
    queries, documents = vectors_of(random, COUNT), vectors_of(random, 2 * COUNT)
    value, metrics = star_loss(5.0, negatives, guard=Guard(0.1, 5.0))(queries, documents, batch_of())
    losses, masked = [], 0
    for at in range(COUNT):
        positive = float(queries[at] @ documents[at])
        for other in range(2 * COUNT):
            score = float(queries[at] @ documents[other])
            if other != at and score > positive + 0.1:
                masked += 1
            elif other != at and (
                negatives == "static"
                or (negatives == "own" and other == COUNT + at)
                or (negatives == "in-batch" and other < COUNT)
            ):
                losses.append(np.log1p(np.exp(5 * (score - positive))))
    assert value.item() == pytest.approx(np.mean(losses), abs=1e-5) and metrics["masked"] == masked > 0


def test_prefixes_have_the_mask_of_whole_vectors():
    random = np.random.default_rng(2)
    queries, documents = vectors_of(random, COUNT), vectors_of(random, 2 * COUNT)
    guard, batch = Guard(0.1, 5.0), batch_of()
    sides = {"query": True, "document": True}
    value, _ = matryoshka(contrastive_loss(5.0, guard), [SIZE, 2], sides)(queries, documents, batch)
    counted = dict(guard.counts)
    mask = guard(5.0 * queries @ documents.T, batch).numpy()
    expected = 0.0
    for size in (SIZE, 2):
        table = 5.0 * normalize(queries[:, :size], dim=1) @ normalize(documents[:, :size], dim=1).T
        for at in range(COUNT):
            kept = [float(table[at, other]) for other in range(2 * COUNT) if not mask[at, other]]
            expected += (np.log(np.exp(kept).sum()) - float(table[at, at])) / COUNT
    assert value.item() == pytest.approx(expected, abs=1e-5) and guard.counts == counted


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_loss_of_lists_equals_that_of_sentence_transformers(encoder_folder, temperature):
    random = np.random.default_rng(3)
    queries, documents = vectors_of(random, COUNT), vectors_of(random, 2 * COUNT)
    teacher = random.normal(size=2 * COUNT).astype(np.float32)
    value, _ = kl_loss(3.0, temperature)(queries, documents, batch_of(teacher))
    peer = DistillKLDivLoss(SentenceTransformer(encoder_folder, device="cpu"))
    labels = torch.from_numpy(np.stack([teacher[:COUNT], teacher[COUNT:]], axis=1)) / temperature
    parts = [3.0 * queries, documents[:COUNT], documents[COUNT:]]
    torch.testing.assert_close(value, peer.compute_loss_from_embeddings(parts, labels), atol=1e-5, rtol=1e-5)
    teacher[COUNT + 2] = np.nan  # a list of one document
    value, _ = kl_loss(3.0, temperature)(queries, documents, batch_of(teacher))
    total = 0.0
    for at in range(COUNT):
        if at != 2:
            theirs, ours = (
                np.exp(part) / np.exp(part).sum()
                for part in (
                    np.array([teacher[at], teacher[COUNT + at]]) / temperature,
                    3.0 * np.array([float(queries[at] @ documents[each]) for each in (at, COUNT + at)]),
                )
            )
            total += (theirs * np.log(theirs / ours)).sum()
    assert value.item() == pytest.approx(total / COUNT, abs=1e-5)


@pytest.mark.parametrize(
    "settings,reason",
    [
        ({"guide": "a", "self_guide": True, "guide_margin": 0.1}, "both name a guide"),
        ({"guide_margin": 0.1}, "a finite number, with"),
        ({"self_guide": True}, "is a decision"),
        ({"guide": "a", "guide_margin": float("inf")}, "a finite number"),
    ],
)
def test_what_does_not_go_together(settings, reason):
    with pytest.raises(InputError, match=reason):
        GuardSpec(**settings)


def command(tool, toy, encoder_folder, out, *more):
    shape = ["--batch-queries", "8", "--precision", "fp32", "--steps", "6", "--learning-rate", "1e-3"]
    return [tool, "--model", encoder_folder, *toy.training, *shape, "-o", str(out), *more]


@pytest.mark.parametrize("tool", ["train-contrastive", pytest.param("train-star", marks=pytest.mark.slow)])
def test_a_training_with_a_guide_counts_what_it_masks(toy, encoder_folder, drtools, tmp_path, tool):
    guided = ["--guide", encoder_folder]
    done = drtools(*command(tool, toy, encoder_folder, tmp_path / "guided", *guided))
    assert done.status == 0 and "negatives scored above a positive and were masked" in done.err, done.err
    made = json.loads((tmp_path / "guided/manifest.json").read_text())["false_negatives"]
    assert 0 < made["masked"] < made["negatives"] and made["negatives"] >= 6 * 8 * 14
    for name, more in (("again", guided), ("off", []), ("none", [*guided, "--guide-margin", "2"])):
        assert drtools(*command(tool, toy, encoder_folder, tmp_path / name, *more)).status == 0
    weights = {name: load_file(tmp_path / name / "model.safetensors") for name in ("guided", "again", "off", "none")}

    def same(one, other):
        return all(np.array_equal(weights[one][name], weights[other][name]) for name in weights[one])

    assert same("guided", "again") and same("off", "none") and not same("guided", "off")
    assert "false_negatives" not in json.loads((tmp_path / "off/manifest.json").read_text())


def test_a_guarded_loss_of_a_teacher_is_refused(toy, encoder_folder, drtools, tmp_path):
    words = ["--loss", "kl", "--self-guide", "--guide-margin", "0.1", "--accept-scores"]
    refused = drtools(*command("train-contrastive", toy, encoder_folder, tmp_path / "out", *words))
    assert refused.status == 2 and "--loss kl with --self-guide" in refused.err
    refused = drtools(
        *command("train-contrastive", toy, encoder_folder, tmp_path / "out", "--teacher-temperature", "2")
    )
    assert refused.status == 2 and "with --loss kl" in refused.err
