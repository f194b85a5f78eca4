"""A batch that is divided gives the gradient of the whole batch, and stays within its memory."""

import numpy as np
import pytest
import torch

from drtools.losses import contrastive, pointwise, ranknet
from drtools.methods.adam.batches import AdamBatch
from drtools.methods.adam.batches import separation_of as lists_of_adam
from drtools.methods.adam.loss import adam_loss
from drtools.methods.contrastive import contrastive_loss, margin_mse_loss
from drtools.methods.ddr.adaptation import masked_loss
from drtools.methods.ddr.masking import MaskedBatch, Masker
from drtools.methods.ddr.separation import separation_of as texts_of
from drtools.methods.fgd.ed_mlm import Decoder, EnhancedModel, TwiceMasker, enhanced_loss
from drtools.methods.ranker.batches import RankedBatch
from drtools.methods.ranker.batches import separation_of as lists_of_ranker
from drtools.methods.ranker.training import list_loss
from drtools.methods.star import star_loss
from drtools.models.compute import Compute
from drtools.models.cpu.attention import use_sliced_attention
from drtools.models.cpu.dropout import seeded, use_own_dropout
from drtools.models.cross_encoder import new_cross_encoder
from drtools.models.loader import load_encoder
from drtools.models.masked import MaskedModel, new_head
from drtools.models.pair_tokens import tokenize_pairs
from drtools.training.distributed import World
from drtools.training.gradients import Gradients
from drtools.training.memory import bytes_by_text, query_groups, text_bytes
from drtools.training.pairs import PairBatch, separation_of

QUERIES = ["fox runs", "otter swims in the river", "hammer", "wrench holds and turns", "marsh"]
TEXTS = ["the fox runs over the hill", "river otter", "hammer bends anvil " * 5, "wrench", "lathe cuts", "heron " * 9]
LISTS = [[0, 3, 4], [1, 5], [2, 0, 1, 5], [3, 2], [4, 1, 0]]  # of each query: its positive, its negatives
COMPUTE = Compute("cpu", "fp32", 64)


def pair_batch(model):
    owner = np.array([*range(5), *(query for query, each in enumerate(LISTS) for _ in each[1:])])
    documents = [each[0] for each in LISTS] + [row for each in LISTS for row in each[1:]]
    tokens = {
        "query": model.tokenize(QUERIES, "query"),
        "document": model.tokenize([TEXTS[row] for row in documents], "document"),
    }
    scores = np.random.default_rng(1).normal(size=len(owner)).astype(np.float32)
    scores[7] = np.nan
    relevant = np.zeros((5, len(owner)), bool)
    relevant[range(5), range(5)] = True
    return PairBatch(tokens, {"query": [5], "document": [len(owner)]}, relevant, owner, scores)


def adam_batch(model):
    """Lists with negatives as documents; the last item of three queries is a longer, reinforced one."""
    lists = [each + [row] * (query < 3) for query, (each, row) in enumerate(zip(LISTS, [2, 5, 2], strict=False))]
    lists += LISTS[3:]
    count = sum(map(len, LISTS))
    columns, own, dark = np.zeros((5, 5), np.int64), np.zeros((5, 5), bool), np.zeros((5, 5), bool)
    at = 0
    for query, each in enumerate(LISTS):
        columns[query, : len(each)], own[query, : len(each)] = range(at, at + len(each)), True
        at += len(each)
        if query < 3:
            columns[query, len(each)], dark[query, len(each)] = count + query, True
    texts = [TEXTS[row] for each in LISTS for row in each]
    reinforced = [TEXTS[lists[query][-1]] * 2 for query in range(3)]
    tokens = {
        "query": model.tokenize(QUERIES, "query"),
        "document": model.tokenize(texts, "document"),
        "reinforced": model.tokenize(reinforced, "document"),
    }
    teacher = np.random.default_rng(2).normal(size=(5, 5)).astype(np.float32)
    counts = {"query": [5], "document": [count], "reinforced": [3]}
    return AdamBatch(tokens, counts, columns, own, dark, teacher, share=0.6, step=0)


