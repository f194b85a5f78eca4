"""Terms by Lucene's analyzers and corpus counts, beside a Counter."""

from collections import Counter

import numpy as np

from drtools.formats.corpus_store import open_store
from drtools.formats.text_sources import DocumentTexts
from drtools.methods.spar import corpus_terms
from drtools.models import analyzer
from drtools.models.terms import TermKeys
from drtools.search.lucene import analyze


def test_many_texts_have_the_terms_of_each():
    texts = ["The running foxes, and a fox's den", "", "emoji 😀 café\x00naïve", 'a "quoted" \\ word\n', "x" * 300]
    assert analyzer.Analyzer("en")(texts) == [analyze(text) for text in texts]
    assert analyzer.Analyzer("zh")(["高血压患者"]) == [["高血", "血压", "压患", "患者"]]


def test_counts_are_those_of_a_double_loop(toy, monkeypatch):
    monkeypatch.setattr(corpus_terms, "DOCUMENTS_A_CHUNK", 7)
    monkeypatch.setattr(corpus_terms, "KEYS_A_MERGE", 50)
    known, sampled = TermKeys(), np.arange(60) % 2 == 0
    told = []
    corpus = corpus_terms.count_corpus(
        DocumentTexts(open_store(toy.corpus), " "), analyzer.Analyzer("en"), known, sampled, told.append
    )
    analyzed = [analyze(f"{document['title']} {document['text']}") for document in toy.documents]
    expected = Counter(known[term] for words in analyzed for term in set(words))
    assert (
        dict(zip(corpus.keys.tolist(), corpus.frequencies.tolist(), strict=True)) == expected
        and (np.diff(corpus.keys) > 0).all()
    )
    assert corpus.documents == sum(told) == 60 and corpus.mean_length == sum(map(len, analyzed)) / 60
    assert [length for part in corpus.sample for length in part.lengths] == [len(words) for words in analyzed[::2]]
