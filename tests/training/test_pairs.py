"""Training batches: what is drawn for whom, what is relevant to whom, and whose share it is."""

import zlib
from collections import Counter

import numpy as np
import pytest

from drtools.errors import InputError
from drtools.formats.corpus_store import open_store
from drtools.formats.examples import read_examples
from drtools.models.loader import load_encoder
from drtools.training.distributed import World
from drtools.training.examples import RaggedArray, Scores, TrainingExamples, usable_examples
from drtools.training.pairs import PairBatches
from drtools.training.sampling import ExampleSource


@pytest.fixture
def source(toy):
    store = open_store(toy.corpus)
    return ExampleSource(usable_examples(toy.examples, toy.queries, store), store)


def batches(source, encoder_folder, **settings):
    sources = source if isinstance(source, list) else [source]
    return PairBatches(
        sources, load_encoder(encoder_folder), **{"batch_queries": 6, "negatives": 2, "seed": 1} | settings
    )


def texts_of(batch, side):
    tokens = batch.tokens[side]
    return [tokens.flat[first:last].tolist() for first, last in zip(tokens.starts, tokens.starts[1:], strict=False)]


@pytest.mark.slow
def test_owners_and_relevance_by_a_double_loop(source, encoder_folder):
    positives, negatives = (
        [rows.tolist() for rows in lists] for lists in (source.examples.positives, source.examples.negatives)
    )
    positives[3].append(5)  # a second positive, which is another query's first
    negatives[3] = [9]
    source.examples.positives, source.examples.negatives = RaggedArray.of(positives), RaggedArray.of(negatives)
    made = batches(source, encoder_folder)
    for step in range(7):
        batch, visits = made(step), made.visits(step)
        encoded = {_document_tokens(source, encoder_folder, row): row for row in range(60)}
        documents = [encoded[tuple(text)] for text in texts_of(batch, "document")]
        assert batch.relevant.shape == (6, len(documents)) and len(batch.owner) == len(documents)
        for column, document in enumerate(documents):
            at = visits[batch.owner[column]].at
            assert document in (positives if column < 6 else negatives)[at]
            for row, visit in enumerate(visits):
                assert batch.relevant[row, column] == (document in positives[visit.at])
        assert Counter(batch.owner.tolist()) == {
            row: 1 + min(2, len(negatives[visit.at])) for row, visit in enumerate(visits)
        }


def _document_tokens(source, encoder_folder, row, known={}):  # noqa: B006 kept on purpose, tokenizing is slow

    if row not in known:
        known[row] = tuple(load_encoder(encoder_folder).tokenize([source.text(row)], "document").flat.tolist())
    return known[row]


def test_an_epoch_visits_each_query_once_and_draws_anew_in_the_next(source, encoder_folder):
    made = batches(source, encoder_folder, batch_queries=5)
    first, second = (
        [visit for step in range(4 * epoch, 4 * epoch + 4) for visit in made.visits(step)] for epoch in (0, 1)
    )
    for visits in (first, second):
        assert sorted(visit.at for visit in visits) == list(range(20))
    assert [visit.at for visit in first] != [visit.at for visit in second]
    assert not {visit.seed for visit in first} & {visit.seed for visit in second}


def test_weights_say_how_often_an_epoch_visits_a_query(source, encoder_folder):
    some = source.examples
    other = ExampleSource(
        TrainingExamples(some.query_ids[:10], some.queries[:10], some.positives, some.negatives),
        source.store,
        weight=2.5,
    )
    made = batches([source, other], encoder_folder, batch_queries=9)
    assert made.epoch_queries == 20 + 25
    for epoch in (0, 1):
        visits = [visit for step in range(5 * epoch, 5 * epoch + 5) for visit in made.visits(step)]
        counts = Counter((visit.source is other, visit.at) for visit in visits)
        assert all(counts[False, at] == 1 for at in range(20))
        assert Counter(counts[True, at] for at in range(10)) == {2: 5, 3: 5}
        assert len({visit.seed for visit in visits}) == 45, "every visit draws for itself"


def test_each_source_has_its_own_title_rule(source, encoder_folder):
    other = ExampleSource(source.examples, source.store, title_separator=" fox ")
    assert other.text(1).replace(" fox ", " ", 1) == source.text(1) != other.text(1)


