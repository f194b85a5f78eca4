"""drtools convert --vectors, by its command line: foreign arrays adopted, or refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from test_convert import said

from drtools.formats.vectors import open_vectors


class Foreign:
    """An array of 7 unit vectors of the toy encoder's 32 dimensions and its ids, on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        array = np.random.default_rng(3).normal(size=(7, 32))
        self.array = (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)
        self.ids = [f"d{n}" for n in range(7)]
        self.save(self.array)
        self.name(self.ids)

    def save(self, array: np.ndarray, **options) -> None:
        np.save(self.folder / "x.npy", array, **options)

    def name(self, ids: list[str]) -> None:
        (self.folder / "ids.txt").write_text("".join(f"{i}\n" for i in ids))


@pytest.fixture
def foreign(tmp_path) -> Foreign:
    return Foreign(tmp_path)


@pytest.fixture
def adopt(drtools, foreign, encoder_folder):
    def run(*more: object):
        folder = foreign.folder
        return drtools(
            "convert",
            "--vectors",
            folder / "x.npy",
            "--ids",
            folder / "ids.txt",
            "--model",
            encoder_folder,
            "-o",
            folder / "out",
            *more,
        )

    return run


def test_adopted_vectors_are_what_encode_would_leave(adopt, foreign, drtools, toy, encoder_folder):
    outcome = adopt("--corpus", toy.corpus)
    assert outcome.status == 0 and "7 vectors of 32 dimensions" in outcome.err
    adopted = open_vectors(foreign.folder / "out")
    assert adopted.array.dtype == np.float32 and np.array_equal(adopted.array, foreign.array)
    assert [adopted.ids[row] for row in range(7)] == foreign.ids
    assert (
        drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", toy.folder / "encoded").status == 0
    )
    ours = open_vectors(toy.folder / "encoded").manifest
    assert adopted.manifest.keys() == ours.keys()
    same = ("kind", "side", "dimension", "normalized", "model", "corpus", "query_fingerprint", "document_fingerprint")
    assert [adopted.manifest[key] for key in same] == [ours[key] for key in same]
    assert {
        key: adopted.manifest[key] for key in ("count", "dtype", "title_separator", "max_tokens", "precision", "counts")
    } == {"count": 7, "dtype": "float32", "title_separator": None, "max_tokens": None, "precision": None, "counts": {}}
    again = adopt("--corpus", toy.corpus)
    assert again.status == 0 and "already done" in again.err


@pytest.mark.parametrize(
    "given, asked, kept",
    [
        ("float32", None, "float32"),
        ("float16", None, "float16"),
        ("float64", None, "float32"),
        (">f4", None, "float32"),
        ("float32", "float16", "float16"),
        ("float16", "float32", "float32"),
        ("float64", "float16", "float16"),
    ],
)
def test_numbers_are_kept_or_rounded(given, asked, kept, adopt, foreign):
    array = foreign.array.astype(given)
    foreign.save(np.asfortranarray(array))
    outcome = adopt("--side", "query", *(["--dtype", asked] if asked else []))
    assert outcome.status == 0
    adopted = open_vectors(foreign.folder / "out")
    assert adopted.array.dtype == np.dtype(kept) and np.array_equal(adopted.array, array.astype(kept))
    assert adopted.manifest["side"] == "query" and adopted.manifest["normalized"] is True
    assert ("rounded" in outcome.err) == (np.dtype(given).itemsize > np.dtype(kept).itemsize)


def test_blocks_are_copied_like_the_whole(adopt, foreign, monkeypatch):
    monkeypatch.setattr("drtools.formats.npy_vectors.ROWS_A_BLOCK", 3)
    assert adopt().status == 0
    assert np.array_equal(np.load(foreign.folder / "out" / "vectors.npy"), foreign.array)


def test_lengths_are_measured(adopt, foreign):
    foreign.array[4] *= 1.02
    foreign.save(foreign.array)
    outcome = adopt()
    assert outcome.status == 0 and "1 of 7 vectors do not have length 1" in outcome.err
    assert open_vectors(foreign.folder / "out").manifest["normalized"] is False
    assert adopt("--overwrite", "--strict").status == 2


