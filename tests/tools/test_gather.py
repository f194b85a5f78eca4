"""Parts of several machines, gathered: the bytes of one machine's whole, and what is refused."""

import json
import random
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import SEED, TRIES, write_jsonl
from preloaded import kill

from drtools.encoding import parts as gathering
from drtools.errors import InputError
from drtools.formats.trec import read_run
from drtools.outputs.parts import Part
from drtools.search import mining_run, sources

FP32 = ["--precision", "fp32"]


def encode(toy, encoder_folder, drtools, out, *more):
    outcome = drtools("encode", "--model", encoder_folder, *FP32, "-o", out, *more)
    assert outcome.status == 0, outcome.err
    return out


def in_parts(count, toy, encoder_folder, drtools, *more):
    return [
        encode(toy, encoder_folder, drtools, toy.folder / f"part-{n}", "--part", f"{n}/{count}", *more)
        for n in range(1, count + 1)
    ]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def facts(folder: Path) -> dict:
    """Return the manifest without what two runs of the same command differ in."""
    record = json.loads((folder / "manifest.json").read_text())
    return {name: value for name, value in record.items() if name not in ("created", "seconds", "gathered")}


def test_parts_cover_all_rows_once_at_multiples_of_the_unit():
    for total in (1, 2, 5, 60, 61):
        for unit in (1, 7):
            for of in range(1, -(-total // unit) + 1):
                ranges = [Part(number, of).rows(total, unit) for number in range(1, of + 1)]
                assert [row for rows in ranges for row in rows] == list(range(total))
                assert all(len(rows) and rows.start % unit == 0 for rows in ranges)
    with pytest.raises(InputError, match="use at most 9 parts"):
        Part(1, 10).rows(60, 7)
    for wrong in ("0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/4"):
        with pytest.raises(InputError, match="I/N"):
            Part.parse(wrong)


@pytest.mark.bits
@pytest.mark.parametrize("more", [["--corpus"], ["--queries"], ["--corpus", "--pieces", "--spans", "mean"]])
def test_gathered_parts_are_the_whole(toy, encoder_folder, drtools, more):
    flag, *pieces = more
    source = [flag, toy.corpus if flag == "--corpus" else toy.queries, *pieces]
    whole = encode(toy, encoder_folder, drtools, toy.folder / "whole", *source)
    parts = in_parts(3, toy, encoder_folder, drtools, *source, "--chunk", "7")
    gathered = toy.folder / "gathered"
    outcome = drtools("gather", parts[2], parts[0], parts[1], "-o", gathered)
    assert outcome.status == 0, outcome.err
    assert content(gathered) == content(whole) and len(content(whole)) == (5 if pieces else 3)
    assert facts(gathered) == facts(whole)
    origins = json.loads((gathered / "manifest.json").read_text())["gathered"]
    assert [each["part"] for each in origins] == ["1/3", "2/3", "3/3"]
    again = drtools("encode", "--model", encoder_folder, *FP32, *source, "-o", gathered)
    assert again.status == 0 and "already done" in again.err
    assert "already done" in drtools("gather", *parts, "-o", gathered).err


def test_a_part_is_not_taken_for_the_whole(toy, encoder_folder, drtools):
    one, _ = in_parts(2, toy, encoder_folder, drtools, "--corpus", toy.corpus)
    for command in (["index", "--vectors"], ["search", "--queries", toy.queries, "--vectors"]):
        outcome = drtools(*command, one, "-o", toy.folder / "out")
        assert outcome.status == 2 and "found only part 1 of 2" in outcome.err and "drtools gather" in outcome.err
    assert "part 1 of 2: rows 1 to 30 of 60" in drtools("show", one).out


def test_missing_foreign_and_repeated_parts_are_refused_by_name(toy, encoder_folder, drtools):
    parts = in_parts(3, toy, encoder_folder, drtools, "--corpus", toy.corpus)
    changed = write_jsonl(toy.folder / "changed.jsonl", [*toy.documents[:-1], {"_id": "x", "title": "", "text": "fox"}])
    other = encode(toy, encoder_folder, drtools, toy.folder / "other", "--corpus", changed, "--part", "2/3")
    halved = encode(toy, encoder_folder, drtools, toy.folder / "halved", "--corpus", toy.corpus, "--part", "2/2")
    whole = encode(toy, encoder_folder, drtools, toy.folder / "whole", "--corpus", toy.corpus)
    copy = toy.folder / "copy"
    shutil.copytree(parts[1], copy)
    moved, newer = toy.folder / "moved", toy.folder / "newer"
    for folder, change in (
        (moved, lambda record: record["part"].update(first=19)),
        (newer, lambda record: record["part"].update(torch="1.0")),
    ):
        shutil.copytree(parts[1], folder)
        record = json.loads((folder / "manifest.json").read_text())
        change(record)
        (folder / "manifest.json").write_text(json.dumps(record))
    rejected = drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "--part", "2/0", "-o", "x")
    assert rejected.status == 2 and "--part 2/0" in rejected.err
    for given, words in {
        (parts[0], parts[2]): "part 2 of 3 is missing; make it with `drtools encode --part 2/3`",
        (parts[0],): "parts 2, 3 of 3 are missing",
        (*parts, copy): f"is part 2 of 3, and so is {parts[1]}",
        (parts[0], other, parts[2]): f"{other}: is a part of another output than {parts[0]} (--corpus",
        (parts[0], halved): "part 2 of 2, of 60 rows",
        (parts[0], whole): f"{whole}: is no part of an output",
        (parts[0], moved, parts[2]): f"{moved}: part 2 of 3 begins at row 19, but the part before it ends at row 20",
        (parts[0], newer, parts[2]): f"{newer}: is a part of another output than {parts[0]} (torch: ",
    }.items():
        outcome = drtools("gather", *given, "-o", toy.folder / "gathered")
        assert outcome.status == 2 and words in outcome.err, outcome.err
        assert not (toy.folder / "gathered").exists()


def test_more_parts_than_texts_are_refused(toy, encoder_folder, drtools):
    outcome = drtools("encode", "--model", encoder_folder, "--queries", toy.queries, "--part", "1/21", "-o", "x")
    assert outcome.status == 2 and "there are only 20 queries; use at most 20 parts" in outcome.err


def test_on_gpus_parts_are_cut_at_chunks_which_belong_to_the_request(toy, encoder_folder, drtools, monkeypatch):
    monkeypatch.setattr(gathering, "device_kind", lambda device: "cuda")
    source = ["--corpus", toy.corpus, "--chunk", "16"]
    parts = in_parts(3, toy, encoder_folder, drtools, *source)
    records = [json.loads((part / "manifest.json").read_text()) for part in parts]
    assert [(record["part"]["first"], record["part"]["last"]) for record in records] == [(0, 16), (16, 32), (32, 60)]
    other = encode(
        toy, encoder_folder, drtools, toy.folder / "other", "--corpus", toy.corpus, "--chunk", "20", "--part", "2/3"
    )
    outcome = drtools("gather", parts[0], other, parts[2], "-o", toy.folder / "gathered")
    assert outcome.status == 2 and "chunks of 16" in outcome.err and "chunks of 20" in outcome.err, outcome.err


@pytest.mark.parametrize("continued", ["gather", "encode"])
def test_a_killed_gather_is_continued(toy, encoder_folder, drtools, monkeypatch, continued):
    """By itself, or by the encoding that would make the whole."""
    source = ["--corpus", toy.corpus, "--pieces", "--spans", "mean"]
    whole = encode(toy, encoder_folder, drtools, toy.folder / "whole", *source)
    parts = in_parts(2, toy, encoder_folder, drtools, *source)
    monkeypatch.setattr(gathering, "ROWS_A_BLOCK", 8)
    gathered, left, copy = toy.folder / "gathered", [5], gathering.GatheredVectors._copy

    def fails(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "Input/output error")
        return copy(self, *arguments)

    monkeypatch.setattr(gathering.GatheredVectors, "_copy", fails)
    assert drtools("gather", *parts, "-o", gathered).status == 1
    assert json.loads((toy.folder / "gathered.partial" / "state.json").read_text())["done"] == 30 + 8
    left[0] = 10**6
    command = {"gather": ["gather", *parts], "encode": ["encode", "--model", encoder_folder, *FP32, *source]}[continued]
    outcome = drtools(*command, "-o", gathered)
    assert outcome.status == 0 and "continuing" in outcome.err, outcome.err
    assert content(gathered) == content(whole)
    assert left[0] == 10**6 - (3 if continued == "gather" else 0), "only what was not done is copied"


@pytest.mark.slow
def test_gathers_and_parts_that_are_killed_at_any_moment_end_with_the_same_bytes(
    toy, encoder_folder, drtools, program, environment, monkeypatch
):
    source = ["--corpus", toy.corpus]
    whole = encode(toy, encoder_folder, drtools, toy.folder / "whole", *source)
    generator = random.Random(SEED)
    commands = [
        *(
            ["encode", "--model", encoder_folder, *FP32, *source, "--chunk", "3", "--part", f"{n}/2", "-o", f"part-{n}"]
            for n in (1, 2)
        ),
        ["gather", "part-1", "part-2", "-o", "gathered"],
    ]
    monkeypatch.chdir(toy.folder)
    for command in commands:
        for _ in range(4 * TRIES):
            process = subprocess.Popen([program, *map(str, command)], env=environment, stderr=subprocess.DEVNULL)
            time.sleep(generator.uniform(0, 1.5))
            kill(process)
        outcome = drtools(*command)
        assert outcome.status == 0, outcome.err
    assert content(toy.folder / "gathered") == content(whole)


def test_of_two_gathers_at_once_one_writes(toy, encoder_folder, drtools, monkeypatch):
    """The other is refused while the first has the lock, and later finds the output done."""
    whole = encode(toy, encoder_folder, drtools, toy.folder / "whole", "--corpus", toy.corpus)
    parts = in_parts(2, toy, encoder_folder, drtools, "--corpus", toy.corpus)
    outcomes, copy, held = [], gathering.GatheredVectors._copy, threading.Event()

    def slow(self, *arguments):
        if not held.is_set():
            held.set()
            outcomes.append(drtools("gather", *parts, "-o", toy.folder / "gathered"))
        return copy(self, *arguments)

    monkeypatch.setattr(gathering.GatheredVectors, "_copy", slow)
    assert drtools("gather", *parts, "-o", toy.folder / "gathered").status == 0
    assert outcomes[0].status == 1 and "another process" in outcomes[0].err, outcomes[0]
    assert content(toy.folder / "gathered") == content(whole)


def gathered_file(toy, drtools, command, kind="jsonl"):
    """Return the bytes and facts of the whole output of a command, and of its three parts gathered."""
    whole, gathered = toy.folder / f"whole.{kind}", toy.folder / f"gathered.{kind}"
    for out, more in [(whole, []), *((toy.folder / f"{n}.{kind}.gz", ["--part", f"{n}/3"]) for n in (3, 1, 2))]:
        outcome = drtools(*command, *more, "-o", out)
        assert outcome.status == 0, outcome.err
    outcome = drtools("gather", *(toy.folder / f"{n}.{kind}.gz" for n in (2, 3, 1)), "-o", gathered)
    assert outcome.status == 0, outcome.err
    assert gathered.read_bytes() == whole.read_bytes()
    records = [json.loads(path.with_name(f"{path.name}.manifest.json").read_text()) for path in (whole, gathered)]
    assert [each["part"] for each in records[1].pop("gathered")] == ["1/3", "2/3", "3/3"]
    for record in records:
        record.pop("created"), record.pop("seconds")
        files = list(record.pop("files").values())
        record["files"] = files
        for name in ("computed", "tokens"):  # of the whole, whose scores the parts find in the cache
            record["counts"].pop(name, None)
    assert "already done" in drtools(*command, "-o", gathered).err
    return records


@pytest.mark.bits
def test_gathered_scores_are_those_of_one_machine(toy, rankers, drtools):
    command = ["teacher-score", "--teacher", rankers["bert"], "--corpus", toy.corpus, "--queries", toy.queries, *FP32]
    lines = Path(toy.examples).read_text().splitlines()
    Path(toy.examples).write_text("".join(f"{line}\n" for line in lines[:19]))
    whole, gathered = gathered_file(toy, drtools, [*command, "--examples", toy.examples])
    assert gathered == whole and whole["counts"]["examples"] == 19 and whole["counts"]["pairs"] == 19 * 4


def test_without_a_common_cache_scores_are_those_of_one_machine_up_to_rounding(
    toy, rankers, drtools, monkeypatch, tmp_path
):
    """As on machines of their own. The last bits of a score depend on its batch."""
    run = toy.folder / "some.run"
    run.write_text("".join(f"q{n} Q0 d{(n + 8 * at) % 60} {at} {-at} x\n" for n in range(20) for at in range(1, 8)))
    command = ["teacher-score", "--teacher", rankers["bert"], "--corpus", toy.corpus, "--queries", toy.queries, *FP32]
    command += ["--run", run]
    for name, more in {"whole": [], "1": ["--part", "1/2"], "2": ["--part", "2/2"]}.items():
        monkeypatch.setenv("DRTOOLS_CACHE", str(tmp_path / f"cache-{name}"))
        assert drtools(*command, *more, "-o", toy.folder / f"{name}.run").status == 0
    assert drtools("gather", toy.folder / "1.run", toy.folder / "2.run", "-o", toy.folder / "gathered.run").status == 0
    found, expected = read_run(str(toy.folder / "gathered.run")), read_run(str(toy.folder / "whole.run"))
    assert list(found) == list(expected) and len(found) == 20
    for query, hits in expected.items():
        assert found[query] == pytest.approx(hits, abs=1e-5) and len(hits) == 7


@pytest.mark.bits
def test_gathered_negatives_are_those_of_one_machine(toy, encoder_folder, drtools, monkeypatch):
    """Dense sources are cut at whole blocks of queries, whose bits do not change; others anywhere."""
    vectors = encode(toy, encoder_folder, drtools, toy.folder / "vectors", "--corpus", toy.corpus)
    command = ["mine-negatives", "--queries", toy.queries, "--qrels", toy.qrels, "--negatives", 3]
    dense = [*command, "--vectors", vectors, *FP32]
    refused = drtools(*dense, "--part", "1/2", "-o", toy.folder / "x")
    assert refused.status == 2 and "20 queries, and parts are cut at multiples of 2,048" in refused.err
    for module in (mining_run, sources):
        monkeypatch.setattr(module, "QUERIES_A_BLOCK", 8)
    whole, gathered = gathered_file(toy, drtools, dense)
    assert gathered == whole and whole["counts"]["queries"] == 20 and whole["counts"]["negatives"] == 60
    random_hits = [*command, "--random", "--corpus", toy.corpus]
    whole, gathered = gathered_file(toy, drtools, random_hits, "random.jsonl")
    assert gathered == whole and whole["counts"]["queries"] == 20
