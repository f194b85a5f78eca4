"""JSON that is read: the kinds of its values, keys that are missing, and what is no JSON."""

import copy
import dataclasses
import pickle

import pytest

from drtools.errors import InputError
from drtools.outputs.disk import read_json, write_json
from drtools.outputs.manifest import KINDS
from drtools.outputs.records import COUNT, NUMBER, TEXT, Record, list_of, object_of, one_of, optional


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "not JSON"),
        ('{"a": ', "not JSON"),
        ("[1]", "found list, expected a JSON object"),
        ('{"a":' * 900 + "1" + "}" * 900, "levels of nested objects"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "not JSON"),
        ('{"a": "\\ud800"}', "half a character"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ('{"count": "60"}', "count is '60', expected a whole number, at least 1"),
        ('{"count": true}', "count is True"),
        ('{"count": 0}', "count is 0"),
        ('{"parts": [1, 2]}', "parts is [1, 2], expected a list of length 1, each an object with folder (a string)"),
        ('{"parts": [{}]}', "parts is [{}]"),
        ('{"how": "x"}', "how is 'x', expected concat or sum"),
    ],
)
def test_what_is_refused(tmp_path, text, found):
    path = tmp_path / "x.json"
    path.write_text(text)
    kinds = {
        "count": COUNT,
        "parts": list_of(object_of({"folder": TEXT}, ["folder"]), 1),
        "how": one_of("concat", "sum"),
    }
    with pytest.raises(InputError) as refusal:
        read_json(path, kinds)
    assert str(path) in str(refusal.value) and found in str(refusal.value)
    assert "make it again" in str(refusal.value) and len(str(refusal.value)) < 500


def test_a_key_that_is_missing_is_an_error_of_the_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": {"b": 1}})
    record = read_json(tmp_path / "x.json", {"a": object_of({"b": NUMBER}), "c": TEXT})
    assert record["a"]["b"] == 1 and record.get("c") is None
    for lacking in (lambda: record["c"], lambda: record["a"]["d"]):
        with pytest.raises(InputError, match=r"x\.json: the key '[cd]' is missing; the file was damaged"):
            lacking()


def test_a_record_can_be_copied_as_any_dict():
    @dataclasses.dataclass
    class Settings:
        inherited: dict

    record = Record({"a": {"b": 1}})
    assert dataclasses.asdict(Settings(record)) == {"inherited": {"a": {"b": 1}}}
    assert copy.deepcopy(record) == pickle.loads(pickle.dumps(record)) == record


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("joined", {"how": "sum", "mu": 0.5, "parts": [{"dimension": 3}, {}]}, {"how": "sum", "mu": 0.5, "parts": []}),
        (
            "joined",
            {"how": "sum", "mu": 1, "parts": [{}, {}]},
            {"how": "sum", "mu": 1, "parts": [{"dimension": "3"}, {}]},
        ),
        ("request", {"tool": "fuse", "arguments": {}}, {"tool": "fuse", "arguments": []}),
        ("recall", None, {"depth": 10}),
        ("side", "query", "both"),
        ("seconds", 0.5, float("nan")),
        ("count", 3, 10**30),
    ],
)
def test_kinds_of_a_manifest(key, good, bad):
    assert KINDS[key].fits(good) and not KINDS[key].fits(bad)


def test_null_is_of_an_optional_kind_alone():
    assert optional(TEXT).fits(None) and optional(TEXT).fits("x") and not optional(TEXT).fits(1)
    assert not TEXT.fits(None)


def test_names_that_are_not_utf8_are_written_with_escapes(tmp_path):
    write_json(tmp_path / "x.json", {"path": "a\udcff.run", "\udcc3\udca9": ["\ud800", 1]})
    assert read_json(tmp_path / "x.json") == {"path": "a\\xff.run", "é": ["\\ud800", 1]}
