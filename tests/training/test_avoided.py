"""What a training does not take for negatives: the queries' own documents, and copies of their positives."""

import json

import numpy as np
import pytest
from conftest import write_jsonl

from drtools.cli.flags.mining import MiningFlags
from drtools.formats.corpus_store import open_store
from drtools.randomness import generator
from drtools.training.avoided_rows import avoid_copies
from drtools.training.examples import usable_examples
from drtools.training.sampling import EpochSampler, ExampleSource, draw


@pytest.fixture
def twins(toy):
    """The toy with q3 among the documents, and copies of d0, the positive of q0, and of d4, a positive of q4 and q5."""
    documents = [json.loads(line) for line in open(toy.corpus)]
    queries = {record["_id"]: record["text"] for record in map(json.loads, open(toy.queries))}
    copies = [
        {"_id": "copy0", "title": "", "text": f"{documents[0]['title']}\n {documents[0]['text']} "},
        {"_id": "copy4", "title": documents[4]["title"], "text": documents[4]["text"]},
        {"_id": "q3", "title": "", "text": queries["q3"]},
    ]
    examples = [json.loads(line) for line in open(toy.examples)]
    examples[5] |= {"positives": ["d5", "d4"], "negatives": ["d6"]}
    toy.corpus = write_jsonl(toy.folder / "twins.jsonl", [*documents, *copies])
    toy.examples = write_jsonl(toy.folder / "twin-examples.jsonl", examples)
    return toy


def source_of(toy):
    store = open_store(toy.corpus)
    return ExampleSource(usable_examples(toy.examples, toy.queries, store), store)


def avoided_ids(source):
    lists = source.examples.avoided
    ids = [source.store.ids_at(rows.tolist()) for rows in lists]
    return {query: found for query, found in zip(source.examples.query_ids, ids, strict=True) if found}


def test_own_documents_and_copies_are_avoided_and_counted(twins, capsys):
    source = source_of(twins)
    avoid_copies([source])
    assert avoided_ids(source) == {"q0": ["copy0"], "q3": ["q3"], "q4": ["copy4"], "q5": ["copy4"]}
    said = capsys.readouterr().err
    assert "1 queries have a document of their own id in the corpus, and 2 documents are copies of a positive" in said


def test_nothing_is_said_or_changed_where_there_is_nothing(toy, capsys):
    source = source_of(toy)
    avoid_copies([source])
    assert source.examples.avoided is None and "copies" not in capsys.readouterr().err


def test_random_draws_leave_out_what_is_avoided_and_are_else_as_they_were(twins):
    before, after = source_of(twins), source_of(twins)
    avoid_copies([after])
    met = 0
    for step in range(40):
        for one, other in zip(EpochSampler([before], 20, 7)(step), EpochSampler([after], 20, 7)(step), strict=True):
            plain = draw(one, 30, generator(*one.seed), among_all=True).negatives
            drawn = draw(other, 30, generator(*other.seed), among_all=True).negatives
            avoided = after.examples.avoided[other.at]
            assert len(drawn) == 30 and not np.isin(drawn, avoided).any()
            kept = ~np.isin(plain, avoided)
            np.testing.assert_array_equal(plain[kept], drawn[kept])
            met += int((~kept).sum())
    assert met > 20, "some were drawn before"


def test_a_corpus_of_nothing_else_is_drawn_from_all_the_same(tmp_path):
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"_id": "d0", "text": "a"}, {"_id": "d1", "text": "a"}])
    queries = write_jsonl(tmp_path / "q.jsonl", [{"_id": "q0", "text": "a"}])
    examples = write_jsonl(tmp_path / "e.jsonl", [{"query_id": "q0", "positives": ["d0"], "negatives": []}])
    store = open_store(corpus)
    source = ExampleSource(usable_examples(examples, queries, store), store)
    avoid_copies([source])
    (visit,) = EpochSampler([source], 1, 3)(0)
    assert set(draw(visit, 50, generator(1), among_all=True).negatives.tolist()) == {0}, "the positive, which is masked"


