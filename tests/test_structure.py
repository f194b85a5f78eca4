"""The house rules that a machine can hold.

Imports point down, --help loads no heavy library, files stay small.
"""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import drtools
from drtools.cli.main import first_line, tool_names

PACKAGE = Path(drtools.__file__).parent
GROUND = {
    "costs",
    "errors",
    "escapes",
    "randomness",
    "process_ranks",
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
SLOW_PARTS = {"asyncio", "concurrent.futures", "http.client", "importlib.metadata"}  # of Python itself
ARRAYS = {"numpy", "torch"}  # imported at the top by what computes with them
WITHOUT_TORCH = (
    "evaluation.analyses.",
    "evaluation.comparing",
    "evaluation.runs",
    "evaluation.tuning",
    "formats.",
    "methods.spar.joining",
    "search.faiss_",
    "search.index_folder",
    "search.mining_run",
    "search.opening",
    "search.runs",
)


@functools.cache
def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


@functools.cache
def imports(path: Path, top_only: bool) -> set[str]:
    tree = tree_of(path)
    nodes = tree.body if top_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@functools.cache
def module(path: Path) -> str:
    relative = path.relative_to(PACKAGE).with_suffix("")
    return ".".join(relative.parts[:-1] if relative.name == "__init__" and len(relative.parts) > 1 else relative.parts)


@functools.cache
def imported(path: Path, top_only: bool = False) -> set[str]:
    """Return the modules of the package that a file imports at its top, or anywhere: in functions and for types too."""
    every = {module(path) for path in sources()}
    found = set()
    for name in imports(path, top_only):
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
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", node.value))
                assert flags <= {"--nproc-per-node", "--sun-misc-unsafe-memory-access"}, f"{path}:{node.lineno}"


def test_tools_never_import_each_other_and_formats_never_torch():
    for path in sources():
        names = imports(path, top_only=False)
        assert room(path) != "tools" or not any(name.startswith("drtools.tools") for name in names), path
        assert room(path) != "formats" or not any(name.split(".")[0] == "torch" for name in names), path


def loaded_with(start: set[str]) -> set[str]:
    """Return the modules of the package that these load at their top, themselves included."""
    paths = {module(path): path for path in sources()}
    found: set[str] = set()
    while new := start - found:
        found |= new
        start = set().union(*(imported(paths[name], top_only=True) for name in new))
    return found


@functools.cache
def needed_for_help() -> set[str]:
    return loaded_with({module(path) for path in sources() if room(path) in ("tools", "cli", "__main__")})


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_inside_functions(path):
    heavy = {name.split(".")[0] for name in imports(path, top_only=True)} & HEAVY
    assert heavy <= (set() if module(path) in needed_for_help() else ARRAYS)


@pytest.mark.slow
def test_what_needs_no_torch_loads_none():
    """Hold that runs are compared, files converted, and Lucene and FAISS used without torch's seconds and memory."""
    paths = {module(path): path for path in sources()}
    with_torch = {
        name for name in paths if any(each.split(".")[0] == "torch" for each in imports(paths[name], top_only=True))
    }
    without = {name for name in paths if name.startswith(WITHOUT_TORCH)}
    assert len(without) > 40 and not {name for name in without if loaded_with({name}) & with_torch}


@pytest.mark.parametrize("name", tool_names())
def test_help_loads_no_heavy_library(name):
    code = (
        f"import sys; sys.argv = ['drtools']\ntry:\n import drtools.cli.main; drtools.cli.main.main([{name!r}, "
        f"'--help'])\nexcept SystemExit: pass\nprint(sorted(set(sys.modules) & {HEAVY | SLOW_PARTS!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and first_line(name)[:40] in done.stdout


# What is longer than the house allows. These lists only shrink: what has become short enough must leave them.
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: dict[str, set[str]] = {}


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]


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
