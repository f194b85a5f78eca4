"""Long texts: heads give the tokens that whole texts give, with every kind of tokenizer, and memory stays small."""

import random
import subprocess
import sys

import numpy as np
import pytest
from conftest import WORDS
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from drtools.models import long_texts
from drtools.models.long_texts import encode_each, head_of, reads_heads, reads_parts, token_arrays
from drtools.models.terms import TermKeys, count_by_part, count_terms
from drtools.models.tokens import token_lists

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ODD = [
    "é",
    "e\u0301",
    "ﬁ",
    "中文",
    "狐狸跑",
    "  ",
    "\n\n",
    "\t",
    "\u00a0",
    ".",
    "--",
    "'s",
    "12345",
    "[MASK]",
    "x" * 150,
    "ß",
    "🦊",
    "\u200d",
]


def some_texts(count: int = 40) -> list[str]:
    """Return texts of words, odd characters, runs of spaces and long runs without any."""
    drawn = random.Random(3)
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(drawn.randint(1, 120)):
            parts.append(drawn.choice(WORDS) if drawn.random() < 0.7 else drawn.choice(ODD))
            parts.append(drawn.choice([" ", " ", " ", " ", "", "  ", "\n"]))
        texts.append("".join(parts))
    return [*texts, "", " " * 500, "fox" * 300, "fox " + "狐" * 600 + " fox", "a " * 400, ". " * 400, "fox" + " " * 700]