def test_refreshed_negatives_leave_out_what_is_avoided(twins, encoder_folder, tmp_path):
    from drtools.methods.star import HardNegativeRefresh
    from drtools.models.compute import Compute
    from drtools.models.loader import load_encoder
    from drtools.training.distributed import World

    found = {}
    for name in ("kept", "left out"):
        source = source_of(twins)
        if name == "left out":
            avoid_copies([source])
            avoided = source.examples.avoided
        computing = Compute("cpu", "fp32", batch_tokens=4096)
        flags = MiningFlags(ranks="1-63", negatives=63)
        refresh = HardNegativeRefresh([source], load_encoder(encoder_folder), computing, World(), 5, flags)
        refresh.make(tmp_path / f"{name}-5", 5, lambda: None)
        refresh.load(tmp_path / f"{name}-5")
        found[name] = [rows.tolist() for rows in source.examples.negatives]
    for before, after, rows in zip(found["kept"], found["left out"], avoided, strict=True):
        assert after == [row for row in before if row not in rows.tolist()]
    assert found["kept"] != found["left out"]


def command(toy, model, tool, *words):
    short = ["--steps", 2, "--batch-queries", 8, "--precision", "fp32", "--queries", toy.queries]
    return [tool, "--model", model, *short, *words]


@pytest.mark.parametrize("words", [["--negatives", "random"], ["--refresh-every-steps", 1]])
def test_train_star_restores_duplicates_by_a_flag(twins, encoder_folder, drtools, words):
    given = ["--corpus", twins.corpus, "--examples", twins.examples, *words]
    line = "2 documents are copies of a positive"
    outcome = drtools(*command(twins, encoder_folder, "train-star", *given, "-o", twins.folder / "out"))
    assert outcome.status == 0 and line in outcome.err, outcome.err
    kept = drtools(
        *command(twins, encoder_folder, "train-star", *given, "--keep-duplicates", "-o", twins.folder / "kept")
    )
    assert kept.status == 0 and line not in kept.err, kept.err
    refused = drtools(
        *command(twins, encoder_folder, "train-star", *given[:-2], "--keep-duplicates", "-o", twins.folder / "none")
    )
    assert refused.status == 2 and "--keep-duplicates: only for --refresh-every-steps" in refused.err, refused.err


@pytest.mark.slow
def test_adore_leaves_out_what_is_avoided(twins, encoder_folder, drtools):
    from drtools.methods.adore.judged import avoid_copies as avoid
    from drtools.methods.adore.judged import judged_rows
    from drtools.methods.adore.live_index import LiveIndex
    from drtools.methods.adore.loss import Judged, candidates_of
    from drtools.training.distributed import World

    vectors = twins.folder / "vectors"
    encode = ["encode", "--model", encoder_folder, "--corpus", twins.corpus, "--precision", "fp32", "-o", vectors]
    assert drtools(*encode).status == 0
    (twins.folder / "adore.tsv").write_text("q0\td0\t1\nq3\td3\t1\nq4\td4\t1\nq4\tD7\t1\n")
    live = LiveIndex(str(vectors), None, "cpu", World())
    texts, judged, avoided = judged_rows(twins.queries, str(twins.folder / "adore.tsv"), live, 1)
    assert list(texts) == ["q0", "q3", "q4"] and avoided == {"q4": [7]}, "d7 may be the D7 that is judged"
    alone = dict(avoided)
    avoid(alone, judged, live, None)
    assert alone == {"q3": [62], "q4": [7]}
    avoid(avoided, judged, live, str(vectors))
    # copy0 differs from d0 in its white space; texts.npy tells texts apart to the letter
    assert avoided == {"q3": [62], "q4": [7, 61]}

    one = Judged(np.array([4]), np.ones(1, np.float32))
    kept = candidates_of(np.array([61, 9, 4, 7, 2]), one, 5, append_missing=False, avoided=[7, 61])
    assert kept.rows.tolist() == [9, 4, 2] and kept.ranks.tolist() == [1, 2, 3] and kept.gains.tolist() == [0, 1, 0]
    given = ["--qrels", twins.folder / "adore.tsv", "--vectors", vectors]
    outcome = drtools(*command(twins, encoder_folder, "train-adore", *given, "-o", twins.folder / "out"))
    assert outcome.status == 0 and "1 document is an exact copy of a relevant one" in outcome.err, outcome.err
    kept = drtools(
        *command(twins, encoder_folder, "train-adore", *given, "--keep-duplicates", "-o", twins.folder / "kept")
    )
    assert kept.status == 0 and "copies" not in kept.err, kept.err
