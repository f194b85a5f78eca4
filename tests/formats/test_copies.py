"""Copies of positives against a double loop, and what is left out of a query's negatives."""

import json
import random
from collections import Counter

import numpy as np
import pytest
from conftest import write_jsonl

from drtools import reporting
from drtools.cli import console
from drtools.cli.flags.mining import MiningFlags
from drtools.errors import InputError
from drtools.formats.copies import copies_among_vectors, copies_by_digest, copies_by_id, copies_in_corpus
from drtools.formats.corpus_store import open_store
from drtools.formats.row_digests import create_texts, digests_of_texts, open_texts
from drtools.search.avoided import COPIES, OWN, SPELLINGS, Avoided, check_retrieved, leave_out_unknown
from drtools.search.mining import choose_negatives

WORDS = ["a lathe", "turns wood", "Wood", "rivers"]
SPACES = [" ", "  ", "\n", "\t ", "\u00a0"]


def corpus_of_copies(folder, count=300, seed=3):
    generator = random.Random(seed)
    documents = []
    for number in range(count):
        words = generator.choices(WORDS, k=generator.randint(1, 4))
        title = words.pop(0) if generator.random() < 0.5 else ""
        text = generator.choice(["", " ", "\n"]) + generator.choice(SPACES).join(words)
        documents.append({"_id": f"d{number}", "title": title, "text": text})
    return documents, write_jsonl(folder / "copies.jsonl", documents)


def whole(document):
    return f"{document['title']} {document['text']}".lower().split()


def test_copies_are_those_of_a_double_loop(tmp_path):
    documents, path = corpus_of_copies(tmp_path)
    rows = random.Random(5).sample(range(len(documents)), 80)
    naive = {}
    for row in rows:
        same = [
            other
            for other, document in enumerate(documents)
            if other != row and whole(document) == whole(documents[row])
        ]
        if same:
            naive[row] = same
    assert 30 < len(naive) < 80, "some have copies, some have none"
    store = open_store(path)
    assert copies_in_corpus(store, rows) == naive
    by_id = copies_by_id(store, [*(f"d{row}" for row in rows), "unknown"])
    assert by_id == {f"d{row}": [f"d{other}" for other in others] for row, others in naive.items()}
    assert copies_in_corpus(store, []) == {} and copies_by_id(store, ["unknown"]) == {}


def test_copies_in_other_forms_of_characters(tmp_path):
    text = "Caf\u00e9 in der Stra\u00dfe"
    copies = [
        "Cafe\u0301 in der Stra\u00dfe",
        text.upper(),
        f"{text}.",
        f"{text}\u200b",
        "Ｃafé in der Strasse",
        f"{text}\u00a0!",
    ]
    others = ["Cafe in der Strasse", f"{text} 2", "Caf\u00e9 in der", f"{text}+"]
    texts = [text, *copies, *others]
    path = write_jsonl(tmp_path / "c.jsonl", [{"_id": f"d{n}", "text": each} for n, each in enumerate(texts)])
    found = copies_in_corpus(open_store(path), [0, len(copies) + 1])
    assert found == {0: list(range(1, len(copies) + 1))}


def test_copies_among_vectors_go_by_digests_of_texts(tmp_path):
    texts = ["one", "two", "one", "three", "one", "two "]
    (tmp_path / "ids.txt").write_text("".join(f"d{n}\n" for n in range(6)))
    assert copies_by_digest(tmp_path, ["d0"]) is None and copies_among_vectors(tmp_path, [0]) is None
    create_texts(tmp_path, len(texts))
    open_texts(tmp_path, "r+")["digest"][:] = digests_of_texts(texts)
    assert copies_among_vectors(tmp_path, [0, 1, 3]) == {0: [2, 4]}, "to the letter: `two ` is another text"
    assert copies_by_digest(tmp_path, ["d4", "d3", "d9"]) == {"d4": ["d0", "d2"]}


