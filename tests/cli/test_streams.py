"""Standard streams that are closed, full or broken, names that are not UTF-8, a home that is not there, signals."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drtools import signals
from drtools.cli import main


@pytest.fixture
def runs(tmp_path) -> Path:
    """Write two runs into a folder."""
    lines = [f"q{n} Q0 d{m} {m} 0.{9 - m} t\n" for n in range(3) for m in (1, 2, 3)]
    (tmp_path / "a.run").write_text("".join(lines))
    (tmp_path / "b.run").write_text("".join(lines).replace("d1", "d4"))
    return tmp_path


@pytest.fixture
def shell(runs, program, environment):
    """Return a function that runs a line of bash beside the runs.

    $D is drtools, $P a drtools whose streams are its own.
    """

    def run(line: str, **more: str) -> subprocess.CompletedProcess:
        variables = {**environment, "D": program, "P": f"{sys.executable} -m drtools", **more}
        return subprocess.run(["bash", "-c", line], env=variables, cwd=runs, capture_output=True, text=True, timeout=60)

    return run


@pytest.mark.parametrize("words", ["", "--version", "fuse --help", "fuse a.run b.run"])
def test_what_a_full_disk_does_not_take_is_one_line(shell, words):
    done = shell(f"$D {words} > /dev/full")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "No space left" in done.stderr


@pytest.mark.parametrize("words", ["fuse long.run long.run", "fuse --help", ""])
def test_a_pipe_that_ends_early_is_141_in_silence(shell, runs, words):
    (runs / "long.run").write_text("".join(f"q{n} Q0 d1 1 0.5 t\n" for n in range(30_000)))
    done = shell(f"$P {words} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.slow
def test_standard_streams_that_are_closed(shell, runs):
    assert shell("$D fuse a.run b.run -o c.run").returncode == 0
    whole = (runs / "c.run").read_bytes()
    for closed in (">&-", "2>&-", "<&-", ">&- 2>&- <&-"):
        assert shell(f"$P fuse a.run b.run -o d.run --overwrite {closed}").returncode == 0, closed
        assert (runs / "d.run").read_bytes() == whole, closed
    for words in ("fuse a.run b.run >&-", "show a.run >&-", "fuse - b.run <&-"):
        done = shell(f"$P {words}")
        said = [line for line in done.stderr.splitlines() if line.startswith("drtools")]
        assert done.returncode == 1 and len(said) == 1 and "is closed" in said[0], (words, done.stderr)


def test_names_that_are_not_utf8(shell, runs):
    shutil.copy(runs / "a.run", os.fsencode(runs) + b"/a\xff.run")
    fuse = "$D fuse $'a\\xff.run' b.run -o $'o\\xff.run'"
    assert shell(fuse).returncode == 0
    again = shell(fuse)
    assert again.returncode == 0 and "o\\xff.run: already done" in again.stderr
    shown = shell("$D show $'o\\xff.run'")
    assert shown.returncode == 0 and "--runs a\\xff.run" in shown.stdout


def test_a_terminal_without_utf8_gets_escapes():
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-m", "drtools", "show", "é…"], env=ascii_only, capture_output=True)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and done.stderr.isascii(), done.stderr


@pytest.mark.parametrize("rank", ["2", "x", ""])
def test_a_schedulers_rank_alone_means_nothing(shell, runs, rank):
    done = shell("$D fuse a.run b.run -o c.run", RANK=rank)
    assert done.returncode == 0 and (runs / "c.run").exists(), done.stderr


@pytest.mark.parametrize("wrong", [{"RANK": "x"}, {"RANK": "2"}, {"RANK": "0", "WORLD_SIZE": "-1"}])
def test_a_rank_that_is_none_is_one_line(shell, wrong):
    done = shell("$D fuse a.run b.run -o c.run", **{"WORLD_SIZE": "2", **wrong})
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "the environment's" in done.stderr and "torchrun" in done.stderr


def test_a_copy_of_standard_input_leaves_nothing_behind_a_kill(runs, environment):
    (runs / "tmp").mkdir()
    words = """
import sys, time
from drtools.formats.lines import local, read_lines, shown
from drtools.outputs.fingerprints import file_fingerprint
from pathlib import Path
path = local("-")
assert [line for _, line in read_lines(path)] == [line for _, line in read_lines("-")] == [b"a", b"b"]
assert shown(path) == "standard input" and Path(path).exists()
print(file_fingerprint(Path(path)), flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", words],
        env={**environment, "TMPDIR": str(runs / "tmp")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin and process.stdout
    process.stdin.write(b"a\nb\n")
    process.stdin.close()
    said = process.stdout.readline().decode().strip()
    process.kill()
    process.wait()
    process.stdout.close()
    (runs / "same").write_bytes(b"a\nb\n")
    from drtools.outputs.fingerprints import file_fingerprint

    assert said == file_fingerprint(runs / "same") and not list((runs / "tmp").iterdir())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_while_a_tool_ends_changes_nothing(monkeypatch, drtools, number, status):
    before = {each: signal.getsignal(each) for each in signals.STOPS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = []

    def tool(name: str, arguments: list[str]) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    def status_as_told(error: BaseException, arguments: list[str]) -> int:
        monkeypatch.setattr(os, "_exit", ended.append)
        for other in signals.STOPS:
            os.kill(os.getpid(), other)
        time.sleep(0)
        return real(error, arguments)

    real = main.exit_status
    monkeypatch.setattr(main, "_invoke", tool)
    monkeypatch.setattr(main, "exit_status", status_as_told)
    try:
        outcome = drtools("eval")
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert outcome.status == status and ended == [status] * 3
    assert outcome.err == "drtools eval: stopped; the same command again continues what can be continued\n"
