"""The cache: damaged files are named, and what cannot be written ends no command."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from drtools.errors import InputError, WorldError
from drtools.formats.corpus_store import open_store
from drtools.outputs import cache as caches
from drtools.outputs.fingerprints import file_fingerprint
from drtools.outputs.places import places_of
from drtools.teachers.score_cache import ScoreCache


@pytest.fixture
def unwritable(monkeypatch):
    """Let no file of the cache be written: as on a full disk, or as another user's."""

    def refused(self: Path, *arguments: object, **named: object) -> None:
        if not self.is_dir():
            raise PermissionError(13, "Permission denied", str(self))

    def opened(name: str, script: str) -> sqlite3.Connection:
        if name.startswith("file:") or name == ":memory:":
            return real(name, script)
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY
        raise error

    def refuse() -> None:
        monkeypatch.setattr(Path, "mkdir", refused)
        monkeypatch.setattr(caches, "_opened", opened)

    real = caches._opened
    return refuse


def test_a_damaged_memory_of_fingerprints_is_named_and_not_used(tmp_path, cache, capsys):
    (tmp_path / "x").write_text("x")
    os.utime(tmp_path / "x", (1, 1))
    known = file_fingerprint(tmp_path / "x")
    (cache / "fingerprints.sqlite").write_bytes(b"no database at all" * 100)
    (cache / "places.sqlite").write_bytes(b"no database at all" * 100)
    assert file_fingerprint(tmp_path / "x") == known and places_of(known) == []
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "fingerprints.sqlite" in said[0] and "places.sqlite" in said[1]
    assert all("remove it, and it is made again" in line for line in said)


def test_a_damaged_store_is_made_again(toy, cache, capsys):
    whole = list(open_store(toy.corpus).rows())
    (path,) = (cache / "stores").glob("*.sqlite")
    for content in (b"", b"garbage" * 1000):
        path.write_bytes(content)
        assert list(open_store(toy.corpus).rows()) == whole
        assert f"{path}: a file of the cache is damaged" in capsys.readouterr().err


def test_a_store_that_lacks_rows_names_itself(toy, cache):
    open_store(toy.corpus)
    (path,) = (cache / "stores").glob("*.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("delete from documents where row = 7")
    store = open_store(toy.corpus)
    for read in (lambda: list(store.rows()), lambda: store.at(7), lambda: store.ids_at([7])):
        with pytest.raises(WorldError, match=f"{path.name}.*damaged.*remove this one file.*made again of"):
            read()


def test_damaged_scores_name_their_file_alone(cache):
    ScoreCache("t").keep([(b"a", 1.0)])
    for path in (cache / "scores").glob("t.sqlite-*"):
        path.unlink()
    (cache / "scores/t.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(
        WorldError,
        match=r"scores/t\.sqlite: a file of the cache is damaged.*move this one file away.*nothing else is lost",
    ):
        ScoreCache("t")


def test_a_warm_cache_that_may_not_be_written_is_read(toy, cache, capsys, unwritable):
    scores, whole = ScoreCache("t"), list(open_store(toy.corpus).rows())
    scores.keep([(b"a", 1.5)])
    scores.connection.close()
    os.utime(toy.corpus, (1, 1))
    known = file_fingerprint(Path(toy.corpus))
    capsys.readouterr()
    unwritable()
    scores = ScoreCache("t")
    assert scores.known([b"a", b"b"]) == {b"a": 1.5}
    scores.keep([(b"b", 2.5)])
    assert scores.known([b"a", b"b"]) == {b"a": 1.5, b"b": 2.5} and len(scores) == 1
    assert list(open_store(toy.corpus).rows()) == whole and file_fingerprint(Path(toy.corpus)) == known
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "cannot be written" in said[0] and "nothing new is kept" in said[0]


def test_a_cold_cache_that_cannot_be_made_ends_no_command(toy, tmp_path, monkeypatch, drtools):
    (tmp_path / "full").write_text("a file, in which no folder can be made")
    words = ["convert", "--to", "dpr", "--examples", toy.examples, "--corpus", toy.corpus, "--queries", toy.queries]
    assert drtools(*words, "-o", tmp_path / "whole").status == 0
    monkeypatch.setenv("DRTOOLS_CACHE", "/proc/drtools")  # where nobody can write, root neither
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    outcome = drtools(*words, "-o", tmp_path / "out")
    assert outcome.status == 0 and outcome.err.count("cannot be written") == 1, outcome.err
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not list(tmp_path.glob("drtools-*"))


def test_a_full_disk_under_the_fingerprints_ends_no_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "x").write_text("x")
    os.utime(tmp_path / "x", (1, 1))

    class Full(sqlite3.Connection):
        def execute(self, text: str, *values: object) -> sqlite3.Cursor:
            if text.startswith("insert"):
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return super().execute(text, *values)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **n: real(*a, **n, factory=Full))
    monkeypatch.setattr("drtools.outputs.fingerprints.CLOCK_STEP_NS", -(10**18))
    file_fingerprint(tmp_path / "x")
    assert "disk is full" in capsys.readouterr().err


def test_without_a_home_the_cache_is_a_folder_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DRTOOLS_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(
        Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory."))
    )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = caches.cache_directory()
    assert folder == tmp_path / f"drtools-{os.getuid()}" and folder.stat().st_mode & 0o777 == 0o700
    assert "no home folder" in capsys.readouterr().err
    folder.chmod(0o777)
    with pytest.raises(InputError, match=r"another user's.*DRTOOLS_CACHE"):
        caches.cache_directory()


def test_a_user_number_without_a_name_has_a_cache(tmp_path):
    words = "import os; from drtools.outputs.cache import cache_path; os.setuid(54321); print(cache_path())"
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    environment.pop("DRTOOLS_CACHE", None)
    if os.getuid():
        pytest.skip("root alone can become a user without a name")
    done = subprocess.run([sys.executable, "-c", words], env=environment, capture_output=True, text=True)
    assert done.stdout.strip().endswith("drtools-54321"), done.stderr
