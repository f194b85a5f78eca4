"""What belongs to others is never removed or taken for an output; what is damaged is never taken for whole."""

import json
import os
import stat
from pathlib import Path

import pytest
from conftest import flags_for

from drtools.cli.flags.outputs import FileOutput, FolderOutput
from drtools.errors import InputError, WorldError
from drtools.formats.npy import create_npy
from drtools.outputs import disk, manifest, naming
from drtools.outputs.opening import open_file, open_folder


def make_folder(path, overwrite=False, renew=False, **arguments):
    output = flags_for(FolderOutput, path, overwrite=overwrite, renew=renew, **arguments)
    with open_folder(output) as work:
        (work.path / "ids.txt").write_text("d1\nd2\n")
        work.finish(kind="vectors")


def make_file(path, overwrite=False, **arguments):
    with open_file(flags_for(FileOutput, path, overwrite=overwrite, **arguments)) as work:
        work.stream.write(b"q1 Q0 d1 1 0.5 x\n")
        work.finish(kind="run")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def test_a_folder_of_the_name_that_a_replaced_output_had_stays(folder):
    make_folder(folder)
    theirs = folder.with_name("out.replaced")
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine")
    make_folder(folder, overwrite=True, depth=2)
    assert (theirs / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("more", [{}, {"overwrite": True}, {"renew": True}])
def test_a_finished_output_called_like_unfinished_work_stays(folder, more):
    make_folder(folder.with_name("out.partial"), depth=1)
    with pytest.raises(InputError, match=r"out.partial: a finished output has the name that unfinished work needs"):
        make_folder(folder, **more)
    assert manifest.read(folder.with_name("out.partial"))["kind"] == "vectors" and not folder.exists()


@pytest.mark.parametrize("more", [{}, {"overwrite": True}, {"renew": True}])
def test_a_link_called_like_unfinished_work_is_not_followed(folder, more):
    make_folder(folder.with_name("precious"), depth=1)
    os.symlink("precious", folder.with_name("out.partial"))
    with pytest.raises(InputError, match="was not made by drtools"):
        make_folder(folder, **more)
    assert (folder.with_name("precious") / "ids.txt").exists()


@pytest.mark.parametrize("text", ["a note", "[]", '{"version": 1}'])
def test_a_file_called_like_the_lock_stays(folder, text):
    lock = folder.with_name("out.partial.lock")
    lock.write_text(text)
    with pytest.raises(InputError, match=r"out.partial.lock: exists and was not made by drtools"):
        make_folder(folder, overwrite=True)
    assert lock.read_text() == text


def test_a_manifest_of_others_beside_a_file_stays(folder):
    beside = folder.with_name("out.manifest.json")
    beside.write_text('{"name": "an app"}')
    with pytest.raises(InputError, match=r"out.manifest.json: exists and was not made by drtools"):
        make_file(folder)
    assert json.loads(beside.read_text()) == {"name": "an app"} and not folder.exists()


def test_the_lock_is_held_until_the_output_has_its_name(folder, monkeypatch):
    """Another process that comes between the last two operations must not begin in the folder that is renamed."""
    rename, refused = os.rename, []

    def slow(source, target):
        if Path(target) == folder:
            with pytest.raises(WorldError, match="another process is writing this output"):
                make_folder(folder, depth=2)
            refused.append(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", slow)
    make_folder(folder, depth=1)
    assert refused and manifest.read(folder)["request"]["arguments"] == {"depth": 1}
    assert os.listdir(folder.parent) == ["out"]


@pytest.mark.parametrize("exchanging", [True, False])
def test_a_replacement_that_was_cut_short_is_finished(folder, monkeypatch, exchanging):
    if not exchanging:
        monkeypatch.setattr(naming, "exchange", lambda first, second: False)
    make_folder(folder, depth=1)

    def die(path, **_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(naming, "clear", die)
        make_folder(folder, renew=True, depth=2)
    assert manifest.read(folder)["request"]["arguments"] == {"depth": 2}
    assert len(os.listdir(folder.parent)) == 3  # the new output, the old one, and the lock that says so
    make_folder(folder, renew=True, depth=3)
    assert os.listdir(folder.parent) == ["out"] and manifest.read(folder)["request"]["arguments"] == {"depth": 3}


def test_names_are_exchanged_in_one_step_or_not_at_all(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert disk.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a/b").exists() and (tmp_path / "b/a").exists()
    assert not disk.exchange(tmp_path / "a", tmp_path / "c") and (tmp_path / "a/b").exists()


def test_what_the_state_does_not_name_is_removed_on_continuing(folder):
    with pytest.raises(KeyboardInterrupt), open_folder(flags_for(FolderOutput, folder)) as work:
        (work.path / "ids.txt").write_text("d1\n")
        work.save(done=1)
        for name in ("manifest.json.new", ".tmp8tAhQu", "deep/er/model.safetensors", "state.json.new"):
            (work.path / name).parent.mkdir(parents=True, exist_ok=True)
            (work.path / name).write_text("half")
        (work.working / "checkpoint").write_text("kept")
        raise KeyboardInterrupt
    with open_folder(flags_for(FolderOutput, folder)) as work:
        assert sorted(os.listdir(work.path)) == ["ids.txt", "request.json", "state.json", "working"]
        assert (work.working / "checkpoint").read_text() == "kept"
        work.finish()
    assert sorted(os.listdir(folder)) == ["ids.txt", "manifest.json"]


def test_data_that_was_cut_is_refused_and_not_filled(folder):
    with pytest.raises(KeyboardInterrupt), open_file(flags_for(FileOutput, folder)) as work:
        work.stream.write(b"a line\n" * 100)
        work.save(done=100)
        raise KeyboardInterrupt
    data = folder.with_name("out.partial") / "data"
    os.truncate(data, 50)
    with (
        pytest.raises(InputError, match=r"out.partial/data: 50 bytes were found, expected 700.*overwrite"),
        open_file(flags_for(FileOutput, folder)),
    ):
        pass
    assert data.stat().st_size == 50
    make_file(folder, overwrite=True)


@pytest.mark.parametrize("damage", ["cut", "changed", "removed"])
def test_a_damaged_output_is_not_already_done(folder, damage):
    make_folder(folder)
    ids = folder / "ids.txt"
    if damage == "removed":
        ids.unlink()
    else:
        ids.write_text("d1\n" if damage == "cut" else "d1\nd3\n")
    with pytest.raises(InputError, match=r"ids.txt: .* was made; use overwrite to make it anew"):
        make_folder(folder)
    make_folder(folder, overwrite=True)
    assert ids.read_text() == "d1\nd2\n"


def test_a_damaged_file_is_not_already_done_and_not_read(folder, drtools, tmp_path):
    lines = "".join(f"q{n} Q0 d1 1 0.5 x\n" for n in range(9))
    for name in ("a.run", "b.run"):
        (tmp_path / name).write_text(lines)
    fuse = ("fuse", tmp_path / "a.run", tmp_path / "b.run", "-o", folder)
    assert drtools(*fuse).status == 0
    folder.write_text(folder.read_text()[:40])
    outcome = drtools(*fuse)
    assert outcome.status == 2 and "40 bytes were found, expected" in outcome.err, outcome.err
    outcome = drtools("fuse", folder, tmp_path / "b.run")
    assert outcome.status == 2 and "out.manifest.json if the change is meant" in outcome.err, outcome.err
    folder.with_name("out.manifest.json").unlink()
    folder.write_text(lines)
    assert drtools("fuse", folder, tmp_path / "b.run").status == 0


def test_a_line_more_among_the_ids_is_noticed(toy, encoder_folder, drtools):
    vectors = toy.folder / "vectors"
    assert drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", vectors).status == 0
    index = toy.folder / "index"
    assert drtools("index", "--vectors", vectors, "-o", index).status == 0
    for place, flag in ((vectors, "--vectors"), (index, "--index")):
        text = (place / "ids.txt").read_text()
        (place / "ids.txt").write_text("inserted\n" + text)
        outcome = drtools("search", flag, place, "--model", encoder_folder, "--queries", toy.queries)
        assert outcome.status == 2 and f"{place / 'ids.txt'}: {len(text) + 9:,} bytes were found" in outcome.err


def test_modes_follow_the_umask(toy, encoder_folder, drtools):
    words = ["--model", encoder_folder, *toy.training]
    made, before = toy.folder / "made", os.umask(0o022)
    try:
        for mask, modes in ((0o022, {0o644}), (0o077, {0o600})):
            os.umask(mask)
            trained = drtools("train-contrastive", *words, "--steps", 1, "-o", made, "--overwrite")
            assert trained.status == 0, trained.err
            assert {stat.S_IMODE(path.stat().st_mode) for path in made.rglob("*") if path.is_file()} == modes
    finally:
        os.umask(before)


def test_the_bytes_of_an_array_are_allocated(tmp_path, monkeypatch):
    array = create_npy(tmp_path / "a.npy", "float32", (1000, 64))
    assert array.shape == (1000, 64) and not array.any()
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 1000 * 64 * 4

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device") as refusal:
        create_npy(tmp_path / "b.npy", "float32", (10, 4))
    assert refusal.value.filename == str(tmp_path / "b.npy")


@pytest.mark.slow
def test_equal_work_has_equal_fingerprints(toy, encoder_folder, drtools):
    """Seconds, dates and the ids that Lucene draws do not count."""
    words = ["--model", encoder_folder, *toy.training]
    for out in ("one", "two"):
        trained = drtools("train-contrastive", *words, "--steps", 12, "--batch-queries", 4, "-o", toy.folder / out)
        assert trained.status == 0, trained.err
        assert drtools("index", "--corpus", toy.corpus, "-o", toy.folder / f"{out}-lucene").status == 0
    for kind in ("", "-lucene"):
        one, two = (manifest.read(toy.folder / f"{out}{kind}") for out in ("one", "two"))
        assert one["fingerprint"] == two["fingerprint"]
    assert drtools("publish", toy.folder / "one", toy.folder / "live").status == 0
    assert "already" in drtools("publish", toy.folder / "two", toy.folder / "live").err


def test_publishing_removes_nothing_of_others(toy, encoder_folder, drtools):
    made = toy.folder / "vectors"
    assert drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", made).status == 0
    (toy.folder / "live.new").write_text("mine")
    (toy.folder / "live.versions/notes.partial").mkdir(parents=True)
    assert drtools("publish", made, toy.folder / "live").status == 0
    assert (toy.folder / "live.new").read_text() == "mine" and (toy.folder / "live.versions/notes.partial").is_dir()
