"""The house rules that a machine can hold.

Imports point down, heavy libraries stay inside functions, files stay small.
"""

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
    "places",
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
    "sklearn",
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
    code = (
        f"import sys; sys.argv = ['drtools']\ntry:\n import drtools.cli; drtools.cli.main([{name!r}, "
        f"'--help'])\nexcept SystemExit: pass\nprint(sorted(set(sys.modules) & {HEAVY!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and first_line(name)[:40] in done.stdout


# What is longer than the house allows. These lists only shrink: what has become short enough must leave them.
LONG_FILES = {"models/rem.py"}
LONG_FUNCTIONS = {
    "retrieval/encoding.py": {"encode_tokens"},
    "tools/analyze.py": {"main"},
    "tools/concat_spar.py": {"main"},
    "tools/convert.py": {"main"},
    "tools/distill_adam.py": {"main"},
    "tools/distill_fgd.py": {"main"},
    "tools/encode.py": {"main"},
    "tools/eval.py": {"main"},
    "tools/fuse.py": {"main"},
    "tools/index.py": {"main", "build_faiss"},
    "tools/make_lexical.py": {"main"},
    "tools/mlm_adapt.py": {"main"},
    "tools/search.py": {"main"},
    "tools/teacher_score.py": {"main"},
    "tools/train_adore.py": {"main"},
    "tools/train_rem.py": {"main"},
    "tools/train_star.py": {"main"},
}


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
