"""What a command line may say: inputs that can be read only once, flags given twice, places that are no output."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from conftest import Toy

from drtools.cli.commands import command, flat_parameters, tool_module
from drtools.cli.main import main, tool_names
from drtools.cli.show.lineage import ancestors
from drtools.cli.tool_flags import FORMER_NAMES, flags_of

SEARCH = ("search", "--vectors", "{vectors}", "--depth", "5", "--precision", "fp32")


@pytest.fixture(scope="session")
def made(encoder_folder, tmp_path_factory):
    """The toy collection, vectors of its documents, two runs and answers."""
    toy = Toy(tmp_path_factory.mktemp("made"))
    answers = [{"_id": f"q{n}", "answers": [toy.documents[n]["text"].split()[0]]} for n in range(20)]
    (toy.folder / "answers.jsonl").write_text("".join(json.dumps(record) + "\n" for record in answers))
    np.save(toy.folder / "x.npy", np.eye(60, 32, dtype="float32"))
    (toy.folder / "ids.txt").write_text("".join(f"d{n}\n" for n in range(60)))
    vectors, queries = str(toy.folder / "vectors"), ["--queries", toy.queries]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRTOOLS_CACHE", str(tmp_path_factory.mktemp("made-cache")))
        main(["encode", "--model", encoder_folder, "--corpus", toy.corpus, "--precision", "fp32", "-o", vectors])
        search = ["search", "--vectors", vectors, *queries, "--precision", "fp32", "--depth"]
        main([*search, "9", "-o", str(toy.folder / "a.run")])
        main([*search, "5", "-o", str(toy.folder / "b.run")])
        convert = ["convert", "--to", "tevatron", "--examples", toy.examples, "--corpus", toy.corpus, *queries]
        main([*convert, "-o", str(toy.folder / "tevatron.jsonl")])
    return toy.folder


@pytest.fixture
def world(made, encoder_folder, tmp_path):
    """Names of its files, for a test of its own. Beside them are no manifests, which pipes have not either."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.run.manifest.json"))
    names = {path.name.split(".")[0]: str(path) for path in tmp_path.iterdir() if "manifest" not in path.name}
    return names | {"model": encoder_folder, "run": str(tmp_path / "a.run"), "second": str(tmp_path / "b.run")}


class Pipes:
    """FIFOs, each with a thread that writes a file's content into it once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, count()

    def of(self, path: str) -> str:
        """Return a FIFO that gives a file's content."""
        pipe, content = self.folder / f"pipe{next(self.number)}", Path(path).read_bytes()
        os.mkfifo(pipe)
        threading.Thread(target=lambda: pipe.write_bytes(content), daemon=True).start()
        return str(pipe)


