"""What stands on a terminal: commands in pseudo-terminals of a given size."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios

import pytest

from drtools import reporting, units
from drtools.cli.main import tool_names


def on_terminal(words: list[str], environment: dict[str, str], columns: int = 80, **more: str) -> str:
    """Run a program on a terminal of so many columns; return all that it wrote there."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        inherited = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        os.execvpe(words[0], words, {**inherited, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **more})
    written = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # it has ended
            break
        if not part:
            break
        written += part
    os.waitpid(child, 0)
    os.close(terminal)
    return written.decode().replace("\r\n", "\n")


WORK = """
import sys, time
from drtools import reporting, units
from drtools.cli import console
console.configure("test")
with reporting.progress("training", 9, "steps") as outer:
    for step in range(3):
        time.sleep(0.6)
        outer.advance(1, loss=0.5, learning_rate=1e-5)
    reporting.say("step 3: dev nDCG@10 0.7000")
    with reporting.progress("refreshing negatives", 10, "documents") as inner:
        inner.advance(4)
        time.sleep(0.4)
print("done")
"""


def frames(written: str) -> list[str]:
    """Return what was drawn, without the codes that move and hide the cursor."""
    return [line for line in re.split(r"\r|\n", re.sub(r"\x1b\[[0-9?;]*[A-Za-z]", "", written)) if line]


@pytest.mark.slow
def test_live_lines_have_the_terminals_width(environment):
    wide, narrow = (frames(on_terminal([sys.executable, "-c", WORK], environment, columns)) for columns in (100, 30))
    assert any(
        re.fullmatch(r"training ━+─+ 3/9  \d+ s left  1\.\d+ steps/s  loss 0.5  learning rate 1e-05", line)
        for line in wide
    ), wide
    assert any(re.fullmatch(r"refreshing negatives ━+─+ 4/10", line) for line in wide), wide
    assert not any("left" in line for line in wide if " 1/9" in line), "of one step nothing is known yet"
    assert all(len(line) < 30 for line in narrow) and any(
        line == "training ━━━─────── 3/9" or re.fullmatch(r"training 3/9  \d+ s left", line) for line in narrow
    ), narrow
    assert (
        wide.count("step 3: dev nDCG@10 0.7000") == narrow.count("step 3: dev nDCG@10 0.7000") == 1
        and wide[-1] == "done"
    )


@pytest.mark.parametrize(
    "more", [pytest.param({"TERM": "dumb"}, marks=pytest.mark.slow), {"RANK": "1", "WORLD_SIZE": "2"}]
)
def test_no_live_line_where_none_can_be_drawn(environment, more):
    assert set(frames(on_terminal([sys.executable, "-c", WORK], environment, **more))) <= {
        "step 3: dev nDCG@10 0.7000",
        "done",
    }


@pytest.mark.slow
def test_data_on_the_terminal_are_not_mixed_with_a_live_line(toy, drtools, environment):
    drtools("index", "--corpus", toy.corpus, "-o", toy.folder / "bm25")
    words = [
        sys.executable,
        "-m",
        "drtools",
        "search",
        "--index",
        str(toy.folder / "bm25"),
        "--queries",
        toy.queries,
        "--depth",
        "1",
    ]
    written = on_terminal(words, environment)
    assert "\x1b" not in written and len([line for line in written.splitlines() if line.endswith(" drtools")]) == 20


@pytest.mark.parametrize("columns", [60, 90])
def test_help_cuts_no_flag(environment, columns):
    code = (
        "from drtools.cli.main import main, tool_names\n"
        "for name in tool_names():\n try: main([name, '--help-all'])\n except SystemExit: pass"
    )
    written = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal([sys.executable, "-c", code], environment, columns))
    assert "…" not in written and written.count("usage: drtools") == len(tool_names())
    assert "--activation-checkpointing" in written


def test_the_list_of_tools_is_folded_at_words(environment):
    lines = on_terminal([sys.executable, "-m", "drtools"], environment, 60).splitlines()
    assert (
        max(map(len, lines)) <= 60
        and sorted(line.split()[0] for line in lines if re.match("  (?! |drtools)", line)) == tool_names()
    )


def test_an_interrupted_tool_says_so(toy, encoder_folder, drtools, interrupt_at):
    from drtools.encoding import folder

    interrupt_at(folder.FolderEncoding, "_encode", 1)
    outcome = drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", toy.folder / "out")
    assert outcome.status == 130 and "stopped; the same command again continues" in outcome.err


def test_rates():
    assert [units.rate_as_words(rate) for rate in (0.012345, 0.5, 7.412, 56.78, 1234.5)] == [
        "0.0123",
        "0.5",
        "7.41",
        "56.8",
        "1,234",
    ]


def test_the_rate_is_of_what_came_after_the_start(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now[0])
    counter = reporting.Progress("training", 1000, "steps")
    for step, seconds in enumerate((300.0, 2.0, 2.0, 2.0), start=1):  # the first step after five minutes of loading
        now[0] += seconds
        counter.advance(1, tokens=2 * step)
    assert counter.rate() == 0.5 and counter.rate("tokens") == 1.0
    for _ in range(200):  # slower from here: after a minute nothing else counts
        now[0] += 10
        counter.advance(1)
    assert counter.rate() == pytest.approx(0.1)
    burst = reporting.Progress("searching", 2000, "queries")
    for block in range(3):  # found in blocks, told one by one
        now[0] += 10
        for _ in range(500):
            now[0] += 1e-5
            burst.advance(1)
            assert not block or burst.rate() == pytest.approx(50, rel=0.01), f"query {burst.done} of block {block}"
    assert burst.done == 1500
