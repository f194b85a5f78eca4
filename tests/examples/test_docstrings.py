"""The quickstart's corpus builder, on packages that the tests write themselves."""

import gzip
import importlib
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "quickstart"
FILLER = "It takes an array and a number of rounds, looks at every row in turn, and gives back one of the same shape "


@pytest.fixture
def docstrings(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("docstrings")


@pytest.fixture
def sources(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("python_sources")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def function(name: str, sentence: str) -> str:
    return f'def {name}(x):\n    """{sentence}\n\n    {FILLER}{f"{name} " * 10}\n    """\n'


def package(name: str, count: int) -> dict[str, str]:
    body = "".join(function(f"{name}_{n}", f"Compute the {name} of kind number {n}.") for n in range(count))
    return {f"{name}/__init__.py": 'raise RuntimeError("was imported")\n' + body}


def read_collection(folder: Path) -> tuple[dict, dict, dict]:
    corpus, queries = (
        {record["_id"]: record for record in map(json.loads, gzip.open(folder / name, "rt", encoding="utf-8"))}
        for name in ("corpus.jsonl.gz", "queries.jsonl.gz")
    )
    qrels = {}
    for split in ("train", "dev", "test"):
        header, *lines = (folder / "qrels" / f"{split}.tsv").read_text().splitlines()
        assert header == "query-id\tcorpus-id\tscore"
        qrels[split] = [line.split("\t") for line in lines]
    return corpus, queries, qrels


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Compute the norm. It is fast.", "Compute the norm."),
        ("Compute the norm\nof a matrix. It\nis fast.", "Compute the norm of a matrix."),
        ("Return a title without a stop\n\nMore text. And more.", "Return a title without a stop"),
        ("Sort something, e.g. Python lists, by size. Then stop.", "Sort something, e.g. Python lists, by size."),
        ("Take the inverse, i.e. A to the power -1. Slow.", "Take the inverse, i.e. A to the power -1."),
        ("Follow Smith et al. The rest is ours. Really.", "Follow Smith et al. The rest is ours."),
        ("Follow J. Smith in all. Really.", "Follow J. Smith in all."),
        ("Needs version 1.2.3 of it. Else fails.", "Needs version 1.2.3 of it."),
        ("Works like a.b.c does (mostly). Else fails.", "Works like a.b.c does (mostly)."),
        ("Is it a number? Say so.", "Is it a number?"),
        ("dot(a, b, out=None) -> ndarray\n\nMultiply two arrays. Fast.", "Multiply two arrays."),
        ("linear(input, weight,\n       bias=(1, 2)) -> Tensor\nApply a map. Fast.", "Apply a map."),
        ("foo(x) gives the root. Fast.", "foo(x) gives the root."),
        ("======\nTitle\n======\n\nTools for graphs. Fast.", "Tools for graphs."),
        ("Title of it\n-----------\nTools for graphs. Fast.", "Tools for graphs."),
        ("Parameters\n----------\nx : int\n    A number.", "Parameters"),
        ("Open a file\n:param name: which file.", "Open a file"),
        ("Open a file\nArgs:\n    name: which file.", "Open a file"),
        ("Give one of these\n- first. One.\n- second", "Give one of these"),
        ("\n\n  Start late. Then go on.", "Start late."),
        ("", ""),
    ],
)
def test_first_sentence(docstrings, docstring, sentence):
    assert docstrings.first_sentence(docstring)[0] == sentence


