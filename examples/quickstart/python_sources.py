"""Read the docstrings of the Python packages on this machine from their source files, importing none of them."""

import ast
import hashlib
import os
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Parsing runs at about 10 MB/s; torch and transformers alone have 90 MB of source files, scipy 12.
MOST_BYTES_OF_A_PACKAGE = 12_000_000

SKIPPED_FOLDERS = {
    *("test", "tests", "_tests", "idlelib", "lib2to3", "__pycache__", "site-packages", "dist-packages"),
    *("vendor", "_vendor", "_vendored", "extern", "externals", "third_party", "examples", "benchmarks"),
}
SKIPPED_FILE = re.compile(r"(test_.*|.*_test|conftest|setup)\.py")


class Source(NamedTuple):
    """What a module says about itself."""

    docstrings: dict[str, str]  # name inside the module -> docstring; the module's own is under ""
    imports: dict[str, tuple[str, str]]  # name -> the module and the name that it is imported from
    stars: list[str]  # modules of which everything is imported
    offered: set[str]  # __all__, as far as it is written out


def digest(*words: object) -> str:
    """A key that sorts in an order which looks random and in which a new member moves no other."""
    return hashlib.sha256("\0".join(map(str, words)).encode()).hexdigest()


def python_roots() -> list[Path]:
    """Folders that hold the standard library and the installed packages of this interpreter."""
    return sorted({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")})


def source_files(root: Path) -> dict[str, list[tuple[str, Path]]]:
    """Public top-level package -> (module name, file) of its sources, without tests and copies of others' packages."""
    packages: dict[str, list[tuple[str, Path]]] = {}
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name.isidentifier() and name not in SKIPPED_FOLDERS]
        for file in files:
            parts = [*Path(folder).relative_to(root).parts, file.removesuffix(".py")]
            wanted = file.endswith(".py") and parts[-1].isidentifier() and not SKIPPED_FILE.fullmatch(file)
            if wanted and not parts[0].startswith("_"):
                module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                packages.setdefault(parts[0], []).append((module, Path(folder, file)))
    return packages


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module or class, those under `if` and `try` included, functions' bodies left out."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.If, ast.Try)):
            yield from statements([*statement.body, *statement.orelse])


def docstrings(tree: ast.Module | ast.ClassDef, name: str) -> Iterator[tuple[str, str]]:
    """(name, docstring) of a module or class and of the public classes, functions and methods in it."""
    if docstring := ast.get_docstring(tree):
        yield name, docstring
    for statement in statements(tree.body):
        if not isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        inner = f"{name}.{statement.name}".lstrip(".")
        if statement.name.startswith("_"):
            continue
        if isinstance(statement, ast.ClassDef):
            yield from docstrings(statement, inner)
        elif docstring := ast.get_docstring(statement):
            yield inner, docstring


def read_source(module: str, path: Path) -> Source:
    """Parse one file; one that is no Python of this version says nothing."""
    source = Source({}, {}, [], set())
    try:
        with warnings.catch_warnings(action="ignore"):  # invalid escapes in other people's strings
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return source
    source.docstrings.update(docstrings(tree, ""))
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for statement in statements(tree.body):
        match statement:
            case ast.ImportFrom(names=names):
                above = package[: len(package) + 1 - statement.level] if statement.level else []
                origin = ".".join([*above, *([statement.module] if statement.module else [])])
                if names[0].name == "*":
                    source.stars.append(origin)
                source.imports.update({name.asname or name.name: (origin, name.name) for name in names})
            case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.AugAssign(target=ast.Name(id="__all__")):
                strings = {node.value for node in ast.walk(statement) if isinstance(node, ast.Constant)}
                source.offered.update(word for word in strings if isinstance(word, str) and not word.startswith("_"))
    return source


def origin(module: str, name: str, sources: dict[str, Source], steps: int = 8) -> str | None:
    """The module that defines what `from module import name` gives; None where that is not known."""
    if module not in sources or not steps:
        return None
    source = sources[module]
    if name in source.docstrings:
        return module
    if name in source.imports:
        return origin(*source.imports[name], sources, steps - 1)
    for star in source.stars:
        offered = sources[star].offered if star in sources else set()
        if (not offered or name in offered) and (found := origin(star, name, sources, steps - 1)):
            return found
    return None


def public_name(module: str, inside: str, sources: dict[str, Source]) -> str:
    """The object's name in the outermost of the packages around its module from which it can be imported."""
    parts, name = module.split("."), inside.partition(".")[0]
    packages = (".".join(parts[:depth]) for depth in range(1, len(parts)))
    holder = next((package for package in packages if origin(package, name, sources) == module), module)
    return f"{holder}.{inside}" if inside else module


def documented_objects(files: list[tuple[str, Path]], seed: int) -> dict[str, str]:
    """Qualified name -> docstring of the public modules, classes, functions and methods of one package.

    A package of more than MOST_BYTES_OF_A_PACKAGE is read in part: what its packages say first, then public folders
    before private ones, in a seeded order.
    """

    def priority(file: tuple[str, Path]) -> tuple[bool, bool, str]:
        module, path = file
        return path.name != "__init__.py", path.parent.name.startswith("_"), digest(seed, module)

    sources = {}
    bytes_left = MOST_BYTES_OF_A_PACKAGE
    for module, path in sorted(files, key=priority):
        bytes_left -= path.stat().st_size
        if bytes_left < 0:
            break
        sources[module] = read_source(module, path)
    objects: dict[str, str] = {}
    for module, source in sources.items():
        for inside, docstring in source.docstrings.items():
            objects.setdefault(public_name(module, inside, sources), docstring)
    return {name: docstring for name, docstring in objects.items() if "._" not in name}