def test_random_negatives_come_from_the_whole_corpus(source, encoder_folder):
    made = batches(source, encoder_folder, random_negatives=True, batch_queries=20)
    seen = [tuple(text) for step in range(30) for text in texts_of(made(step), "document")[20:]]
    assert len(seen) == 30 * 40
    counts = Counter(seen)
    assert len(counts) == 60 and max(counts.values()) < 20 + 5 * 20**0.5, "each document about 20 times"


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_shares_of_all_processes_are_the_whole_batch(source, encoder_folder, size):
    whole = batches(source, encoder_folder)(3)
    parts = [batches(source, encoder_folder, shares=World(rank, size).shares, rank=rank)(3) for rank in range(size)]
    for side in ("query", "document"):
        assert [text for part in parts for text in texts_of(part, side)] == texts_of(whole, side)
        assert all(part.counts[side] == [len(texts_of(other, side)) for other in parts] for part in parts)
    for part in parts:
        np.testing.assert_array_equal(part.relevant, whole.relevant)
        np.testing.assert_array_equal(part.owner, whole.owner)


def scored(toy, tmp_path, teachers):
    """The toy's examples with a score for every document, each example by one of the teachers in turn."""
    path = tmp_path / "scored.jsonl"
    lines = []
    for number, example in enumerate(read_examples(toy.examples)):
        example.positive_scores = [score_of(example.query_id, document) for document in example.positives]
        example.negative_scores = [score_of(example.query_id, document) for document in example.negatives]
        example.scored_by = teachers[number % len(teachers)]
        lines.append(example.line())
    path.write_bytes(b"".join(lines))
    return path


def score_of(query_id, document):
    return (zlib.crc32(f"{query_id} {document}".encode()) % 1000) / 8  # exact in float32


def test_scores_follow_their_documents(toy, encoder_folder, tmp_path):
    store = open_store(toy.corpus)
    source = ExampleSource(
        usable_examples(scored(toy, tmp_path, ["teacher@1"]), toy.queries, store, Scores.TEACHER), store
    )
    made = batches(source, encoder_folder)
    documents = texts_of(made(3), "document")
    visits = made.visits(3)
    positives = {
        tuple(tokens_of(made, source, row)): store.at(row).id
        for lists in (source.examples.positives, source.examples.negatives)
        for rows in lists
        for row in rows.tolist()
    }
    for text, owner, score in zip(documents, made(3).owner.tolist(), made(3).scores.tolist(), strict=True):
        assert score == score_of(source.examples.query_ids[visits[owner].at], positives[tuple(text)])
    assert source.examples.scored_by == "teacher@1"


def tokens_of(made, source, row):
    return made.model.tokenize([source.text(row)], "document").flat.tolist()


@pytest.mark.parametrize(
    ("teachers", "allowed", "words"),
    [
        ([None], Scores.TEACHER, "run teacher-score on it, or use accept_scores"),
        (["one@1", "two@2"], Scores.ANY, "scores of different teachers cannot be mixed"),
        (["one@1", None], Scores.ANY, "scores of different teachers cannot be mixed"),
    ],
)
def test_scores_that_nobody_should_learn_from_are_refused(toy, tmp_path, teachers, allowed, words):
    with pytest.raises(InputError, match=words):
        usable_examples(scored(toy, tmp_path, teachers), toy.queries, open_store(toy.corpus), allowed)


def test_scores_of_a_retriever_are_accepted_if_said(toy, tmp_path):
    accepted = usable_examples(scored(toy, tmp_path, [None]), toy.queries, open_store(toy.corpus), Scores.ANY)
    assert accepted.scored_by is None and len(accepted.positive_scores.flat) == len(accepted.positives.flat)


def test_what_is_relevant_to_a_query_in_another_file_is_no_negative_of_it(toy, encoder_folder):
    from conftest import write_jsonl

    store = open_store(toy.corpus)
    one, other = (
        ExampleSource(usable_examples(write_jsonl(toy.folder / f"{name}.jsonl", examples), toy.queries, store), store)
        for name, examples in (
            (
                "one",
                [
                    {"query_id": "q1", "positives": ["d1"], "negatives": ["d2"]},
                    {"query_id": "q5", "positives": ["d5"], "negatives": ["d6"]},
                ],
            ),
            (
                "other",
                [
                    {"query_id": "q1", "positives": ["d2"], "negatives": ["d7"]},
                    {"query_id": "q8", "positives": ["d8"], "negatives": ["d9"]},
                ],
            ),
        )
    )
    made = batches([one, other], encoder_folder, batch_queries=4, negatives=1)
    for step in range(3):
        visits, _, documents, _ = made.draw(step)
        relevant = made(step).relevant
        for row, visit in enumerate(visits):
            known = {"q1": {1, 2}, "q5": {5}, "q8": {8}}[visit.source.examples.query_ids[visit.at]]
            assert relevant[row].tolist() == [document in known for _, document in documents]
