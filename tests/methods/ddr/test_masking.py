"""Crops and masks against their definition.

Shares over 100,000 tokens, one visit a document an epoch, pure functions of the seed.
"""

from collections import Counter

import numpy as np
import pytest
from conftest import WORDS, write_jsonl

from drtools.errors import InputError
from drtools.formats.corpus_store import open_store
from drtools.methods.ddr import masking
from drtools.methods.ddr.masking import MaskedBatches, Masker, hold_out
from drtools.methods.ddr.windows import count_windows
from drtools.methods.fgd.ed_mlm import TwiceMasker
from drtools.models.loader import load_encoder
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
    monkeypatch.setattr(masking, "COUNTED_DOCUMENTS", 3)
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
    ids, mask, labels, learns = together.inputs([1, 2])
    assert ids.shape == mask.shape == labels.shape == (2, 12) and learns is True
    assert (
        (labels[0] == IGNORED).all() and mask.sum(axis=1).tolist() == [2, 12] and ids.dtype == labels.dtype == np.int64
    )


def batches_of(toy, encoder, monkeypatch, **settings):
    monkeypatch.setattr(masking, "BLOCK", 8)
    monkeypatch.setattr(masking, "BLOCKS_A_GROUP", 3)
    store = open_store(toy.corpus)
    held = hold_out(store, settings.pop("held", 7), 5)
    return MaskedBatches(store, Masker(encoder, 64, 0.15), batch_documents=10, seed=5, held_out=held, **settings), set(
        held.tolist()
    )


def test_an_epoch_visits_every_document_once_but_those_held_out(toy, encoder, monkeypatch):
    batches, held = batches_of(toy, encoder, monkeypatch)
    assert batches.epoch_documents == 53 and len(held) == 7
    epochs = [[batches.visit(epoch * 53 + place)[1] for place in range(53)] for epoch in range(3)]
    for rows in epochs:
        assert sorted(rows) == sorted(set(range(60)) - held)
    assert len({tuple(rows) for rows in epochs}) == 3 and epochs[0] != sorted(epochs[0])
    again, _ = batches_of(toy, encoder, monkeypatch)
    assert again.visit(2 * 53 + 11) == (2, epochs[2][11], 0), "asked for out of order"


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
    for words, wanted in (
        ((encoder, 65, 0.15), "64 positions"),
        ((encoder, 2, 0.15), "there are already 2 special tokens"),
    ):
        with pytest.raises(InputError, match=wanted):
            Masker(*words)
    with pytest.raises(InputError, match="half of them"):
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


def long_corpus(folder):
    """40 documents of 0 to 39 tokens; a window has 8, and windows begin 3 apart."""
    draw = np.random.default_rng(8)
    texts = [" ".join(draw.choice(WORDS, length)) for length in draw.permutation(40)]
    return open_store(
        write_jsonl(folder / "long.jsonl", [{"_id": str(n), "text": text} for n, text in enumerate(texts)])
    ), texts


def starts_of(length: int) -> list[int]:
    """Where windows of 8 tokens begin, by their definition: at multiples of 3, the last where it ends with the text."""
    starts = [start for start in range(0, length, 3) if start + 8 < length]
    return [*starts, max(0, length - 8)]