def test_dimension_of_heads_and_poolings(tmp_path):
    from drtools.models.settings import EncoderSettings, vector_dimension

    (tmp_path / "config.json").write_text('{"dim": 24}')
    assert vector_dimension(tmp_path, EncoderSettings(pooling=("mean", "max"))) == 48
    dense = [{"kind": "dense", "in": 48, "out": 20}, {"kind": "dense", "in": 20, "out": 5}, {"kind": "normalize"}]
    assert vector_dimension(tmp_path, EncoderSettings(pooling=("mean", "max"), head=dense)) == 5


def test_bare_body_asks_for_pooling(drtools, foreign, bert):
    words = [
        "convert",
        "--vectors",
        foreign.folder / "x.npy",
        "--ids",
        foreign.folder / "ids.txt",
        "--model",
        bert,
        "-o",
        foreign.folder / "out",
    ]
    assert "use --pooling" in said(drtools(*words))
    assert drtools(*words, "--pooling", "cls").status == 0


def objects(foreign):
    foreign.save(np.array([["a", None]], dtype=object), allow_pickle=True)


def archive(foreign):
    np.savez(foreign.folder / "x.npz", foreign.array)
    os.rename(foreign.folder / "x.npz", foreign.folder / "x.npy")


def damaged_archive(foreign):
    archive(foreign)
    path = foreign.folder / "x.npy"
    path.write_bytes(path.read_bytes()[:200])


def cut(foreign):
    path = foreign.folder / "x.npy"
    path.write_bytes(path.read_bytes()[:-5])


def put(row: int, value: float):
    def change(foreign):
        foreign.array[row, 9] = value
        foreign.save(foreign.array)

    return change


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda f: f.save(f.array.ravel()), "found float32 [224], expected"),
        (lambda f: f.save(f.array.reshape(7, 8, 4)), "found float32 [7, 8, 4], expected"),
        (lambda f: f.save(f.array.astype(int)), "found int64 [7, 32], expected"),
        (lambda f: f.save(f.array.astype(complex)), "found complex128"),
        (lambda f: f.save(f.array.astype(np.longdouble)), "found float128"),
        (lambda f: f.save(f.array[:0]), "found float32 [0, 32], expected"),
        (lambda f: f.save(f.array[:, :30]), "30 dimensions, but"),
        (lambda f: (f.folder / "x.npy").write_bytes(b""), "not a whole .npy file"),
        (lambda f: (f.folder / "x.npy").write_text("0.1 0.2\n"), "not a whole .npy file"),
        (objects, "not a whole .npy file"),
        (archive, "an archive of arrays"),
        (damaged_archive, "not a whole .npy file"),
        (cut, "not a whole .npy file"),
        (put(5, np.nan), "row 5 (counted from 0, id 'd5') holds NaN or infinity"),
        (put(0, -np.inf), "row 0 (counted from 0, id 'd0') holds NaN or infinity"),
        (lambda f: f.name(f.ids[:-1]), "6 ids for the 7 rows"),
        (lambda f: f.name([*f.ids, "d7"]), "8 ids for the 7 rows"),
        (lambda f: f.name([*f.ids[:5], "d2", "d6"]), "ids.txt:6: the id 'd2' is also on line 3"),
        (lambda f: f.name([*f.ids[:5], "", "d6"]), "ids.txt:6: the line is empty"),
        (lambda f: f.name([*f.ids[:5], "a b", "d6"]), "ids.txt:6: the id 'a b' holds white space"),
        (lambda f: (f.folder / "ids.txt").write_bytes(b"d0\nd\xe9\n"), "ids.txt:2: byte 2 is not UTF-8"),
        (lambda f: f.name([]), "0 ids for the 7 rows"),
    ],
)
def test_vectors_that_are_refused(change, words, adopt, foreign):
    change(foreign)
    assert words in said(adopt())
    assert not (foreign.folder / "out").exists() and not (foreign.folder / "out.partial").exists()


def test_a_number_too_big_for_float16(adopt, foreign):
    put(3, 70000)(foreign)
    assert "row 3 (counted from 0, id 'd3') holds a number beyond float16" in said(adopt("--dtype", "float16"))
    assert adopt().status == 0


def test_a_folder_in_the_arrays_place(drtools, foreign, encoder_folder):
    outcome = drtools(
        "convert",
        "--vectors",
        encoder_folder,
        "--ids",
        foreign.folder / "ids.txt",
        "--model",
        encoder_folder,
        "-o",
        foreign.folder / "out",
    )
    assert "a folder was found" in said(outcome)
