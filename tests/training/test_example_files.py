"""Files of examples against reading the JSON naively; kills, several processes, changed and damaged files."""

import gzip
import json
import math
import os
import random
import signal
import struct
import time

import numpy as np
import pytest

from drtools import reporting
from drtools.errors import InputError
from drtools.formats import query_store
from drtools.formats.corpus_store import open_store
from drtools.formats.examples import read_examples
from drtools.formats.query_store import QueryStore, open_queries
from drtools.formats.seen_ids import LEAST, SeenIds
from drtools.outputs.cache import cache_path
from drtools.outputs.cache_contents import cache_entries, prune
from drtools.randomness import generator
from drtools.training import example_files
from drtools.training.examples import RaggedArray, Scores, usable_examples
from drtools.training.sampling import EpochSampler, ExampleSource

ODD = ["löwe", "日本", "00", "-1", "a,b", '"q"', "D7", "d8"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DRTOOLS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def stored(monkeypatch):
    monkeypatch.setattr(example_files, "SMALL_BYTES", 0)
    monkeypatch.setattr(query_store, "IN_MEMORY_BYTES", 0)


@pytest.fixture
def world(tmp_path):
    draw = random.Random(0)
    documents = [*ODD, *(f"doc-{number}" for number in range(200))]
    corpus = [json.dumps({"_id": each, "title": "", "text": f"text of {each}"}) for each in documents]
    queries = [json.dumps({"_id": f"q{number}é", "text": f"question {number} \U0001f600"}) for number in range(90)]
    examples = []
    for number in range(120):  # the last 30 have no text
        drawn = draw.sample([*documents, *(f"lost-{each}" for each in range(40))], 12)
        record = {"query_id": f"q{number}é", "positives": drawn[:2], "negatives": drawn[2 : draw.randrange(2, 12)]}
        if number > 40:
            record["positive_scores"] = [None, number / 7]
            record["negative_scores"] = [draw.gauss(0, 9) for _ in record["negatives"]]
        if number % 9 == 5:
            items = [("reinforced", None), ("noisy", 0.15)]
            record["dark"] = [
                {"kind": "noisy", "positive": drawn[0], "ratio": ratio, "seed": 7}
                if kind == "noisy"
                else {"kind": "reinforced", "positive": drawn[0], "negative": drawn[2]}
                for kind, ratio in items
            ]
        examples.append(json.dumps(record, ensure_ascii=number % 2 == 0))
        if number % 10 == 0:
            examples.append(" " * (number % 3))
    paths = {}
    for name, lines in {"corpus": corpus, "queries": queries, "examples": examples}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        paths[name] = str(tmp_path / f"{name}.jsonl")
    return paths


def single(score):
    return math.nan if score is None else struct.unpack("f", struct.pack("f", score))[0]


def naive(paths):
    """Read everything with json alone, line by line."""
    documents = {json.loads(line)["_id"]: row for row, line in enumerate(open(paths["corpus"], encoding="utf-8"))}
    queries = {each["_id"]: each["text"] for each in map(json.loads, open(paths["queries"], encoding="utf-8"))}
    found = []
    for line in filter(str.strip, open(paths["examples"], encoding="utf-8")):
        record = json.loads(line)
        lists = []
        for name in ("positives", "negatives"):
            scores = record.get(f"{name[:-1]}_scores") or [None] * len(record[name])
            pairs = [
                (documents[each], single(score))
                for each, score in zip(record[name], scores, strict=True)
                if each in documents
            ]
            lists += [[row for row, _ in pairs], [score for _, score in pairs]]
        dark = [
            (documents[each["positive"]], documents.get(each.get("negative"), -1), each.get("ratio", math.nan))
            for each in record.get("dark", ())
            if each["positive"] in documents and each.get("negative", each["positive"]) in documents
        ]
        if record["query_id"] in queries and lists[0]:
            found.append((record["query_id"], queries[record["query_id"]], *lists, dark))
    return found


def as_lists(examples):
    return [
        (
            examples.query_ids[at],
            examples.queries[at],
            *(
                part[at].tolist()
                for part in (
                    *(examples.positives, examples.positive_scores),
                    *(examples.negatives, examples.negative_scores),
                )
            ),
            [(row.positive, row.negative, row.ratio) for row in (examples.dark[at] if examples.dark else ())],
        )
        for at in range(len(examples))
    ]


def same(one, other):
    return repr(one) == repr(other)  # nan too


def opened(paths, scores=Scores.ANY):
    return usable_examples(paths["examples"], paths["queries"], open_store(paths["corpus"]), scores)


@pytest.mark.parametrize("form", ["small", "stored", "gz", "blank first"])
def test_the_files_hold_what_a_naive_reading_finds(world, form, tmp_path, request):
    if form != "small":
        request.getfixturevalue("stored")
    expected = naive(world)
    text = open(world["examples"], "rb").read()
    if form == "gz":
        world["examples"] = str(tmp_path / "e.jsonl.gz")
        gzip.open(world["examples"], "wb").write(text)
    elif form == "blank first":
        world["examples"] = str(tmp_path / "e.jsonl")
        open(world["examples"], "wb").write(b"\xef\xbb\xbf\n \r\n" + text.replace(b"\n", b"\r\n"))
    for _ in range(2):  # made, then opened
        examples = opened(world)
        assert len(expected) == len(examples) > 70
        assert same(as_lists(examples), expected)
        assert list(examples.query_ids) == [each[0] for each in expected]
        assert list(examples.queries) == [each[1] for each in expected]
        assert examples.queries[2:4] == [each[1] for each in expected[2:4]] and examples.queries[-1] == expected[-1][1]
    assert opened(world, Scores.UNREAD).positive_scores is None
    assert (len(list((cache_path() / "examples").glob("*"))) if form != "small" else 1) == 1


def test_what_is_left_out_is_reported_again_when_files_are_opened(world, stored):
    said = []
    for _ in range(2):
        reporting.install(reporting.Reporter())
        opened(world)
        said.append(reporting.notices())
    assert said[0] == said[1] and len(said[0]) >= 4
    assert "30 examples have a query that is not in" in said[0][0] and "for instance 'q90é'" in said[0][0]


def test_examples_from_a_pipe_are_stored_by_their_content(world, stored, monkeypatch):
    expected = naive(world)
    reader, writer = os.pipe()
    text = open(world["examples"], "rb").read()
    if not os.fork():
        os.close(reader)
        with open(writer, "wb") as stream:
            stream.write(text)
        os._exit(0)
    os.close(writer)
    try:
        world["examples"] = f"/dev/fd/{reader}"
        assert same(as_lists(opened(world)), expected)
        monkeypatch.setattr(example_files, "_make", lambda *_: pytest.fail("the same content was made again"))
        assert same(as_lists(opened(world)), expected)
    finally:
        os.close(reader)


def test_a_query_that_occurs_twice_is_refused_with_both_lines(world, stored):
    lines = [line for line in open(world["examples"], encoding="utf-8") if line.strip()]
    with open(world["examples"], "w", encoding="utf-8") as stream:
        stream.writelines([*lines[:7], "\n", lines[3], *lines[7:]])
    with pytest.raises(InputError, match=r"examples.jsonl:9.*also on line 4"):
        opened(world)
    assert not [each for each in cache_path().glob("examples/*") if each.suffix != ".lock"]


def test_ids_with_equal_hashes_are_not_taken_for_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(SeenIds, "add", lambda self, text_id: True)
    lines = [json.dumps({"query_id": f"q{number}", "positives": ["d"], "negatives": []}) for number in range(5)]
    (tmp_path / "e.jsonl").write_text("\n".join(lines))
    assert [example.query_id for example in read_examples(tmp_path / "e.jsonl")] == [
        f"q{number}" for number in range(5)
    ]


def test_seen_ids_are_those_of_a_set():
    seen, known = SeenIds(), set()
    for number in range(4 * LEAST):
        text_id = f"id-{number * 7919 % (3 * LEAST)}"
        assert seen.add(text_id) == (text_id in known)
        known.add(text_id)
    assert seen.count == len(known) and not SeenIds().add("")


def test_a_changed_file_of_examples_or_of_queries_is_noticed(world, stored):
    before = opened(world)
    for name, old, new in (("examples", "doc-1", "doc-2"), ("queries", "question", "Frage")):
        text = open(world[name], encoding="utf-8").read()
        with open(world[name], "w", encoding="utf-8") as stream:
            stream.write(text.replace(f'"{old}"', f'"{new}{new}"') if name == "examples" else text.replace(old, new))
        assert same(as_lists(opened(world)), naive(world)) and not same(as_lists(before), as_lists(opened(world)))
    assert len(list((cache_path() / "examples").iterdir())) == 3


def test_a_file_that_changes_while_it_is_read_is_refused(world, stored, monkeypatch):
    make = example_files._make

    def changing(folder, path, queries, store):
        make(folder, path, queries, store)
        with open(path, "ab") as stream:
            stream.write(b"\n")

    monkeypatch.setattr(example_files, "_make", changing)
    with pytest.raises(Exception, match="was changed while it was read"):
        opened(world)


@pytest.mark.parametrize("rows", [0, 3, 60, "end"])
def test_after_a_kill_the_files_are_made_again(world, stored, monkeypatch, rows):
    open_store(world["corpus"])
    pid = os.fork()
    if not pid:
        write, facts = example_files._write, example_files.write_json
        kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731

        def stopping(all_rows, columns, progress):
            def some():
                for at, row in enumerate(all_rows):
                    if at == rows:
                        for column in columns.values():
                            column.flush()
                        kill()
                    yield row

            return write(some(), columns, progress)

        example_files._write, example_files.write_json = stopping, kill if rows == "end" else facts
        opened(world)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert list((cache_path() / "examples").glob("*.partial"))
    assert same(as_lists(opened(world)), naive(world))
    assert not list((cache_path() / "examples").glob("*.partial"))


def test_of_several_processes_one_makes_the_files(world, stored, tmp_path):
    open_store(world["corpus"])
    children = []
    for number in range(3):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                make = example_files._make

                def slow(*values, number=number, make=make):
                    (tmp_path / f"made-{number}").touch()
                    time.sleep(0.3)
                    make(*values)

                example_files._make = slow
                status = 0 if same(as_lists(opened(world)), naive(world)) else 2
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
    assert len(list(tmp_path.glob("made-*"))) == 1


@pytest.mark.parametrize("damage", ["cut", "facts", "gone"])
def test_damaged_files_are_made_again(world, stored, damage, capfd):
    opened(world)
    (folder,) = (cache_path() / "examples").iterdir()
    if damage == "gone":
        (folder / "negatives").unlink()
    else:
        path = folder / ("facts.json" if damage == "facts" else "negatives")
        path.write_bytes(path.read_bytes()[:-5])
    assert same(as_lists(opened(world)), naive(world))


def test_a_cache_that_cannot_be_written_keeps_nothing(world, stored, monkeypatch, capfd):
    def refusing(path):
        raise PermissionError(13, "Permission denied", str(path))

    open_store(world["corpus"]), open_queries(world["queries"])
    monkeypatch.setattr(example_files, "alone", refusing)
    assert same(as_lists(opened(world)), naive(world))
    assert not list((cache_path() / "examples").iterdir())
    assert "nothing new is kept" in capfd.readouterr().err


def test_the_cache_lists_them_and_keeps_those_in_use(world, stored):
    examples = opened(world)
    entry = next(each for each in cache_entries(cache_path()) if each.kind == "examples")
    assert entry.belongs_to == [world["examples"]] and entry.size > 4 * len(examples.positives.flat)
    outcomes = [outcome for _, outcome in prune([entry], time.time() + 1e9, 1, None, False, False)]
    assert outcomes == ["in use"] and same(as_lists(opened(world)), naive(world))
    del examples
    outcomes = [outcome for _, outcome in prune([entry], time.time() + 1e9, 1, None, False, False)]
    assert outcomes == ["removed"] and not list((cache_path() / "examples").iterdir())


def test_a_store_of_queries_is_a_dictionary(world, stored):
    store = open_queries(world["queries"])
    expected = {each["_id"]: each["text"] for each in map(json.loads, open(world["queries"], encoding="utf-8"))}
    assert isinstance(store, QueryStore)
    assert dict(store) == expected and len(store) == 90 and list(store) == list(expected)
    assert store.get("x") is None and "x" not in store and store.missing(["x", "q1é", "y"]) == ["x", "y"]
    assert store.of(["q3é", "x", "q1é"]) == {name: expected[name] for name in ("q3é", "q1é")}
    text = open(world["queries"], encoding="utf-8").read()
    with open(world["queries"], "w", encoding="utf-8") as stream:
        stream.write(text + text.splitlines()[4])
    with pytest.raises(InputError, match=r"queries.jsonl:91.*query id 'q4é' is also on line 5"):
        open_queries(world["queries"])


def test_short_lists_are_counted_block_by_block(monkeypatch):
    monkeypatch.setattr("drtools.training.examples.LISTS_A_READ", 3)
    lists = [[7] * (number * 5 % 6) for number in range(20)]
    for length in range(7):
        assert RaggedArray.of(lists).count_shorter(length) == sum(0 < len(each) < length for each in lists)


def former_order(counts, weights, seed, epoch):
    """Return the visits of an epoch as lists of Python numbers, as they were shuffled before they were arrays."""
    visits = []
    for number, (count, weight) in enumerate(zip(counts, weights, strict=True)):
        whole = int(weight)
        some = generator(seed, "share", epoch, number).permutation(count)[: round((weight - whole) * count)]
        visits += [(number, at, copy) for copy in range(whole) for at in range(count)]
        visits += [(number, int(at), whole) for at in some]
    return [visits[at] for at in generator(seed, "order", epoch).permutation(len(visits))]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.4, 2.75), (3.0, 0.1)])
def test_the_order_of_visits_is_what_it_was(world, stored, weights):
    store, examples = open_store(world["corpus"]), opened(world)
    sources = [ExampleSource(examples, store, weight=weight) for weight in weights]
    sampler = EpochSampler(sources, 7, 3)
    expected = [each for epoch in range(3) for each in former_order([len(examples)] * 2, weights, 3, epoch)]
    found = [
        (sources.index(visit.source) if visit.source is not sources[1] else 1, visit.at, visit.seed[-1])
        for step in range(len(expected) // 7)
        for visit in sampler(step)
    ]
    assert found == expected[: len(found)] and len(found) > 100
    assert {type(part) for step in range(3) for visit in sampler(step) for part in visit.seed} == {int, str}


def test_numbers_of_four_bytes_are_shuffled_as_those_of_eight():
    for count in (1, 2, 1000, 70_000):
        from drtools.training.sampling import _shuffled

        assert np.array_equal(_shuffled(count, generator(1, count)), generator(1, count).permutation(count))
