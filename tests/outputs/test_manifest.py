"""Fingerprints are of content: what is remembered of a file is used only while the file is certainly the same."""

import hashlib
import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from drtools.errors import InputError, WorldError
from drtools.formats import corpus_store
from drtools.formats.corpus_store import open_store
from drtools.outputs import fingerprints, manifest


def independent(path):
    return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()


def replaced(path, content):
    """Put another file in a file's place, of the same times, as tar, rsync -t and cp -p do."""
    times = path.stat()
    other = path.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(other, path)


def overwritten(path, content):
    """Write other bytes into a file, and set its times back."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES = pytest.mark.parametrize("change", [replaced, overwritten])


@CHANGES
def test_a_file_of_the_same_size_and_time_is_told_apart(tmp_path, change):
    path = tmp_path / "c"
    path.write_bytes(b"otters eat fish")
    os.utime(path, (0, 0))
    for content in (b"otters eat fish", b"planes cut wood", b"lathes cut wood", b"otters eat fish"):
        change(path, content)
        assert path.stat().st_mtime == 0
        assert fingerprints.file_fingerprint(path) == independent(path)


@CHANGES
@pytest.mark.slow
def test_a_file_that_is_remembered_is_told_apart_when_it_changes(tmp_path, change, monkeypatch):
    path = tmp_path / "c"
    path.write_bytes(b"otters eat fish")
    os.utime(path, (0, 0))
    time.sleep(fingerprints.CLOCK_STEP_NS / 1e9 + 0.1)
    first = fingerprints.file_fingerprint(path)
    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "_hash", lambda stream: pytest.fail("the file was read"))
        assert fingerprints.file_fingerprint(path) == first == independent(path)
    change(path, b"planes cut wood")
    assert fingerprints.file_fingerprint(path) == independent(path) != first


def bytes_read():
    """Return how many bytes this process has read so far, by the kernel's count."""
    return int(next(line for line in Path("/proc/self/io").read_text().splitlines() if "rchar" in line).split()[1])


@pytest.mark.slow
def test_an_unchanged_large_file_is_known_without_reading_it(tmp_path):
    path = tmp_path / "large"
    with open(path, "wb") as stream:
        stream.truncate(1 << 30)
    time.sleep(fingerprints.CLOCK_STEP_NS / 1e9 + 0.1)
    before = bytes_read()
    first = fingerprints.file_fingerprint(path)
    assert bytes_read() - before > 1 << 30
    before = bytes_read()
    assert fingerprints.file_fingerprint(path) == first
    assert bytes_read() - before < 1 << 20


def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path, monkeypatch):
    path, real = tmp_path / "c", fingerprints._hash
    path.write_bytes(b"one")
    monkeypatch.setattr(fingerprints, "CLOCK_STEP_NS", 0)

    def slow(stream):
        found = real(stream)
        path.write_bytes(b"two")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "_hash", slow)
        fingerprints.file_fingerprint(path)
    assert fingerprints.file_fingerprint(path) == independent(path)


def test_what_an_older_version_remembered_is_not_read(tmp_path, cache):
    path = tmp_path / "c"
    path.write_bytes(b"one")
    status = path.stat()
    with closing(sqlite3.connect(cache / "fingerprints.sqlite")) as memory, memory:
        memory.execute("create table files (path text primary key, size integer, changed integer, hash text)")
        memory.execute("insert into files values (?, ?, ?, 'wrong')", (str(path), status.st_size, status.st_mtime_ns))
    assert fingerprints.file_fingerprint(path) == independent(path)
    with closing(sqlite3.connect(cache / "fingerprints.sqlite")) as memory:
        assert memory.execute("select hash from files").fetchall() == [("wrong",)], "the older version keeps its own"


def test_a_name_that_is_not_utf_8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/c\xe9"))
    path.write_bytes(b"one")
    assert fingerprints.file_fingerprint(path) == independent(path)


@CHANGES
def test_the_store_of_a_corpus_is_that_of_its_content(tmp_path, change):
    path = tmp_path / "c.jsonl"
    path.write_text('{"_id":"d1","text":"otters eat fish"}\n')
    os.utime(path, (0, 0))
    assert open_store(str(path)).at(0).text == "otters eat fish"
    change(path, b'{"_id":"d1","text":"planes cut wood"}\n')
    assert open_store(str(path)).at(0).text == "planes cut wood"


def test_a_corpus_that_is_written_while_it_is_read_is_refused(tmp_path, cache, monkeypatch):
    path, real = tmp_path / "c.jsonl", corpus_store.read_corpus
    path.write_text('{"_id":"d1","text":"x"}\n{"_id":"d2","text":"y"}\n')

    def reading(source):
        for number, document in real(source):
            yield number, document
            if number == 1:
                with open(path, "a") as stream:
                    stream.write('{"_id":"d3","text":"z"}\n')

    with monkeypatch.context() as patch:
        patch.setattr(corpus_store, "CORPUS", corpus_store.CORPUS._replace(documents=reading))
        with pytest.raises(WorldError, match=r"c\.jsonl: was changed while it was read"):
            open_store(str(path))
    assert not list((cache / "stores").glob("*.sqlite"))
    assert len(open_store(str(path))) == 3


