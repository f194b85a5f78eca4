"""OUT.partial, locks, requests: whole or not at all, and nothing lost."""

import fcntl
import json
import os
from pathlib import Path

import pytest
from conftest import flags_for

from drtools import reporting
from drtools.cli import console
from drtools.cli.flags.outputs import FileOutput, FolderOutput
from drtools.errors import AlreadyDone, InputError, WorldError
from drtools.formats.trec import read_run
from drtools.outputs import manifest
from drtools.outputs.naming import Place
from drtools.outputs.opening import open_file, open_folder


@pytest.fixture(autouse=True)
def quiet():
    console.configure("test", quiet=True)


def make_folder(path, text="a", **keywords):
    with open_folder(flags_for(FolderOutput, path, **keywords)) as work:
        (work.path / "data.txt").write_text(text)
        work.finish(count=1)


def make_file(path, data=b"a\n", **keywords):
    with open_file(flags_for(FileOutput, path, **keywords)) as work:
        work.stream.write(data)
        work.finish(count=1)


def test_a_folder_appears_whole_with_its_manifest(tmp_path):
    with open_folder(flags_for(FolderOutput, tmp_path / "out")) as work:
        (work.path / "data.txt").write_text("a")
        assert not (tmp_path / "out").exists()
        work.finish(count=1)
    assert sorted(os.listdir(tmp_path / "out")) == ["data.txt", "manifest.json"]
    assert manifest.read(tmp_path / "out")["count"] == 1
    assert os.listdir(tmp_path) == ["out"]


def test_a_file_appears_whole_with_its_manifest_beside_it(tmp_path):
    make_file(tmp_path / "x.jsonl")
    assert sorted(os.listdir(tmp_path)) == ["x.jsonl", "x.jsonl.manifest.json"]
    assert manifest.read(tmp_path / "x.jsonl")["fingerprint"] == manifest.fingerprint(tmp_path / "x.jsonl")


def test_gzip_files_are_the_same_bytes_each_time(tmp_path):
    make_file(tmp_path / "a.gz", b"hello\n" * 9)
    make_file(tmp_path / "b.gz", b"hello\n" * 9)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    import gzip

    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"hello\n" * 9


@pytest.mark.parametrize("make", [make_folder, make_file])
def test_the_same_request_again_is_done_already(tmp_path, make):
    make(tmp_path / "out", depth=1)
    with pytest.raises(AlreadyDone):
        make(tmp_path / "out", depth=1)
    with pytest.raises(InputError, match="depth: 1 then, 2 now"):
        make(tmp_path / "out", depth=2)
    make(tmp_path / "out", depth=2, overwrite=True)
    assert manifest.read(tmp_path / "out")["request"]["arguments"] == {"depth": 2}


def test_an_input_counts_by_content_not_by_name(tmp_path):
    make_folder(tmp_path / "out", corpus={"path": "a", "fingerprint": "1"})
    with pytest.raises(AlreadyDone):
        make_folder(tmp_path / "out", corpus={"path": "b", "fingerprint": "1"})
    with pytest.raises(InputError, match="corpus: the content of a has changed"):
        make_folder(tmp_path / "out", corpus={"path": "a", "fingerprint": "2"})


def test_saved_work_is_continued_and_the_rest_forgotten(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_file(flags_for(FileOutput, tmp_path / "x")) as work:
        work.stream.write(b"one\n")
        work.save(lines=1)
        work.stream.write(b"half of tw")
        raise KeyboardInterrupt
    with (
        pytest.raises(InputError, match="begun by another request"),
        open_file(flags_for(FileOutput, tmp_path / "x", other=1)),
    ):
        pass
    with open_file(flags_for(FileOutput, tmp_path / "x")) as work:
        assert work.state["lines"] == 1
        work.stream.write(b"two\n")
        work.finish()
    assert (tmp_path / "x").read_bytes() == b"one\ntwo\n"
    assert sorted(os.listdir(tmp_path)) == ["x", "x.manifest.json"]


def test_the_seconds_are_those_of_all_processes(tmp_path, monkeypatch):
    clock = iter([100.0, 130.0, 500.0, 507.0, 900.0, 901.0])  # begun, saved; begun, saved; begun, finished
    monkeypatch.setattr("drtools.outputs.work.time.time", lambda: next(clock))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), open_folder(flags_for(FolderOutput, tmp_path / "x")) as work:
            work.save(lines=1)
            raise KeyboardInterrupt
    with open_folder(flags_for(FolderOutput, tmp_path / "x")) as work:
        work.finish()
    assert manifest.read(tmp_path / "x")["seconds"] == 38