def test_what_is_left_out_and_why():
    avoided = Avoided({"p1": ["c1", "p2"]}, {"P3"})
    hits = dict.fromkeys(["q", "c1", "p2", "p3", "x"])
    assert avoided.of("q", ["p1", "p2", "P3"], hits) == {"q": OWN, "c1": COPIES, "p3": SPELLINGS}
    assert avoided.of("p2", ["p2"], hits) == {}, "a query's own document may be its positive"
    kept = Avoided({}, {"P3"}, own=False)
    assert kept.of("q", ["p1", "P3"], hits) == {"p3": SPELLINGS}, (
        "--keep-duplicates does not make a positive a negative"
    )
    assert Avoided({}, lists_alone=True).of("q", ["P1", "x"], {"p1": 1.0, "x": 1.0}) == {"q": OWN, "p1": SPELLINGS}


def test_left_out_hits_keep_their_raw_ranks_and_are_counted():
    hits = {name: 10.0 - place for place, name in enumerate(["q", "p", "c", "n1", "n2", "n3"])}
    removed = Counter()
    chosen = choose_negatives("q", hits, {"p"}, None, MiningFlags(ranks="1-5"), removed, {"q": OWN, "c": COPIES})
    assert list(chosen) == ["n1", "n2"] and removed == {"positives": 1, OWN: 1, COPIES: 1}


def test_queries_whose_positives_are_unknown_are_left_out():
    console.configure("test")
    positives = {"q1": ["0d1"], "q2": ["d2", "0d3"], "q3": ["d4"]}
    assert leave_out_unknown(positives, {"d1", "d2", "d3", "d4"}, "bm25", "qrels") == {"0d1", "0d3"}
    assert positives == {"q2": ["d2", "0d3"], "q3": ["d4"]}
    (said,) = reporting.notices()
    assert said.startswith("2 of the 4 relevant documents are not in bm25; 1 query has no other and is left out")
    assert "'0d1'; bm25 has 'd1'" in said
    with pytest.raises(InputError, match="none of its 1 relevant documents is in bm25"):
        leave_out_unknown({"q1": ["0d1"]}, {"d1"}, "bm25", "qrels")


class Run:
    whose = "a.run"

    def __init__(self, run):
        self.run = run
        self.documents = {document for hits in run.values() for document in hits}


def test_a_run_without_any_positive_is_refused_unless_another_query_found_one():
    console.configure("test")
    with pytest.raises(InputError, match=r"holds none of the 1 relevant documents .*'D1'; a.run has 'd1'"):
        check_retrieved(Run({"q1": {"d1": 1.0}}), {"q1": ["D1"]}, "qrels")
    check_retrieved(Run({"q1": {"d2": 1.0}, "q2": {"d1": 1.0}}), {"q1": ["d1"]}, "qrels")
    assert "no query has a relevant document among its hits" in reporting.notices()[0]
    console.configure("test")
    check_retrieved(Run({"q1": {"d1": 1.0}, "q2": {}}), {"q1": ["d1"], "q2": ["d9"]}, "qrels")
    assert not reporting.notices()


@pytest.fixture
def renamed(tmp_path):
    """A run without a manifest of 10 queries; the judgements call the positives of 7 of them zz01 and so on."""
    write_jsonl(tmp_path / "queries.jsonl", [{"_id": f"q{n}", "text": f"text {n}"} for n in range(1, 11)])
    lines = []
    for n in range(1, 11):
        hits = [n, *(other for other in range(1, 21) if other != n)][:8]
        lines += [f"q{n} Q0 d{hit:03} {rank} {1 / rank} x\n" for rank, hit in enumerate(hits, start=1)]
    (tmp_path / "foreign.run").write_text("".join(lines))
    rows = [f"q{n}\t0\tzz{n:02}\t1\n" if n < 8 else f"q{n}\t0\td{n:03}\t1\n" for n in range(1, 11)]
    (tmp_path / "qrels.tsv").write_text("".join(rows))
    documents = [{"_id": f"zz{n:02}" if n < 8 else f"d{n:03}", "text": f"words {n}"} for n in range(1, 21)]
    write_jsonl(tmp_path / "renamed.jsonl", documents)
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": f"d{n:03}", "text": f"words {n}"} for n in range(1, 21)])
    return tmp_path


