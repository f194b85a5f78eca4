"""Vectors folders: the manifest and the names of parts are checked for their types where they are read."""

import json
from pathlib import Path

import numpy as np
import pytest

from drtools.errors import InputError
from drtools.formats.vectors import PARTS, EncodedManifest, create_array, open_vectors
from drtools.outputs.opening import open_folder
from drtools.outputs.specs import OutputSpec

MADE = EncodedManifest(
    side="document",
    count=2,
    dimension=3,
    dtype="float32",
    normalized=False,
    model="m",
    corpus="c.jsonl",
    title_separator=" ",
    max_tokens=9,
    query_fingerprint="q",
    document_fingerprint="d",
)


@pytest.fixture
def folder(tmp_path) -> Path:
    spec = OutputSpec(str(tmp_path / "vectors"))
    spec.request.update({"tool": "encode", "arguments": {}})
    with open_folder(spec) as work:
        create_array(work.path, 2, 3, "float32")[:] = np.arange(6).reshape(2, 3)
        (work.path / "ids.txt").write_text("d1\nd2\n")
        work.finish(**MADE.record())
    return tmp_path / "vectors"


def test_a_manifest_is_read_as_it_was_written(folder):
    record = open_vectors(folder).manifest
    assert record["kind"] == "vectors" and {name: record[name] for name in MADE.record()} == MADE.record()
    assert "document_model" not in record and record["counts"] == {}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"side": "documents"}, "side is 'documents', expected query or document"),
        ({"dimension": "3"}, "dimension is '3', expected a whole number, at least 1"),
        ({"max_tokens": [9]}, "max_tokens is [9], expected a whole number, at least 0, or null"),
        ({"query_fingerprint": None}, "query_fingerprint is None, expected a string"),
        (
            {"joined": {"how": "product", "mu": 1, "parts": []}, "tried": []},
            "an object with how (concat or sum), mu (a number)",
        ),
    ],
)
def test_a_manifest_of_other_types_is_refused_in_one_line(folder, changes, words):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError) as caught:
        open_vectors(folder)
    assert words in str(caught.value) and f"{path}: " in str(caught.value) and "\n" not in str(caught.value)


def test_a_manifest_that_lacks_a_key_is_refused(folder):
    path = folder / "manifest.json"
    record = json.loads(path.read_text())
    del record["document_fingerprint"]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="the key 'document_fingerprint' is missing"):
        open_vectors(folder)


def test_parts_of_other_types_are_refused(folder):
    (folder / PARTS).write_text(json.dumps({"how": "concat", "parts": [{"folder": "a"}]}))
    with pytest.raises(InputError, match=r"parts\.json: found .* expected an object with how .*join the vectors again"):
        open_vectors(folder)
