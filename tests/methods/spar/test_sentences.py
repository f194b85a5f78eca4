"""Sentences of a corpus: splitting, how many each passage gives, exact counts, word order."""

import json
import random
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sentencex
from conftest import write_jsonl

from drtools.methods.spar.sentences import (
    Sampled,
    sample,
    sentences_to_take,
    shuffle_words,
    split_sentences,
    thin,
    with_single_spaces,
)
from drtools.randomness import generator

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        (
            "en",
            [
                "Dr. Smith et al. (2019) gave 3.5 mg of IL-6, cf. Fig. 2.",
                "The U.S. Army vs. the F.B.I. was late.",
                "Why?",
                "He left!",
            ],
        ),
        ("zh", ["你好。", "今天天气怎么样？", "我觉得很好！", "他说：“我们走吧。”", "然后走了。"]),
        ("ja", ["これはペンです。", "それは何ですか？", "わかりました！"]),
        ("de", ["Das ist z.B. ein Test.", "Dr. Müller kam am 3. Oktober.", "Er ging."]),
    ],
)
def test_sentences_end_where_they_end(language, sentences):
    text = ("" if language in ("zh", "ja") else "  ").join(sentences)
    assert split_sentences(text, language) == sentences


def test_white_space_is_single_and_nothing_is_no_sentence():
    assert split_sentences("A  fox\nruns.\n\n \n It\tsleeps. ", "en") == ["A fox runs.", "It sleeps."]
    assert split_sentences(" \n ", "en") == []


def test_white_space_is_single_however_long_a_text_is():
    texts = [path.read_text() for path in sorted(DOCS.glob("*.md"))]
    for text in texts:
        wanted = [" ".join(part.split()) for part in sentencex.segment("en", text)]
        assert split_sentences(text, "en") == [sentence for sentence in wanted if sentence]
        for block in (1, 2, 7, 100):
            assert with_single_spaces(text, block) == " ".join(text.split())
    spaces = "".join(chr(code) for code in range(0x110000) if chr(code).isspace())
    draw = random.Random(2)
    for _ in range(2000):
        text = "".join(draw.choices(f"ab{spaces}", k=draw.randrange(30)))
        assert with_single_spaces(text, draw.randrange(1, 9)) == " ".join(text.split())


def test_a_text_without_sentence_ends_takes_a_few_times_its_memory():
    text = "lorem ipsum dolor sit amet " * 150_000
    tracemalloc.start()
    sentences = split_sentences(text, "en")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sentences == [text.strip()] and peak < 4 * len(text)  # its words in a list take ten times as much


@pytest.mark.parametrize(
    ("count", "place", "taken"),
    [(12, 0, 10), (12, 1, 5), (12, 2, 3), (12, 3, 2), (12, 9, 1), (12, 99, 1), (1, 0, 1), (0, 0, 0)],
)
def test_the_rule_of_the_paper_by_hand(count, place, taken):
    assert sentences_to_take(count, place) == taken  # 12/1.2, 12/2.4, 12/3.6 = 3.33, 12/4.8 = 2.5 (to even), 12/12, ...


def article(name: str, passages: int, sentences: int) -> list[dict]:
    return [
        {
            "_id": f"{name}{n}",
            "title": name,
            "page": 7 if name == "Fox" else 8,
            "text": " ".join(f"{name} number {n} runs {at}." for at in range(sentences)),
        }
        for n in range(passages)
    ]


@pytest.mark.parametrize("key", ["title", "page"])
def test_each_passage_of_an_article_gives_what_the_rule_says(tmp_path, key):
    corpus = write_jsonl(
        tmp_path / "corpus.jsonl",
        article("Fox", 4, 12) + article("Newt", 2, 12) + [{"_id": "empty", "title": "Newt", "page": 8, "text": ""}],
    )
    given = list(sample(corpus, key, "en", seed=1))
    assert [len(each.sentences) for each in given] == [10, 5, 3, 2, 10, 5, 0]
    for each in given[:-1]:
        assert len(dict(each.sentences)) == len(each.sentences), "without replacement"
        assert all(text.endswith(f"runs {at}.") for at, text in each.sentences)
    assert [each.sentences for each in sample(corpus, key, "en", seed=2)] != [each.sentences for each in given]
    assert list(sample(corpus, key, "en", seed=1, skip=3)) == given[3:], "places in the article are counted on the way"


def test_documents_without_a_title_are_articles_of_their_own(tmp_path):
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{**document, "title": ""} for document in article("Fox", 3, 12)])
    assert [len(each.sentences) for each in sample(corpus, "title", "en", seed=1)] == [10, 10, 10]
    assert [len(each.sentences) for each in sample(corpus, None, "en", seed=1)] == [12, 12, 12]


def test_thinning_keeps_exactly_so_many_and_each_sentence_as_often():
    kept = Counter()
    for seed in range(400):
        wanted, left, chosen = 6, 20, []
        for number in range(5):
            given = Sampled(f"d{number}", [(at, "") for at in range(4)], 4)
            these = thin(given, seed, wanted, left)
            wanted, left = wanted - len(these.sentences), left - 4
            chosen += [(these.document, at) for at, _ in these.sentences]
        assert len(chosen) == 6
        kept.update(chosen)
    expected, deviation = 400 * 6 / 20, np.sqrt(400 * 0.3 * 0.7)
    assert len(kept) == 20 and all(abs(count - expected) < 4 * deviation for count in kept.values())


