"""How tools speak and end: messages, progress, JSON lines, exit statuses, standard input and output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drtools import reporting, units
from drtools.cli import console
from drtools.errors import InputError
from drtools.units import counted


def said(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_progress_is_a_plain_line_now_and_then(capsys, monkeypatch):
    console.configure("test")
    monkeypatch.setattr(reporting, "SECONDS_BETWEEN_LINES", 0.0)
    now = [0.0]
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now[0])
    with reporting.progress("encoding", 200, "documents", done=50) as progress:
        now[0] = 40.0  # most of them before the first text was begun: no rate of that is told
        progress.advance(50, loss=0.5)
        assert progress.done == 100
        now[0] = 42.0
        progress.advance(25, loss=0.25)
    assert said(capsys) == [
        "encoding: 100 of 200 documents  50%  loss 0.5",
        "encoding: 125 of 200 documents  62%  3 s left  25 documents/s  loss 0.25",
    ]


def test_json_lines_hold_what_words_say(capsys, monkeypatch):
    console.configure("test", log_json=True)
    monkeypatch.setattr(reporting, "SECONDS_BETWEEN_LINES", 0.0)
    reporting.say("hello")
    with reporting.progress("encoding", 2, "documents") as progress:
        progress.advance(1)
    console.error("two\nlines")
    records = [json.loads(line) for line in said(capsys)]
    assert [record["event"] for record in records] == ["say", "progress", "error"]
    assert (
        records[1]["done"] == 1
        and records[1]["per_second"] is None
        and records[2]["text"] == "two lines"
        and all(record["tool"] == "test" for record in records)
    )


def test_words_that_find_no_room_do_not_stop_the_work(monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

    console.configure("test", log_json=True)
    monkeypatch.setattr(sys, "stderr", Full())
    reporting.say("hello")


def test_quiet_keeps_errors(capsys):
    console.configure("test", quiet=True)
    reporting.say("hello")
    console.error("what went wrong")
    assert said(capsys) == ["drtools test: what went wrong"]


def test_other_ranks_are_silent(capsys, monkeypatch):
    console.configure("test")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    reporting.say("hello")
    assert said(capsys) == []


def test_notices_are_counted_and_strict_refuses_them():
    console.configure("test", strict=True)
    reporting.notice(0, "nothing")
    reporting.check_strict()
    reporting.notice(2, "2 texts were empty")
    with pytest.raises(InputError, match="2 texts were empty"):
        reporting.check_strict()


def test_words_for_times_and_sizes():
    assert [units.seconds_as_words(value) for value in (42, 190, 7500)] == ["42 s", "3 min 10 s", "2 h 5 min"]
    assert [units.bytes_as_words(value) for value in (873, 1234567, 4e9, 2e13)] == [
        "873 B",
        "1.2 MB",
        "4.0 GB",
        "20.0 TB",
    ]


def test_a_bug_is_one_line_and_debugging_shows_where(toy, environment):
    code = (
        "import drtools.tools.eval as tool\ndef main() -> None:\n    raise ZeroDivisionError('oh')\ntool.main = "
        "main\nimport drtools.cli.main\ndrtools.cli.main.main(['eval'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (
        done.returncode == 1
        and done.stderr
        == "drtools eval: internal error, a bug in drtools: ZeroDivisionError: oh (DRTOOLS_DEBUG=1 shows where)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "DRTOOLS_DEBUG": "1"}, capture_output=True, text=True
    )
    assert "Traceback" in done.stderr


def test_standard_input_and_output(toy, encoder_folder, drtools):
    corpus = Path(toy.corpus).read_bytes()
    outcome = drtools(
        "encode",
        "--model",
        encoder_folder,
        "--corpus",
        "-",
        "--precision",
        "fp32",
        "-o",
        toy.folder / "a",
        stdin=corpus,
    )
    assert outcome.status == 0, outcome.err
    drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "--precision", "fp32", "-o", toy.folder / "b")
    assert (toy.folder / "a/vectors.npy").read_bytes() == (toy.folder / "b/vectors.npy").read_bytes()
    assert (
        "already done"
        in drtools(
            "encode",
            "--model",
            encoder_folder,
            "--corpus",
            "-",
            "--precision",
            "fp32",
            "-o",
            toy.folder / "a",
            stdin=corpus,
        ).err
    )
    run = drtools("search", "--vectors", toy.folder / "a", "--queries", toy.queries, "--depth", "2").out
    assert len(run.splitlines()) == 40 and all(len(line.split()) == 6 for line in run.splitlines())
    (toy.folder / "x.run").write_text(run)
    assert "20 judged queries" in drtools("eval", "--qrels", toy.qrels, "-", stdin=run.encode()).out
    refused = drtools(
        "encode", "--model", encoder_folder, "--corpus", "-", "-o", toy.folder / "c", stdin=b'{"_id": "a"}\n'
    )
    assert refused.status == 2 and "standard input:1" in refused.err


@pytest.mark.slow
def test_rm3_and_chinese_from_the_command_line(toy, drtools):
    assert drtools("index", "--corpus", toy.corpus, "--document-vectors", "-o", toy.folder / "rm3").status == 0
    plain = drtools("search", "--index", toy.folder / "rm3", "--queries", toy.queries, "--depth", "20").out
    assert (
        drtools("search", "--index", toy.folder / "rm3", "--queries", toy.queries, "--depth", "20", "--rm3").out
        != plain
    )
    chinese = toy.folder / "zh.jsonl"
    chinese.write_text(
        '{"_id": "a", "text": "感冒了应该多喝水"}\n{"_id": "b", "text": "头痛可以吃什么药"}\n', encoding="utf-8"
    )
    assert drtools("index", "--corpus", chinese, "--language", "zh", "-o", toy.folder / "zh").status == 0
    assert drtools("search", "--index", toy.folder / "zh", "--depth", "1", "我头痛").out.split()[2] == "b"


def test_out_of_memory_names_what_helps(capsys):
    from drtools.cli.exits import exit_status

    assert exit_status(MemoryError("no room")) == 1
    said = capsys.readouterr().err
    assert "--batch-tokens" in said and "--gradient-caching" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(("said", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_do_not_spin_unless_the_environment_says_so(drtools, monkeypatch, said, kept):
    monkeypatch.setenv("OMP_WAIT_POLICY", said or "")
    if not said:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    assert drtools("eval", "--help").status == 0
    assert os.environ["OMP_WAIT_POLICY"] == kept


@pytest.mark.parametrize(
    ("notes", "said"),
    [(["a"], "a; without"), (["do they belong together?"], "together? without"), (["x?", "b"], "x? b; without")],
)
def test_strict_ends_each_note_with_one_sign(notes, said):
    console.configure("test", strict=True)
    for note in notes:
        reporting.notice(1, note)
    with pytest.raises(InputError) as refusal:
        reporting.check_strict()
    console.configure("test")
    assert str(refusal.value).endswith(f"{said} strict this is only counted")


def test_a_count_goes_with_its_noun():
    assert [counted(n, "query has", "queries have") for n in (0, 1, 2000)] == [
        "0 queries have",
        "1 query has",
        "2,000 queries have",
    ]