def test_first_sentence_and_rest_share_the_words(docstrings):
    docstring = "f(x) -> y\n\nCut here. Keep this.\n\nAnd this."
    assert docstrings.first_sentence(docstring) == ("Cut here.", "f(x) -> y\n\n Keep this.\n\nAnd this.")


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ("Call :func:`~a.b.solve` or :py:meth:`a.b`.", "Call solve or a.b."),
        ("See :ref:`the guide <guide>` and `home <http://x.y>`_.", "See the guide and home."),
        ("A ``list`` of `int`, *not* **float**.", "A list of int, not float."),
        ("Like [`Model`] and [a page](http://x.y/z).", "Like Model and a page."),
        ("As shown in [1]_ and [CR2]_.", "As shown in and."),
        ("Pass *args, **kwargs and x * y * z.", "Pass *args, **kwargs and x * y * z."),
        ("%(before)sText\n.. versionadded:: 1.2\n.. note:: Careful.", "Text\n\n Careful."),
        ("For example::\n\n```py\ncode\n```", "For example:\n\n\ncode\n"),
    ],
)
def test_cleaned(docstrings, markup, words):
    assert docstrings.cleaned(markup) == words


@pytest.mark.parametrize(
    ("docstring", "why"),
    [
        (f"Too short. {FILLER * 3}", "a query of 2 words"),
        (f"{'long ' * 31}end. {FILLER * 3}", "a query of 32 words"),
        ("Compute the norm of a matrix. It is fast.", "a text of 3 words"),
        (f"Compute the norm of it. {FILLER * 3} compute  the Norm\nof it!", "the query stands in the text"),
        (f"Compute {{name}} of a matrix. {FILLER * 3}", "a placeholder"),
    ],
)
def test_as_pair_refuses(docstrings, docstring, why):
    assert docstrings.as_pair("a.b", docstring) is None, why


def test_as_pair(docstrings):
    pair = docstrings.as_pair("a.b", f"Compute the :func:`a.norm` of it, e.g.::\n\nNotes\n-----\n{FILLER * 2}\udc80")
    assert (pair.name, pair.query, pair.text) == ("a.b", "Compute the a.norm of it", "Notes\n" + (FILLER * 2).strip())


def test_objects_are_named_as_they_are_imported(sources, tmp_path):
    files = {
        "p/__init__.py": "from .sub import *\nfrom ._alone import solve as solve\nfrom other import Path\n",
        "p/sub/__init__.py": "try:\n    from p.sub._impl import *\nexcept ImportError:\n    pass\n",
        "p/sub/_impl.py": '__all__ = ["Tree"]\nclass Tree:\n    "tree"\n    def grow(self):\n        "grow"\n'
        '    def _hidden(self):\n        "hidden"\ndef helper():\n    "helper"\n    def inner():\n        "inner"\n',
        "p/_alone.py": 'def solve():\n    "solve"\n',
        "p/plain.py": '"plain"\nclass Path:\n    "path"\n',
        "p/broken.py": 'def f(:\n    "broken"\n',
        "p/tests/test_it.py": 'def f():\n    "test"\n',
        "p/_vendor/copy.py": 'def f():\n    "copy"\n',
        "_private/__init__.py": '"private"\n',
    }
    packages = sources.source_files(write(tmp_path, files))
    assert list(packages) == ["p"]
    assert sources.documented_objects(packages["p"], seed=1) == {
        "p.Tree": "tree",
        "p.Tree.grow": "grow",
        "p.solve": "solve",
        "p.plain": "plain",
        "p.plain.Path": "path",
    }


def test_a_large_package_is_read_in_part(sources, tmp_path, monkeypatch):
    files = {f"p/m{n}.py": f'"module {n}"\n' for n in range(20)}
    packages = sources.source_files(write(tmp_path, files))
    monkeypatch.setattr(sources, "MOST_BYTES_OF_A_PACKAGE", 5 * len(files["p/m10.py"]))
    read = sources.documented_objects(packages["p"], seed=1)
    assert len(read) == 5
    assert read == sources.documented_objects(packages["p"][::-1], seed=1)
    assert read != sources.documented_objects(packages["p"], seed=2)


@pytest.fixture
def build(docstrings, monkeypatch, tmp_path):
    """Build a collection of the packages under tmp_path/site in tmp_path/NAME."""
    monkeypatch.setattr(docstrings, "python_roots", lambda: [tmp_path / "site"])

    def run(name: str, *options: str) -> Path:
        docstrings.main(["-o", str(tmp_path / name), *options])
        return tmp_path / name

    return run