def test_shuffling_keeps_the_words_and_loses_the_order():
    text = "the quick fox, it runs over the hill and sleeps"
    shuffled = shuffle_words(text, generator(1))
    assert sorted(shuffled.split()) == sorted(text.split()) and shuffled != text
    chinese = shuffle_words("今天天气怎么样", generator(1))
    assert sorted(chinese) == sorted("今天天气怎么样") and chinese != "今天天气怎么样"
    assert shuffle_words("fox", generator(1)) == "fox" and shuffle_words("", generator(1)) == ""


def lines_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_tool_writes_queries_that_name_their_documents(drtools, tmp_path):
    corpus = write_jsonl(tmp_path / "corpus.jsonl", article("Fox", 30, 12))
    done = drtools("sample-queries", "--corpus", corpus, "--count", 17, "-o", tmp_path / "a.jsonl")
    assert done.status == 0, done.err
    made = lines_of(tmp_path / "a.jsonl")
    assert len(made) == 17 and len({line["_id"] for line in made}) == 17
    texts = {document["_id"]: document["text"] for document in article("Fox", 30, 12)}
    assert all(line["text"] in texts[line["document"]] for line in made)
    assert (
        drtools("sample-queries", "--corpus", corpus, "--count", 17, "--shuffle", "-o", tmp_path / "b.jsonl").status
        == 0
    )
    shuffled = lines_of(tmp_path / "b.jsonl")
    assert [line["_id"] for line in shuffled] == [line["_id"] for line in made], "the same sentences"
    assert [sorted(line["text"].split()) for line in shuffled] == [sorted(line["text"].split()) for line in made]
    assert [line["text"] for line in shuffled] != [line["text"] for line in made]


def test_a_stopped_sampling_continues_to_the_same_bytes(drtools, tmp_path, monkeypatch):
    from drtools.methods.spar import sentences

    corpus = write_jsonl(tmp_path / "corpus.jsonl", article("Fox", 30, 12))
    words = ["sample-queries", "--corpus", corpus, "--article-key", "title", "--count", 25]
    assert drtools(*words, "-o", tmp_path / "whole.jsonl").status == 0
    monkeypatch.setattr(sentences, "DOCUMENTS_A_SAVE", 7)
    real = sentences.thinned

    def stopped(*arguments):
        for number, each in enumerate(real(*arguments)):
            if number == 17:
                raise KeyboardInterrupt
            yield each

    monkeypatch.setattr(sentences, "thinned", stopped)
    assert drtools(*words, "-o", tmp_path / "parts.jsonl").status == 130
    monkeypatch.setattr(sentences, "thinned", real)
    done = drtools(*words, "-o", tmp_path / "parts.jsonl")
    assert done.status == 0 and "continuing" in done.err
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_given_queries_are_shuffled_by_their_ids(drtools, toy):
    done = drtools("sample-queries", "--queries", toy.queries, "--shuffle")
    assert done.status == 0, done.err
    given = [json.loads(line) for line in open(toy.queries)]
    made = [json.loads(line) for line in done.out.splitlines()]
    assert [(line["_id"], sorted(line["text"].split())) for line in made] == [
        (line["_id"], sorted(line["text"].split())) for line in given
    ]


def test_what_cannot_be_meant_is_said(drtools, toy):
    assert "pass either --corpus" in drtools("sample-queries").err
    assert "use --shuffle" in drtools("sample-queries", "--queries", toy.queries).err
    done = drtools("sample-queries", "--corpus", toy.corpus, "--article-key", "pages")
    assert done.status == 2 and "corpus.jsonl:1: no 'pages' among the keys (found '_id', 'title', 'text')" in done.err
    done = drtools("sample-queries", "--corpus", toy.corpus, "--count", 10**6, "--strict", "-o", toy.folder / "x.jsonl")
    assert done.status == 2 and "fewer than --count 1,000,000" in done.err


def test_a_language_without_rules_is_refused(tmp_path, drtools):
    corpus = write_jsonl(tmp_path / "corpus.jsonl", article("Fox", 1, 2))
    for bad in ("german", "xx"):
        done = drtools("sample-queries", "--corpus", corpus, "--language", bad, "-o", tmp_path / "out.jsonl")
        assert (
            done.status == 2
            and f"--language {bad}: there are no sentence rules" in done.err
            and "de, el, en" in done.err
        )
    assert drtools("sample-queries", "--corpus", corpus, "--language", "zh", "-o", tmp_path / "out.jsonl").status == 0


def test_strict_refuses_a_continued_sampling_as_the_first(toy, drtools, tmp_path, monkeypatch):
    from drtools.methods.spar import sentences

    monkeypatch.setattr(sentences, "DOCUMENTS_A_SAVE", 5)
    words = ["sample-queries", "--corpus", toy.corpus, "--count", 1_000_000, "--strict", "-o", tmp_path / "q.jsonl"]
    first, again = drtools(*words), drtools(*words)
    assert first.status == again.status == 2 and "continuing" in again.err, again.err
    assert "fewer than --count 1,000,000" in again.err
