"""What Tab offers: candidates beside what typer itself parses, and a real bash in a pseudo-terminal."""

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import drtools.cli.main
from drtools.cli.commands import command_of, flat_parameters, tool_module
from drtools.cli.completion import answer, flags_of
from drtools.cli.main import tool_names

ROOT = Path(drtools.cli.main.__file__).parents[2]


def offered(*words: str) -> list[str]:
    """Return the candidates for a command line, or ["files"]."""
    lines = answer(
        [*words], dict.fromkeys(tool_names(), ""), lambda name: flat_parameters(tool_module(name).main)[0]
    ).split("\n")
    return lines if lines == ["files"] else [line.split("\t")[0] for line in lines[1:]]


# what was typed, the last word up to the cursor: what is offered
TYPED = {
    "a tool": (["mine"], ["mine-negatives"]),
    "all tools": ([""], tool_names()),
    "a flag of drtools itself": (["--v"], ["--version"]),
    "no such tool": (["nonsense", "--"], []),
    "a flag": (["encode", "--max-d"], ["--max-document-tokens"]),
    "flags of a tool without arguments": (
        ["doctor", ""],
        ["--config", "--quiet", "--log-json", "--strict", "--help", "--help-all"],
    ),
    "a flag that was said": (["encode", "--overwrite", "--ove"], []),
    "a flag that was said by its short name": (["encode", "-o", "x", "--outp"], []),
    "a flag that may be said again": (["train-star", "--examples", "a.jsonl", "--exam"], ["--examples"]),
    "a value with choices": (["encode", "--precision", ""], ["auto", "bf16", "fp16", "fp32", "int8"]),
    "a value after =": (["encode", "--precision=b"], ["--precision=bf16"]),
    "a value after =, as bash cuts it": (["encode", "--precision", "=", "b"], ["bf16"]),
    "a file": (["encode", "--corpus", "cor"], ["files"]),
    "a file after =": (["encode", "--corpus=cor"], ["files"]),
    "a file of a flag's former name": (["encode", "--documents", "cor"], ["files"]),
    "no former name of a flag": (["encode", "--docu"], ["--document-model", "--document-prompt"]),
    "a file to write": (["encode", "-o", ""], ["files"]),
    "a number": (["encode", "--threads", ""], []),
    "an argument": (["eval", "--qrels", "x", ""], ["files"]),
    "after an argument": (["eval", "a.run", "--al"], ["--alpha"]),
    "after --": (["eval", "--", "--al"], ["files"]),
    "an argument with choices": (["completion", "z"], ["zsh"]),
    "a value that looks like a flag": (["encode", "--title-separator", "--", "--precision", "f"], ["fp16", "fp32"]),
}


@pytest.mark.parametrize("name", TYPED)
def test_what_is_offered(name):
    words, expected = TYPED[name]
    assert offered(*words) == expected


@pytest.mark.parametrize("name", tool_names())
def test_flags_are_those_that_typer_takes(name):
    import typer

    main = tool_module(name).main
    application = typer.Typer(add_completion=False)
    application.command()(command_of(name, main, ""))
    taken = {
        option: parameter.is_flag
        for parameter in typer.main.get_command(application).params
        if parameter.param_type_name == "option"
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    flags = flags_of(flat_parameters(main)[0])
    assert {option: flag.kind is bool for flag in flags for option in (*flag.names, *flag.former_names)} == taken


def test_tab_loads_no_heavy_library(environment):
    code = (
        "import sys, drtools.cli.main\ndrtools.cli.main.main(['train-star', '--lea'])\nprint(sorted({'numpy', 'torch', "
        "'transformers', 'faiss', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "DRTOOLS_COMPLETE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["words", "--learning-rate\tpeak learning rate", "[]"]


def typed_in_bash(keys: str, folder: Path, environment: dict[str, str]) -> list[str]:
    """Type keys into an interactive bash that knows the completion; return the words of the line that they became."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execvpe(
            "bash",
            ["bash", "--norc", "--noprofile"],
            {**environment, "PATH": f"{ROOT / 'bin'}{os.pathsep}{environment['PATH']}"},
        )
    # control-A goes to the line's beginning, control-E to its end: the line becomes words that are printed
    os.write(terminal, f'eval "$(drtools completion bash)"\n{keys}\x01printf "%s\\n" \x05 > typed; exit\n'.encode())
    while select.select([terminal], [], [], 30)[0]:
        try:
            os.read(terminal, 4096)
        except OSError:  # it has ended
            break
    os.close(terminal)
    os.waitpid(child, 0)
    return (folder / "typed").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_a_real_bash(tmp_path, environment):
    (tmp_path / "corpus of today.jsonl").touch()
    line = typed_in_bash("drtools enc\t--precision=b\t--dty\tfloat3\t--corpus corp\t", tmp_path, environment)
    assert line == [
        "drtools",
        "encode",
        "--precision=bf16",
        "--dtype",
        "float32",
        "--corpus",
        "corpus of today.jsonl",
    ]
    assert typed_in_bash(f"{ROOT}/bin/encode --prec\tfp3\t", tmp_path, environment) == [
        f"{ROOT}/bin/encode",
        "--precision",
        "fp32",
    ]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/encode").write_text("#!/bin/sh\ntouch was-run\n")
    (tmp_path / "bin/encode").chmod(0o755)
    assert typed_in_bash("bin/encode --prec\t", tmp_path, environment) == ["bin/encode", "--prec"]
    assert not (tmp_path / "was-run").exists(), "Tab ran another program of the same name"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_of_their_shell(shell, drtools):
    script = drtools("completion", shell).out
    assert (
        "DRTOOLS_COMPLETE=1" in script
        and "LAUNCHER" not in script
        and "NAMES" not in script
        and "CHECKOUT" not in script
    )
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
