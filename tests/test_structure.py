"""The house rules that a machine can hold: imports point down, heavy libraries stay inside functions, files stay small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import drtools
from drtools.cli import first_line, tool_names

PACKAGE = Path(drtools.__file__).parent
# from the top; a room imports itself and what stands below it
FLOORS = [
    "tools",
    "showing",
    "training",
    "retrieval",
    "evaluation",
    "batches",
    "models",
    "losses",
    "releases",
    "output",
    "formats",
    "manifest",
    "console",
    "layout",
    "errors",
]
ANYWHERE = {"errors", "randomness", "flags", "__init__"}  # flags: names and types alone
HEAVY = {
    "numpy",
    "torch",
    "transformers",
    "faiss",
    "pyserini",
    "jnius",
    "pytrec_eval",
    "scipy",
    "peft",
    "matplotlib",
    "pandas",
}
# rooms that are only ever imported inside a function, and may therefore import numpy and torch at their top
TENSORS = (
    "models/",
    "batches/",
    "training/",
    "losses.py",
    "retrieval/encoding.py",
    "retrieval/encoding_pieces.py",
    "retrieval/encoding_folder.py",
    "retrieval/encoding_update.py",
    "retrieval/fitting.py",
    "retrieval/scoring.py",
    "retrieval/dropping.py",
)  # training/settings.py holds flags, and is looked at by the next test


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


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    mine = room(path)
    for name in imports(path, top_only=False):
        parts = name.split(".")
        if parts[0] != "drtools" or len(parts) < 2:
            continue
        theirs = parts[1]
        if theirs in ANYWHERE or theirs == mine or theirs not in FLOORS or mine not in FLOORS:
            assert theirs != "cli" or mine == "__main__"
            continue
        assert FLOORS.index(theirs) > FLOORS.index(mine), f"{mine} imports {theirs}, which stands above it"
    if mine == "tools":
        assert not any(name.startswith("drtools.tools") for name in imports(path, top_only=False)), (
            "tools never import each other"
        )
    if mine == "formats":
        assert not any(name.split(".")[0] == "torch" for name in imports(path, top_only=False)), (
            "formats never import torch"
        )


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_inside_functions(path):
    if not str(path.relative_to(PACKAGE)).startswith(TENSORS):
        assert not {name.split(".")[0] for name in imports(path, top_only=True)} & HEAVY


@pytest.mark.parametrize("name", tool_names())
def test_help_loads_no_heavy_library(name):
    code = f"import sys; sys.argv = ['drtools']\ntry:\n import drtools.cli; drtools.cli.main([{name!r}, '--help'])\nexcept SystemExit: pass\nprint(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and first_line(name)[:40] in done.stdout


def test_files_and_functions_stay_small():
    for path in sources():
        source = path.read_text()
        assert source.count("\n") <= 300, f"{path} has {source.count(chr(10))} lines"
        assert ast.get_docstring(ast.parse(source)), f"{path} does not say what it is for"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"
                public = not node.name.startswith("_")
                assert not public or ast.get_docstring(node) or "test" in path.name or _is_inner(source, node), (
                    f"{path}: {node.name} has no docstring"
                )


def _is_inner(source: str, function: ast.FunctionDef) -> bool:
    return (
        function.col_offset > 4
        or function.col_offset == 4
        and not any(isinstance(node, ast.ClassDef) and function in node.body for node in ast.walk(ast.parse(source)))
    )


def test_every_tool_has_a_name_in_bin_and_a_line_in_the_readme():
    root = PACKAGE.parent
    links = {path.name for path in (root / "bin").iterdir() if path.is_symlink()}
    assert links == {*tool_names(), "drtools"}
    readme = (root / "README.md").read_text()
    for name in tool_names():
        assert f"`{name}`" in readme, f"README.md does not name {name}"
