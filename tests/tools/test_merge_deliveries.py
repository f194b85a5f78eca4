"""merge-deliveries: changes in place, deletions, bad deliveries set aside whole, nothing lost when it is stopped."""

import codecs
import errno
import gzip
import json
import os
import shutil
import signal
import subprocess
import time
import tracemalloc
from pathlib import Path

import pytest
from conftest import write_jsonl
from test_crashes import COUNTED

from drtools.formats.deliveries import Changes, keys_of_corpus, merge
from drtools.outputs import manifest, quarantine

OLD = [{"_id": f"d{n}", "title": f"t{n}", "text": f"text {n}", "metadata": {"page": n}} for n in range(6)]
GOOD = b'{"_id": "new", "text": "a new text"}\n'
DELETED = {"deleted": True}
BAD = {  # name: content, and what the line about it says
    "cut.jsonl.gz": (gzip.compress(GOOD * 1000)[:-4], "cut.jsonl.gz:1001: the gzip stream is cut short or damaged"),
    "plain.jsonl.gz": (GOOD, "plain.jsonl.gz:1: the name ends in .gz, but the file is not gzip"),
    "packed.jsonl": (gzip.compress(GOOD), "packed.jsonl:1: found gzip in a file whose name does not end in .gz"),
    "notext.jsonl": (GOOD + b'{"_id": "x", "title": "t"}\n', "notext.jsonl:2: no 'text' among the keys"),
    "null.jsonl": (GOOD + b'{"_id": "x", "text": null}\n', "null.jsonl:2: text is NoneType, expected a string"),
    "blank.jsonl": (GOOD + b'{"_id": "x", "title": "", "text": " "}\n', "blank.jsonl:2: the document has no text"),
    "blank.tsv": (b"x\tsome text\ny\t \n", "blank.tsv:2: the document has no text"),
    "columns.tsv": (b"x\tsome text\ny\n", "columns.tsv:2: 1 column, but line 1 has 2"),
    "twice.jsonl": (GOOD + b'{"_id": "new", "text": "b"}\n', "twice.jsonl:2: the id 'new' is also on line 1"),
    "both.jsonl": (GOOD + b'{"_id": "new", "deleted": true}\n', "both.jsonl:2: the id 'new' is also on line 1"),
    "flag.jsonl": (GOOD + b'{"_id": "d1", "deleted": "yes"}\n', "flag.jsonl:2: 'deleted' is 'yes', expected true"),
    "noid.jsonl": (GOOD + b'{"deleted": true}\n', "noid.jsonl:2: no '_id'"),
    "space.jsonl": (GOOD + b'{"_id": "x y", "text": "a"}\n', "space.jsonl:2: the id 'x y' holds white space"),
    "empty.jsonl": (b"", "empty.jsonl:1: no documents"),
    "empty.jsonl.gz": (gzip.compress(b"\n\n"), "empty.jsonl.gz:1: no documents"),
    "header.tsv": (b"id\ttext\n", "header.tsv:1: no documents"),
    "half.jsonl": (GOOD + b'{"_id": "x", "text": "a', "half.jsonl:2: not JSON"),
    "array.jsonl": (b'[{"_id": "x", "text": "a"}]\n', "array.jsonl:1: found a JSON list, expected an object"),
    "deep.jsonl": (GOOD + b'{"_id": "x", "text": "a", "m": ' + b"[" * 9000 + b"]" * 9000 + b"}\n", "deep.jsonl:2: not"),
    "latin1.jsonl": (GOOD + '{"_id": "x", "text": "é"}\n'.encode("latin1"), "latin1.jsonl:2: byte 23 is not UTF-8"),
    "utf16.jsonl": (GOOD.decode().encode("utf-16"), "utf16.jsonl:1: found text in UTF-16"),
    "zstd.jsonl": (b"\x28\xb5\x2f\xfd\0\0", "zstd.jsonl:1: found zstd"),
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with a corpus and an empty folder of arrivals, in which commands run."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "old.jsonl", OLD)
    (tmp_path / "in").mkdir()
    return tmp_path


def arrive(name: str, *records: dict) -> None:
    write_jsonl(Path("in", name), list(records))


def texts(path="new.jsonl") -> dict[str, str]:
    return {record["_id"]: record["text"] for record in map(json.loads, open(path, encoding="utf-8"))}


def counts_of(path="new.jsonl") -> dict[str, int]:
    counts = manifest.read(path)["counts"]
    return {name: count for name, count in counts.items() if count}


def merged(drtools, *words, status=0):
    outcome = drtools("merge-deliveries", "--corpus", "old.jsonl", "in", *words, "-o", "new.jsonl")
    assert outcome.status == status, outcome.err
    return outcome


def test_changes_keep_their_place_and_new_documents_follow(site, drtools):
    arrive("1.jsonl", {"_id": "n2", "text": "new 2"}, {"_id": "d4", "text": "first"}, {"_id": "gone", **DELETED})
    arrive(
        "2.jsonl", {"_id": "d4", "text": "last", "more": 1}, {"_id": "n1", "text": "new 1"}, {"_id": "d0", **DELETED}
    )
    arrive("3.jsonl", OLD[5], {"_id": "n2", "text": "new 2, changed"})
    outcome = merged(drtools)
    lines = Path("new.jsonl").read_bytes().splitlines(keepends=True)
    old = Path("old.jsonl").read_bytes().splitlines(keepends=True)
    assert lines[:3] == old[1:4] and lines[4] == old[5]
    assert lines[3] == Path("in/2.jsonl").read_bytes().splitlines(keepends=True)[0], "copied as it is"
    assert list(texts()) == ["d1", "d2", "d3", "d4", "d5", "n2", "n1"] and texts()["n2"] == "new 2, changed"
    assert counts_of() == {"documents": 7, "new": 2, "changed": 1, "unchanged": 1, "deleted": 1, "unknown_deletions": 1}
    assert (
        "7 documents: 2 new, 1 changed, 1 delivered unchanged, 1 deleted, 1 deletion of unknown ids, 0 deliveries "
        "refused\n" in outcome.err
    )


def test_a_document_that_is_withdrawn_and_delivered_again_counts_as_what_it_is_at_the_end(site, drtools):
    arrive("1.jsonl", {"_id": "n1", "text": "1"}, {"_id": "n2", "text": "2"}, {"_id": "d1", **DELETED})
    arrive("2.jsonl", {"_id": "n1", **DELETED}, {"_id": "n2", **DELETED}, {"_id": "d1", "text": "again"})
    arrive("3.jsonl", {"_id": "n3", "text": "3"}, {"_id": "n1", "text": "again"})
    merged(drtools)
    assert list(texts()) == [*(f"d{n}" for n in range(6)), "n3", "n1"] and texts()["d1"] == "again"
    assert counts_of() == {"documents": 8, "new": 2, "changed": 1}


def test_tables_packed_files_pipes_and_files_beside_folders(site, drtools):
    Path("in/1.TSV.gz").write_bytes(gzip.compress(b"id\ttext\ttitle\nd1\ttext 1\tt1\nd2\tother\t\nn1\tnew\tN\n"))
    Path("in/.hidden.jsonl").write_text("{")
    (Path("in") / "sub.jsonl").mkdir()
    Path("in/list.txt").write_text("x")
    outcome = drtools(
        *("merge-deliveries", "--corpus", "old.jsonl", "in/1.TSV.gz", "in", "-", "-o", "new.jsonl"), stdin=GOOD
    )
    assert outcome.status == 0, outcome.err
    records = [json.loads(line) for line in open("new.jsonl")]
    assert records[1] == OLD[1], "a table tells nothing of other keys"
    assert records[2] == {"_id": "d2", "text": "other"} and records[6] == {"_id": "n1", "title": "N", "text": "new"}
    assert records[7]["_id"] == "new"
    assert "1 file is neither .jsonl nor .tsv and not read (for instance in/list.txt)" in outcome.err


def test_the_last_line_gets_an_end_before_others_follow_it(site, drtools):
    Path("old.jsonl").write_bytes(Path("old.jsonl").read_bytes().rstrip(b"\n"))
    Path("in/a.jsonl").write_bytes(GOOD.rstrip(b"\n"))
    merged(drtools)
    assert list(texts()) == [*(f"d{n}" for n in range(6)), "new"]


def test_keys_are_those_of_the_corpus(site, drtools):
    Path("old.jsonl").write_text('{"docid": 1, "contents": "one"}\n{"docid": "2", "contents": "two"}\n')
    Path("in/a.jsonl").write_text('{"docid": "3", "contents": "three"}\n{"_id": "1", "deleted": true}\n')
    Path("in/b.tsv").write_text("2\tchanged\n")
    merged(drtools)
    assert Path("new.jsonl").read_text() == (
        '{"docid":"2","contents":"changed"}\n{"docid": "3", "contents": "three"}\n'
    )
    Path("in/c.jsonl").write_bytes(GOOD)
    assert "no 'docid' among the keys (found '_id', 'text')" in merged(drtools, "--renew", status=2).err
    Path("in/c.jsonl").write_text('{"_id": "4", "docid": "4", "contents": "four"}\n')
    assert "in/c.jsonl:1: '_id' beside 'docid' among the keys" in merged(drtools, "--renew", status=2).err
    Path("in/c.jsonl").write_bytes(GOOD)
    Path("old.jsonl").write_text("")
    Path("in/a.jsonl").unlink()
    Path("in/b.tsv").unlink()
    merged(drtools, "--renew")
    assert Path("new.jsonl").read_bytes() == GOOD, "an empty corpus takes the keys of what arrives"


def test_the_content_stays_where_nothing_changes(site, drtools):
    """The same documents packed anew, keys in another order, an empty folder, a mark, blank lines, no last end."""
    old = codecs.BOM_UTF8 + b'{"_id": "a", "text": "1"}\r\n\n{"text": "2", "_id": "b"}\n{"_id": "c", "text": "3"}'
    Path("old.jsonl").write_bytes(old)
    assert "no document changed: the content is that of old.jsonl" in merged(drtools).err
    assert Path("new.jsonl").read_bytes() == old
    Path("in/a.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "b", "text": "2"}\n{"text": "3", "_id": "c"}\n'))
    Path("in/b.jsonl").write_text('{"_id": "z", "deleted": true}\n')
    assert "no document changed" in merged(drtools, "--renew").err
    assert Path("new.jsonl").read_bytes() == old
    assert counts_of() == {"documents": 3, "unchanged": 2, "unknown_deletions": 1}
    os.rename("in", "moved")
    again = drtools("merge-deliveries", "--corpus", "old.jsonl", "moved", "-o", "new.jsonl")
    assert again.status == 0 and "already done, by this same request" in again.err
    Path("moved/c.jsonl").write_bytes(GOOD)
    changed = drtools("merge-deliveries", "--corpus", "old.jsonl", "moved", "--renew", "-o", "new.jsonl")
    assert "no document changed" not in changed.err and Path("new.jsonl").read_bytes() == old + b"\n" + GOOD


def test_a_byte_order_mark_is_left_out_with_a_note(site, drtools):
    Path("in/a.jsonl").write_bytes(codecs.BOM_UTF8 + GOOD)
    Path("in/b.tsv").write_bytes(codecs.BOM_UTF8 + b"row\ta text\n")
    outcome = merged(drtools)
    assert Path("new.jsonl").read_bytes().count(codecs.BOM_UTF8) == 0 and list(texts())[6:] == ["new", "row"]
    for name in ("in/a.jsonl", "in/b.tsv"):
        assert f"note: {name}: the byte-order mark at its beginning is left out" in outcome.err


@pytest.mark.parametrize("name", BAD)
def test_a_bad_delivery_ends_the_tool_or_is_set_aside_whole(name, site, drtools):
    content, words = BAD[name]
    Path("in", name).write_bytes(content)
    arrive("zz.jsonl", {"_id": "d0", "text": "changed"})
    refused = merged(drtools, status=2)
    assert words in refused.err and refused.err.count("\n") == 1 and "--quarantine FOLDER" in refused.err
    assert not Path("new.jsonl").exists() and Path("in", name).read_bytes() == content
    strict = merged(drtools, "--quarantine", "bad/today", "--strict", status=2)
    assert words in strict.err and not Path("new.jsonl").exists() and not list(Path("bad").rglob("*.*"))
    outcome = merged(drtools, "--quarantine", "bad/today")
    (line,) = [line for line in outcome.err.splitlines() if words in line]
    assert line.startswith(f"note: in/{name}:") and line.endswith("the delivery is refused as a whole")
    assert "1 refused delivery moved into bad/today" in outcome.err
    assert list(texts()) == [record["_id"] for record in OLD] and texts()["d0"] == "changed"
    assert not Path("in", name).exists() and Path("bad/today", name).read_bytes() == content
    assert sorted(path.name for path in Path("bad/today").iterdir()) == sorted([name, f"{name}.reason.txt"])
    reason = Path("bad/today", f"{name}.reason.txt").read_text().splitlines()
    number = words.split(":")[1]
    assert reason[0] == f"file: in/{name}" and reason[1] == f"line: {number}"
    assert words.split(": ", 1)[1] in reason[2] and "deliver it again" in reason[3]
    counts, record = counts_of(), manifest.read("new.jsonl")
    assert counts["refused_files"] == 1 and counts["changed"] == 1
    assert [entry["file"] for entry in record["refused"]] == [f"in/{name}"] and words in record["notices"][0]


def test_refused_lines_are_counted_up_to_the_damage(site, drtools):
    for name in ("cut.jsonl.gz", "notext.jsonl", "empty.jsonl"):
        Path("in", name).write_bytes(BAD[name][0])
    outcome = merged(drtools, "--quarantine", "bad")
    assert counts_of() == {"documents": 6, "refused_files": 3, "refused_documents": 1002}
    assert "3 deliveries refused with 1,002 lines" in outcome.err
    assert Path("new.jsonl").read_bytes() == Path("old.jsonl").read_bytes()


def test_a_refused_delivery_gives_an_empty_corpus_no_keys(site, drtools):
    Path("old.jsonl").write_text("")
    Path("in/1.jsonl").write_text('{"docid": "x", "contents": "a"}\n{')
    Path("in/2.jsonl").write_bytes(GOOD)
    merged(drtools, "--quarantine", "bad")
    assert Path("new.jsonl").read_bytes() == GOOD


def test_a_quarantine_keeps_earlier_files_of_a_name(site, drtools):
    for content in (b"{", b"[", b"{"):
        Path("in/a.jsonl").write_bytes(content)
        merged(drtools, "--quarantine", "bad", "--overwrite")
    assert {path.name: path.read_bytes() for path in Path("bad").glob("*.jsonl*") if "reason" not in path.name} == {
        "a.jsonl": b"{",
        "a.jsonl.2": b"[",
    }
    assert sorted(path.name for path in Path("bad").glob("*.reason.txt")) == [
        "a.jsonl.2.reason.txt",
        "a.jsonl.reason.txt",
    ]


def test_stopped_before_it_moves_the_same_command_moves(site, drtools, monkeypatch):
    Path("in/a.jsonl").write_bytes(b"{")
    Path("in/b.jsonl").write_bytes(GOOD)

    def stop(source, target):
        assert Path("new.jsonl").exists(), "nothing is moved before the output has its name"
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "move", stop)
        merged(drtools, "--quarantine", "bad", status=130)
    assert Path("in/a.jsonl").read_bytes() == b"{" and "new" in texts()
    assert "in/a.jsonl:1: not JSON" in merged(drtools, status=2).err, "without a quarantine it is still an error"
    outcome = merged(drtools, "--quarantine", "bad")
    assert "already done" in outcome.err and "1 refused delivery moved into bad" in outcome.err
    assert Path("bad/a.jsonl").read_bytes() == b"{" and "line: 1\n" in Path("bad/a.jsonl.reason.txt").read_text()
    assert os.listdir("in") == ["b.jsonl"] and "new" in texts()


def test_across_file_systems_a_stop_leaves_one_whole_file(site, drtools, monkeypatch):
    Path("in/a.jsonl").write_bytes(b"{")
    Path("there.jsonl").write_bytes(b"[")
    os.symlink("../there.jsonl", "in/link.jsonl")

    def other_file_system(source, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))

    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(quarantine.os, "rename", other_file_system)
    with monkeypatch.context() as patch:
        patch.setattr(quarantine.Path, "unlink", stop)
        source, target = Path("in/a.jsonl"), Path("a.copy")
        with pytest.raises(KeyboardInterrupt):
            quarantine.move(source, target)
    assert source.read_bytes() == target.read_bytes() == b"{"
    refusals = [
        quarantine.Refusal(path, manifest.fingerprint(path), "m", "r") for path in (source, Path("in/link.jsonl"))
    ]
    moved, stayed = quarantine.set_aside(Path("bad"), refusals)
    assert [path.read_bytes() for path in moved] == [b"{", b"["] and not stayed
    assert os.listdir("in") == [] and Path("there.jsonl").read_bytes() == b"[", "a link is removed, its file is not"
    assert len(os.listdir("bad")) == 4


