"""Use sentences of documents as queries: split texts, sample sentences, shuffle words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from drtools import reporting
from drtools.errors import InputError, param
from drtools.formats.corpora import read_articles, read_queries
from drtools.formats.json_lines import json_line
from drtools.outputs.states import State
from drtools.randomness import generator
from drtools.units import counted

if TYPE_CHECKING:
    import numpy as np

    from drtools.methods.spar.settings import SamplingSpec
    from drtools.outputs.work import Work

# languages with rules in sentencex, which splits other languages with the rules of another one, without a warning
LANGUAGES = "am ar bg bn ca da de el en es fi fr gu hi hy it ja kk kn ml mr my nl pa pl pt ru sk ta te uk zh".split()
DOCUMENTS_A_SAVE = 20_000
DECAY = 1.2  # [code] factor of a passage's place in its article
# scripts without spaces between words; each character counts as a word
CHARACTERS = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{CHARACTERS}]|[^\s{CHARACTERS}]+")


@dataclass(kw_only=True)
class SamplingState(State):
    """The state of a stopped sampling: its counts and, if `count` is set, the total number of queries in the corpus."""

    counts: dict[str, int]
    total: int | None


class Sampled(NamedTuple):
    """The sampled sentences of a document: (number of the sentence in its document, from 0; text)."""

    document: str
    sentences: list[tuple[int, str]]
    split: int  # number of sentences in the document


def check_language(language: str) -> None:
    """Raise InputError for a language without sentence rules."""
    if language not in LANGUAGES:
        raise InputError(
            "there are no sentence rules for this language",
            where=f"{param('language')} {language}",
            remedy=f"use the closest of: {', '.join(LANGUAGES)}",
        )


def split_sentences(text: str, language: str) -> list[str]:
    """Return the sentences of a text, with single spaces."""
    import sentencex

    parts, sentences = sentencex.segment(language, text), []
    parts.reverse()
    while parts:  # each goes when its sentence is there: a long text is in memory twice, not three times
        sentence = with_single_spaces(parts.pop())
        if sentence:
            sentences.append(sentence)
    return sentences


def with_single_spaces(text: str, block: int = 1 << 16) -> str:
    """Return a text without white space at its ends and with single spaces in it.

    It is read a block of characters at a time: the words of a text without sentence ends take ten times its memory.
    """
    if len(text) <= block:
        return " ".join(text.split())
    parts: list[str] = []
    apart = False  # whether white space stands between the last word so far and what follows
    for start in range(0, len(text), block):
        part = text[start : start + block]
        words = " ".join(part.split())
        if words:
            parts.append(f" {words}" if parts and (apart or part[0].isspace()) else words)
        apart = part[-1].isspace() or (apart and not words)
    return "".join(parts)


def sentences_to_take(count: int, place: int) -> int:
    """Return how many of a passage's `count` sentences are sampled, given its place in the article (from 0).

    The rule is that of Chen et al. 2022 [code].
    """
    return max(1, round(count / (DECAY * (place + 1)))) if count else 0


def sample(path: str, article_key: str | None, language: str, seed: int, skip: int = 0) -> Iterator[Sampled]:
    """Yield the sampled sentences of each document in a corpus, in order. The first `skip` documents are not split.

    Without an article key, all sentences are taken. With one, neighbouring documents of the same article are its
    passages, and `sentences_to_take` of each are drawn without replacement, depending on (seed, document id). A
    document without an article is an article by itself. Memory does not grow with the corpus.
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

    Of all `left` remaining sentences, exactly `wanted` are kept, each with the same probability.
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
    """Return the words of a text in random order.

    Each Chinese character or Japanese letter is a word, and a text without spaces stays without them.
    """
    words = WORD.findall(text)
    return (" " if len(text.split()) > 1 else "").join(words[at] for at in random.permutation(len(words)))


def write_shuffled(work: Work, queries: str, seed: int) -> Counter[str]:
    """Write given queries with their words in random order."""
    assert work.stream is not None, "queries are a file"
    texts = read_queries(queries)
    work.stream.writelines(
        json_line({"_id": query_id, "text": shuffle_words(text, generator(seed, "shuffle", query_id))})
        for query_id, text in texts.items()
    )
    return Counter(queries=len(texts))


def write_sentences(work: Work, spec: SamplingSpec) -> Counter[str]:
    """Write the sampled sentences document by document. The state is saved after fixed numbers of documents."""
    assert work.stream is not None, "queries are a file"
    state = SamplingState.of(work) or SamplingState(counts={}, total=None)
    counts, total = Counter(state.counts), state.total
    if spec.count and total is None:
        total = count_sentences(spec)
    if spec.count and total is not None:  # also when an earlier process counted them
        reporting.notice(
            total < spec.count,
            f"the corpus has only {counted(total, 'query', 'queries')}, fewer than {param('count')} {spec.count:,}",
        )
    documents = sample(spec.corpus, spec.article_key, spec.language, spec.seed, skip=counts["documents"])
    with reporting.progress("sampling", None, "documents", counts["documents"]) as progress:
        for sampled in thinned(documents, spec.count, total, spec.seed, counts):
            for number, text in sampled.sentences:
                query_id = f"{sampled.document}-{number}"
                text = shuffle_words(text, generator(spec.seed, "shuffle", query_id)) if spec.shuffle else text
                work.stream.write(json_line({"_id": query_id, "text": text, "document": sampled.document}))
            counts.update(documents=1, sentences=sampled.split, queries=len(sampled.sentences), none=not sampled.split)
            progress.advance(1)
            if counts["documents"] % DOCUMENTS_A_SAVE == 0:
                SamplingState(counts=dict(counts), total=total).save(work)
    return counts


def count_sentences(spec: SamplingSpec) -> int:
    """Return the number of queries in the corpus before they are reduced to a given number."""
    with reporting.progress("counting", None, "documents") as progress:
        total = 0
        for sampled in sample(spec.corpus, spec.article_key, spec.language, spec.seed):
            total += len(sampled.sentences)
            progress.advance(1)
    return total


def thinned(
    documents: Iterator[Sampled], count: int | None, total: int | None, seed: int, counts: Counter[str]
) -> Iterator[Sampled]:
    """Yield the sentences of documents, reduced to exactly `count` if it is set.

    `counts` has the numbers written so far.
    """
    for sampled in documents:
        if count and total is not None:
            offered = len(sampled.sentences)
            sampled = thin(sampled, seed, count - counts["queries"], total - counts["offered"])
            counts["offered"] += offered
        yield sampled
