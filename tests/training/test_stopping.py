"""Time left under a time limit, and the answer to Ctrl-C."""

import signal
import subprocess
import sys
import time

import pytest

from drtools.reporting import Progress


def test_the_time_left_is_the_earlier_of_the_limits():
    progress = Progress("training", None, "steps")
    assert progress.seconds_left() is None
    progress.deadline = time.monotonic() + 100
    assert 99 < progress.seconds_left() <= 100 and progress.details()[0] in ("1 min 40 s left", "1 min 39 s left")
    both = Progress("training", 1000, "steps")
    both.deadline = time.monotonic() + 100
    both.past.extend([both.begin._replace(time=0.0), both.begin._replace(time=10.0, done=100)])
    both.done = 900
    assert both.seconds_left() == pytest.approx(10), "10 steps a second, 100 are left"
    both.done = 100
    assert both.seconds_left() == pytest.approx(90) and both.line().startswith(
        "training: 100 of 1,000 steps  10%  1 min"
    )


@pytest.mark.slow
def test_ctrl_c_is_answered_at_once(toy, encoder_folder, environment, tmp_path):
    command = ["train-contrastive", "--model", encoder_folder, *toy.training, "--precision", "fp32"]
    command += ["--batch-queries", "512", "--minutes", "5", "-o", tmp_path / "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "drtools", *map(str, command)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    lines = []
    while "steps of about" not in (line := process.stderr.readline()):  # after three steps
        assert line, lines
        lines.append(line)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    assert process.wait() == 130
    assert said.startswith("finishing this step; press Ctrl-C again to stop now\n"), said
    assert "continues what can be continued" in said and (tmp_path / "out.partial").is_dir()
