"""Ids of two files side by side: what one lacks is counted, and shown beside what the other has."""

import numpy as np
import pytest

from drtools import reporting
from drtools.errors import InputError
from drtools.formats.corpus_store import open_store
from drtools.formats.ids import Ids
from drtools.formats.joins import Join, heads_of, note_nothing_judged, note_nothing_relevant, spellings


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Q1", "q1"),
        ("msmarco", "MSMARCO"),
        ("0012", "12"),
        ("12", "0012"),
        ("12", "00000012"),
        ("7.0", "7"),
        ("7", "7.0"),
        ("30_1", "301"),  # castorini/pyserini#1348
        ("0d1", "d1"),
        ("MED-10", "10"),
        ("10", "MED-10"),
        ("doc10", "d10"),
        ("D007", "d7"),
    ],
)
def test_an_id_is_shown_beside_its_other_spelling(one, other):
    head = other.rstrip("0123456789")
    known = {f"{head}99": None, other: None}
    assert Join(known, "b.tsv", [one]).pair() == f"(for instance {one!r}; b.tsv has {other!r})"


@pytest.mark.parametrize("text_id", ["d1", "0", "x", "doc_12-3", "https://a.org/1", "７"])
def test_an_id_is_no_other_spelling_of_itself_and_none_is_empty(text_id):
    made = spellings(text_id, ["e"])
    assert made and "" not in made and text_id not in made and len(made) == len(set(made))


def test_a_number_within_an_id_is_not_taken_for_its_beginning():
    # page 7 of another document is no spelling of page 7 of this one
    assert heads_of(["doc_77-5", "d1", "x", "d2", "", "MED-10"]) == ["d", "MED-"]
    assert "doc_77-3" not in spellings("doc_12-3", ["d", "doc_77-"])
    assert Join({"doc_77-5": 1, "doc_77-3": 1}, "run", ["doc_12-3"]).alike() is None


def test_counts_and_the_first_ids():
    join = Join({"a", "b", "c"}, "known", ["a", "x", "y"])
    assert (join.asked, join.missing, join.first, join.is_empty) == (3, 2, ["x", "y"], False)
    assert join.look_up(["b", "z"]) == ["z"] and (join.asked, join.missing) == (5, 3)
    join.note(f"{join.missing} are missing")
    assert reporting.notices() == ["3 are missing (for instance 'x'; known has 'c')"]


def test_what_the_other_file_has_alone_is_shown_and_not_what_both_have():
    assert Join({"q1": 1, "q9": 1}, "r.run", ["q1", "q2"]).pair() == "(for instance 'q2'; r.run has 'q9')"
    assert Join({"q1": 1}, "r.run", ["q1", "q2"]).pair() == "(for instance 'q2')"
    assert Join({}, "r.run", ["q1"]).pair() == "(for instance 'q1')"


def test_nothing_in_common_is_refused_where_it_cannot_be_meant():
    with pytest.raises(InputError, match=r"no id fits \(for instance 'Q1'; b has 'q1'\)"):
        Join({"q1": 1}, "b", ["Q1", "Q2"]).check("no id fits", "some")
    Join({"q1": 1}, "b", ["q1"]).check("no id fits", "some")
    Join({"q1": 1}, "b").check("no id fits", "some")  # nothing was asked for
    assert not reporting.notices()


def test_one_id_in_common_is_looked_for_no_longer_than_needed():
    asked = []

    def ids():
        for number in range(10**6):
            asked.append(number)
            yield f"d{number}"

    Join({"d600": 1}, "b").require_one(ids(), "none")
    assert len(asked) == 1000  # two blocks
    with pytest.raises(InputError, match="none"):
        Join({"x": 1}, "b").require_one((f"d{number}" for number in range(1200)), "none")
    Join({"x": 1}, "b").require_one([], "none")


def test_a_corpus_and_the_ids_of_vectors_are_looked_up_as_a_dict_is(toy, tmp_path):
    (tmp_path / "ids.txt").write_text("".join(f"d{n}\n" for n in range(60)))
    for known in (open_store(toy.corpus), Ids(tmp_path / "ids.txt"), dict.fromkeys(f"d{n}" for n in range(60))):
        join = Join(known, "it", ["d3", "D4", "d99", "d59"])
        assert join.missing == 2 and join.first == ["D4", "d99"]
        assert list(known)[:3] == ["d0", "d1", "d2"] and len(list(known)) == 60
        assert "d59" in known and "d60" not in known and 3 not in known
        assert join.pair() == "(for instance 'D4'; it has 'd4')"


def run_and_qrels(seed=0):
    random = np.random.default_rng(seed)
    run = {f"q{n}": {f"d{d}": 1.0 for d in random.choice(100, 20, replace=False)} for n in range(10)}
    return run, {query: {next(iter(hits)): 1} for query, hits in run.items()}


def test_a_run_none_of_whose_documents_is_judged_is_noted():
    run, qrels = run_and_qrels()
    note_nothing_judged("a.run", run, qrels, "qrels")
    assert not reporting.notices()
    zeros = {query: {f"{document[0]}00{document[1:]}": 1 for document in grades} for query, grades in qrels.items()}
    note_nothing_judged("a.run", run, zeros, "qrels")
    (said,) = reporting.notices()
    one = next(iter(qrels["q0"]))
    assert f"qrels judges none of its documents (for instance {next(iter(zeros['q0']))!r}; a.run has {one!r})" in said


def test_a_run_some_of_whose_queries_have_ids_of_another_spelling_is_noted():
    run, qrels = run_and_qrels()
    mixed = {
        query: {document.upper() if int(query[1:]) > 6 else document: 1 for document in grades}
        for query, grades in qrels.items()
    }
    note_nothing_judged("a.run", run, mixed, "qrels")
    (said,) = reporting.notices()
    assert said.startswith("a.run: qrels judges no document that is listed for 3 queries, but") and "'D" in said


def test_a_run_that_finds_little_is_not_odd():
    run, qrels = run_and_qrels()
    worse = {query: grades if query == "q0" else {"d100": 1} for query, grades in qrels.items()}
    note_nothing_judged("a.run", run, worse, "qrels")
    note_nothing_judged("empty.run", {}, worse, "qrels")
    assert not reporting.notices()


def test_shifted_columns_are_asked_about():
    # `q1 d1 1 0`, read as TREC's query, 0, document, grade
    note_nothing_relevant({"q1": {"1": 0}, "q2": {"1": 0}}, "qrels.txt")
    note_nothing_judged("a.run", {"q1": {"d1": 2.0}}, {"q1": {"1": 0}}, "qrels.txt")
    note_nothing_relevant({"q1": {"d1": 0, "d2": 2}}, "good.txt", 2)
    first, second = reporting.notices()
    assert "no judgement has grade 1 or more" in first and "query, 0, document, grade" in first
    assert "Or are the columns of the judgements query, 0, document, grade?" in second