# every flag that takes a file stands in one of them, in [ ] what becomes a pipe
COMMANDS = {
    "encode documents": "encode --model {model} --corpus [{corpus}] --precision fp32",
    "encode queries": "encode --model {model} --queries [{queries}] --only [{qrels}] --precision fp32",
    "index": "index --corpus [{corpus}]",
    "search": "search --vectors {vectors} --queries [{queries}] --only [{qrels}] --depth 5 --precision fp32",
    "re-rank": "search --rerank [{run}] --corpus [{corpus}] --model {model} --queries [{queries}] --precision fp32",
    "mine from a run": "mine-negatives --queries [{queries}] --qrels [{qrels}] --run [{run}] --negatives 3",
    "mine at random": "mine-negatives --queries [{queries}] --qrels [{qrels}] --random --corpus [{corpus}] "
    "--negatives 3",
    "split queries": "split-queries --qrels [{qrels}]",
    "sample from a corpus": "sample-queries --corpus [{corpus}] --count 5",
    "merge deliveries": "merge-deliveries --corpus [{corpus}] [{queries}]",
    "shuffle queries": "sample-queries --queries [{queries}] --shuffle",
    "fuse": "fuse [{run}] [{second}] --method linear --tune [{qrels}]",
    "fuse by answers": "fuse [{run}] [{second}] --method linear --tune-answers [{answers}] --corpus [{corpus}]",
    "dark examples": "make-dark-examples [{examples}] --negatives 1",
    "convert to": "convert --to tevatron --examples [{examples}] --corpus [{corpus}] --queries [{queries}]",
    "convert from": "convert --from tevatron [{tevatron}]",
    "convert vectors": "convert --vectors [{x}] --ids [{ids}] --model {model} --corpus [{corpus}]",
    "a twin of BM25": "make-lexical --corpus [{corpus}] --queries [{queries}] --only [{qrels}] --dimension 8",
    "join": "concat-spar {vectors} {vectors} --mu 1",
    "adapt": "mlm-adapt --model {model} --corpus [{corpus}] --steps 1 --head-steps 1 --batch-documents 2",
    "train": "train-contrastive --model {model} --corpus [{corpus}] --queries [{queries}] --examples [{examples}] "
    "--dev-qrels [{qrels}] --dev-queries [{queries}] --dev-corpus [{corpus}] --steps 1 --batch-queries 4",
    "adore": "train-adore --model {model} --vectors {vectors} --queries [{queries}] --qrels [{qrels}] --steps 1 "
    "--batch-queries 4",
}
SLOW = {"adapt", "train", "adore", "index", "a twin of BM25", "re-rank"}


def words_of(template: str, names: dict[str, str], pipes: Pipes | None) -> list[str]:
    """Return a command's words, with pipes or files for what stands in brackets."""
    words = []
    for word in template.split():
        is_input = word.startswith("[")
        path = word.strip("[]").format(**names)
        words.append(pipes.of(path) if is_input and pipes else path)
    return words


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in COMMANDS])
def test_a_pipe_works_wherever_a_file_does_and_counts_by_its_content(world, drtools, tmp_path, name):
    """Piped, the output is whole; piped again, and from files, it is the same request."""
    out = tmp_path / "out"
    for pipes in (Pipes(tmp_path), Pipes(tmp_path)) if "[" in COMMANDS[name] else ():
        pipes.number = count(len(list(tmp_path.glob("pipe*"))))
        outcome = drtools(*words_of(COMMANDS[name], world, pipes), "-o", out)
        assert outcome.status == 0, outcome.err
        assert out.exists()
    outcome = drtools(*words_of(COMMANDS[name], world, None), "-o", out)
    assert outcome.status == 0, outcome.err
    assert name == "join" or "already done, by this same request" in outcome.err
    if "[" in COMMANDS[name]:
        assert not any(ancestor.place for ancestor in ancestors(out) if "pipe" in Path(ancestor.path).name), (
            "a manifest keeps no pipe that could be opened once more"
        )


@pytest.mark.parametrize(
    "template",
    [
        "eval --qrels [{qrels}] [{run}] [{second}] --per-query --only [{qrels}]",
        "eval --answers [{answers}] --corpus [{corpus}] --per-query [{run}]",
        "show [{corpus}]",
        "show [{run}] --corpus [{corpus}] --queries [{queries}]",
        "show [{examples}] --corpus [{corpus}] --queries [{queries}]",
        "show [{qrels}]",
        "search --vectors {vectors} --corpus [{corpus}] --precision fp32 hammer",
    ],
)
def test_what_is_shown_of_pipes_is_what_is_shown_of_files(world, drtools, tmp_path, template):
    def lines(words):
        outcome = drtools(*words)
        assert outcome.status == 0, outcome.err
        return [line for line in outcome.out.splitlines() if "made by" not in line and "--" not in line]

    def without_names(line):
        return line.split("\t")[1:] if template.startswith("eval") else line.split(": ")[-1]

    piped = lines(words_of(template, world, Pipes(tmp_path)))
    read = lines(words_of(template, world, None))
    assert len(piped) > 3
    assert [without_names(line) for line in piped] == [without_names(line) for line in read][: len(piped)]