def test_a_delivery_that_grew_while_it_was_read_stays(site):
    path = Path("in/a.jsonl")
    path.write_bytes(b"{")
    refusal = quarantine.Refusal(path, manifest.fingerprint(path), "m", "r")
    path.write_bytes(GOOD)
    assert quarantine.set_aside(Path("bad"), [refusal]) == ([], [path])
    assert path.read_bytes() == GOOD and os.listdir("bad") == []


@pytest.mark.slow
def test_killed_while_it_writes(site, program, environment):
    """The output is absent, the deliveries lie where they lay, and the same command again ends as if never killed."""
    with open("old.jsonl", "w") as stream:
        stream.writelines(f'{{"_id": "d{n}", "text": "{"word " * 200}{n}"}}\n' for n in range(40_000))
    Path("in/a.jsonl").write_bytes(GOOD + b'{"_id": "d7", "deleted": true}\n')
    Path("in/b.jsonl").write_bytes(b"{")
    command = [program, "merge-deliveries", "--corpus", "old.jsonl", "in", "--quarantine", "bad", "-o", "new.jsonl"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    data = Path("new.jsonl.partial/data")
    until = time.monotonic() + 60
    while not (data.exists() and data.stat().st_size) and time.monotonic() < until:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not Path("new.jsonl").exists() and sorted(os.listdir("in")) == ["a.jsonl", "b.jsonl"]
    assert not Path("bad").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = texts()
    assert len(found) == 40_000 and list(found)[-1] == "new" and "d7" not in found
    assert os.listdir("in") == ["a.jsonl"] and Path("bad/b.jsonl").read_bytes() == b"{"


@pytest.mark.slow
def test_killed_between_every_two_file_operations(site, program, environment):
    """No delivery is lost, none is merged in half, and the same command again ends in the same state.

    It needs --renew, because a folder of which one file was moved is another input.
    """
    words = ["merge-deliveries", "--corpus", "old.jsonl", "in", "--quarantine", "bad", "--renew", "-o", "out/new.jsonl"]
    bad = {"b.jsonl": b"{", "c.jsonl": b"["}

    def run(at: int) -> int:
        command = [program, "-c", COUNTED, str(at), str(int(signal.SIGKILL)), str(site), "/dev/null", *words]
        return subprocess.run(command, env=environment, capture_output=True, timeout=120).returncode

    def begin() -> None:
        for folder in ("in", "bad", "out"):
            shutil.rmtree(folder, ignore_errors=True)
        os.mkdir("in")
        os.mkdir("out")
        for name, content in {"a.jsonl": GOOD, **bad}.items():
            Path("in", name).write_bytes(content)

    def check_whole() -> None:
        assert Path("out/new.jsonl").read_bytes() == Path("old.jsonl").read_bytes() + GOOD
        assert os.listdir("in") == ["a.jsonl"]
        reasons = [f"{name}{quarantine.REASON}" for name in bad]
        assert sorted(os.listdir("bad")) == sorted([*bad, *reasons])
        assert all(Path("bad", name).read_bytes() == content for name, content in bad.items())

    for at in range(1, 200):
        begin()
        status = run(at)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        for name, content in bad.items():
            here, there = Path("in", name), Path("bad", name)
            assert (here if here.exists() else there).read_bytes() == content
            assert Path("out/new.jsonl").exists() or not there.exists()
        assert run(0) == 0
        check_whole()
    assert 20 < at < 199
    check_whole()


def test_memory_grows_with_the_deliveries_and_not_with_the_corpus(site):
    with open("old.jsonl", "w") as stream:
        stream.writelines(f'{{"_id": "d{n}", "text": "{"word " * 200}{n}"}}\n' for n in range(20_000))
    Path("in/a.jsonl").write_bytes(GOOD)
    assert Path("old.jsonl").stat().st_size > 20_000_000
    tracemalloc.start()
    try:
        changes = Changes(keys_of_corpus("old.jsonl"))
        changes.take("in/a.jsonl")
        with open("new.jsonl", "wb") as stream:
            counts = merge("old.jsonl", changes, stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert counts["documents"] == 20_001 and counts["new"] == 1
    assert peak < 1_000_000


def test_refusals_of_what_is_no_merge(site, drtools):
    arrive("a.jsonl", {"_id": "d1", "text": "x"})
    Path("file").write_text("")
    assert "expected a folder for refused files" in merged(drtools, "--quarantine", "file", status=2).err
    assert "is a folder of inputs" in merged(drtools, "--quarantine", "in", status=2).err
    assert "no such file or folder" in drtools("merge-deliveries", "--corpus", "old.jsonl", "nowhere").err
    for corpus, output in (("in/a.jsonl", "new.jsonl"), ("old.jsonl", "in/new.jsonl")):
        Path("in/new.jsonl").write_bytes(GOOD)
        outcome = drtools("merge-deliveries", "--corpus", corpus, "in", "--renew", "-o", output)
        assert outcome.status == 2 and "is among the deliveries; keep it in another folder" in outcome.err
    Path("in/new.jsonl").unlink()
    Path("old.tsv").write_text("d1\ttext\n")
    outcome = drtools("merge-deliveries", "--corpus", "old.tsv", "in")
    assert outcome.status == 2 and "old.tsv:1: found columns, expected JSON lines" in outcome.err
    write_jsonl(site / "old.jsonl", [OLD[1], OLD[2], OLD[1]])
    assert "old.jsonl:3: the id 'd1' is also on line 1; ids must be unique" in merged(drtools, status=2).err


def test_standard_output_and_show(site, drtools):
    Path("in/a.jsonl").write_bytes(GOOD)
    Path("in/b.jsonl").write_bytes(b"{")
    outcome = drtools("merge-deliveries", "--corpus", "old.jsonl", "in", "--quarantine", "bad")
    assert outcome.status == 0 and outcome.out.encode() == Path("old.jsonl").read_bytes() + GOOD
    assert Path("bad/b.jsonl").exists()
    piped = drtools("merge-deliveries", "--corpus", "old.jsonl", "-", "--quarantine", "bad", stdin=b"{")
    assert piped.status == 2 and "standard input:1: not JSON" in piped.err and "--quarantine" not in piped.err
    Path("in/b.jsonl").write_bytes(b"{")
    strict = drtools("merge-deliveries", "--corpus", "old.jsonl", "in", "--quarantine", "bad", "--strict")
    assert strict.status == 2 and Path("in/b.jsonl").exists(), "nothing is moved"
    merged(drtools, "--quarantine", "bad")
    shown = drtools("show", "new.jsonl")
    assert shown.status == 0 and "text 0" in shown.out and "merge-deliveries" in shown.out


def test_what_has_changed_since_an_earlier_corpus(site, drtools):
    arrive("1.jsonl", {"_id": "n1", "text": "1"}, {"_id": "n2", "text": "2"}, {"_id": "d1", "text": "other"})
    merged(drtools)
    Path("new.jsonl").rename("earlier.jsonl")
    arrive("2.jsonl", {"_id": "n1", "text": "1, changed"}, {"_id": "n3", "text": "3"}, {"_id": "d2", **DELETED})
    outcome = merged(drtools, "--since", "earlier.jsonl")
    assert "since earlier.jsonl: 1 new, 1 changed, 1 deleted, 0 missing\n" in outcome.err
    then, now = texts("earlier.jsonl"), texts()
    assert manifest.read("new.jsonl")["since"] == {
        "new": len(now.keys() - then.keys()),
        "changed": sum(now[each] != then[each] for each in now.keys() & then.keys()),
        "deleted": len(then.keys() - now.keys()),
        "missing": 0,
    }
    Path("earlier.jsonl").write_bytes(
        codecs.BOM_UTF8 + b"\n".join(Path("new.jsonl").read_bytes().splitlines()) + b"\n\n"
    )
    outcome = merged(drtools, "--since", "earlier.jsonl", "--renew")
    assert "since earlier.jsonl: 0 new, 0 changed, 0 deleted, 0 missing\n" in outcome.err, "the same documents"


def test_a_corpus_that_misses_documents_is_refused(site, drtools):
    arrive("1.jsonl", *({"_id": f"n{n}", "text": f"text {n}"} for n in range(4)))
    merged(drtools)
    Path("new.jsonl").rename("earlier.jsonl")
    Path("in/1.jsonl").unlink()
    arrive("2.jsonl", {"_id": "d2", **DELETED}, {"_id": "n3", **DELETED})
    Path("in/3.jsonl").write_bytes(b"{")
    outcome = merged(drtools, "--since", "earlier.jsonl", "--quarantine", "bad", status=3)
    assert (
        "earlier.jsonl: 3 of its 10 documents are missing now (for instance 'n0'), and no delivery deletes them; a "
        "share of at most 0.1 may be missing, so nothing was written; deliver them again, or pass --allow-dropped 0.3 "
        "if this is meant\n" in outcome.err
    )
    assert not Path("new.jsonl").exists() and Path("in/3.jsonl").exists() and not list(site.glob("*.partial"))
    outcome = merged(drtools, "--since", "earlier.jsonl", "--quarantine", "bad", "--allow-dropped", "0.3")
    assert "note: earlier.jsonl: 3 of its 10 documents are missing now" in outcome.err and Path("bad/3.jsonl").exists()
    assert manifest.read("new.jsonl")["since"] == {"new": 0, "changed": 0, "deleted": 2, "missing": 3}
    assert "--allow-dropped needs --since" in merged(drtools, "--allow-dropped", "0.3", status=2).err