def test_collection(build, tmp_path, capsys):
    files = package("scipy", 20) | package("matplotlib", 10) | package("alpha", 30) | package("beta", 30)
    files["gamma.py"] = function("same", "Compute the alpha of kind number 3.") + function("own", "Do its own thing.")
    write(tmp_path / "site", files)
    options = ("--documents", "70", "--test-queries", "15", "--dev-queries", "5", "--train-queries", "30")
    first, second = build("first", *options), build("second", *options)
    for file in ("corpus.jsonl.gz", "queries.jsonl.gz", "qrels/train.tsv", "qrels/dev.tsv", "qrels/test.tsv"):
        assert (first / file).read_bytes() == (second / file).read_bytes()
    assert not list(tmp_path.glob("*.partial"))
    assert "test: 15 queries from 1 packages (scipy 15)" in capsys.readouterr().err

    corpus, queries, qrels = read_collection(first)
    assert (len(corpus), len(queries)) == (70, 50)
    assert list(corpus) == sorted(corpus)
    assert {split: len(lines) for split, lines in qrels.items()} == {"train": 30, "dev": 5, "test": 15}
    assert {line[0] for lines in qrels.values() for line in lines} == set(queries)
    for split, names in {"test": {"scipy"}, "dev": {"matplotlib"}, "train": {"alpha", "beta", "gamma"}}.items():
        for query, document, grade in qrels[split]:
            assert document.split(".")[0] in names
            assert grade == "1" and query != document and document in corpus
            assert queries[query]["text"] not in corpus[document]["text"]
    assert len({record["text"] for record in queries.values()}) == len(queries)
    assert (
        build("third", *options, "--seed", "14").joinpath("corpus.jsonl.gz").read_bytes()
        != (first / "corpus.jsonl.gz").read_bytes()
    )


def test_duplicates_are_left_out(docstrings):
    words = [("a", "Q one.", "t"), ("b", "q  ONE", "u"), ("c", "Q two.", "T!"), ("d", "Q", "v")]
    kept = docstrings.without_duplicates([docstrings.Pair(*three) for three in words])
    assert [pair.name for pair in kept] == ["a", "d"]


def test_any_packages_are_split_in_three(docstrings):
    names = [f"package{n}" for n in range(10)]
    splits = docstrings.split_packages(names)
    assert sorted(splits.values()) == ["dev"] * 2 + ["test"] * 2 + ["train"] * 6
    assert docstrings.split_packages(names[::-1]) == splits


def test_a_small_corpus_keeps_every_split(docstrings):
    names = [f"{package}.f{n}" for package in ("scipy", "matplotlib", "alpha") for n in range(50)]
    pairs = [docstrings.Pair(name, name, name) for name in names]
    corpus, judged = docstrings.draw(pairs, 20, {"test": 10, "dev": 10, "train": 60}, seed=1)
    assert {split: len(chosen) for split, chosen in judged.items()} == {"test": 2, "dev": 2, "train": 15}
    assert len(corpus) == len(set(corpus)) == 20
    assert set(corpus) >= {pair for chosen in judged.values() for pair in chosen}


@pytest.mark.parametrize("option", [("--documents", "0"), ("--seed", "x"), ("--test-queries", "-1")])
def test_wrong_usage(build, option, capsys):
    with pytest.raises(SystemExit) as stop:
        build("first", *option)
    assert stop.value.code == 2
    assert f"argument {option[0]}: invalid" in capsys.readouterr().err


def test_too_few_packages(build, tmp_path, capsys):
    write(tmp_path / "site", package("alpha", 5))
    with pytest.raises(SystemExit) as stop:
        build("first")
    assert stop.value.code == 2
    assert "no docstrings for dev, train" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_folder_that_exists_is_kept(build, tmp_path, capsys):
    (tmp_path / "first").mkdir()
    with pytest.raises(SystemExit) as stop:
        build("first")
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list((tmp_path / "first").iterdir())