def test_show_reads_standard_input(world, drtools):
    content = Path(world["corpus"]).read_bytes()
    outcome = drtools("show", "-", stdin=content)
    assert outcome.status == 0 and outcome.out.splitlines()[0].startswith("standard input: texts, ")
    assert outcome.out.splitlines()[1].startswith("d0  ")
    outcome = drtools("show", "-", stdin=b"one two\n")
    assert outcome.status == 2 and "standard input:1: found 'one two'" in outcome.err


@pytest.mark.slow
def test_the_shell_s_process_substitution(world, environment):
    """As bash itself makes it, in several places of a command."""

    def bash(line):
        done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    program = f"{sys.executable} -m drtools"
    qrels, run, corpus = world["qrels"], world["run"], world["corpus"]
    expected = bash(f"{program} eval --per-query --qrels {qrels} {run}")
    found = bash(f"{program} eval --per-query --qrels <(cat {qrels}) <(gzip -c {run})")
    assert [line.split("\t")[1:] for line in found.splitlines()] == [
        line.split("\t")[1:] for line in expected.splitlines()
    ]
    out = Path(corpus).with_name("queries-of-it.jsonl")
    sample = f"{program} sample-queries --count 5 -o {out} --corpus"
    bash(f"{sample} <(cat {corpus})")
    assert "already done" in bash(f"{sample} {corpus}") and len(out.read_text().splitlines()) == 5
    assert "already done" in bash(f"{sample} - < {corpus}") and "already done" in bash(
        f"{sample} /dev/stdin < {corpus}"
    )
    assert "already done" in bash(f"cat {corpus} | {sample} /dev/stdin")
    tail = subprocess.run(
        ["bash", "-c", f"{sample} <(head -30 {corpus})"], env=environment, capture_output=True, text=True
    )
    assert tail.returncode == 2 and "made by another request" in tail.stderr


def test_a_corpus_that_was_a_pipe_is_not_opened_by_a_later_search(world, drtools, tmp_path, monkeypatch):
    """The name of the pipe may by then be that of another one, which would be waited for."""
    pipe = Pipes(tmp_path).of(world["corpus"])
    encode = ("encode", "--model", world["model"], "--corpus", pipe, "--precision", "fp32", "-o", tmp_path / "v")
    assert drtools(*encode).status == 0
    started = time.monotonic()
    outcome = drtools("search", "--vectors", tmp_path / "v", "--precision", "fp32", "hammer")
    assert outcome.status == 0 and "not available" in outcome.err and time.monotonic() - started < 30
    assert drtools("show", tmp_path / "v").status == 0


def test_a_search_shows_no_texts_of_a_corpus_that_has_changed(world, drtools, tmp_path):
    search = ("search", "--vectors", tmp_path / "v", "--precision", "fp32", "--depth", "1", "hammer")
    corpus = Path(world["corpus"])
    encode = ("encode", "--model", world["model"], "--corpus", corpus, "--precision", "fp32", "-o", tmp_path / "v")
    assert drtools(*encode).status == 0
    assert len(drtools(*search).out.splitlines()) == 2
    corpus.write_text(corpus.read_text().replace("salmon", "badger"))
    outcome = drtools(*search)
    assert outcome.status == 0 and len(outcome.out.splitlines()) == 1
    assert f"the corpus {corpus} is not available or has changed; use --corpus" in outcome.err


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--qrels", "{qrels}", "--qrels", "{qrels}"], "--qrels"),
        (["--qrels", "{qrels}", "--min-rel=1", "--min-rel", "2"], "--min-rel"),
        (["--qrels={qrels}", "--alpha", ".1", "--alpha=.1"], "--alpha"),
    ],
)
def test_a_flag_of_one_value_given_twice_is_refused(world, drtools, words, flag):
    outcome = drtools("eval", world["run"], *(word.format(**world) for word in words))
    assert outcome.status == 2 and f"{flag} was given 2 times, but takes one value" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_both_names_of_a_flag_are_one_flag(world, drtools, tmp_path):
    outcome = drtools("fuse", world["run"], world["second"], "-o", tmp_path / "x", "--output", tmp_path / "y")
    assert outcome.status == 2 and "--output was given 2 times" in outcome.err and not (tmp_path / "y").exists()


