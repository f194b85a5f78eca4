"""Crops and masks against their definition.

Shares over 100,000 tokens, one visit a document an epoch, pure functions of the seed.
"""

from collections import Counter

import numpy as np
import pytest
from conftest import WORDS, write_jsonl

from drtools.batches import masked
from drtools.batches.masked import MaskedBatches, Masker, hold_out
from drtools.errors import UserError
from drtools.formats.store import open_store
from drtools.models.encoder import load_encoder
from drtools.models.masked import IGNORED
from drtools.randomness import generator

CLS, SEP, MASK = 2, 3, 4


@pytest.fixture(scope="module")
def encoder(encoder_folder):
    return load_encoder(encoder_folder)


def test_the_shares_over_100000_tokens(encoder):
    masker = Masker(encoder, 64, 0.15)
    texts = [" ".join(np.random.default_rng(n).choice(WORDS, 80)) for n in range(1700)]
    found = masker(texts, [generator(7, n) for n in range(len(texts))])
    ids = {
        word: number
        for number, word in enumerate(encoder.tokenizer.convert_ids_to_tokens(range(len(encoder.tokenizer))))
    }
    asked, hidden, replaced, total, starts = 0, 0, 0, 0, Counter()
    for n, text in enumerate(texts):
        part = slice(found.tokens.starts[n], found.tokens.starts[n + 1])
        seen, labels = found.tokens.flat[part], found.labels[part]
        assert len(seen) == 64 and seen[0] == CLS and seen[-1] == SEP and labels[0] == labels[-1] == IGNORED
        words = np.array([ids[word] for word in text.split()])
        crop = np.where(labels == IGNORED, seen, labels)[1:-1]  # what stood there before
        places = [start for start in range(80 - 62 + 1) if np.array_equal(words[start : start + 62], crop)]
        starts[places[0]] += 1
        chosen = labels != IGNORED
        asked, total = asked + chosen.sum(), total + 62
        hidden += (seen[chosen] == MASK).sum()
        replaced += ((seen != MASK) & (seen != labels) & chosen).sum()
    assert total > 100_000
    size = len(encoder.tokenizer)
    assert asked / total == pytest.approx(0.15, abs=0.005)
    assert hidden / asked == pytest.approx(0.8 + 0.1 / size, abs=0.012) and replaced / asked == pytest.approx(
        0.1 * (1 - 2 / size), abs=0.01
    )
    assert len(starts) == 19 and max(starts.values()) < 2 * min(starts.values()), "every crop is as likely as another"