def encode(toy, model, out="out"):
    return ("encode", "--model", model, "--corpus", toy.corpus, "--precision", "fp32", "-o", toy.folder / out)


@CHANGES
def test_the_same_command_over_a_replaced_corpus_is_another_request(toy, encoder_folder, drtools, change):
    os.utime(toy.corpus, (0, 0))
    assert drtools(*encode(toy, encoder_folder)).status == 0
    assert "already done" in drtools(*encode(toy, encoder_folder)).err
    text = Path(toy.corpus).read_text()
    change(Path(toy.corpus), text.replace("salmon", "badger").encode())
    outcome = drtools(*encode(toy, encoder_folder))
    assert outcome.status == 2 and "the content of" in outcome.err and "has changed" in outcome.err
    assert drtools(*encode(toy, encoder_folder, "again")).status == 0
    assert (toy.folder / "out/vectors.npy").read_bytes() != (toy.folder / "again/vectors.npy").read_bytes()


@CHANGES
def test_a_folder_whose_files_changed_after_its_manifest_is_another(toy, encoder_folder, drtools, change):
    assert drtools(*encode(toy, encoder_folder, "vectors")).status == 0
    folder = toy.folder / "vectors"
    known = json.loads((folder / "manifest.json").read_text())["fingerprint"]
    assert manifest.fingerprint(folder) == known
    index = ("index", "--vectors", folder, "-o", toy.folder / "index")
    assert drtools(*index).status == 0 and "already done" in drtools(*index).err
    array = bytearray((folder / "vectors.npy").read_bytes())
    array[-4:] = bytes(4)
    change(folder / "vectors.npy", bytes(array))
    assert manifest.fingerprint(folder) != known
    outcome = drtools(*index)
    assert outcome.status == 2 and "vectors.npy" not in outcome.err and "was changed after it was made" in outcome.err


def test_a_copied_folder_is_the_same(toy, encoder_folder, drtools):
    assert drtools(*encode(toy, encoder_folder, "vectors")).status == 0
    shutil.copytree(toy.folder / "vectors", toy.folder / "copy")
    os.utime(toy.folder / "copy" / "vectors.npy")
    assert manifest.fingerprint(toy.folder / "copy") == manifest.fingerprint(toy.folder / "vectors")


def test_joined_vectors_whose_parts_changed_are_refused(toy, encoder_folder, drtools):
    for name in ("one", "two"):
        assert drtools(*encode(toy, encoder_folder, name)).status == 0
    parts = ("concat-spar", toy.folder / "one", toy.folder / "two", "--mu", "1", "--no-copy", "-o", toy.folder / "both")
    assert drtools(*parts).status == 0
    array = bytearray((toy.folder / "two/vectors.npy").read_bytes())
    array[-4:] = bytes(4)
    overwritten(toy.folder / "two/vectors.npy", bytes(array))
    outcome = drtools("index", "--vectors", toy.folder / "both", "-o", toy.folder / "index")
    assert outcome.status == 2 and "two: has changed since" in outcome.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vectors.npy", "drtools convert vectors"),
        ("index.faiss", "drtools index vectors"),
        ("segments_2", "drtools index corpus"),
        ("config.json", "copy it whole, or make it again"),
    ],
)
def test_the_next_move_for_a_folder_without_a_manifest(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError) as refusal:
        manifest.read(tmp_path)
    assert said in str(refusal.value) and ("convert" in said or "convert" not in str(refusal.value))


def test_a_damaged_size_in_a_manifest_is_one_line(tmp_path, drtools):
    run, fused = tmp_path / "a.run", tmp_path / "f.run"
    run.write_text("q1 Q0 d1 1 0.5 t\nq1 Q0 d2 2 0.4 t\n")
    words = ["fuse", run, run, "-o", fused]
    assert drtools(*words).status == 0
    beside = manifest.beside(fused)
    record = json.loads(beside.read_text())
    record["files"]["f.run"]["bytes"] = str(record["files"]["f.run"]["bytes"])
    beside.write_text(json.dumps(record))
    outcome = drtools(*words)
    assert outcome.status == 2 and "f.run.manifest.json: files is {" in outcome.err and "--overwrite" in outcome.err
    fused.write_text("q1 Q0 d1 1 0.5 t\n")
    outcome = drtools("fuse", fused, run)
    assert outcome.status == 2 and "f.run.manifest.json: files is {" in outcome.err, outcome.err