def examples_of(drtools, folder, *words):
    out = folder / f"{len(list(folder.iterdir()))}.jsonl"
    base = ("--queries", folder / "queries.jsonl", "--run", folder / "foreign.run", "--negatives", 3, "-o", out)
    outcome = drtools("mine-negatives", *base, *words)
    made = {line["query_id"]: line for line in map(json.loads, out.read_text().splitlines())} if out.exists() else {}
    return outcome, made


@pytest.mark.parametrize("keep", [["--keep-duplicates"], []])
def test_positives_that_no_list_of_a_run_holds_are_counted_and_never_mined(renamed, drtools, keep):
    qrels = ("--qrels", renamed / "qrels.tsv")
    refused, made = examples_of(drtools, renamed, *qrels, *keep, "--strict")
    assert refused.status == 2 and not made
    said = "7 of the 10 relevant documents of"
    assert said in refused.err and "'zz01'" in refused.err and "has 'd" in refused.err, refused.err
    outcome, made = examples_of(drtools, renamed, *qrels, *keep)
    assert outcome.status == 0 and said in outcome.err and "7 queries have no other and are left out" in outcome.err
    assert sorted(made) == ["q10", "q8", "q9"]
    # a document is a negative of no query whose positive it is by its number
    assert all(f"d{int(query[1:]):03}" not in line["negatives"] for query, line in made.items())
    # where two names of a number may be the same document, neither is mined
    both = renamed / "both.tsv"
    both.write_text("q1\t0\tzz01\t1\nq1\t0\td002\t1\nq8\t0\td008\t1\n")
    outcome, made = examples_of(drtools, renamed, "--qrels", both, *keep)
    assert outcome.status == 0 and "1 of the 3 relevant documents of" in outcome.err and "no other" in outcome.err
    assert made["q1"]["positives"] == ["zz01", "d002"] and not {"d001", "d002"} & {*made["q1"]["negatives"]}


@pytest.mark.parametrize("keep", [["--keep-duplicates"], []])
def test_the_corpus_tells_what_was_not_retrieved_from_what_has_another_id(renamed, drtools, keep):
    alone = renamed / "alone.tsv"
    alone.write_text("q1\t0\td020\t1\nq2\t0\td002\t1\n")
    outcome, made = examples_of(
        drtools, renamed, "--qrels", alone, *keep, "--corpus", renamed / "corpus.jsonl", "--strict"
    )
    assert outcome.status == 0, outcome.err
    assert made["q1"]["positives"] == ["d020"] and made["q1"]["negatives"] == ["d001", "d002", "d003"]
    # the corpus has the judgements' ids and the run has others: those of the run are no negatives
    words = ["--qrels", renamed / "qrels.tsv", *keep, "--corpus", renamed / "renamed.jsonl"]
    outcome, made = examples_of(drtools, renamed, *words)
    assert outcome.status == 0 and "7 of its 10 documents are not in" in outcome.err, outcome.err
    assert len(made) == 10
    known = {f"d{n:03}" for n in range(8, 21)}
    assert all({*line["negatives"]} <= known for line in made.values())


@pytest.fixture
def twins(tmp_path):
    """Three queries over a corpus that holds q1 itself and copies of its positive."""
    documents = [
        {"_id": "q1", "title": "", "text": "what do otters eat in rivers"},
        {"_id": "d1", "title": "Otters", "text": "eat fish in rivers."},
        {"_id": "d1copy", "title": "", "text": " Otters  eat\nfish in rivers. "},
        {"_id": "d2", "title": "Otters", "text": "eat fish in lakes."},
        {"_id": "d3", "title": "Planes", "text": "cut wood in rivers."},
        {"_id": "d4", "title": "Otters", "text": "sleep in rivers."},
    ]
    write_jsonl(tmp_path / "corpus.jsonl", documents)
    write_jsonl(tmp_path / "queries.jsonl", [{"_id": "q1", "text": "what do otters eat in rivers"}])
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    return tmp_path


