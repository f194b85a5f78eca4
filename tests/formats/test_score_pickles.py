"""Pickled scores as a stream: what pickle.load reads is the truth; nothing is run, and memory is that of the arrays."""

import io
import os
import pickle
import pickletools
import random
import struct
import tracemalloc

import numpy as np
import pytest

from drtools.formats.score_pickles import Scores, load_scores

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
DAMAGE = (EOFError, ValueError, IndexError, KeyError, TypeError, AttributeError, pickle.UnpicklingError)


def example(seed: int = 1) -> dict:
    """Return scores with everything that a file may hold: small and large ids, texts, one dict twice."""
    random_ = random.Random(seed)

    def pairs(count: int, limit: int = 8_800_000) -> dict:
        return {random_.randrange(limit): float(np.float32(random_.gauss(0, 5))) for _ in range(count)}

    scores: dict = {query: pairs(random_.choice([1, 3, 40, 2500])) for query in range(20)}
    scores[70_000] = scores[3]  # a reference in the memo
    scores[71] = pairs(50, 200) | pairs(50, 60_000)  # ids of one and two bytes among those of four
    scores[72] = {1 << 40: 1.0, 5: 2}
    scores["2017"] = {"1": 0.5, "D7": 0.1, "ü": -3.25}
    scores["2018"] = {str(number): number / 3 for number in range(30)}
    scores[73] = {10**6 + number: 10**6 + number for number in range(30)}  # whole numbers as scores
    scores[74] = {10**6 + number: (7.0 if number % 2 else 10**7) for number in range(40)}
    scores[75] = {}
    return scores


def as_texts(held: dict) -> dict[str, float]:
    return {str(document): score for document, score in held.items()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scores_are_those_of_pickle_in_every_protocol(protocol):
    scores = example()
    for data in (pickle.dumps(scores, protocol), pickletools.optimize(pickle.dumps(scores, protocol))):
        found = load_scores(io.BytesIO(data))
        assert isinstance(found, Scores) and len(found) == len(scores)
        for query, held in scores.items():
            assert found.of(str(query)) == as_texts(held), query
        assert found.of("missing") == {} and found.of("003") == as_texts(scores[3])


def test_frames_and_chunks_may_end_anywhere():
    scores = {query: {10**6 + query * 1000 + at: at / 7 for at in range(900)} for query in range(300)}
    data = pickle.dumps(scores, 4)
    assert data.count(pickle.FRAME) > 20 and len(data) > 3 << 20

    class Small(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 4099) if size > 0 else size)

    for stream in (io.BytesIO(data), Small(data)):
        found = load_scores(stream)
        assert isinstance(found, Scores)
        assert all(found.of(str(query)) == as_texts(held) for query, held in scores.items())


def test_a_later_pair_replaces_an_earlier_one():
    """A dict's key that is set twice, as an optimizing writer may leave it."""
    twice = pickle.PROTO + b"\x02" + b"}" + b"K\x07" + b"}" + b"(K\x01K\x05K\x02K\x06u" + b"K\x01K\x09s" + b"s."
    assert pickle.loads(twice) == {7: {1: 9, 2: 6}}
    assert load_scores(io.BytesIO(twice)).of("7") == {"1": 9.0, "2": 6.0}


def test_scores_are_kept_exactly():
    """float32 where that loses nothing, else float64; infinities and the largest numbers too."""
    scores = {1: {1: 0.5, 2: -7.25}, 2: {1: 0.1}, 3: {1: 1e300, 2: float("inf")}, 4: {1: float("nan")}}
    found = load_scores(io.BytesIO(pickle.dumps(scores)))
    assert [found.queries[each].kinds[1] for each in "123"] == [np.float32, np.float64, np.float64]
    assert [found.of(each) for each in "123"] == [as_texts(scores[int(each)]) for each in "123"]
    assert np.isnan(found.of("4")["1"])


class Call:
    """What calls a function while it is read."""

    def __init__(self, *words: object) -> None:
        self.words = words

    def __reduce__(self):
        return self.words[0], self.words[1:]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("place", ["score", "document", "query", "whole"])
def test_nothing_is_run(protocol, place, tmp_path):
    evil = Call(os.mkdir, str(tmp_path / "made"))
    value = {"score": {7: {1: evil}}, "document": {7: {evil: 1.0}}, "query": {evil: {1: 1.0}}, "whole": evil}[place]
    with pytest.raises(pickle.UnpicklingError, match="not a plain value"):
        load_scores(io.BytesIO(pickle.dumps(value, protocol)))
    assert not (tmp_path / "made").exists()


def test_objects_of_every_opcode_are_refused():
    bad = [
        b"c__builtin__\nlist\n.",
        b"(i__builtin__\nlist\n.",
        b"\x80\x02c__builtin__\nlist\n)\x81.",
        b"P1\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".",
        b"\x80\x05\x97.",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b".",
    ]
    for data in bad:
        with pytest.raises(pickle.UnpicklingError):
            load_scores(io.BytesIO(data))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({7: {1: "x"}}, "the score of 1 is a str"),
        ({7: {1: True}}, "the score of 1 is a bool"),
        ({7: {1: {2: 3.0}}}, "dict"),
        ({7: {1.5: 2.0}}, "found 1.5 as an id"),
        ({7: {1: 2.0}, 8: 3.0}, "query 8 has a float"),
        ({None: {1: 2.0}}, "found None as an id"),
    ],
)
def test_what_is_not_numbers_texts_and_dicts_is_named(value, said):
    with pytest.raises(pickle.UnpicklingError, match=said):
        load_scores(io.BytesIO(pickle.dumps(value)))


def test_other_values_are_returned_for_a_message():
    assert load_scores(io.BytesIO(pickle.dumps([1, 2]))) == [1, 2]
    assert not isinstance(load_scores(io.BytesIO(pickle.dumps({1: 2.0}))), Scores)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_damaged_file_fails_in_a_known_way(protocol):
    random_ = random.Random(protocol)
    data = pickle.dumps({query: {10**6 + at: at / 3 for at in range(12)} for query in range(3)}, protocol)
    for _ in range(400):
        damaged = bytearray(data)
        at = random_.randrange(len(data))
        if random_.random() < 0.5:
            damaged[at] = random_.randrange(256)
        else:
            del damaged[at:]
        try:
            found = load_scores(io.BytesIO(bytes(damaged)))
        except DAMAGE:
            continue
        assert not isinstance(found, Scores) or all(isinstance(found.of(each), dict) for each in found.queries)


@pytest.mark.slow
def test_memory_is_that_of_the_arrays():
    """400,000 pairs, 200 a query as in the public file: under 14 bytes a pair, where pickle.load takes over 100."""
    random_ = np.random.default_rng(1)
    scores = {
        query: dict(
            zip(
                random_.integers(70_000, 8_800_000, 200).tolist(), random_.random(200, np.float32).tolist(), strict=True
            )
        )
        for query in range(2000)
    }
    pairs = sum(map(len, scores.values()))
    data = pickle.dumps(scores, 4)
    held = {}
    for name, load in (("ours", load_scores), ("pickle", pickle.load)):
        tracemalloc.start()
        found = load(io.BytesIO(data))
        held[name] = (tracemalloc.get_traced_memory()[0] - len(data)) / pairs
        tracemalloc.stop()
        assert found is not None
    assert held["ours"] < 14 < 80 < held["pickle"], held
