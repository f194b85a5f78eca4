"""States of unfinished work: what is written and read, and what of another version is refused."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

import pytest

from drtools.encoding.folder import EncodingState
from drtools.errors import InputError
from drtools.methods.adam.darken import DarkState
from drtools.methods.spar.joining import JoiningState
from drtools.methods.spar.sentences import SamplingState
from drtools.methods.teacher_scores import ScoringState
from drtools.outputs.opening import open_folder
from drtools.outputs.specs import OutputSpec
from drtools.outputs.states import State
from drtools.search.mining_run import MiningState
from drtools.search.runs import SearchState
from drtools.training.state import TrainingState

FIXTURE = Path(__file__).parents[1] / "fixtures" / "0.1.0"


@dataclass(kw_only=True)
class Lines(State):
    lines: int
    lengths: list[int] = field(default_factory=list)


@dataclass(kw_only=True)
class LaterLines(Lines):
    version: ClassVar[int] = 2


def open_work(path: Path, overwrite: bool = False):
    spec = OutputSpec(str(path), overwrite)
    spec.request.update({"tool": "encode", "arguments": {}})
    return open_folder(spec)


def stop_with(path: Path, record: dict) -> dict:
    """Save a state, stop, and return what lies on the disk then."""
    with pytest.raises(KeyboardInterrupt), open_work(path) as work:
        assert Lines.of(work) is None
        work.save(**record)  # as any release may have written it
        raise KeyboardInterrupt
    return json.loads((path.with_name(path.name + ".partial") / "state.json").read_bytes())


def test_a_state_is_read_as_it_was_written(tmp_path):
    written = stop_with(tmp_path / "x", Lines(lines=2, lengths=[3, 4]).record())
    assert (
        written.pop("worked_seconds") >= 0 and written.pop("files") == {} and written == {"lines": 2, "lengths": [3, 4]}
    )
    with open_work(tmp_path / "x") as work:
        assert Lines.of(work) == Lines(lines=2, lengths=[3, 4])
        work.finish()


def test_a_field_of_later_has_its_default_and_an_unknown_key_is_left(tmp_path):
    stop_with(tmp_path / "x", {"lines": 2, "offset": 7})
    with open_work(tmp_path / "x") as work:
        assert Lines.of(work) == Lines(lines=2, lengths=[])
        work.finish()


@pytest.mark.parametrize("record", [{"lines": -1}, {"lines": 2, "lengths": [3, -4]}])
def test_a_number_below_zero_is_refused(tmp_path, record):
    stop_with(tmp_path / "x", record)
    with (
        pytest.raises(InputError, match="is below 0, expected numbers of what was done"),
        open_work(tmp_path / "x") as work,
    ):
        Lines.of(work)


@pytest.mark.parametrize("wrote, reads", [(LaterLines, Lines), (Lines, LaterLines)])
def test_another_version_is_refused_in_one_line(tmp_path, wrote, reads):
    stop_with(tmp_path / "x", wrote(lines=2).record())
    with pytest.raises(InputError) as caught, open_work(tmp_path / "x") as work:
        reads.of(work)
    found, expected = wrote.version, reads.version
    assert f"version {found} was found, expected {expected}" in str(caught.value)
    assert "state.json" in str(caught.value) and "\n" not in str(caught.value)


ENCODED = {"done": 3, "counts": {"truncated": 0, "empty": 0, "tokens": 9, "taken": 0}, "id_bytes": 6}
TRAINED = {"step": 2, "checkpoint": "c", "seconds": 1, "best": None, "evaluations": [], "start_loss": None}


@pytest.mark.parametrize(
    "kind, record, words",
    [
        (Lines, {"lines": "two"}, "lines is 'two', expected a whole number"),
        (Lines, {"lines": 2, "lengths": [3, None]}, "lengths is [3, None], expected a list, each a whole number"),
        (Lines, {"lengths": []}, "the key 'lines' is missing"),
        (
            EncodingState,
            {**ENCODED, "precision": "fp8"},
            "precision is 'fp8', expected bf16 or fp16 or fp32 or int8",
        ),
        (
            EncodingState,
            {**ENCODED, "counts": {"truncated": 0}, "precision": "fp32"},
            "expected an object with empty (a whole number), taken (a whole number), tokens (a whole number), ",
        ),
        (TrainingState, {**TRAINED, "refreshed": 3}, "refreshed is 3, expected a string or null"),
        (
            TrainingState,
            {**TRAINED, "refreshed": None, "best": {"step": 1}},
            "an object with measure (a string), step (a whole number)",
        ),
        (SearchState, {"done": None, "counts": {}}, "done is None, expected a whole number"),
        (MiningState, {"done": 1, "counts": []}, "counts is [], expected an object, each value a whole number"),
        (DarkState, {"done": 1, "counts": {"dark": "x"}}, "expected an object, each value a whole number"),
        (SamplingState, {"counts": {}, "total": 1.5}, "total is 1.5, expected a whole number or null"),
        (JoiningState, {"done": "16384"}, "done is '16384', expected a whole number"),
        (
            ScoringState,
            {"counts": {}, "first": {"lacking queries": "q1"}},
            "expected an object, each value a list, each a string",
        ),
    ],
)
def test_what_no_release_wrote_is_refused_in_one_line(tmp_path, kind, record, words):
    stop_with(tmp_path / "x", record)
    with pytest.raises(InputError) as caught, open_work(tmp_path / "x") as work:
        kind.of(work)
    said = str(caught.value)
    assert words in said and "x.partial/state.json: " in said and "overwrite to start afresh" in said
    assert "\n" not in said


def test_counts_of_truths_are_read_as_earlier_releases_wrote_them(tmp_path):
    # a Counter keeps what it was first updated with, and a window of one query was written as true or false
    stop_with(tmp_path / "x", {"counts": {"queries": 1, "lacking queries": True}})
    with open_work(tmp_path / "x") as work:
        state = ScoringState.of(work)
        assert state is not None and sum(state.counts.values()) == 2
        work.finish()


@pytest.mark.parametrize(
    "written, words",
    [
        (b"{", "not JSON"),
        (b"[1]", "found list, expected a JSON object"),
        (b'{"lines": 1, "worked_seconds": "long"}', "found 'long', expected a number"),
        (b'{"lines": 1, "offset": null}', "found None, expected a whole number"),
    ],
)
def test_a_damaged_state_is_refused_in_one_line_and_overwrite_starts_afresh(tmp_path, written, words):
    stop_with(tmp_path / "x", {"lines": 1})
    (tmp_path / "x.partial" / "state.json").write_bytes(written)
    with pytest.raises(InputError) as caught, open_work(tmp_path / "x"):
        pass
    said = str(caught.value)
    assert words in said and "state.json: " in said and "overwrite to start afresh" in said and "\n" not in said
    with open_work(tmp_path / "x", overwrite=True) as work:
        assert Lines.of(work) is None
        work.finish()


def keys_of(folder: str) -> set[str]:
    return {*json.loads((FIXTURE / folder / "state.json").read_bytes())} - {"worked_seconds", "offset"}


def test_states_have_the_keys_that_0_1_0_wrote():
    stopped = {path.parent.name for path in FIXTURE.glob("*.stopped/state.json")}
    encodings = {name for name in stopped if "id_bytes" in keys_of(name)}
    trainings = {name for name in stopped if "checkpoint" in keys_of(name)}
    scorings = stopped - encodings - trainings
    later = {"first", "scaling"}  # keys with defaults, which later releases added
    assert encodings and trainings and scorings == {"half-scored.run.stopped"}
    for kind, folders in ((EncodingState, encodings), (TrainingState, trainings), (ScoringState, scorings)):
        for folder in folders:
            assert keys_of(folder) | later == {each.name for each in fields(kind)} | later


def test_states_name_the_keys_that_0_1_0_wrote_where_no_fixture_was_stopped():
    assert {field.name for field in fields(SearchState)} == {"done", "counts"}
    assert {field.name for field in fields(MiningState)} == {"done", "counts"}
    assert {field.name for field in fields(DarkState)} == {"done", "counts"}
    assert {field.name for field in fields(SamplingState)} == {"counts", "total"}
    assert {field.name for field in fields(JoiningState)} == {"done"}


def test_a_damaged_request_is_refused_in_one_line(tmp_path):
    stop_with(tmp_path / "x", {"lines": 1})
    (tmp_path / "x.partial" / "request.json").write_text('{"tool": "encode"}')
    with pytest.raises(InputError) as caught, open_work(tmp_path / "x"):
        pass
    said = str(caught.value)
    assert "request.json: found None, expected an object" in said and "overwrite to start afresh" in said
