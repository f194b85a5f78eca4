"""Lucene against a double loop over BM25's formula, and against Anserini's own searcher."""

import math
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from drtools.errors import InputError, WorldError
from drtools.java import java_class
from drtools.search.lucene import LuceneIndex, Rm3, analyze, build_index, document_count, separate_ties

WORDS = "cat dog bird fish lion wolf bear frog duck goat crab hawk toad swan moth"


def animals(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Make documents of 1 to 39 words: up to there Lucene keeps lengths exactly."""
    draw = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(len(WORDS.split()))]
    return [(f"d{i}", " ".join(draw.choices(WORDS.split(), weights, k=draw.randint(1, 39)))) for i in range(count)]


def questions(count: int) -> list[tuple[str, str]]:
    draw = random.Random(1)
    return [(f"q{i}", " ".join(draw.choices(WORDS.split(), k=draw.randint(1, 6)))) for i in range(count)]


def bm25(documents: list[tuple[str, str]], query: str, k1: float, b: float) -> dict[str, float]:
    """Score by Lucene's formula, which lacks the usual factor k1 + 1."""
    texts = {identifier: Counter(text.split()) for identifier, text in documents}
    mean_length = sum(counts.total() for counts in texts.values()) / len(texts)
    scores = {}
    for identifier, counts in texts.items():
        for word in query.split():
            if counts[word]:
                holders = sum(word in other for other in texts.values())
                rarity = math.log(1 + (len(texts) - holders + 0.5) / (holders + 0.5))
                saturation = counts[word] / (counts[word] + k1 * (1 - b + b * counts.total() / mean_length))
                scores[identifier] = scores.get(identifier, 0.0) + rarity * saturation
    return scores


def search(folder: Path, query: str, depth: int = 10, **settings) -> dict[str, float]:
    return dict(LuceneIndex(folder, **settings).search_batches([("q", query)], depth))["q"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    build_index(folder, animals(300))
    return folder


@pytest.fixture(scope="module")
def with_vectors(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    build_index(folder, animals(300), keep_document_vectors=True)
    return folder


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75)])
def test_scores_are_those_of_the_formula(plain, k1, b):
    assert all(analyze(word) == [word] for word in WORDS.split())
    found = dict(LuceneIndex(plain, k1, b).search_batches(questions(40), 1000))
    assert list(found) == [query_id for query_id, _ in questions(40)] and all(found.values())
    for query_id, hits in found.items():
        truth = bm25(animals(300), dict(questions(40))[query_id], k1, b)
        assert hits == pytest.approx(truth, rel=1e-6)
        assert list(hits.values()) == sorted(hits.values(), reverse=True)


def test_scores_are_float32(plain):
    from array import array

    scores = list(search(plain, "cat goat", 1000).values())
    assert array("f", scores).tolist() == scores


@pytest.mark.parametrize("rm3", [None, Rm3(), Rm3(terms=5, documents=3, original_weight=0.2)])
def test_order_is_that_of_anserini(with_vectors, rm3):
    peer = java_class("io.anserini.search.SimpleSearcher")(str(with_vectors))
    peer.set_bm25(0.9, 0.4)
    if rm3:
        peer.set_rm3(None, rm3.terms, rm3.documents, rm3.original_weight, False, True)
    found = dict(LuceneIndex(with_vectors, rm3=rm3).search_batches(questions(20), 100))
    assert list(found) == [query_id for query_id, _ in questions(20)] and all(found.values())
    for query_id, hits in found.items():
        truth = [(hit.docid, hit.score) for hit in peer.search(dict(questions(20))[query_id], 100)]
        assert list(hits) == [document for document, _ in truth]
        assert list(hits.values()) == pytest.approx([score for _, score in truth], abs=2e-4)  # rounded there


def test_neither_threads_nor_the_order_of_documents_change_a_run(plain, tmp_path):
    build_index(tmp_path / "other", reversed(animals(300)), threads=4)
    truth = list(LuceneIndex(plain).search_batches(questions(50), 25, threads=1, batch=50))
    for folder, threads, batch in [(plain, 3, 7), (tmp_path / "other", 1, 1), (tmp_path / "other", 4, 9)]:
        run = list(LuceneIndex(folder).search_batches(questions(50), 25, threads, batch))
        assert [(query, list(hits.items())) for query, hits in run] == [
            (query, list(hits.items())) for query, hits in truth
        ]


def test_ties_are_in_the_order_of_the_ids_bytes(tmp_path):
    identifiers = ["b", "a10", "a9", "B", "é", "ä", "中", "😀", "￼"]
    build_index(tmp_path, [(identifier, "cat dog") for identifier in identifiers])
    ascending = sorted(identifiers, key=str.encode)
    assert list(search(tmp_path, "dog", 100)) == ascending
    assert list(search(tmp_path, "dog", 4)) == ascending[:4]


