"""Rows by id and ids by row, many at once, against dictionaries and lists; a corpus gives the same ids either way."""

import json

import numpy as np
import pytest

from drtools.errors import InputError
from drtools.formats import ids as ids_module
from drtools.formats.corpus_store import FEWEST_IDS, open_store
from drtools.formats.ids import Ids
from drtools.formats.joined_vectors import order_of

ODD = ["löwe", "日本", "a", "0", "00", "-1", "a,b", '"']


@pytest.fixture
def ids(tmp_path, monkeypatch):
    monkeypatch.setattr(ids_module, "IDS_A_LOOK", 7)  # several blocks, and an id at the edge of each
    every = [*ODD, *(f"d{number * 7919 % 97}" for number in range(97))]
    (tmp_path / "ids.txt").write_text("\n".join(every) + "\n")
    return every, Ids(tmp_path / "ids.txt")


def test_rows_and_ids_are_those_of_a_naive_search(ids):
    every, found = ids
    asked = [*reversed(every), "x", *every[3:5], "", "d97", "löw", "LÖWE"]
    expected = [every.index(each) if each in every else -1 for each in asked]
    assert found.rows_of(asked).tolist() == expected
    assert [found.row_of(each) for each in asked] == [None if row < 0 else row for row in expected]
    assert found.missing(asked) == ["x", "", "d97", "löw", "LÖWE"]
    rows = np.random.default_rng(0).integers(len(every), size=300)
    assert found.at(rows) == [every[row] for row in rows] and found.at([]) == []


def test_ids_with_equal_hashes_are_told_apart(ids, monkeypatch):
    every, found = ids
    monkeypatch.setattr(ids_module, "hash", lambda text: len(text), raising=False)
    assert found.rows_of([*every, "dd", "ddd"]).tolist() == [*range(len(every)), -1, -1]
    assert [found.row_of(each) for each in (*every, "ddd")] == [*range(len(every)), None]


def test_the_rows_of_a_joined_array_are_those_of_a_naive_search(ids, tmp_path):
    every, found = ids
    others = sorted(every)
    (tmp_path / "others.txt").write_text("\n".join(["more", *others]))
    order = order_of(found, Ids(tmp_path / "others.txt"), ("a", "b"))
    assert order is not None and order.tolist() == [others.index(each) + 1 for each in every]
    (tmp_path / "fewer.txt").write_text("\n".join(others[2:]))
    first = next(each for each in every if each not in others[2:])
    with pytest.raises(InputError, match=f"no vector of {first!r}.*2 of its 105 texts"):
        order_of(found, Ids(tmp_path / "fewer.txt"), ("a", "b"))


def test_an_id_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "ids.txt").write_bytes(b"a\n\xff\nc\n")
    for look in (lambda ids: ids.at([0, 1]), lambda ids: ids.rows_of(["c"]), lambda ids: ids.row_of("c")):
        with pytest.raises(InputError, match=r"ids.txt:2.*UTF-8"):
            look(Ids(tmp_path / "ids.txt"))


def test_a_corpus_gives_the_same_ids_for_few_rows_and_for_many(tmp_path):
    every = [*ODD, *(f"d{number}" for number in range(FEWEST_IDS))]
    lines = (json.dumps({"_id": each, "text": f"text of {each}"}) + "\n" for each in every)
    (tmp_path / "corpus.jsonl").write_text("".join(lines))
    store = open_store(str(tmp_path / "corpus.jsonl"))
    rows = np.random.default_rng(0).integers(len(every), size=3 * FEWEST_IDS)
    assert store.ids_at(rows[:100]) == [every[row] for row in rows[:100]]
    assert store._ids is None
    assert store.ids_at(rows) == store.ids_at(rows.tolist()) == [every[row] for row in rows]
    assert store._ids is not None
