"""cache: what is in the cache is told, and what was not used is removed, but nothing that others wrote or have open."""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_jsonl

from drtools.formats.corpus_store import open_store
from drtools.outputs.cache_contents import cache_entries
from drtools.outputs.cache_locks import alone
from drtools.teachers.score_cache import ScoreCache
from drtools.units import bytes_of

DAY = 86_400
TEACHER = "0123456789abcdef" * 2 + "-fp32"


def age(path: Path, days: float) -> None:
    """Let a file have been used last so many days ago."""
    os.utime(path, (time.time() - days * DAY,) * 2)


def stores(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "stores").glob("*-4.sqlite") if not path.is_symlink())


@pytest.fixture
def filled(tmp_path, cache):
    """Fill the cache: texts of three corpora used 40, 20 and 1 days ago, scores of 50, and files of others."""
    for days in (40, 20, 1):
        corpus = write_jsonl(tmp_path / f"{days}.jsonl", [{"_id": "d", "text": f"{days} " + "word " * days * 1000}])
        path = open_store(corpus).path
        age(path, days)
    scores = ScoreCache(TEACHER, "org/teacher")
    scores.keep([(b"a", 1.0)])
    scores.connection.close()
    age(scores.path, 50)
    age(scores.path.with_suffix(".lock"), 50)
    others = [cache / "stores/notes.txt", cache / "stores/model.sqlite", cache / f"{'a' * 32}-4.sqlite"]
    (cache / "matplotlib").mkdir()
    for path in (*others, cache / "matplotlib/fontlist.json", cache / "scores/README"):
        path.write_text("others")
        age(path, 100)
    return cache


def corpora(cache: Path) -> set[str]:
    return {
        Path(place).name for entry in cache_entries(cache) if entry.kind == "texts" for place in entry.belongs_to[:1]
    }


def test_the_table_names_what_each_file_belongs_to_and_adds_up(filled, tmp_path, drtools):
    outcome = drtools("cache")
    assert outcome.status == 0 and outcome.err == "", outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == str(filled) and lines[1].split() == ["what", "size", "last", "used"]
    whats = [line.split("  ")[0] for line in lines[2:-1]]
    texts = [f"texts of {tmp_path}/{days}.jsonl" for days in (1, 20, 40)]
    assert [what for what in whats if what.startswith("texts")] == texts, "the most recently used first"
    assert {"scores of org/teacher, fp32", "other files", "places of inputs", "fingerprints of files"} < {*whats}
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 40 * DAY))
    assert any(texts[2] in line and day in line for line in lines)
    assert lines[-1].startswith("total")
    sizes = [path.stat().st_size for path in filled.rglob("*") if path.is_file()]
    assert sum(entry.size for entry in cache_entries(filled)) == sum(sizes) > 0


def test_what_was_not_used_for_days_is_removed_and_nothing_else(filled, drtools):
    before = {path for path in filled.rglob("*") if path.is_file()}
    outcome = drtools("cache", "--prune-days", "30", "--dry-run")
    assert outcome.status == 0 and "would remove texts of" in outcome.err and "40.jsonl" in outcome.err
    assert before == {path for path in filled.rglob("*") if path.is_file()}
    outcome = drtools("cache", "--prune-days", "30")
    assert outcome.status == 0 and "removed 1 of 7 entries" in outcome.err, outcome.err
    assert "kept scores of org/teacher, fp32" in outcome.err and "only --scores removes scores" in outcome.err
    assert corpora(filled) == {"20.jsonl", "1.jsonl"} and (filled / "scores" / f"{TEACHER}.sqlite").exists()
    assert "removed 1 of 6 entries" in drtools("cache", "--prune-days", "30", "--scores").err
    assert not list((filled / "scores").glob(f"{TEACHER}*"))
    gone = {path.name for path in before} - {path.name for path in filled.rglob("*")}
    assert all(name.endswith((".sqlite", ".lock")) and len(name) > 32 for name in gone) and len(gone) == 3, gone
    assert "removed 0 of 5 entries" in drtools("cache", "--prune-days", "30", "--scores").err


def test_the_least_recently_used_go_until_the_rest_fits(filled, drtools):
    total = sum(entry.size for entry in cache_entries(filled))
    oldest = next(entry for entry in cache_entries(filled) if entry.kind == "texts")
    assert "removed 0 of" in drtools("cache", "--max-size", str(total + 10_000)).err
    total = sum(entry.size for entry in cache_entries(filled))
    outcome = drtools("cache", "--max-size", str(total - oldest.size))
    assert outcome.status == 0 and corpora(filled) == {"20.jsonl", "1.jsonl"}, outcome.err
    outcome = drtools("cache", "--max-size", "1B", "--strict")
    assert outcome.status == 2 and "could not be removed are more than --max-size" in outcome.err
    assert corpora(filled) == set() and (filled / "places.sqlite").exists() and (filled / "matplotlib").exists()


