"""Windows that are cut from kept tokens, against windows of texts that are tokenized at each visit."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import WORDS, write_jsonl

from drtools.formats.corpus_store import open_store
from drtools.methods.ddr import masking
from drtools.methods.ddr.masking import MaskedBatches
from drtools.methods.ddr.token_file import TokenFile
from drtools.methods.ddr.whole_words import drawn_by_word, kinds_of, numbers_of
from drtools.methods.ddr.windows import count_windows
from drtools.methods.fgd.ed_mlm import TwiceMasker
from drtools.models.loader import load_encoder


def store_of(folder):
    """Documents of 0 to 40 words, numbers that take several tokens, and special tokens in the text."""
    draw = np.random.default_rng(1)
    documents = []
    for n in range(60):
        words = [
            draw.choice([str(draw.integers(10**6)), draw.choice(WORDS), "[SEP]"], p=[0.4, 0.55, 0.05])
            for _ in range(draw.integers(0, 40))
        ]
        documents.append({"_id": str(n), "title": "otter" * (n % 2), "text": " ".join(words) or "fox"})
    return open_store(write_jsonl(folder / "c.jsonl", documents))


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("size", [None, 1 << 17])
def test_batches_from_kept_tokens_are_byte_for_byte_those_of_texts(
    encoder_folder, tmp_path, monkeypatch, whole_words, size
):
    monkeypatch.setattr(masking, "BLOCK", 8)
    store = store_of(tmp_path)
    masker = TwiceMasker(load_encoder(encoder_folder), 14, 0.3, 0.5, 3, whole_words)
    if size:  # a vocabulary whose ids do not fit 16 bits
        monkeypatch.setattr(type(masker.tokenizer), "__len__", lambda self: size)
    windows = count_windows(store, masker, " ", tmp_path / "tokens")
    assert np.array_equal(windows, count_windows(store, masker, " ")) and windows.max() > 3
    tokens = TokenFile.open(tmp_path / "tokens")
    assert tokens.ids.dtype == (np.uint32 if size else np.uint16) and (tokens.kinds is not None) == whole_words
    plain, kept = (
        MaskedBatches(store, masker, batch_documents=9, seed=5, held_out=np.array([2]), windows=windows, tokens=each)
        for each in (None, tokens)
    )
    monkeypatch.setattr(kept, "store", range(len(store)))  # no texts, only their number
    for step in range(plain.epoch_visits // 9 + 2):
        expected, found = plain(step).tokens["text"], kept(step).tokens["text"]
        for one, other in ((expected.tokens, found.tokens), (expected.heavier, found.heavier)):
            for name in ("flat", "starts", "cut", "blank"):
                ours, theirs = getattr(one.tokens, name), getattr(other.tokens, name)
                assert ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()
            assert one.labels.tobytes() == other.labels.tobytes() and (one.labels >= 0).any()


def test_words_keep_their_order_in_a_byte_a_token():
    numbers = np.array([0, 0, 3, -4, 3, 7, -7, -8, 9, 9])
    kinds = kinds_of(numbers)
    assert kinds.tolist() == [1, 0, 1, 2, 0, 1, 2, 2, 1, 0]
    for part in (slice(0, 10), slice(1, 6), slice(4, 9), slice(6, 8), slice(3, 3)):
        expected, found = numbers[part], numbers_of(kinds[part])
        assert np.array_equal(np.unique(expected, return_inverse=True)[1], np.unique(found, return_inverse=True)[1])
        one, other = (drawn_by_word(each, 0.5, np.random.default_rng(3)) for each in (expected, found))
        assert one.tobytes() == other.tobytes()


def test_without_room_on_the_disk_nothing_is_kept(encoder_folder, tmp_path, monkeypatch, capsys):
    store, masker = store_of(tmp_path), TwiceMasker(load_encoder(encoder_folder), 14, 0.3, 0.5, 3, False)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    count_windows(store, masker, " ", tmp_path / "tokens")
    assert "documents are tokenized at each visit" in capsys.readouterr().err
    assert not (tmp_path / "tokens").exists() and TokenFile.open(tmp_path / "tokens") is None
    monkeypatch.undo()
    count_windows(store, masker, " ", tmp_path / "tokens")
    (tmp_path / "tokens" / "starts.npy").unlink()  # a process that was killed before the end
    assert TokenFile.open(tmp_path / "tokens") is None