def trained(model, trainer, normalizer=None, pre_tokenizer=None):
    """Return a tokenizer that has learnt its vocabulary from the texts."""
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(some_texts(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", unk_token="<unk>")


def bpe(**settings):
    return trained(
        models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"]), **settings
    )


def unigram(**settings):
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>"], unk_token="<unk>")
    return trained(models.Unigram(), trainer, **settings)


def without_splits():
    """As Llama 2: a word begins with its space, and nothing but the vocabulary holds words apart."""
    tokenizer = bpe(pre_tokenizer=pre_tokenizers.Metaspace())
    tokenizer.backend_tokenizer.pre_tokenizer = None
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return tokenizer


def over_spaces():
    """A vocabulary with tokens of several words, which no head can be trusted with."""
    return bpe(normalizer=normalizers.Replace(" ", "▁"))


MADE = {
    "byte level": lambda: bpe(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "gpt4": lambda: bpe(
        normalizer=normalizers.NFC(),
        pre_tokenizer=pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(GPT4), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    ),
    "metaspace": lambda: unigram(
        normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]),
        pre_tokenizer=pre_tokenizers.Metaspace(),
    ),
    "without splits": without_splits,
}
WHOLE = {
    "over spaces": over_spaces,
    "looks ahead": lambda: bpe(pre_tokenizer=pre_tokenizers.Split(Regex(r"\S+(?=.*fox)|\s+"), "isolated")),
    "a special token with a space": lambda: with_added(AddedToken("fox hill")),
    "from the left": lambda: from_the_left(),
}


def with_added(token):
    tokenizer = MADE["byte level"]()
    tokenizer.add_tokens([token])
    return tokenizer


def from_the_left():
    tokenizer = MADE["byte level"]()
    tokenizer.truncation_side = "left"
    return tokenizer


def whole(tokenizer, texts, longest, special=True):
    """Tokenize whole texts, as the library does it."""
    found = [tokenizer(text, add_special_tokens=special, truncation=False)["input_ids"] for text in texts]
    cut = [
        tokenizer(text, add_special_tokens=special, truncation=True, max_length=longest)["input_ids"] for text in texts
    ]
    return cut, [len(ids) > longest for ids in found]


@pytest.fixture(scope="module")
def tokenizers(families, bert):
    from transformers import AutoTokenizer

    made = {name: make() for name, make in MADE.items()}
    return made | {name: AutoTokenizer.from_pretrained(path) for name, path in {"bert": bert, **families}.items()}


@pytest.mark.slow
def test_heads_give_the_tokens_of_whole_texts(tokenizers, monkeypatch):
    monkeypatch.setattr(long_texts, "CHARACTERS_A_BATCH", 2000)
    texts = some_texts()
    heads = 0
    for name, tokenizer in tokenizers.items():
        if not tokenizer.is_fast:
            continue
        assert reads_heads(tokenizer) or name not in MADE, name
        for characters in (1, 3):  # so few that most first heads have too few tokens
            monkeypatch.setattr(long_texts, "CHARACTERS_A_TOKEN", characters)
            for longest in (3, 24):
                for special in (True, False):
                    expected, cut = whole(tokenizer, texts, longest, special)
                    found, is_cut = token_lists(tokenizer, texts, longest, special)
                    assert found == expected, name
                    assert is_cut.tolist() == cut and 0 < sum(cut) < len(texts), name
                heads += sum(len(head_of(tokenizer, text, longest)) < len(text) for text in texts)
    assert heads > 1000


@pytest.mark.parametrize("name", WHOLE)
def test_other_tokenizers_read_whole_texts(name, monkeypatch):
    monkeypatch.setattr(long_texts, "CHARACTERS_A_TOKEN", 1)
    tokenizer, texts = WHOLE[name](), some_texts()
    assert not reads_heads(tokenizer)
    expected, cut = whole(tokenizer, texts, 8)
    found, is_cut = token_lists(tokenizer, texts, 8)
    assert found == expected and is_cut.tolist() == cut


def test_offsets_of_heads_are_those_of_whole_texts(tokenizers, monkeypatch):
    texts = some_texts()
    for name in ("bert", *MADE):
        expected = [
            [encoding.offsets for encoding, _ in encode_each(tokenizers[name], texts, 16, with_offsets=True)]
            for characters in (1, 10**6)
            if monkeypatch.setattr(long_texts, "CHARACTERS_A_TOKEN", characters) is None
        ]
        assert expected[0] == expected[1], name


# prints by how much tokenizing raised the most memory that the process took, in kB; what getrusage says may be the
# most of the process that started it
PEAK = """
import re, sys
from transformers import AutoTokenizer
from drtools.models.tokens import token_lists
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
text = "fox runs hill river " * (int(sys.argv[3]) // 20)
texts = [text + str(at) for at in range(int(sys.argv[2]))]
token_lists(tokenizer, ["fox"], 64)
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
lists, cut = token_lists(tokenizer, texts, 64)
assert cut.all() and {len(ids) for ids in lists} == {64}
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("count", "size"), [(80, 100_000), (1, 8_000_000)])
def test_memory_does_not_grow_with_the_texts(bert, environment, count, size):
    """Read whole they would take 240 MB."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, bert, str(count), str(size)],
        env={**environment, "RAYON_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50_000, "kB"


def test_terms_are_counted_by_part_as_at_once(monkeypatch):
    texts = [text.replace("\u0301", "") for text in some_texts()]
    expected = count_terms([text.split() for text in texts], TermKeys())
    monkeypatch.setattr(long_texts, "CHARACTERS_A_BATCH", 500)
    parts = []

    def analyzer(part):
        parts.append(len(part))
        return [text.split() for text in part]

    found = count_by_part(analyzer, texts, TermKeys())
    assert len(parts) > 10 and sum(parts) == len(texts)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [len(each) for each in count_by_part(analyzer, [], TermKeys())] == [0, 0, 1, 0]


def test_parts_give_the_tokens_and_words_of_whole_texts(tokenizers, monkeypatch):
    texts = some_texts()
    for name, tokenizer in tokenizers.items():
        if not tokenizer.is_fast:
            continue
        monkeypatch.setattr(long_texts, "CHARACTERS_A_BATCH", 10**6)
        expected = list(token_arrays(tokenizer, texts, with_words=True))
        assert [ids.tolist() for ids, _ in expected] == [
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts
        ]
        monkeypatch.setattr(long_texts, "CHARACTERS_A_BATCH", 30)
        assert reads_parts(tokenizer) or name not in MADE or name == "without splits", name
        found = list(token_arrays(tokenizer, texts, with_words=True))
        for (ids, words), (whole_ids, whole_words) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ids, whole_ids)
            # the numbers themselves may differ; what is drawn for them goes by their order
            np.testing.assert_array_equal(*(np.unique(each, return_inverse=True)[1] for each in (words, whole_words)))
    assert not reads_parts(tokenizers["without splits"]) and reads_parts(tokenizers["bert"])
