"""Sentences of documents as queries: how texts are split, how many each passage gives, words out of order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from drtools.errors import InputError, param
from drtools.formats.corpora import read_articles
from drtools.randomness import generator

if TYPE_CHECKING:
    import numpy as np

# those that sentencex has rules for; it splits any other as one of them, or as English, and says nothing
LANGUAGES = "am ar bg bn ca da de el en es fi fr gu hi hy it ja kk kn ml mr my nl pa pl pt ru sk ta te uk zh".split()
DECAY = 1.2  # [code] what a passage's place in its article is multiplied by
# scripts without spaces between words, in which each character stands for one
CHARACTERS = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{CHARACTERS}]|[^\s{CHARACTERS}]+")


class Sampled(NamedTuple):
    """A document's sentences that became queries: (number of the sentence in its document, from 0; text)."""

    document: str
    sentences: list[tuple[int, str]]
    split: int  # sentences that the document has


def check_language(language: str) -> None:
    """Refuse a language whose sentences nobody knows to split."""
    if language not in LANGUAGES:
        raise InputError(
            f"{param('language')} {language}: no rules for its sentences; say the nearest of those that have: "
            f"{', '.join(LANGUAGES)}"
        )


def split_sentences(text: str, language: str) -> list[str]:
    """Return the sentences of a text, white space made single."""
    import sentencex

    return [sentence for sentence in (" ".join(part.split()) for part in sentencex.segment(language, text)) if sentence]


def sentences_to_take(count: int, place: int) -> int:
    """Return how many of `count` sentences the passage at a place of its article (from 0) gives (Chen et al.

    2022, [code]).
    """
    return max(1, round(count / (DECAY * (place + 1)))) if count else 0


def sample(path: str, article_key: str | None, language: str, seed: int, skip: int = 0) -> Iterator[Sampled]:
    """Yield what each document of a corpus gives, in their order; those before `skip` are read but not split.

    Without an article key every sentence. With one, neighbouring documents of the same article are its passages, and
    each gives `sentences_to_take` of its sentences without replacement, as (seed, document id) draws them. A document
    without an article is one of its own. Memory does not grow with the corpus.
    """
    before, place = "", 0
    for number, (document, article) in enumerate(read_articles(path, article_key)):
        place = place + 1 if article and article == before else 0
        before = article
        if number < skip:
            continue
        sentences = split_sentences(document.text, language)
        taken: Sequence[int] = range(len(sentences))
        if article_key and sentences:
            draws = generator(seed, "sentences", document.id)
            taken = sorted(
                draws.choice(len(sentences), sentences_to_take(len(sentences), place), replace=False).tolist()
            )
        yield Sampled(document.id, [(at, sentences[at]) for at in taken], len(sentences))


def thin(sampled: Sampled, seed: int, wanted: int, left: int) -> Sampled:
    """Keep some of a document's sentences.

    Of all `left` sentences from here on exactly `wanted` are kept, each as likely.
    """
    kept = []
    for chance, sentence in zip(
        generator(seed, "count", sampled.document).random(len(sampled.sentences)), sampled.sentences, strict=True
    ):
        if chance * left < wanted:  # selection sampling: Knuth, volume 2, algorithm S
            kept.append(sentence)
            wanted -= 1
        left -= 1
    return sampled._replace(sentences=kept)


def shuffle_words(text: str, random: np.random.Generator) -> str:
    """Return a text's words in random order.

    A Chinese character or Japanese letter is a word, and a text without spaces stays so.
    """
    words = WORD.findall(text)
    return (" " if len(text.split()) > 1 else "").join(words[at] for at in random.permutation(len(words)))