FORMER = {
    "encode": ["--model", "{model}", "--documents", "{corpus}", "--precision", "fp32"],
    "index": ["--lucene", "{corpus}"],
}


@pytest.mark.parametrize("tool", ["encode", pytest.param("index", marks=pytest.mark.slow)])
def test_a_former_name_of_a_flag_still_works_and_is_the_same_request(world, drtools, tmp_path, tool):
    former = [word.format(**world) for word in FORMER[tool]]
    now = [FORMER_NAMES.get(word, word) for word in former]
    assert former != now
    assert drtools(tool, *former, "-o", tmp_path / "out").status == 0
    for words in (now, former):
        assert "already done, by this same request" in drtools(tool, *words, "-o", tmp_path / "out").err
    both = drtools(tool, *former, "--corpus", world["corpus"], "-o", tmp_path / "other")
    assert both.status == 2 and "--corpus was given 2 times" in both.err
    missing = drtools(tool, *(word.replace(world["corpus"], "missing") for word in former), "-o", tmp_path / "other")
    assert missing.status == 2 and "missing: no such file or folder (--corpus)" in missing.err


def test_a_flag_with_another_name_than_its_parameter_is_named_as_it_is_typed(world, drtools, tmp_path):
    adapt = ("mlm-adapt", "--model", world["model"], "--corpus", world["corpus"], "--head-steps", "1", "--steps", "1")
    assert drtools(*adapt, "--batch-documents", "2", "-o", tmp_path / "out").status == 0
    outcome = drtools(*adapt, "--batch-documents", "4", "-o", tmp_path / "out")
    assert outcome.status == 2 and "--batch-documents" in outcome.err and "--batch-queries" not in outcome.err


# flags that mean the same in every tool: whether their value is a model, and a word of their help
ONE_MEANING = {
    "--corpus": (False, "corpus|documents"),
    "--queries": (False, "quer"),
    "--qrels": (False, "qrels|judgements"),
    "--run": (False, "run"),
    "--model": (True, "encoder|model"),
    "--vectors": (False, "vectors|npy"),
    "--index": (False, "index"),
}


@pytest.mark.parametrize("name", ONE_MEANING)
def test_a_flag_means_the_same_in_every_tool(name):
    is_model, word = ONE_MEANING[name]
    found = [
        (tool, flag)
        for tool in tool_names()
        for flag in flags_of(flat_parameters(tool_module(tool).main)[0])
        if name in flag.names
    ]
    assert len(found) > 1
    for tool, flag in found:
        assert flag.is_input and flag.is_model == is_model and re.search(word, flag.help), tool


def test_flags_that_may_be_repeated_still_may(world, drtools, tmp_path):
    twice = tmp_path / "twice.jsonl"
    twice.write_text(Path(world["examples"]).read_text())
    outcome = drtools(
        *("train-contrastive", "--model", world["model"], "--corpus", world["corpus"], "--queries", world["queries"]),
        *("--examples", world["examples"], "--examples", twice, "--quiet", "--quiet", "--steps", "nonsense"),
        *("-o", tmp_path / "out"),
    )
    assert "was given" not in outcome.err and "--steps" in outcome.err
    assert drtools("eval", "--help", "--alpha", "1", "--alpha", "1").status == 0


def test_every_tool_takes_lists_only_where_its_help_says_so():
    """What takes one value is told by the parser itself, so a flag that is new is checked as well."""
    options = [
        (name, parameter)
        for name in tool_names()
        for parameter in command(name).params
        if parameter.param_type_name == "option" and not parameter.is_flag
    ]
    assert len(options) > 100
    assert {parameter.opts[-1] for _, parameter in options if parameter.multiple} >= {"--examples", "--corpus"}


