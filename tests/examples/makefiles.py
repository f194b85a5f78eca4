"""What the tests of the papers' Makefiles share.

What make would run, whether the tools take it, and its run in this process.
"""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from drtools.cli.commands import command

EXAMPLES = Path(__file__).parents[2] / "examples"
PASSAGES = [
    "collection.tsv",
    "queries.train.tsv",
    "queries.dev.small.tsv",
    "qrels.train.tsv",
    "qrels.dev.small.tsv",
    "msmarco-test2019-queries.tsv",
    "2019qrels-pass.txt",
]
DOCUMENTS = [
    "msmarco-docs.tsv",
    "msmarco-doctrain-queries.tsv.gz",
    "msmarco-doctrain-qrels.tsv.gz",
    "msmarco-docdev-queries.tsv.gz",
    "msmarco-docdev-qrels.tsv",
    "msmarco-test2019-queries.tsv.gz",
    "2019qrels-docs.txt",
]


def make(example: str, *words: object, folder: Path) -> subprocess.CompletedProcess:
    """Run make as a user does, without the variables of a make that runs these tests."""
    command = ["make", "-f", EXAMPLES / example / "Makefile", "DRTOOLS=drtools", *words]
    return subprocess.run(
        [str(word) for word in command], cwd=folder, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )


def printed(example: str, *words: object, folder: Path) -> list[list[str]]:
    """Return the drtools commands that make would run, without the leading word."""
    done = make(example, "-n", *words, folder=folder)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return [
        shlex.split(line)[1:] for line in done.stdout.replace("\\\n", " ").splitlines() if line.startswith("drtools ")
    ]


def arguments_of(words: list[str]) -> list[str]:
    """Return a command's words without what the shell does with its output."""
    return words[: words.index(">")] if ">" in words else words


def parsed(words: list[str]) -> dict[str, object]:
    """Return the values that a tool would get; typer raises for a flag or a value that it does not know."""
    tool, *arguments = arguments_of(words)
    return command(tool).make_context(tool, arguments).params


def run_all(commands: list[list[str]], drtools: Callable) -> None:
    """Run commands in their order in this process; a table written as X.txt.new becomes X.txt."""
    for words in commands:
        outcome = drtools(*arguments_of(words))
        assert outcome.status == 0, f"{shlex.join(words)}: {outcome.err}"
        if ">" in words:
            Path(words[-1]).with_suffix("").write_text(outcome.out)


def published_in(folder: Path) -> Path:
    """Make a folder with MS MARCO's files, empty."""
    folder.mkdir()
    for name in (*PASSAGES, *DOCUMENTS):
        (folder / name).touch()
    return folder