def test_work_without_progress_leaves_nothing(tmp_path):
    with pytest.raises(InputError), open_folder(flags_for(FolderOutput, tmp_path / "out")) as work:
        (work.path / "data.txt").write_text("a")
        raise InputError("bad line")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("make", [make_folder, make_file])
def test_renew_replaces_another_request_and_keeps_this_one(tmp_path, make):
    make(tmp_path / "out", depth=1)
    made = manifest.beside(tmp_path / "out").stat().st_mtime_ns
    with pytest.raises(AlreadyDone):
        make(tmp_path / "out", depth=1, renew=True)
    assert manifest.beside(tmp_path / "out").stat().st_mtime_ns == made
    make(tmp_path / "out", depth=2, renew=True)
    assert manifest.read(tmp_path / "out")["request"]["arguments"] == {"depth": 2}


def test_renew_continues_its_own_partial_and_drops_another(tmp_path):
    for depth, found in ((1, {}), (1, {"done": 1}), (2, {})):
        with (
            pytest.raises(KeyboardInterrupt),
            open_folder(flags_for(FolderOutput, tmp_path / "out", renew=True, depth=depth)) as work,
        ):
            assert work.state == found
            assert (work.path / "half").exists() == bool(found)
            (work.path / "half").write_text("x")
            work.save(done=1)
            raise KeyboardInterrupt


def test_a_failed_overwrite_keeps_what_was_there(tmp_path):
    make_folder(tmp_path / "out", "old")
    with pytest.raises(InputError), open_folder(flags_for(FolderOutput, tmp_path / "out", overwrite=True, x=2)):
        raise InputError("bad line")
    assert (tmp_path / "out" / "data.txt").read_text() == "old"


