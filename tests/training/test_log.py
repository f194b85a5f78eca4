"""The log read back: by json, and by TensorBoard's own reader."""

import json
import sys

import pytest

from drtools.errors import InputError
from drtools.training.log import Log


def record(step, loss):
    return {
        "step": step,
        "loss": loss,
        "learning_rate": 2e-5 * step,
        "tokens": 1000 * step,
        "note": "words are for people",
    }


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def shown(folder, name):
    """Return {step: value} as TensorBoard shows it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def test_records_are_lines_of_json(tmp_path):
    log = Log(tmp_path / "training.jsonl")
    records = [record(step, 1 / step) for step in (1, 2, 3)]
    for one in records[:2]:
        log.write(one)
    assert log.position() == (tmp_path / "training.jsonl").stat().st_size
    assert read(tmp_path / "training.jsonl") == records[:2], "all is on the disk once the position was asked for"
    log.write(records[2])
    log.close()
    assert read(tmp_path / "training.jsonl") == records
    assert [path.name for path in tmp_path.iterdir()] == ["training.jsonl"]


def test_continuing_cuts_off_what_the_checkpoint_did_not_know(tmp_path):
    path = tmp_path / "training.jsonl"
    log = Log(path)
    log.write(record(10, 0.5))
    position = log.position()
    log.write(record(20, 0.4))
    log.write(record(30, 0.3))
    log.close()
    log = Log(path, position, first_step=11)
    assert log.position() == position
    log.write(record(20, 0.25))
    log.close()
    assert read(path) == [record(10, 0.5), record(20, 0.25)]


def test_a_run_that_starts_afresh_forgets_an_earlier_one(tmp_path):
    path = tmp_path / "training.jsonl"
    for loss in (0.9, 0.1):
        log = Log(path, tensorboard=str(tmp_path / "board"))
        log.write(record(10, loss))
        log.close()
    assert read(path) == [record(10, 0.1)]
    assert shown(tmp_path / "board", "loss") == pytest.approx({10: 0.1})


def test_tensorboard_shows_the_same_numbers_and_forgets_what_was_cut_off(tmp_path):
    path, board = tmp_path / "training.jsonl", tmp_path / "board"
    log = Log(path, tensorboard=str(board))
    log.write(record(10, 0.5))
    log.write({"step": 10, "nDCG@10": 0.75})
    position = log.position()
    assert shown(board, "loss") == {10: 0.5} and shown(board, "nDCG@10") == {10: 0.75}
    log.write(record(20, 0.4))
    log.write(record(30, 0.3))
    log.close()
    assert list(shown(board, "loss")) == [10, 20, 30]
    log = Log(path, position, str(board), first_step=11)
    log.write(record(20, 0.25))
    log.close()
    for name in ("loss", "learning_rate", "tokens"):
        assert shown(board, name) == pytest.approx(
            {one["step"]: one[name] for one in read(path) if name in one}, rel=1e-6
        )


def test_without_tensorboard_the_next_move_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith(("tensorboard.", "torch.utils.tensorboard"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InputError, match=r"pip install 'drtools\[tensorboard\]'"):
        Log(tmp_path / "training.jsonl", tensorboard=str(tmp_path / "board"))
    assert not list(tmp_path.iterdir())
