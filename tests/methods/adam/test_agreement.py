"""What an encoder's folder says of the scale that its scores were trained with."""

import json

import pytest

from drtools.errors import InputError
from drtools.methods.adam.agreement import trained_scale


def test_the_trained_scale_is_a_number_or_not_known(tmp_path):
    assert trained_scale(str(tmp_path)) is None
    for kept, scale in (({}, None), ({"scale": None}, None), ({"scale": 20}, 20)):
        (tmp_path / "manifest.json").write_text(json.dumps(kept))
        assert trained_scale(str(tmp_path)) == scale
    (tmp_path / "manifest.json").write_text('{"scale": "20"}')
    with pytest.raises(InputError, match=r"manifest\.json: scale is '20', expected a number"):
        trained_scale(str(tmp_path))
