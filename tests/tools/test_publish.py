"""publish: readers of the link see one whole version at every moment, whoever publishes or dies."""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from drtools.cli.flags.outputs import FolderOutput
from drtools.outputs import manifest
from drtools.outputs.opening import open_folder
from drtools.outputs.releases import publish
from drtools.outputs.versions import current_version, pinned, versions_of

PUBLISH = [sys.executable, "-m", "drtools", "publish"]
FILES = 6
OPERATIONS = ("open", "os.link", "os.mkdir", "os.rename", "os.remove", "os.symlink", "os.rmdir")


def finished(folder: Path, content: str, kind: str = "vectors", **facts: object) -> Path:
    """Make a finished output whose files all hold the same words."""
    asked = FolderOutput(str(folder), overwrite=True)
    asked.request.update({"tool": "encode", "arguments": {"content": content}})
    with open_folder(asked) as work:
        for number in range(FILES):
            place = work.path / f"part{number % 2}" / f"{number}.txt"
            place.parent.mkdir(exist_ok=True)
            place.write_text(content)
        work.finish(kind=kind, **facts)
    return folder


def read(version: Path) -> set[str]:
    """Return what a version's files hold."""
    return {(version / f"part{number % 2}" / f"{number}.txt").read_text() for number in range(FILES)}


@pytest.fixture
def two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return finished(Path("a"), "old"), finished(Path("b"), "new")


def test_a_version_is_named_once_and_an_earlier_one_is_gone_back_to(two, drtools):
    for folder, place, said in [
        ("a", "00001", "now"),
        ("b", "00002", "now"),
        ("b", "00002", "already"),
        ("a", "00001", "now"),
    ]:
        outcome = drtools("publish", folder, "live")
        assert outcome.status == 0 and said in outcome.err and place in outcome.err
    assert not os.path.isabs(os.readlink("live")) and read(Path("live")) == {"old"}
    assert drtools("publish", versions_of(Path("live"))[1], "live").status == 0
    assert read(Path("live")) == {"new"} and manifest.read("live") == manifest.read("b")
    assert os.stat("live/part0/0.txt").st_ino == os.stat("b/part0/0.txt").st_ino  # no disk
    finished(Path("b"), "newer")
    assert read(Path("live")) == {"new"}, "an output that is replaced must leave what was published of it"
    assert drtools("publish", "--quiet", "b", "live").err == ""


def test_the_current_and_the_latest_others_are_kept(tmp_path, monkeypatch, drtools):
    monkeypatch.chdir(tmp_path)
    for number in range(5):
        drtools("publish", finished(Path("a"), str(number)), "live", "--keep", "3")
    assert [path.name[:5] for path in versions_of(Path("live"))] == ["00003", "00004", "00005"]
    first = versions_of(Path("live"))[0]
    drtools("publish", first, "live")
    drtools("publish", finished(Path("c"), "x"), "live", "--keep", "2")
    assert [path.name[:5] for path in versions_of(Path("live"))] == ["00003", "00006"], (
        "what was live a moment before stays for its readers"
    )
    assert drtools("publish", "c", "live", "--keep", "1").status == 2


def test_several_folders_are_one_version(two, drtools):
    assert drtools("publish", "a", "b", "live").status == 0
    assert (read(Path("live/a")), read(Path("live/b"))) == ({"old"}, {"new"})
    parts = manifest.read("live")["request"]["arguments"]["folders"]
    assert [part["fingerprint"] for part in parts] == [manifest.fingerprint("a"), manifest.fingerprint("b")]
    assert "already" in drtools("publish", "a", "b", "live").err
    release = current_version(Path("live"))
    drtools("publish", "a", "live")
    drtools("publish", release, "live")
    assert current_version(Path("live")) == release
    finished(Path("c/a"), "other")
    assert "two of the folders are called a" in drtools("publish", "a", "c/a", "live").err


def test_what_is_not_whole_is_refused_and_the_link_stays(two, drtools):
    drtools("publish", "a", "live")
    (two[1] / "part0/0.txt").unlink()
    (two[1] / "part0/0.txt").write_text("changed")
    Path("bare").mkdir()
    Path("joined").mkdir()
    Path("joined/parts.json").write_text("{}")
    Path("b.partial").mkdir()
    Path("taken").mkdir()
    for words, said in {
        ("b", "live"): "7 bytes were found, expected 3: it was changed or cut short after it was made; make it again",
        ("bare", "live"): "no manifest.json",
        ("joined", "live"): "--no-copy",
        ("b.partial", "live"): "unfinished work",
        ("nowhere", "live"): "no such folder",
        ("a", "taken"): "expected a link or a new name",
    }.items():
        outcome = drtools("publish", *words)
        assert outcome.status == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err
    assert read(Path("live")) == {"old"} and len(versions_of(Path("live"))) == 1
    assert not list(Path("live.versions").glob("*.partial"))