def test_foreign_things_are_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not a finished output of drtools"):
            make_folder(tmp_path / "mine", overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_two_processes_never_write_the_same_output(tmp_path):
    (tmp_path / "out.partial").mkdir()
    with open(tmp_path / "out.partial" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(WorldError, match="another process"):
            make_folder(tmp_path / "out")


def test_strict_turns_what_was_odd_into_a_refusal(tmp_path):
    console.configure("test", quiet=True, strict=True)
    with (
        pytest.raises(InputError, match="3 texts were empty"),
        open_folder(flags_for(FolderOutput, tmp_path / "out")) as work,
    ):
        reporting.notice(3, "3 texts were empty")
        work.finish()
    assert not (tmp_path / "out").exists()


def test_a_fingerprint_is_remembered_and_follows_changes(tmp_path, cache):
    file = tmp_path / "a"
    file.write_text("one")
    first = manifest.fingerprint(file)
    assert manifest.fingerprint(file) == first
    file.write_text("two")
    os.utime(file, ns=(1, 1))
    assert manifest.fingerprint(file) != first
    assert (cache / "fingerprints.sqlite").exists()


def test_request_json_is_written_before_any_work(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_folder(flags_for(FolderOutput, tmp_path / "out", a=1)) as work:
        assert json.loads((work.path / "request.json").read_text())["arguments"] == {"a": 1}
        raise KeyboardInterrupt


def test_a_process_that_died_before_the_last_rename_is_finished_by_the_next(tmp_path, monkeypatch):
    with (
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt),
        open_folder(flags_for(FolderOutput, tmp_path / "out", a=1)) as work,
    ):
        (work.path / "data.txt").write_text("a")
        (work.working / "checkpoint").write_text("b")
        work.save(step=1)
        patch.setattr(Place, "name_folder", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        work.finish(count=1)
    with pytest.raises(AlreadyDone), open_folder(flags_for(FolderOutput, tmp_path / "out", a=1)):
        pass
    assert sorted(os.listdir(tmp_path / "out")) == ["data.txt", "manifest.json"]
    assert manifest.read(tmp_path / "out")["count"] == 1


def test_a_following_process_sees_what_lacks_only_its_name(tmp_path, monkeypatch):
    make_folder(tmp_path / "out", depth=1)
    os.rename(tmp_path / "out", tmp_path / "out.partial")  # as a process leaves it that dies before the rename
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(AlreadyDone):
        make_folder(tmp_path / "out", depth=1)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(AlreadyDone):
        make_folder(tmp_path / "out", depth=1)
    assert (tmp_path / "out/data.txt").exists() and not (tmp_path / "out.partial").exists()


def test_another_programs_manifest_is_no_leave_to_replace_a_folder(toy, encoder_folder, drtools, tmp_path):
    out = tmp_path / "web"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    words = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", out]
    for record in ('{"name": "an app"}', '{"request": {}, "fingerprint": "x"}', "no json"):
        (out / "manifest.json").write_text(record)
        for more in ([], ["--overwrite"], ["--renew"]):
            outcome = drtools(*words, *more)
            assert outcome.status == 2 and "exists and is not a finished output of drtools" in outcome.err, outcome.err
    assert (out / "thesis.tex").read_text() == "years of work"
    other = tmp_path / "other.partial"
    other.mkdir()
    (other / "notes").write_text("mine")
    outcome = drtools(*words[:-1], tmp_path / "other")
    assert (
        outcome.status == 2 and "was not made by drtools" in outcome.err and (other / "notes").read_text() == "mine"
    ), outcome.err


def test_a_folder_of_others_and_a_link_do_not_stand_in_the_way_of_a_name(toy, encoder_folder, drtools, tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "small").mkdir()
    (tmp_path / "small/v").symlink_to(tmp_path / "big/v")
    words = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", tmp_path / "small/v"]
    assert drtools(*words).status == 0
    for seed in range(2):
        left = tmp_path / "big/v.replaced"
        left.mkdir(exist_ok=True)
        (left / "x").write_text("mine")
        outcome = drtools(*words, "--max-document-tokens", 20 + seed, "--renew")
        assert outcome.status == 0, outcome.err
        assert (
            (tmp_path / "small/v").is_symlink()
            and (left / "x").read_text() == "mine"
            and json.loads((tmp_path / "big/v/manifest.json").read_text())["request"]["arguments"][
                "max_document_tokens"
            ]
            == 20 + seed
        )


@pytest.mark.parametrize("died", ["before the data", "before the manifest"])
def test_a_file_that_lacks_only_its_name_gets_it(tmp_path, drtools, monkeypatch, died):
    for name in ("a", "b"):
        (tmp_path / f"{name}.run").write_text("q1 Q0 d1 1 2 x\nq1 Q0 d2 2 1 x\n")
    words = ["fuse", tmp_path / "a.run", tmp_path / "b.run", "-o", tmp_path / "out.run.gz", "--renew"]
    assert drtools(*words, "--depth", 1).status == 0
    plain, calls = os.replace, []

    def failing(source, target):
        if Path(source).parent.name == "out.run.gz.partial" and not str(target).endswith(
            ("request.json", "state.json", "out.run.gz.partial/manifest.json")
        ):
            calls.append(target)
            if len(calls) == (1 if died == "before the data" else 2):
                raise OSError(28, "No space left on device")
        plain(source, target)

    monkeypatch.setattr(os, "replace", failing)
    assert drtools(*words).status == 1
    monkeypatch.setattr(os, "replace", plain)
    outcome = drtools(*words)
    assert outcome.status == 0 and "already done" in outcome.err, outcome.err
    assert not (tmp_path / "out.run.gz.partial").exists() and len(read_run(tmp_path / "out.run.gz")["q1"]) == 2


@pytest.mark.parametrize("words", [["encode"], ["eval"], ["index"]])
def test_what_is_one_processs_work_is_refused_to_several(toy, encoder_folder, drtools, monkeypatch, tmp_path, words):
    monkeypatch.setenv("WORLD_SIZE", "2")
    more = {
        "encode": ["--model", encoder_folder, "--corpus", toy.corpus, "-o", tmp_path / "v"],
        "eval": ["--qrels", toy.qrels, "x.run"],
        "index": ["--corpus", toy.corpus, "-o", tmp_path / "v"],
    }
    outcome = drtools(*words, *more[words[0]])
    assert (
        outcome.status == 2
        and f"{words[0]} runs in one process, but 2 were started" in outcome.err
        and not (tmp_path / "v").exists()
    ), outcome.err


@pytest.mark.parametrize(
    "left", [[], ["lock"], ["lock", "request.json.new"]], ids=["nothing", "lock", "half a request"]
)
def test_what_a_process_left_that_died_at_once_is_begun_again(tmp_path, left):
    for name in ("done", "failed"):
        (tmp_path / f"{name}.partial").mkdir()
        for part in left:
            (tmp_path / f"{name}.partial" / part).write_text("{")
    make_folder(tmp_path / "done")
    with pytest.raises(InputError, match="wrong"), open_folder(flags_for(FolderOutput, tmp_path / "failed")):
        raise InputError("wrong")
    assert os.listdir(tmp_path) == ["done"] and sorted(os.listdir(tmp_path / "done")) == ["data.txt", "manifest.json"]


def test_a_file_takes_no_folders_work_and_nothing_of_others_for_its_own(tmp_path, drtools):
    for name in ("a", "b"):
        (tmp_path / f"{name}.run").write_text("q1 Q0 d1 1 2 x\n")
    ours = '{"request": {"tool": "encode", "arguments": {}}, "fingerprint": "x"}'
    for name, record in (("folder", ours), ("foreign", '{"name": "an app"}')):
        partial = tmp_path / f"{name}.partial"
        partial.mkdir()
        (partial / "manifest.json").write_text(record)
        (partial / "vectors.npy").write_text("hours of work")
    outcome = drtools("fuse", tmp_path / "a.run", tmp_path / "b.run", "-o", tmp_path / "foreign")
    assert outcome.status == 2 and (tmp_path / "foreign.partial/vectors.npy").read_text() == "hours of work", (
        outcome.err
    )
    outcome = drtools("fuse", tmp_path / "a.run", tmp_path / "b.run", "-o", tmp_path / "folder", "--overwrite")
    assert outcome.status == 2 and "a finished output has the name that unfinished work needs" in outcome.err
    assert (tmp_path / "folder.partial/vectors.npy").read_text() == "hours of work"
    os.rename(tmp_path / "folder.partial", tmp_path / "elsewhere")
    assert drtools("fuse", tmp_path / "a.run", tmp_path / "b.run", "-o", tmp_path / "folder").status == 0
    assert (
        read_run(tmp_path / "folder") and json.loads((tmp_path / "folder.manifest.json").read_text())["tool"] == "fuse"
    ), "not the manifest of vectors"


def test_what_was_published_is_not_written_to(toy, encoder_folder, drtools, tmp_path):
    words = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o"]
    assert (
        drtools(*words, tmp_path / "v").status == 0
        and drtools("publish", tmp_path / "v", tmp_path / "live").status == 0
    )
    before = (tmp_path / "live/manifest.json").read_bytes()
    outcome = drtools(*words, tmp_path / "live", "--max-document-tokens", 9, "--overwrite")
    assert outcome.status == 2 and "a published link" in outcome.err, outcome.err
    assert (tmp_path / "live").is_symlink() and (tmp_path / "live/manifest.json").read_bytes() == before


@pytest.mark.parametrize("left", [("request.json", "lock", "working"), ("request.json", "lock"), ("lock",), ()])
def test_what_a_process_left_that_died_after_the_last_rename_is_cleared(tmp_path, left):
    with open_file(flags_for(FileOutput, tmp_path / "out.run")) as work:
        work.stream.write(b"q1 Q0 d1 1 1.0 x\n")
        work.save(rows=1)
        kept = {"lock": b"", "request.json": (work.path / "request.json").read_bytes()}
        work.finish(kind="run")
    partial = tmp_path / "out.run.partial"
    partial.mkdir()
    for name in left:
        (partial / name).mkdir() if name == "working" else (partial / name).write_bytes(kept[name])
    with pytest.raises(AlreadyDone), open_file(flags_for(FileOutput, tmp_path / "out.run")):
        pass
    assert not partial.exists() and (tmp_path / "out.run").exists()
