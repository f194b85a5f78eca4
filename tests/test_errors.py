"""The parts of an error can be read one by one, and make one line together."""

import pytest

from drtools.errors import InputError, param
from drtools.formats.trec import read_run


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({"found": "nothing fits"}, "nothing fits"),
        ({"where": "a.run:3", "found": "found 5 columns", "expected": "6"}, "a.run:3: found 5 columns, expected 6"),
        ({"where": "mu", "expected": "0 or more"}, "mu: expected 0 or more"),
        ({"where": "out", "found": "is there", "remedy": "choose another"}, "out: is there; choose another"),
        (
            {"where": "x", "found": "a", "expected": "b", "remedy": "do c"},
            "x: a, expected b; do c",
        ),
    ],
)
def test_the_parts_make_one_line(parts, line):
    error = InputError(**parts)
    assert str(error) == line
    for name in ("where", "found", "expected", "remedy"):
        assert getattr(error, name) == parts.get(name, "")


def test_parameters_are_named_as_python_has_them():
    error = InputError("must be positive", where=param("learning_rate"), remedy=f"leave {param('schedule')} out")
    assert str(error) == "learning_rate: must be positive; leave schedule out"


def test_a_caller_can_read_where_a_file_is_wrong(tmp_path):
    path = tmp_path / "a.run"
    path.write_text("q1 Q0 d1 1 0.5 tag\nq1 Q0 d1 2 0.4 tag\n")
    with pytest.raises(InputError) as refusal:
        read_run(path)
    assert refusal.value.where == f"{path}:2"
    assert refusal.value.found.startswith("document d1 is already listed for query q1 in line 1")