def test_shares_of_tokens_are_counted_over_the_whole_corpus(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(masked, "COUNTED_DOCUMENTS", 3)
    texts = ["fox fox otter", "hill", "otter", "never counted", "fox"]  # rows 0, 2 and 4 of 5
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": str(n), "text": text} for n, text in enumerate(texts)])
    found = Masker(encoder, 12, 0.15).token_shares(open_store(str(tmp_path / "corpus.jsonl")), " ")
    counts = Counter({"fox": 3, "otter": 2})
    names = encoder.tokenizer.convert_ids_to_tokens(range(len(encoder.tokenizer)))
    assert found.tolist() == pytest.approx([(1 + counts[name]) / (5 + len(names)) for name in names])


def test_a_text_is_masked_by_its_own_generator_alone(encoder):
    masker = Masker(encoder, 12, 0.3)
    texts = ["fox runs over the hill", "", "otter " * 40]
    together = masker(texts, [generator(1, n) for n in range(3)])
    assert together.lengths.tolist()[1:] == [2, 12]
    for n, text in enumerate(texts):
        alone = masker([text], [generator(1, n)])
        part = slice(together.tokens.starts[n], together.tokens.starts[n + 1])
        assert np.array_equal(alone.tokens.flat, together.tokens.flat[part]) and np.array_equal(
            alone.labels, together.labels[part]
        )
    assert (
        together.body_learns and not masker(texts, [generator(1, n) for n in range(3)], body_learns=False).body_learns
    )
    ids, mask, labels, learns = together.inputs([1, 2], 0)
    assert ids.shape == mask.shape == labels.shape == (2, 12) and learns is True
    assert (
        (labels[0] == IGNORED).all() and mask.sum(axis=1).tolist() == [2, 12] and ids.dtype == labels.dtype == np.int64
    )


def batches_of(toy, encoder, monkeypatch, **settings):
    monkeypatch.setattr(masked, "BLOCK", 8)
    monkeypatch.setattr(masked, "BLOCKS_A_GROUP", 3)
    store = open_store(toy.corpus)
    held = hold_out(store, settings.pop("held", 7), 5)
    return MaskedBatches(store, Masker(encoder, 64, 0.15), batch_documents=10, seed=5, held_out=held, **settings), set(
        held.tolist()
    )


def test_an_epoch_visits_every_document_once_but_those_held_out(toy, encoder, monkeypatch):
    batches, held = batches_of(toy, encoder, monkeypatch)
    assert batches.epoch_documents == 53 and len(held) == 7
    epochs = [[batches.row(epoch * 53 + place)[1] for place in range(53)] for epoch in range(3)]
    for rows in epochs:
        assert sorted(rows) == sorted(set(range(60)) - held)
    assert len({tuple(rows) for rows in epochs}) == 3 and epochs[0] != sorted(epochs[0])
    again, _ = batches_of(toy, encoder, monkeypatch)
    assert again.row(2 * 53 + 11) == (2, epochs[2][11]), "asked for out of order"


def test_several_processes_take_the_shares_of_one(toy, encoder, monkeypatch):
    whole, _ = batches_of(toy, encoder, monkeypatch, head_steps=4)
    shares = lambda count: [slice(0, 4), slice(4, count)]  # noqa: E731
    parts = [batches_of(toy, encoder, monkeypatch, head_steps=4, shares=shares, rank=rank)[0] for rank in (0, 1)]
    for step in (3, 8):
        one, (first, second) = whole(step), [part(step) for part in parts]
        assert first.counts == second.counts == {"text": [4, 6]}
        both = [first.tokens["text"], second.tokens["text"]]
        assert np.array_equal(one.tokens["text"].tokens.flat, np.concatenate([part.tokens.flat for part in both]))
        assert np.array_equal(one.tokens["text"].labels, np.concatenate([part.labels for part in both]))
        assert one.tokens["text"].body_learns is (step >= 4)


def test_ids_above_65535_stay_themselves(encoder, monkeypatch):
    masker = Masker(encoder, 8, 0.5)
    monkeypatch.setattr(masker, "_token_lists", lambda texts: [[70_001, 250_000, 65_536, 131_072]])
    found = masker(["any"], [generator(3)])
    original = np.where(found.labels == IGNORED, found.tokens.flat, found.labels)
    assert original.tolist() == [CLS, 70_001, 250_000, 65_536, 131_072, SEP]


def test_what_cannot_be_meant_is_refused(toy, encoder):
    for words, wanted in (((encoder, 65, 0.15), "64 positions"), ((encoder, 2, 0.15), "special tokens alone are 2")):
        with pytest.raises(UserError, match=wanted):
            Masker(*words)
    with pytest.raises(UserError, match="half of them"):
        hold_out(open_store(toy.corpus), 31, 1)
    assert (
        len(
            hold_out(
                open_store(write_jsonl(toy.folder / "c.jsonl", [{"_id": str(n), "text": "fox"} for n in range(250)])),
                None,
                1,
            )
        )
        == 2
    )


def test_a_special_token_that_a_text_spells_out_is_never_asked_for_but_unknown_is(encoder):
    texts = ["fox [SEP] otter [CLS] \u4e2d [MASK]"] * 200
    found = Masker(encoder, 64, 0.5)(texts, [generator(3, n) for n in range(200)])
    asked = Counter(found.labels.tolist())
    assert not {CLS, SEP, MASK} & asked.keys() and asked[1] > 50, "unknown stands for a word"
    kept = found.tokens.flat.reshape(200, -1)
    assert (kept[:, 2] == SEP).all() and (kept[:, 4] == CLS).all()