@pytest.mark.parametrize("output", [".", "..", "./", "/", "", "made/.."])
@pytest.mark.parametrize("tool", ["fuse", "encode"])
def test_a_folder_that_is_there_already_is_no_name_of_an_output(world, drtools, tmp_path, monkeypatch, output, tool):
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    commands = {
        "fuse": ["fuse", world["run"], world["second"]],
        "encode": ["encode", "--model", world["model"], "--corpus", world["corpus"]],
    }
    for more in ([], ["--overwrite"], ["--renew"]):
        outcome = drtools(*commands[tool], "-o", output, *more)
        assert outcome.status == 2 and "name the output itself" in outcome.err, outcome.err
        assert len(outcome.err.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == before


def content(path: str) -> dict[Path, bytes]:
    """Return the bytes of a file, or of the files of a folder."""
    files = [Path(path)] if Path(path).is_file() else sorted(each for each in Path(path).rglob("*") if each.is_file())
    return {file: file.read_bytes() for file in files}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_output_takes_the_place_of_an_input(world, drtools, tmp_path, name):
    """Every input of each command, by its name, through a link, and within the output, whatever flags go with it."""
    words = words_of(COMMANDS[name], world, None)
    inputs = sorted({word for word in words if os.path.isabs(word)})
    assert inputs
    for number, path in enumerate(inputs):
        link, above = tmp_path / f"link{number}", tmp_path / f"above{number}"
        link.symlink_to(path)
        above.symlink_to(Path(path).parent)
        for output in (path, link, above / Path(path).name, Path(path).parent):
            for more in ([], ["--overwrite"], ["--renew"]):
                before = content(path)
                outcome = drtools(*words, "-o", output, *more)
                assert outcome.status == 2 and "choose another -o" in outcome.err, (output, outcome.err)
                assert "the input" in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err
                assert content(path) == before and not Path(f"{output}.partial").exists()


def test_an_input_named_by_a_link_is_no_output_either(world, drtools, tmp_path):
    (tmp_path / "link").symlink_to(world["run"])
    before = content(world["run"])
    outcome = drtools("fuse", tmp_path / "link", world["second"], "-o", world["run"], "--overwrite")
    assert outcome.status == 2 and f"is the input {tmp_path / 'link'}" in outcome.err
    assert content(world["run"]) == before


@pytest.mark.parametrize(
    "template",
    ["eval --qrels - -", "eval {run} --qrels - --only /dev/stdin", "search --vectors {vectors} --queries - --only -"],
)
def test_standard_input_is_one_input(world, drtools, template):
    outcome = drtools(*template.format(**world).split(), stdin=Path(world["qrels"]).read_bytes())
    assert outcome.status == 2 and "standard input was named for several inputs" in outcome.err, outcome.err


def test_a_device_or_a_pipe_gets_the_data_of_a_file(world, drtools, tmp_path):
    fuse, pipe = ("fuse", world["run"], world["second"]), tmp_path / "p"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_text)
        assert drtools(*fuse, "-o", pipe, "--overwrite").status == 0
        assert read.result() == drtools(*fuse).out != ""
    assert drtools(*fuse, "-o", "/dev/null", "--overwrite").status == 0
    assert Path("/dev/null").is_char_device() and pipe.is_fifo()
    encode = ("encode", "--model", world["model"], "--corpus", world["corpus"], "-o", "/dev/null", "--overwrite")
    outcome = drtools(*encode)
    assert outcome.status == 2 and "/dev/null: found a device or a pipe, expected the name of a folder" in outcome.err


def test_names_of_standard_output_are_one(world, drtools):
    fuse = ("fuse", world["run"], world["second"])
    assert drtools(*fuse, "-o", "/dev/stdout").out == drtools(*fuse).out != ""
