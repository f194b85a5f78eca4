"""Dark examples as text.

The same for BERT's and RoBERTa's tokenizers, masked by word, cut fairly, with real special tokens.
"""

import random
import re

import pytest
from conftest import WORDS

from drtools.errors import InputError
from drtools.formats.dark_items import Noisy, Reinforced, dark_records, parse_dark, parse_ratios
from drtools.methods.adam.dark import Special, asked_text, dark_text, noisy_text, reinforced_text, special_of

CHINESE = "我们研究北京的 COVID-19 疫情。"
JAPANESE = "東京タワーはとても高いです ﾃﾚﾋﾞ tower"
LONG = {
    name: " ".join(random.Random(name).choices(WORDS, k=count))
    for name, count in (("long", 90), ("longer", 120), ("short", 9))
}


@pytest.fixture(scope="module")
def bert_tokenizer(bert):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(bert)


@pytest.fixture(scope="module")
def roberta_tokenizer():
    """RoBERTa's own tokenizer, byte by byte: no merges were learnt."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import RobertaTokenizer

    vocabulary = {
        token: at for at, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())])
    }
    return RobertaTokenizer(vocab=vocabulary, merges=[])


@pytest.fixture(params=["bert", "roberta"])
def tokenizer(request):
    return request.getfixturevalue(f"{request.param}_tokenizer")


def texts_of(document):
    return {"zh": CHINESE, "ja": JAPANESE, **LONG}[document]


ITEMS = [Noisy(document, ratio, 7) for document in ("zh", "ja", "short", "long") for ratio in (0.15, 0.35, 0.55)] + [
    Reinforced("zh", "ja"),
    Reinforced("short", "zh"),
]


def test_both_tokenizers_are_given_the_same_text_up_to_their_special_tokens(bert_tokenizer, roberta_tokenizer):
    for item in ITEMS:
        one, other = (
            dark_text(item, "q1", texts_of, special_of(tokenizer, 500, {item.kind}, "m"))
            for tokenizer in (bert_tokenizer, roberta_tokenizer)
        )
        assert one.replace("[MASK]", "<mask>").replace("[SEP]", "</s>") == other
        assert one != other


def test_special_tokens_come_out_as_themselves(tokenizer):
    for item in ITEMS:
        special = special_of(tokenizer, 500, {item.kind}, "m")
        text = dark_text(item, "q1", texts_of, special)
        ids = tokenizer(text)["input_ids"]
        if item.kind == "noisy":
            assert ids.count(tokenizer.mask_token_id) == text.count(special.mask) > 0
            assert ids.count(tokenizer.sep_token_id) == 1, "the text's own end"
        else:
            at = ids.index(tokenizer.sep_token_id)
            assert ids.count(tokenizer.sep_token_id) == 2
            assert ids[1:at] == tokenizer(texts_of(item.positive), add_special_tokens=False)["input_ids"]
            assert ids[at + 1 : -1] == tokenizer(texts_of(item.negative), add_special_tokens=False)["input_ids"]


def naive_words(text):
    """Cut a text by hand: every Chinese character and kana alone, the rest at white space."""
    words, word = [], ""
    for character in text:
        code = ord(character)
        alone = 0x3041 <= code <= 0x30FF or 0x4E00 <= code <= 0x9FFF or 0xFF66 <= code <= 0xFF9F
        if alone or character.isspace():
            words += [word] if word else []
            word = ""
            words += [character] if alone else []
        else:
            word += character
    return words + ([word] if word else [])


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, LONG["short"], "one"], ids=["zh", "ja", "en", "one"])
@pytest.mark.parametrize("ratio", [0.15, 0.25, 0.35, 0.45, 0.55])
def test_a_share_of_the_words_is_masked_and_the_rest_stays(text, ratio):
    masked = noisy_text(text, (7, "q", "d", ratio), "\0")
    assert masked.count("\0") == max(1, round(ratio * len(naive_words(text))))
    pattern = "".join(r"(\S+?)" if part == "\0" else re.escape(part) for part in re.split("(\0)", masked))
    hidden = re.fullmatch(pattern, text)
    assert hidden and all(len(naive_words(word)) == 1 for word in hidden.groups()), (
        "each mask stands for one whole word"
    )


def test_what_is_masked_is_fixed_by_seed_query_document_and_ratio():
    texts = {
        seed: noisy_text(LONG["long"], seed, "_")
        for seed in ((7, "q", "d", 0.15), (8, "q", "d", 0.15), (7, "r", "d", 0.15), (7, "q", "e", 0.15))
    }
    assert len(set(texts.values())) == 4
    assert noisy_text(LONG["long"], (7, "q", "d", 0.15), "_") == texts[7, "q", "d", 0.15]
    assert (
        noisy_text("one two three four five six", (42, "q1", "d1", 0.35), "[MASK]") == "one two [MASK] [MASK] five six"
    ), "the same on every machine"
    assert noisy_text("  ", (7, "q", "d", 0.5), "_") == "  "


@pytest.mark.parametrize("tokens", [8, 9, 40, 41, 100])
@pytest.mark.parametrize(
    "pair", [("long", "longer"), ("short", "longer"), ("long", "short"), ("short", "short")], ids="-".join
)
def test_a_reinforced_text_fits_in_twice_a_document_and_a_short_half_gives_its_room(tokenizer, tokens, pair):
    special = special_of(tokenizer, tokens, {"reinforced"}, "m")
    halves = [tokenizer(LONG[name], add_special_tokens=False)["input_ids"] for name in pair]
    ids = tokenizer(reinforced_text(LONG[pair[0]], LONG[pair[1]], special))["input_ids"]
    at = ids.index(tokenizer.sep_token_id)
    found = ids[1:at], ids[at + 1 : -1]
    room = 2 * tokens - 3  # [CLS] and two [SEP]
    assert len(ids) <= 2 * tokens
    for mine, half, other in zip(found, halves, reversed(halves), strict=True):
        assert mine == half[: len(mine)]
        if len(halves[0]) + len(halves[1]) <= room:
            assert mine == half
        elif len(half) > room // 2 and len(other) > room // 2:
            assert len(mine) in (room // 2, room - room // 2)
        elif len(half) <= room // 2:
            assert mine == half
        else:
            assert len(mine) == room - len(other)
    assert sum(map(len, found)) == min(room, sum(map(len, halves)))


def test_a_tokenizer_that_says_no_positions_is_asked_word_by_word(bert_tokenizer):
    class Slow:
        is_fast = False
        sep_token, mask_token, num_special_tokens_to_add, tokenize = (
            bert_tokenizer.sep_token,
            bert_tokenizer.mask_token,
            bert_tokenizer.num_special_tokens_to_add,
            bert_tokenizer.tokenize,
        )

    fast, slow = (
        reinforced_text(LONG["long"], LONG["longer"], special_of(tokenizer, 20, {"reinforced"}, "m"))
        for tokenizer in (bert_tokenizer, Slow())
    )
    assert fast == slow and len(fast) < 400


def test_a_prompt_takes_its_share(bert_tokenizer):
    with_prompt, without = (
        special_of(bert_tokenizer, 20, {"reinforced"}, "m", prompt) for prompt in ("fox runs: ", "")
    )
    assert (
        without.room - with_prompt.room == len(bert_tokenizer("fox runs: ", add_special_tokens=False)["input_ids"]) > 0
    )


def test_a_teacher_is_asked_with_room_for_both_halves(bert_tokenizer):
    special = special_of(bert_tokenizer, 20, {"reinforced", "noisy"}, "m")
    items = [Reinforced("long", "longer"), Noisy("short", 0.5, 3)]
    asked = [asked_text(item, "q1", texts_of, special) for item in items]
    assert [limit for _, limit in asked] == [2 * 20 - 2, None]
    assert len(bert_tokenizer(asked[0][0], add_special_tokens=False)["input_ids"]) == 38
    assert asked[1][0] == dark_text(items[1], "q1", texts_of, special)


def test_a_tokenizer_without_the_token_that_is_needed_is_refused():
    class Bare:
        is_fast, sep_token, eos_token, mask_token = True, None, None, None

    for kind, words in (("reinforced", "neither a separator nor an end token"), ("noisy", "no mask token")):
        with pytest.raises(InputError, match=words):
            special_of(Bare(), 20, {kind}, "m")
    assert Special().separator == "[SEP]"


GOOD = [
    {"kind": "reinforced", "positive": "d1", "negative": "d2"},
    {"kind": "noisy", "positive": "d1", "ratio": 0.15, "seed": 3},
]
BAD = {
    "not a list": ({"kind": "noisy"}, "dark is dict, expected a list"),
    "not an object": (["d1"], "dark item 1 is a str, expected an object of kind reinforced or noisy"),
    "an unknown kind": ([GOOD[0], {"kind": "loud"}], "dark item 2 is of kind 'loud'"),
    "a missing field": (
        [{"kind": "noisy", "positive": "d1"}],
        "dark item 1: noisy has kind, positive, expected kind, positive, ratio, seed",
    ),
    "another kind's field": ([GOOD[0] | {"ratio": 0.1}], "reinforced has kind, negative, positive, ratio"),
    "an empty id": ([GOOD[0] | {"negative": ""}], "the id is ''"),
    "a ratio above 1": ([GOOD[1] | {"ratio": 1.5}], "its ratio is 1.5, expected a share of words above 0"),
    "a ratio that is none": ([GOOD[1] | {"ratio": True}], "its ratio is True"),
    "a seed that is none": ([GOOD[1] | {"seed": 1.5}], "its seed is 1.5, expected a whole number"),
    "an item twice": ([GOOD[0], GOOD[1], GOOD[0]], "dark has an item twice"),
}


def test_items_are_read_as_they_are_written():
    assert dark_records(parse_dark(GOOD, "x", 1)) == GOOD and parse_dark(None, "x", 1) is None


@pytest.mark.parametrize("name", BAD)
def test_a_bad_item_is_named_with_its_line(name):
    value, words = BAD[name]
    with pytest.raises(InputError, match=f"^x.jsonl:3: .*{re.escape(words)}") as caught:
        parse_dark(value, "x.jsonl", 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", ["0", "1", "0.1,0.1", "a", "nan", "-0.2", "0.1,,0.2"])
def test_bad_ratios_are_refused(words):
    with pytest.raises(InputError, match="ratios"):
        parse_ratios(words)
    assert parse_ratios("0.15, 0.25") == [0.15, 0.25] and parse_ratios("") == []