def test_relative_folders_are_of_the_working_directory_of_now(plain, tmp_path, monkeypatch):
    assert document_count(plain)  # Java has been started, elsewhere
    monkeypatch.chdir(tmp_path)
    build_index(Path("index"), [("1", "cat")])
    assert (tmp_path / "index").is_dir() and document_count(Path("index")) == 1


def test_ids_come_back_as_they_were(tmp_path):
    identifiers = [
        "007",
        "a b",
        'q"uote',
        "back\\slash",
        "tab\t",
        "\x00",
        "عربى",
        "中文",
        "👩‍🔬",
        "é",
        "é",
        "x" * 32_766,
    ]
    assert build_index(
        tmp_path, [(identifier, f"cat number{i}") for i, identifier in enumerate(identifiers)]
    ).documents == len(identifiers)
    assert [next(iter(search(tmp_path, f"number{i}"))) for i in range(len(identifiers))] == identifiers


def test_an_id_longer_than_lucene_takes_is_named(tmp_path):
    with pytest.raises(InputError, match=r"^document id xxxx.*32,766 bytes"):
        build_index(tmp_path, [("x" * 32_767, "cat")])


def test_documents_without_text_are_counted(tmp_path):
    counts = build_index(tmp_path, [("a", "cat"), ("b", ""), ("c", " \n\t"), ("d", "　"), ("e", "the")])
    assert counts == (2, 3)
    assert document_count(tmp_path) == 2


@pytest.mark.parametrize("query", ["", " \n", "the of and", "?!", "unheard"])
@pytest.mark.parametrize("rm3", [None, Rm3()])
def test_a_query_without_known_words_has_no_hits(with_vectors, query, rm3):
    assert search(with_vectors, query, rm3=rm3) == {}


def test_query_syntax_is_plain_words(plain):
    assert search(plain, 'cat^9 +(bird* OR "wolf frog"~2) -[dog TO id:d1') == search(
        plain, "cat 9 bird or wolf frog 2 dog to id d1"
    )


def test_a_query_may_have_thousands_of_words(with_vectors):
    query = " ".join(f"other{i}" for i in range(3000)) + " cat"
    assert search(with_vectors, query) == search(with_vectors, "cat")
    assert len(search(with_vectors, query, rm3=Rm3())) == 10


def test_queries_come_back_in_order_and_are_not_searched_far_ahead(plain):
    class Watched(list):
        furthest = 0

        def __getitem__(self, part):
            self.furthest = max(self.furthest, part.stop)
            return super().__getitem__(part)

    queries = Watched((f"q{i % 7}", "cat") for i in range(200))
    answers = LuceneIndex(plain).search_batches(queries, 5, threads=2, batch=4)
    next(answers)
    assert queries.furthest == 20
    assert [query_id for query_id, _ in answers] == [f"q{i % 7}" for i in range(1, 200)]


@pytest.mark.parametrize("rm3", [None, Rm3()])
def test_documents_are_scored_at_whatever_rank(with_vectors, rm3):
    index = LuceneIndex(with_vectors, rm3=rm3)
    ((_, hits),) = index.search_batches([("q", "cat goat")], 1000)
    asked = ["d7", "d250", "absent", *[f"d{i}" for i in range(30, 60)]]
    found = index.score_documents("cat goat", asked)
    assert list(found.items()) == [(document, score) for document, score in hits.items() if document in asked]
    assert index.score_documents("", asked) == index.score_documents("unheard", asked) == {}


def test_rm3_finds_what_the_query_does_not_name(tmp_path):
    others = [(f"d{i}", f"other{i}") for i in range(40)]  # RM3 passes over terms in more than a tenth of the documents
    build_index(
        tmp_path,
        [("a", "cat whisker"), ("b", "cat whisker"), ("c", "whisker lion"), *others],
        keep_document_vectors=True,
    )
    assert list(search(tmp_path, "cat")) == ["a", "b"]
    assert list(search(tmp_path, "cat", rm3=Rm3())) == ["a", "b", "c"]
    assert list(search(tmp_path, "cat", rm3=Rm3(terms=0))) == ["a", "b"]


def test_rm3_expands_chinese_queries(tmp_path):
    others = [(f"d{i}", "骨折") for i in range(40)]
    build_index(tmp_path, [("a", "头痛发热"), ("b", "发热咳嗽"), *others], language="zh", keep_document_vectors=True)
    assert list(search(tmp_path, "头痛", language="zh")) == ["a"]
    assert list(search(tmp_path, "头痛", language="zh", rm3=Rm3())) == ["a", "b"]