class AdamModel(torch.nn.Module):
    """An encoder that knows the side of ADAM's longer texts."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def of(self, side):
        return self.encoder


def encoder_of(folder, dropout=0.0):
    model = load_encoder(folder, dropout=dropout)
    use_own_dropout(model.body)
    use_sliced_attention(model.body)
    return model.train()


def gradients_of(model, batch, loss, **settings):
    cores = settings.pop("cores", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        computed = Gradients(model, COMPUTE, World(), settings.pop("caching", False), cores > 1, **settings)
        value, metrics = computed.of(batch, loss, "seed", 3)
    finally:
        torch.set_num_threads(threads)
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    separation = settings["separate"](batch) if settings.get("separate") else None
    return value, metrics, found, computed.groups(batch, separation)


def cases(folder, tmp_path):
    """Return {name: (model, batch, loss, separate)} of every loss that is a sum over queries or texts."""
    encoder = encoder_of(folder)
    pairs = pair_batch(encoder)
    adam = {
        f"adam {reduction}": adam_loss(
            20.0,
            weight=0.3,
            with_positive=True,
            reverse=False,
            reduction=reduction,
            gather=World().gather,
        )
        for reduction in ("mean", "sum")
    }
    ranker = new_cross_encoder(str(folder), seed=1, dropout=0.0).train()
    ranker_texts = [(QUERIES[query], TEXTS[row]) for query, each in enumerate(LISTS) for row in each]
    lists, at = np.full((5, 4), -1, np.int64), 0
    for query, each in enumerate(LISTS):
        lists[query, : len(each)] = range(at, at + len(each))
        at += len(each)
    ranked = RankedBatch({"pair": tokenize_pairs(ranker, ranker_texts)}, {"pair": [at]}, lists)
    found = {
        "margin-mse": (encoder, pairs, margin_mse_loss(5.0), separation_of),
        "star own": (encoder, pairs, star_loss(20.0, "own"), separation_of),
        **{name: (AdamModel(encoder), adam_batch(encoder), loss, lists_of_adam) for name, loss in adam.items()},
    }
    for name, of_lists in {"listwise": contrastive, "pointwise": pointwise, "ranknet": ranknet}.items():
        found[name] = (ranker, ranked, list_loss(of_lists), lists_of_ranker)
    return found


LOSSES = ["margin-mse", "star own", "adam mean", "adam sum", "listwise", "pointwise", "ranknet"]


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("name", LOSSES)
def test_groups_of_queries_give_the_gradient_of_the_whole_batch(encoder_folder, tmp_path, name, cores):
    model, batch, loss, separate = cases(encoder_folder, tmp_path)[name]
    value, metrics, whole, (only,) = gradients_of(model, batch, loss, separate=separate, cores=cores)
    assert only.keep
    largest = max(float(each.abs().max()) for each in whole.values())
    assert largest > 1e-4, "there is a gradient to compare"
    for share in (2, 5):
        total = sum(text_bytes(model.of(side), tokens.lengths, COMPUTE).sum() for side, tokens in batch.tokens.items())
        divided = gradients_of(model, batch, loss, separate=separate, cores=cores, budget=float(total) / share)
        assert len(divided[3]) >= share, "it was divided"
        assert any(group.keep for group in divided[3])
        assert divided[0] == pytest.approx(value, abs=1e-6)
        assert divided[1] == pytest.approx(metrics, abs=1e-6)
        assert divided[2].keys() == whole.keys()
        for parameter, gradient in divided[2].items():
            torch.testing.assert_close(gradient, whole[parameter], atol=1e-6 * max(1, largest), rtol=1e-5)


@pytest.mark.parametrize("decoder", [False, True])
def test_masked_language_modelling_is_divided_to_the_bit(encoder_folder, decoder):
    """Its chunks are those of the whole batch and their gradients known before, so that dropout too is the same."""
    encoder = encoder_of(encoder_folder, dropout=0.2)
    head = new_head(encoder, 1)
    model = (EnhancedModel(encoder, head, Decoder(1), 1) if decoder else MaskedModel(encoder, head)).train()
    use_own_dropout(model)
    masker = TwiceMasker(encoder, 32, 0.2, 0.5) if decoder else Masker(encoder, 32, 0.3)
    tokens = masker(TEXTS * 6, [np.random.default_rng(at) for at in range(36)])
    batch, loss = MaskedBatch({"text": tokens}, {"text": [36]}), enhanced_loss if decoder else masked_loss

    def separate(batch):
        return texts_of(batch, len(head.bias))

    value, _, whole, (only,) = gradients_of(model, batch, loss, separate=separate, cores=2)
    budget = 0.6 * float(bytes_by_text(model, batch.tokens, COMPUTE, separate(batch))["text"].sum())
    divided_value, _, divided, groups = gradients_of(model, batch, loss, separate=separate, cores=2, budget=budget)
    assert len(groups) > 1 and len(only.chunks) == sum(len(group.chunks) for group in groups)
    assert divided_value == value
    assert all(torch.equal(divided[name], whole[name]) for name in whole)


def test_what_contrasts_across_the_batch_is_cached_where_it_does_not_fit(encoder_folder):
    model = encoder_of(encoder_folder, dropout=0.3)
    batch, loss = pair_batch(model), contrastive_loss(20.0)
    value, _, whole, (only,) = gradients_of(model, batch, loss)
    assert only.keep
    total = sum(text_bytes(model, tokens.lengths, COMPUTE).sum() for tokens in batch.tokens.values())
    divided_value, _, divided, (cached,) = gradients_of(model, batch, loss, budget=0.9 * float(total))
    assert not cached.keep
    assert divided_value == value and all(torch.equal(divided[name], whole[name]) for name in whole)


def test_a_query_that_does_not_fit_alone_is_cached(encoder_folder):
    model = encoder_of(encoder_folder)
    batch, loss = pair_batch(model), margin_mse_loss(5.0)
    whole = gradients_of(model, batch, loss)[2]
    *_, divided, groups = gradients_of(model, batch, loss, separate=separation_of, budget=1)
    assert len(groups) == 5 and not any(group.keep for group in groups)
    assert all(len(chunk.rows) == 1 for group in groups for chunk in group.chunks)
    for name, gradient in divided.items():
        torch.testing.assert_close(gradient, whole[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_estimate_is_what_pytorch_keeps(encoder_folder, dropout):
    """Estimated bytes of a batch lie within a third of the tensors that PyTorch keeps for the backward pass."""
    model = encoder_of(encoder_folder, dropout)
    tokens = model.tokenize(["fox " * 60, "otter " * 60, "hammer " * 60], "document")
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids, mask, prompt = tokens.inputs(range(3))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), seeded(1):
        rows = model(torch.from_numpy(ids), torch.from_numpy(mask), prompt)
    assert rows.requires_grad
    estimate = float(text_bytes(model, tokens.lengths, COMPUTE).sum())
    if dropout:
        assert estimate == pytest.approx(sum(kept.values()), rel=1 / 3)
    else:
        assert estimate >= sum(kept.values())


def test_groups_of_queries_are_neighbours_that_fit():
    assert query_groups([1, 1, 1, 5, 1, 1], 3) == [slice(0, 3), slice(3, 4), slice(4, 6)]
    assert query_groups([9], 3) == [slice(0, 1)]