def test_a_copy_where_there_are_no_hard_links_and_a_full_disk(two, drtools, monkeypatch):
    def no_link(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    assert drtools("publish", "a", "live").status == 0
    assert read(Path("live")) == {"old"} and os.stat("live/part0/0.txt").st_ino != os.stat("a/part0/0.txt").st_ino

    def full(source, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("shutil.copy2", full)
    outcome = drtools("publish", "b", "live")
    assert outcome.status == 1 and "No space left" in outcome.err and len(outcome.err.splitlines()) == 1
    assert read(Path("live")) == {"old"} and not list(Path("live.versions").glob("*.partial"))


def changes(seen: list[str]) -> int:
    return sum(before != after for before, after in itertools.pairwise(seen))


@pytest.mark.slow
def test_readers_never_see_a_half(two, environment):
    """Readers go round while two publishers switch the link against each other and are killed at random."""
    subprocess.run([*PUBLISH, "a", "live"], env=environment, check=True, capture_output=True)
    stop, seen, problems = threading.Event(), [], []

    def go_round():
        while not stop.is_set():
            try:
                assert (
                    json.loads(Path("live/manifest.json").read_bytes())["kind"] == "vectors"
                )  # the link always leads somewhere whole
                words = read(Path(os.path.realpath("live")))
                assert len(words) == 1
                seen.append(words.pop())
            except (OSError, AssertionError) as problem:
                problems.append(repr(problem))

    readers = [threading.Thread(target=go_round) for _ in range(2)]
    for reader in readers:
        reader.start()
    code = (
        "import sys\nfrom pathlib import Path\nfrom drtools.outputs.releases import publish\nwhile True:\n for name in "
        "'ab': publish([Path(name)], Path('live'), 2)"
    )
    generator = random.Random()
    try:
        while changes(seen) < 10 and not problems:
            publishers = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
            time.sleep(0.5 + generator.random() / 2)
            for publisher in publishers:
                assert publisher.poll() is None
                publisher.kill()
                publisher.wait()
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not problems, problems[:3]
    last = subprocess.run([*PUBLISH, "b", "live"], env=environment, capture_output=True, text=True)
    assert last.returncode == 0 and read(Path("live")) == {"new"}
    assert len(versions_of(Path("live"))) == 2 and not list(Path("live.versions").glob("*.partial"))


def dies_at(event: int) -> bool:
    """Publish b in a process that dies just before its file operation of this number; return whether it died."""
    child = os.fork()
    if not child:
        counted = itertools.count(1)
        sys.addaudithook(lambda name, _: os._exit(9) if name in OPERATIONS and next(counted) == event else None)
        publish([Path("b")], Path("live"), 2)
        os._exit(0)
    return bool(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_killed_before_any_file_operation_the_link_leads_to_a_whole_version(two, drtools):
    publish([two[0]], Path("live"), 2)
    start = current_version(Path("live"))
    for event in itertools.count(1):
        died = dies_at(event)
        assert read(Path("live")) in ({"old"}, {"new"}), event
        assert all(len(read(version)) == 1 for version in versions_of(Path("live"))), event
        publish([two[1]], Path("live"), 2)
        assert read(Path("live")) == {"new"} and len(versions_of(Path("live"))) == 2, event
        assert not list(Path("live.versions").glob("*.partial")), event
        if not died:
            break
        publish([two[0]], Path("live"), 2)
        shutil.rmtree(versions_of(Path("live"))[1])  # so that it is made anew
        assert current_version(Path("live")) == start
    assert event > 20


def test_inputs_of_one_command_are_of_one_version(two, drtools):
    drtools("publish", "a", "b", "live")
    seen: dict = {}
    first = pinned("live/a", seen)
    drtools("publish", "b", "live")
    assert Path(first).parent == Path(pinned("live/b", seen)).parent == versions_of(Path("live"))[0]
    assert Path(pinned("live", {})) == versions_of(Path("live"))[1]
    Path("own").symlink_to("a")
    assert pinned("own", {}) == "own" and pinned("a/part0", {}) == "a/part0"


def test_a_tool_records_the_version_that_it_read(toy, encoder_folder, drtools, monkeypatch):
    monkeypatch.chdir(toy.folder)
    assert drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", "vectors").status == 0
    drtools("publish", "vectors", "live")
    assert drtools("search", "--vectors", "live", "--queries", toy.queries, "-o", "a.run").status == 0
    assert manifest.read("a.run")["request"]["arguments"]["vectors"]["path"] == str(versions_of(Path("live"))[0])


def test_a_folder_that_was_changed_since_it_was_published_is_refused(two, drtools):
    assert drtools("publish", "a", "live").status == 0
    place = next(path for path in Path("a").rglob("*.txt"))
    place.unlink()  # the version's file of that name is a link to the same bytes
    place.write_text("two")  # as many bytes as before
    outcome = drtools("publish", "a", "live")
    assert outcome.status == 2 and "its files differ from its manifest" in outcome.err, outcome.err


def counted(name: str, count: int, kind: str = "vectors", **facts: object) -> Path:
    """Make a finished output of so many documents, whose content says how many."""
    return finished(Path(name), f"{kind} {count}", kind, count=count, **facts)


@pytest.mark.parametrize("alone", [True, False])
def test_a_version_with_far_fewer_documents_is_refused(tmp_path, monkeypatch, drtools, alone):
    monkeypatch.chdir(tmp_path)
    more = [] if alone else [finished(Path("model"), "weights", "encoder")]
    assert drtools("publish", counted("first/vectors", 1000), *more, "live").status == 0
    assert drtools("publish", counted("second/vectors", 900), *more, "live").status == 0  # a tenth, and no more
    second = current_version(Path("live"))
    third = counted("third/vectors", 809)
    for words in ([], ["--allow-shrinking", "0.1"]):
        refused = drtools("publish", third, *more, "live", *words)
        assert refused.status == 3 and len(refused.err.splitlines()) == 1, refused.err
        assert "vectors has 809 documents, where the current version has 900" in refused.err, refused.err
        assert "--allow-shrinking 0.11" in refused.err and current_version(Path("live")) == second
    assert len(versions_of(Path("live"))) == 2 and not list(Path("live.versions").glob("*.partial"))
    assert drtools("publish", third, *more, "live", "--allow-shrinking", "0.11").status == 0
    assert drtools("publish", counted("grown/vectors", 5000), *more, "live").status == 0
    again = drtools("publish", third, *more, "live")  # the folders of an earlier version are compared too
    assert again.status == 3 and "has 5,000" in again.err
    assert drtools("publish", versions_of(Path("live"))[0], "live").status == 0  # its path is not


def test_folders_of_the_same_name_and_kind_are_compared(tmp_path, monkeypatch, drtools):
    monkeypatch.chdir(tmp_path)
    model = finished(Path("model"), "weights", "encoder")
    parts = [
        counted("1/index", 1000, "faiss"),
        counted("1/bm25", 1000, "lucene"),
        counted("1/queries", 50, side="query"),
    ]
    assert drtools("publish", *parts, model, "live").status == 0
    others = [
        counted("2/index", 10, "lucene"),
        counted("2/words", 10, "lucene"),
        counted("2/queries", 50, side="query"),
    ]
    assert drtools("publish", *others, model, "live").status == 0
    fewer = [counted("3/index", 8, "lucene"), counted("3/words", 10, "lucene"), counted("3/queries", 20, side="query")]
    refused = drtools("publish", *fewer, model, "live")
    assert refused.status == 3 and len(refused.err.splitlines()) == 1, refused.err
    for said in ("index has 8 documents", "has 10, queries has 20 queries", "has 50;", "--allow-shrinking 0.6 "):
        assert said in refused.err, refused.err


def test_a_damaged_current_version_does_not_stop_the_next(tmp_path, monkeypatch, drtools):
    monkeypatch.chdir(tmp_path)
    drtools("publish", counted("a/vectors", 1000), "live")
    (current_version(Path("live")) / "manifest.json").write_text("{")
    outcome = drtools("publish", counted("b/vectors", 10), "live")
    assert outcome.status == 0 and "nothing was compared" in outcome.err, outcome.err
    shutil.rmtree(current_version(Path("live")))
    assert drtools("publish", counted("c/vectors", 9), "live").status == 0
