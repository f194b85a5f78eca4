"""Whether two requests are the same, and how not: flags, flags that one version lacks, changes of what is computed."""

import json

import pytest

from drtools.outputs.request import add_change, differences, request_in, same


def request(**arguments):
    return {"tool": "distill-adam", "arguments": arguments}


def test_a_flag_that_was_not_given_is_one_that_does_not_exist():
    assert same(request(steps=3, corpus_size=None), request(steps=3)) and same(request(), request(text=False))
    for one, other in (
        (request(seed=0), request()),
        (request(seed=0), request(seed=1)),
        (request(), request(text=True)),
        (request(prompt=""), request()),
    ):
        assert not same(one, other) and differences(one, other)


def test_a_change_of_what_is_computed_is_named():
    then, now = request(steps=3), request(steps=3)
    add_change(now, "the sum form sums both terms")
    assert not same(then, now)
    assert differences(then, now) == "since then the sum form sums both terms"
    again = request(steps=3)
    add_change(again, "the sum form sums both terms")
    assert same(now, again) and differences(now, again) == ""


@pytest.mark.parametrize("depth", [90, 900, 100_000])
def test_a_manifest_of_nested_objects_is_not_ours_or_compared_to_its_end(tmp_path, depth):
    path = tmp_path / "manifest.json"
    record = {"request": {"tool": "encode", "arguments": {"model": "@"}}, "fingerprint": "x"}
    path.write_text(json.dumps(record).replace('"@"', '{"a":' * depth + "1" + "}" * depth))
    found = request_in(path)
    assert found is None if depth > 100 else found and not same(found, record["request"])
