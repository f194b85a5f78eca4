"""The manifest of an index is checked for its types where it is read."""

import json
from pathlib import Path

import pytest

from drtools.errors import InputError
from drtools.search.index_manifest import read_index
from drtools.search.sources import index_kind

FIXTURE = Path(__file__).parents[1] / "fixtures" / "0.1.0"


@pytest.mark.parametrize(
    "kind, folder, changes, words",
    [
        ("faiss", "faiss", {"dimension": "16"}, "dimension is '16', expected a whole number, at least 1"),
        ("faiss", "faiss", {"factory": None}, "factory is None, expected a string"),
        ("lucene", "bm25", {"language": 7}, "language is 7, expected a string"),
    ],
)
def test_another_type_is_refused_in_one_line(tmp_path, kind, folder, changes, words):
    record = json.loads((FIXTURE / folder / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    assert read_index(tmp_path) == record and index_kind(str(tmp_path)) == kind
    (tmp_path / "manifest.json").write_text(json.dumps(record | changes))
    with pytest.raises(InputError) as caught:
        read_index(tmp_path)
    said = str(caught.value)
    assert said == f"{tmp_path / 'manifest.json'}: {words}; the file was damaged, make it again"
    (tmp_path / "manifest.json").write_text(json.dumps({name: record[name] for name in record if name not in changes}))
    with pytest.raises(InputError, match=f"the key '{next(iter(changes))}' is missing; build the index again"):
        read_index(tmp_path)