def test_an_epoch_visits_every_window_once(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(masking, "BLOCK", 8)
    monkeypatch.setattr(masking, "BLOCKS_A_GROUP", 3)
    store, texts = long_corpus(tmp_path)
    masker = Masker(encoder, 10, 0.3, stride=3)
    windows = count_windows(store, masker, " ")
    lengths = [len(text.split()) for text in texts]
    assert windows.tolist() == [len(starts_of(length)) for length in lengths] and windows.max() == 12
    held = np.array([3, 20])
    batches = MaskedBatches(store, masker, batch_documents=7, seed=5, held_out=held, windows=windows)
    total = batches.epoch_visits
    assert batches.epoch_documents == 38 and total == sum(windows) - windows[held].sum() > 5 * 38
    expected = {(row, window) for row in range(40) for window in range(windows[row]) if row not in held}
    epochs = [[batches.visit(epoch * total + place) for place in range(total)] for epoch in range(2)]
    for number, visits in enumerate(epochs):
        assert {visit[1:] for visit in visits} == expected and {epoch for epoch, _, _ in visits} == {number}
    assert [visit[1:] for visit in epochs[0]] != [visit[1:] for visit in epochs[1]]
    seen = {}
    for step in range(total // 7):
        tokens = batches(step).tokens["text"]
        for at in range(7):
            part = slice(tokens.tokens.starts[at], tokens.tokens.starts[at + 1])
            labels = tokens.labels[part]
            seen[batches.visit(7 * step + at)] = np.where(labels == IGNORED, tokens.tokens.flat[part], labels)[1:-1]
    ids = [encoder.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert len(seen) == 7 * (total // 7)
    for (_, row, window), crop in seen.items():
        start = starts_of(lengths[row])[window]
        assert crop.tolist() == ids[row][start : start + 8]


def test_windows_of_a_document_are_masked_each_by_its_own_numbers(encoder, tmp_path):
    store = open_store(write_jsonl(tmp_path / "c.jsonl", [{"_id": "0", "text": "fox " * 60}]))
    masker = Masker(encoder, 22, 0.3, stride=20)
    batches = MaskedBatches(
        store, masker, batch_documents=3, seed=5, held_out=np.empty(0, int), windows=count_windows(store, masker, " ")
    )
    assert batches.epoch_visits == 3
    first, again = (batches(0).tokens["text"].labels.reshape(3, 22) for _ in range(2))
    assert np.array_equal(first, again)
    asked = {tuple(labels != IGNORED) for labels in first}
    assert len(asked) == 3, "its windows hold the same tokens, but not the same are asked for"


@pytest.fixture(scope="module")
def byte_level(encoder_folder):
    """The toy encoder with a byte-level tokenizer such as RoBERTa's, which spells most words in several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    names = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=names, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([" ".join(WORDS)], trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    encoder = load_encoder(encoder_folder)
    encoder.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", bos_token="<s>",
        eos_token="</s>",
    )  # fmt: skip
    return encoder


@pytest.mark.parametrize("tokenizer", ["word pieces", "byte level"])
def test_words_are_masked_as_a_whole(encoder, byte_level, tokenizer):
    """Words are told apart as the tokenizers write them: ## goes on with a word, a space or a sign begins one."""
    model = byte_level if tokenizer == "byte level" else encoder
    texts = [
        " ".join(str(draw.integers(10**6)) if draw.random() < 0.5 else draw.choice(WORDS) for _ in range(6))
        for draw in map(np.random.default_rng, range(1500))
    ]
    masker = TwiceMasker(model, 60, 0.3, 0.5, whole_words=True)
    both = masker(texts, [generator(7, n) for n in range(len(texts))])
    kinds, wholes, pieces = Counter(), Counter(), 0
    mask = model.tokenizer.mask_token_id
    for n in range(len(texts)):
        part = slice(both.tokens.tokens.starts[n], both.tokens.tokens.starts[n + 1])
        words: list[set[tuple[bool, bool]]] = []
        for seen, label, harder in zip(
            both.tokens.tokens.flat[part][1:-1],
            both.tokens.labels[part][1:-1],
            both.heavier.labels[part][1:-1],
            strict=True,
        ):
            own = seen if label == IGNORED else label
            name = model.tokenizer.convert_ids_to_tokens(int(own if harder == IGNORED else harder))
            begins = name[:2] != "##" if tokenizer == "word pieces" else name[0] == "Ġ" or not words
            if begins:
                words.append(set())
            pieces += not begins
            words[-1].add((label != IGNORED, harder != IGNORED))
            if label != IGNORED:
                kinds["hidden" if seen == mask else "left" if seen == label else "replaced"] += 1
            kinds["all"] += 1
        assert all(len(word) == 1 for word in words) and len(words) == 6
        wholes.update(next(iter(word)) for word in words)
    assert wholes[True, False] == 0, "the decoder is asked for the encoder's words and more"
    assert pieces > 10_000 and wholes[True, True] / wholes.total() == pytest.approx(0.3, abs=0.015)
    assert (wholes[True, True] + wholes[False, True]) / wholes.total() == pytest.approx(0.5, abs=0.015)
    asked = kinds.total() - kinds["all"]
    assert asked / kinds["all"] == pytest.approx(0.3, abs=0.015)
    for name, share in {"hidden": 0.8, "replaced": 0.1, "left": 0.1}.items():
        assert kinds[name] / asked == pytest.approx(share, abs=0.015), name


def test_an_empty_text_and_one_of_special_tokens_have_no_word(encoder):
    found = Masker(encoder, 12, 0.9, whole_words=True)(["", "[SEP] [MASK]"], [generator(1), generator(2)])
    assert (found.labels == IGNORED).all() and found.lengths.tolist() == [2, 4]