def mined(drtools, folder, *words):
    out = folder / f"{len(list(folder.iterdir()))}.jsonl"
    outcome = drtools(
        "mine-negatives",
        *("--queries", folder / "queries.jsonl", "--qrels", folder / "qrels.tsv", "--negatives", 10, "-o", out, *words),
    )
    assert outcome.status == 0, outcome.err
    return set(json.loads(out.read_text())["negatives"]), outcome.err


def sources(drtools, folder, encoder_folder):
    corpus = folder / "corpus.jsonl"
    fp32 = ("--precision", "fp32")
    for words in (
        ["index", "--corpus", corpus, "-o", folder / "bm25"],
        ["encode", "--model", encoder_folder, "--corpus", corpus, *fp32, "-o", folder / "vectors"],
        ["index", "--vectors", folder / "vectors", "-o", folder / "faiss"],
        ["search", "--index", folder / "bm25", "--queries", folder / "queries.jsonl", "-o", folder / "bm25.run"],
    ):
        assert drtools(*words).status == 0
    return {
        "lucene": ["--index", folder / "bm25"],
        "vectors": ["--vectors", folder / "vectors", *fp32],
        "faiss": ["--index", folder / "faiss", *fp32],
        "run": ["--run", folder / "bm25.run"],
        "random": ["--random", "--corpus", corpus],
    }


@pytest.mark.slow
def test_no_miner_takes_the_querys_own_document_or_a_copy_of_a_positive(twins, encoder_folder, drtools):
    for name, source in sources(drtools, twins, encoder_folder).items():
        every = {"d2", "d4", "d3"}
        found, said = mined(drtools, twins, *source)
        assert found == every, name
        assert "the query's own document (1), copies of a positive (1)" in said, (name, said)
        kept, said = mined(drtools, twins, *source, "--keep-duplicates")
        assert kept == every | {"q1", "d1copy"} and "copies" not in said, (name, said)


def test_texts_that_are_not_at_hand_are_noted_and_can_be_named(twins, encoder_folder, drtools):
    named = sources(drtools, twins, encoder_folder)
    corpus = (twins / "corpus.jsonl").rename(twins / "moved.jsonl")
    for name in ("lucene", "run"):
        found, said = mined(drtools, twins, *named[name])
        assert found == {"d1copy", "d2", "d3", "d4"} and "are not available" in said and "--corpus" in said, (
            name,
            said,
        )
        found, said = mined(drtools, twins, *named[name], "--corpus", corpus)
        assert found == {"d2", "d3", "d4"} and "note: the texts" not in said, (name, said)
    for name in ("vectors", "faiss"):  # texts.npy knows texts to the letter; this copy differs in its white space
        found, said = mined(drtools, twins, *named[name])
        assert found == {"d1copy", "d2", "d3", "d4"} and "found by digests" in said, (name, said)
        found, said = mined(drtools, twins, *named[name], "--corpus", corpus)
        assert found == {"d2", "d3", "d4"} and "digests" not in said, (name, said)


def test_another_corpus_of_the_same_name_is_not_looked_in(twins, encoder_folder, drtools):
    named = sources(drtools, twins, encoder_folder)
    write_jsonl(twins / "corpus.jsonl", [{"_id": "d1", "text": "x"}, {"_id": "d4", "text": "x"}])
    found, said = mined(drtools, twins, *named["lucene"])
    assert found == {"d1copy", "d2", "d3", "d4"} and "are not available" in said, said