def test_rm3_needs_document_vectors(plain):
    with pytest.raises(InputError, match=r"no document vectors.*document_vectors$"):
        LuceneIndex(plain, rm3=Rm3())


def test_analyzers():
    assert analyze("The Running cats, e.g. U.S.A. o'clock's") == ["run", "cat", "e.g", "u.s.a", "o'clock"]
    assert analyze("北京大学", "zh") == ["北京", "京大", "大学"]
    languages = list(java_class("io.anserini.analysis.AnalyzerMap").analyzerMap.keySet())
    assert len(languages) >= 25
    assert all(analyze("Internet 2024", language) for language in languages)


def test_a_language_without_analyzer_is_refused(plain, tmp_path):
    for attempt in (lambda: build_index(tmp_path, [], language="tlh"), lambda: LuceneIndex(plain, language="tlh")):
        with pytest.raises(
            InputError, match=r"language 'tlh' has no Lucene analyzer; those that have: ar, .* en, .* zh$"
        ):
            attempt()


def test_a_folder_that_is_no_index_is_refused(plain, tmp_path):
    (tmp_path / "segments_of_my_life").mkdir()
    empty, damaged = tmp_path / "segments_of_my_life", tmp_path / "damaged"
    damaged.mkdir()
    for path in plain.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes()[:-9])
    for folder, found in [
        (tmp_path / "absent", "is not a"),
        (empty, "is not a"),
        (damaged, "damaged or has another version"),
    ]:
        for attempt in (LuceneIndex, document_count):
            with pytest.raises(InputError, match=f"^[^\n]*{folder.name}[^\n]*{found}[^\n]*drtools index corpus[^\n]*$"):
                attempt(folder)


def test_an_index_without_documents_is_refused(tmp_path):
    assert build_index(tmp_path, [("a", "")]) == (0, 1)
    with pytest.raises(InputError, match="is empty or was built by another program"):
        LuceneIndex(tmp_path)


def test_what_stops_the_documents_leaves_no_index(tmp_path):
    def broken():
        yield "a", "cat"
        raise InputError("corpus.jsonl:2: broken")

    with pytest.raises(InputError, match=r"^corpus.jsonl:2: broken$"):
        build_index(tmp_path, broken())
    with pytest.raises(InputError, match="is not a Lucene index"):
        document_count(tmp_path)


def test_an_index_is_replaced(tmp_path):
    build_index(tmp_path, [("a", "cat"), ("b", "cat")])
    build_index(tmp_path, [("c", "cat")])
    assert list(search(tmp_path, "cat")) == ["c"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorldError, match=r"^[^\n]*file/index: the Lucene index cannot be written \([^\n]*\)$"):
        build_index(tmp_path / "file" / "index", [("a", "cat")])


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from drtools.errors import WorldError
from drtools.search import lucene
lucene.WRITE_BUFFER_MEGABYTES = float(sys.argv[2])
lucene.analyze("start Java")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
words = [f"word{i}" for i in range(11_000)]
try:
    lucene.build_index(Path(sys.argv[1]), ((f"d{i}", " ".join(words[i:i + 50])) for i in range(10_000)))
except WorldError as error:
    print(error)
"""


@pytest.mark.parametrize("buffer_megabytes", [pytest.param("256", marks=pytest.mark.slow), "1"])
def test_a_full_disk_is_one_line(tmp_path, buffer_megabytes):
    process = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path, buffer_megabytes], capture_output=True, text=True
    )
    assert process.stdout.count("\n") == 1
    assert "the Lucene index cannot be written (" in process.stdout and "File too large" in process.stdout
    assert process.stderr == ""


def test_tied_scores_are_separated_by_the_least_step():
    import numpy as np

    draw = random.Random(2)
    under_three = np.nextafter(np.float32(3), np.float32(0))
    scores = sorted((np.float32(draw.choice([3.0, 2.5, 1e-30, 7.25, under_three])) for _ in range(50)), reverse=True)
    truth = []
    for score in scores:
        truth.append(score if not truth or score < truth[-1] else np.nextafter(truth[-1], np.float32(-1)))
    hits = {f"d{i}": float(score) for i, score in enumerate(scores)}
    assert separate_ties(hits) == {f"d{i}": float(score) for i, score in enumerate(truth)}
    assert list(separate_ties(hits)) == list(hits)
    assert separate_ties({"a": 2.5, "b": 1.5}) == {"a": 2.5, "b": 1.5}
    assert separate_ties({}) == {}