def test_what_is_open_stays(filled, tmp_path, drtools):
    """Hold texts and scores open in another process, and the lock of one that makes texts."""
    code = (
        "import sys\nfrom drtools.formats.corpus_store import open_store\nfrom drtools.teachers.score_cache import "
        "ScoreCache\nheld = open_store(sys.argv[1]), ScoreCache(sys.argv[2])\nlen(held[1])\nprint('open', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "40.jsonl"), TEACHER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        for path in filled.rglob("*-*.*"):
            age(path, 60)
        times = [path.stat().st_mtime for path in (filled / "scores").glob("*.sqlite")]
        for words in (["--dry-run"], []):
            outcome = drtools("cache", "--prune-days", "30", "--scores", *words)
            assert outcome.err.count("a process has it open") == 2, outcome.err
            assert times == [path.stat().st_mtime for path in (filled / "scores").glob("*.sqlite")]
        assert corpora(filled) == {"40.jsonl"}
        other.stdin.close()
    assert "removed 2 of" in drtools("cache", "--prune-days", "0", "--scores").err
    path = open_store(str(tmp_path / "1.jsonl")).path
    with alone(path.with_suffix(".lock")):
        assert "a process has it open" in drtools("cache", "--prune-days", "0").err
    assert "removed 1 of" in drtools("cache", "--prune-days", "0").err and not stores(filled)


def test_use_touches_the_file_and_texts_are_made_again(filled, tmp_path, drtools):
    for path in filled.rglob("*.sqlite"):
        age(path, 60)
    began = time.time() - 2
    store = open_store(str(tmp_path / "40.jsonl"))
    assert store.path.stat().st_mtime >= began
    ScoreCache(TEACHER)
    assert (filled / "scores" / f"{TEACHER}.sqlite").stat().st_mtime >= began
    store.path.unlink()
    assert store.at(0).id == "d", "a store that was open goes on"
    assert len(open_store(str(tmp_path / "40.jsonl"))) == 1


def test_unfinished_texts_of_a_process_that_died_are_removed(filled, drtools):
    partial = filled / "stores" / f"{'b' * 32}-4.partial"
    partial.write_bytes(b"x" * 100)
    partial.with_suffix(".lock").touch()
    for path in (partial, partial.with_suffix(".lock")):
        age(path, 90)
    assert "an unknown corpus (" in drtools("cache").out
    assert drtools("cache", "--prune-days", "60").status == 0
    assert not partial.exists() and not partial.with_suffix(".lock").exists()


def test_a_link_of_a_store_s_name_is_not_followed(filled, tmp_path, drtools):
    target = tmp_path / "precious"
    target.write_text("x")
    link = filled / "stores" / f"{'c' * 32}-4.sqlite"
    link.symlink_to(target)
    os.utime(link, (1, 1), follow_symlinks=False)
    assert drtools("cache", "--prune-days", "0", "--scores").status == 0
    assert link.is_symlink() and target.exists() and not stores(filled)


def test_damaged_scores_are_removed_like_others(filled, drtools):
    path = filled / "scores" / f"{TEACHER}.sqlite"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(sqlite3.Error):
        sqlite3.connect(path).execute("select * from scores")
    age(path, 60)
    assert drtools("cache", "--prune-days", "30", "--scores").status == 0 and not path.exists()


def test_no_cache_and_wrong_flags(tmp_path, monkeypatch, drtools):
    monkeypatch.setenv("DRTOOLS_CACHE", str(tmp_path / "none"))
    outcome = drtools("cache")
    assert outcome.status == 0 and "nothing is in it" in outcome.out and not (tmp_path / "none").exists()
    assert "removed 0 of 0 entries" in drtools("cache", "--prune-days", "1").err
    for words, said in {
        ("--scores",): "--scores: nothing is removed without another flag; add --prune-days or --max-size",
        ("--dry-run",): "--dry-run: nothing is removed",
        ("--max-size", "much"): "--max-size: found 'much', expected a size such as 500MB",
        ("--prune-days", "-1"): "prune-days",
    }.items():
        outcome = drtools("cache", *words)
        assert outcome.status == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err


@pytest.mark.parametrize(
    ("words", "count"), [("5GB", 5 * 10**9), ("1.5 tb", 15 * 10**11), ("300M", 3 * 10**8), ("7", 7), ("12B", 12)]
)
def test_sizes_in_words(words, count):
    assert bytes_of(words) == count


@pytest.mark.parametrize("words", ["", "GB", "-1GB", "5XB", "5 G B", "1e9"])
def test_what_is_no_size(words):
    with pytest.raises(ValueError, match="is not a size"):
        bytes_of(words)