@pytest.mark.parametrize("source", ["lucene", "vectors", "run", "random"])
def test_a_positive_that_the_source_does_not_know_never_becomes_a_negative(twins, encoder_folder, drtools, source):
    named = sources(drtools, twins, encoder_folder)
    command = ["mine-negatives", "--queries", twins / "queries.jsonl", "--qrels", twins / "qrels.tsv", *named[source]]
    for unknown in ("D1", "0d1", "d01", "d1.0", "1"):
        (twins / "qrels.tsv").write_text(f"q1\t{unknown}\t1\n")
        refused = drtools(*command, "-o", twins / "x.jsonl")
        assert refused.status == 2 and not (twins / "x.jsonl").exists(), (unknown, refused.err)
        assert f"for instance {unknown!r}" in refused.err and "1'" in refused.err.split("; ")[-1], refused.err
        (twins / "qrels.tsv").write_text(f"q1\t{unknown}\t1\nq1\td2\t1\n")
        found, said = mined(drtools, twins, *named[source], "--keep-duplicates")
        assert not {"d1", "d2"} & found and found, (unknown, found)
        assert "unknown positives in another spelling" in said, said


def test_flags_that_look_nothing_up_are_refused(twins, drtools):
    command = ["mine-negatives", "--queries", twins / "queries.jsonl", "--index", twins, "-o", twins / "x.jsonl"]
    corpus = ["--corpus", twins / "corpus.jsonl"]
    for words in (["--qrels", twins / "qrels.tsv", "--keep-duplicates"], ["--by-rank", "1:2-3"]):
        refused = drtools(*command, *corpus, *words)
        assert refused.status == 2 and "--corpus: not used with" in refused.err, refused.err
    refused = drtools(*command, "--by-rank", "1:2-3", "--keep-duplicates")
    assert refused.status == 2 and "--keep-duplicates: cannot be used with --by-rank" in refused.err, refused.err


def test_random_draws_have_no_ranks(toy, drtools, tmp_path):
    words = ["--random", "--corpus", toy.corpus, "--queries", toy.queries, "--qrels", toy.qrels, "-o", tmp_path / "e"]
    refused = drtools("mine-negatives", *words, "--ranks", "1-9")
    assert refused.status == 2 and "--ranks 1-9: random documents have no rank; leave it out" in refused.err
    outcome = drtools("mine-negatives", *words, "--negatives", 100)
    assert outcome.status == 0 and "the corpus has too few documents; or lower --negatives" in outcome.err, outcome.err
    assert "left out of the random documents: " in outcome.err and "--ranks" not in outcome.err


def test_more_random_negatives_than_the_usual_ranks(drtools, tmp_path):
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"_id": f"d{n}", "text": f"text {n}"} for n in range(400)])
    queries = write_jsonl(tmp_path / "q.jsonl", [{"_id": "q1", "text": "x"}])
    (tmp_path / "qrels.tsv").write_text("q1\td1\t1\n")
    words = [
        "--random",
        "--corpus",
        corpus,
        "--queries",
        queries,
        "--qrels",
        tmp_path / "qrels.tsv",
        "--negatives",
        300,
    ]
    assert drtools("mine-negatives", *words, "-o", tmp_path / "e.jsonl").status == 0
    negatives = json.loads((tmp_path / "e.jsonl").read_text())["negatives"]
    assert len({*negatives} - {"d1"}) == 300


def test_random_draws_are_as_before_where_nothing_is_left_out(toy, drtools, tmp_path):
    # the draws depend on how many are wanted, which only documents that are there may change
    from drtools.randomness import generator

    out = tmp_path / "e.jsonl"
    words = ["--random", "--corpus", toy.corpus, "--queries", toy.queries, "--qrels", toy.qrels, "--negatives", 5]
    assert drtools("mine-negatives", *words, "-o", out).status == 0
    ids = [document["_id"] for document in toy.documents]
    for line in out.read_text().splitlines():
        example = json.loads(line)
        drawn = generator(42, "random", example["query_id"]).choice(60, 6, replace=False)
        assert example["negatives"] == [ids[row] for row in drawn if ids[row] not in example["positives"]][:5]
    assert np.unique(ids).size == 60
