"""The house rules that a machine can hold.

Imports point down, heavy libraries stay inside functions, files stay small.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import drtools
from drtools.cli.main import first_line, tool_names

PACKAGE = Path(drtools.__file__).parent
GROUND = {
    "errors",
    "escapes",
    "randomness",
    "ranks",
    "reporting",
    "signals",
    "units",
    "java",
    "__init__",
}  # single files below everything
FORMATS = {"formats", "outputs"}
MODELS = {"models", "losses", *FORMATS}
SEARCH = {"encoding", *MODELS}
EVALUATION = {"search", "teachers", *SEARCH}
METHODS = {"training", "evaluation", *EVALUATION}
# what each layer may import, beside itself and the ground; from the top
LAYERS = {
    "__main__": {"cli"},
    "tools": {"cli", "methods", *METHODS},
    "cli": {"methods", *METHODS},
    "methods": METHODS,
    "training": MODELS,
    "evaluation": EVALUATION,
    "search": SEARCH,
    "teachers": SEARCH,
    "encoding": MODELS,
    "models": MODELS,
    "losses": set(),
    "formats": {"outputs"},
    "outputs": set(),
    **{name: set() for name in GROUND},
}
HEAVY = {
    "numpy",
    "torch",
    "transformers",
    "faiss",
    "pyserini",
    "jnius",
    "pytrec_eval",
    "scipy",
    "sklearn",
    "peft",
    "matplotlib",
    "pandas",
}
# files that compute with tensors, and import numpy and torch at their top
TENSORS = (
    "encoding/",
    "losses.py",
    "methods/",
    "models/",
    "teachers/scoring.py",
    "training/",
)


def sources():
    return sorted(path for path in PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path, top_only: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def module(path: Path) -> str:
    relative = path.relative_to(PACKAGE).with_suffix("")
    return ".".join(relative.parts[:-1] if relative.name == "__init__" and len(relative.parts) > 1 else relative.parts)


def imported(path: Path) -> set[str]:
    """Return the modules of the package that a file imports anywhere: in functions and for types too."""
    every = {module(path) for path in sources()}
    found = set()
    for name in imports(path, top_only=False):
        parts = name.removeprefix("drtools.").split(".") if name.startswith("drtools.") else []
        found |= {".".join(parts[:length]) for length in range(len(parts), 0, -1)} & every
    leaves = {name for name in found if not any(other.startswith(f"{name}.") for other in found)}
    return leaves - {module(path)}


def test_imports_point_down():
    """Hold every import to the order of the layers: at the top, in functions and for types."""
    upward = {
        f"{module(path)} -> {name}"
        for path in sources()
        for name in imported(path)
        if name.split(".")[0] not in {room(path), *GROUND, *LAYERS[room(path)]}
    }
    assert not upward


def test_no_import_is_in_a_circle():
    graph = {module(path): imported(path) for path in sources()}
    while removable := [name for name, below in graph.items() if not below & graph.keys()]:
        for name in removable:
            del graph[name]
    while removable := [name for name in graph if not any(name in below for below in graph.values())]:
        for name in removable:
            del graph[name]
    assert not graph


def test_flags_and_typer_are_known_to_the_command_line_alone():
    """Hold that no string below cli and tools has a flag in it, but torchrun's and the JVM's own."""
    for path in sources():
        if room(path) in ("cli", "tools"):
            continue
        assert not any(name.split(".")[0] == "typer" for name in imports(path, top_only=False)), path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", node.value))
                assert flags <= {"--nproc-per-node", "--sun-misc-unsafe-memory-access"}, f"{path}:{node.lineno}"


def test_tools_never_import_each_other_and_formats_never_torch():
    for path in sources():
        names = imports(path, top_only=False)
        assert room(path) != "tools" or not any(name.startswith("drtools.tools") for name in names), path
        assert room(path) != "formats" or not any(name.split(".")[0] == "torch" for name in names), path


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_inside_functions(path):
    if not str(path.relative_to(PACKAGE)).startswith(TENSORS):
        assert not {name.split(".")[0] for name in imports(path, top_only=True)} & HEAVY


@pytest.mark.parametrize("name", tool_names())
def test_help_loads_no_heavy_library(name):
    code = (
        f"import sys; sys.argv = ['drtools']\ntry:\n import drtools.cli.main; drtools.cli.main.main([{name!r}, "
        f"'--help'])\nexcept SystemExit: pass\nprint(sorted(set(sys.modules) & {HEAVY!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and first_line(name)[:40] in done.stdout


# What is longer than the house allows. These lists only shrink: what has become short enough must leave them.
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: dict[str, set[str]] = {}


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


def test_files_stay_small():
    long = {str(path.relative_to(PACKAGE)) for path in sources() if path.read_text().count("\n") > 350}
    assert long == LONG_FILES


def test_functions_stay_small():
    long: dict[str, set[str]] = {}
    for path in sources():
        for function in functions(path):
            if function.end_lineno - function.lineno + 1 > 60:
                long.setdefault(str(path.relative_to(PACKAGE)), set()).add(function.name)
    assert long == LONG_FUNCTIONS


def test_every_tool_has_a_name_in_bin_and_a_line_in_the_readme():
    root = PACKAGE.parent
    links = {path.name for path in (root / "bin").iterdir() if path.is_symlink()}
    assert links == {*tool_names(), "drtools"}
    readme = (root / "README.md").read_text()
    for name in tool_names():
        assert f"`{name}`" in readme, f"README.md does not name {name}"
