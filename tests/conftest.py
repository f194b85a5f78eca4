"""Fixtures: a toy collection, toy models, and commands.

A corpus about animals and tools, its queries, and a small random BERT that can read them.
"""

import functools
import json
import os
import random
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import preloaded
import pytest

from drtools.cli import console

pytest_plugins = ["tests.models.tiny_bodies", "tests.models.tiny_rankers"]  # fixtures: families, rankers

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # several tests at once: threads that wait must not spin
os.environ["CUDA_VISIBLE_DEVICES"] = (
    ""  # what is promised bit for bit is promised on the CPU; benchmarks/gpu.py compares a GPU with it
)

TRIES = int(os.environ.get("DRTOOLS_TRIES", "1"))  # how many times the usual tries slow tests of faults make
SEED = int(os.environ.get("DRTOOLS_SEED", "0"))  # what they draw by

WORDS = (
    "fox hound otter heron badger salmon falcon marten lynx beaver adder newt raven finch osprey stoat weasel hare "
    "hammer chisel plane lathe anvil wrench pliers gouge mallet rasp clamp vise auger bradawl spokeshave "
    "river forest hill meadow marsh cliff valley lake runs swims hunts sleeps eats cuts bends holds turns"
).split()


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Give each test its own cache, without settings of the machine."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DRTOOLS_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("DRTOOLS_DEBUG", raising=False)
    console.configure("test")  # else `--strict` and the notices of an earlier test on the same worker hold on
    return folder


def write_jsonl(path: Path, records: list[dict]) -> str:
    """Write records as JSON lines. Returns the path."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return str(path)


class Toy:
    """Paths of a toy collection: 60 documents, 20 queries, each relevant to the document that holds its words."""

    def __init__(self, folder: Path) -> None:
        generator = random.Random(7)
        self.folder = folder
        documents = [
            {
                "_id": f"d{n}",
                "title": f"{WORDS[n % len(WORDS)]} {n}",
                "text": " ".join(generator.choices(WORDS, k=generator.randint(5, 30))),
            }
            for n in range(60)
        ]
        self.documents = documents
        self.corpus = write_jsonl(folder / "corpus.jsonl", documents)
        texts = [" ".join(document["text"].split()[1:4]) for document in documents[:20]]
        self.queries = write_jsonl(
            folder / "queries.jsonl", [{"_id": f"q{n}", "text": text} for n, text in enumerate(texts)]
        )
        self.qrels = str(folder / "qrels.tsv")
        Path(self.qrels).write_text("query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n}\t1\n" for n in range(20)))
        self.examples = write_jsonl(
            folder / "examples.jsonl",
            [
                {
                    "query_id": f"q{n}",
                    "positives": [f"d{n}"],
                    "negatives": [f"d{(n + step) % 60}" for step in (1, 7, 31)],
                }
                for n in range(20)
            ],
        )

    @property
    def training(self) -> list[str]:
        """The flags of the training data."""
        return ["--corpus", self.corpus, "--queries", self.queries, "--examples", self.examples]

    def repeat_words(self) -> None:
        """Write other documents, of one of four words each, twenty times: where it is masked the others tell it."""
        self.documents = [{"_id": f"d{n}", "title": "", "text": " ".join([WORDS[n % 4]] * 20)} for n in range(60)]
        write_jsonl(self.folder / "corpus.jsonl", self.documents)


@pytest.fixture
def toy(tmp_path) -> Toy:
    """Write the toy collection into this test's folder."""
    return Toy(tmp_path)


def beir_of(toy: Toy) -> Path:
    """Split the judgements of the toy collection into train, dev and test, as BEIR does. Returns its folder."""
    header, *lines = Path(toy.qrels).read_text().splitlines()
    (toy.folder / "qrels").mkdir()
    for split, part in {"train": lines[:12], "dev": lines[12:16], "test": lines[16:]}.items():
        (toy.folder / "qrels" / f"{split}.tsv").write_text("\n".join([header, *part]) + "\n")
    return toy.folder


@pytest.fixture
def beir(toy) -> Path:
    """Write the toy collection as BEIR does into this test's folder."""
    return beir_of(toy)


@pytest.fixture(scope="session")
def bert(tmp_path_factory) -> str:
    """Make a bare BERT body of 2 layers and 32 dimensions with a WordPiece vocabulary of the toy words."""
    return make_bert(tmp_path_factory.mktemp("bert") / "bert")


def make_bert(folder: Path, seed: int = 0, hidden: int = 32, positions: int = 64) -> str:
    """Write a small random BERT with its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True)
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789")
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *letters,
        *(f"##{letter}" for letter in letters),
    ]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=positions)
    torch.manual_seed(seed)
    body = BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=hidden,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=2 * hidden,
            max_position_embeddings=positions,
        )
    )
    body.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def encoder_folder(bert, tmp_path_factory) -> str:
    """Make an encoder in the form of sentence-transformers: the toy BERT, mean pooling, normalized."""
    return make_encoder(tmp_path_factory.mktemp("encoder") / "encoder", bert)


def make_encoder(folder: Path, bert: str, longest: int = 64) -> str:
    """Write an encoder in the form of sentence-transformers: a body, mean pooling, normalized."""
    import torch

    from drtools.models.encoder import Encoder
    from drtools.models.encoder_files import load_body, save_encoder
    from drtools.models.heads import Normalize
    from drtools.models.settings import EncoderSettings

    body, tokenizer = load_body(Path(bert))
    settings = EncoderSettings(
        pooling=("mean",), head=[{"kind": "normalize"}], max_query_tokens=longest, max_document_tokens=longest
    )
    save_encoder(Encoder(body, tokenizer, settings, torch.nn.Sequential(Normalize())), folder)
    return str(folder)


class Outcome:
    """The outcome of a command."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def drtools(capsysbinary, monkeypatch):
    """Return a function that runs a command in this process and returns an Outcome: drtools("eval", "--qrels", x)."""
    import signal
    import sys

    from hints import unknown_flags

    from drtools import signals
    from drtools.cli.main import main, tool_names
    from drtools.formats.lines import local, unpacked

    def run(*words: object, stdin: bytes | None = None) -> Outcome:
        import io

        local.cache_clear()
        unpacked.cache_clear()
        before, hooks = (
            {number: signal.getsignal(number) for number in (*signals.STOPS, signal.SIGALRM)},
            (sys.excepthook, sys.unraisablehook),
        )
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        try:
            main([str(word) for word in words])
            status = 0
        except SystemExit as exit:
            status = exit.code or 0
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            sys.excepthook, sys.unraisablehook = hooks
        captured = capsysbinary.readouterr()
        err = captured.err.decode()
        if words and words[0] in tool_names():
            assert not unknown_flags(err, [words[0]], words), f"{words[0]} has no such flag: {err}"
        return Outcome(status, captured.out.decode(), err)

    return run


def last_values(words: Sequence[object]) -> list[object]:
    """Return a command in which each flag with one value is given once, with its last value.

    Tests change a usual command by adding flags to it.
    """
    from drtools.cli.commands import command

    takes_one = {
        option
        for parameter in command(str(words[0])).params
        if parameter.param_type_name == "option" and not parameter.multiple and not parameter.is_flag
        for option in parameter.opts
    }
    kept: list[object] = []
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        flag = word if word in takes_one else before if before in takes_one else None
        if flag is None or flag not in words[place + 1 :]:
            kept.append(word)
    return kept


def flags_for(kind, path, overwrite=False, renew=False, **arguments):
    """Return the specification of an output with its request."""
    flags = kind(output=str(path), overwrite=overwrite, renew=renew)
    flags.request.update({"tool": "test", "arguments": arguments})
    return flags


def without_files(*folders: Path) -> None:
    """Leave files out of manifests, as 0.1.0 did, so that a test can change files in folders."""
    for folder in folders:
        record = json.loads((folder / "manifest.json").read_text())
        record.pop("files")
        (folder / "manifest.json").write_text(json.dumps(record))


def changed_by_flags(build: Callable) -> Callable:
    """Apply `last_values` to the command that a function returns."""
    return functools.wraps(build)(lambda *arguments, **keywords: last_values(build(*arguments, **keywords)))


@pytest.fixture
def interrupt_at(monkeypatch):
    """Return a function that lets one of a module's or class's raise KeyboardInterrupt at a call (from 1).

    It returns the list that grows by each call.
    """

    def replace(owner: object, name: str, call: int) -> list[int]:
        real, calls = getattr(owner, name), []

        def interrupted(*arguments):
            calls.append(1)
            if len(calls) == call:
                raise KeyboardInterrupt
            return real(*arguments)

        monkeypatch.setattr(owner, name, interrupted)
        return calls

    return replace


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> Iterator[str]:
    """Give the path of a program that is `drtools`, or with -c `python -c`, as a process that has its libraries."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "program"
    folder.mkdir(exist_ok=True)
    with preloaded.program(folder) as path:
        yield path


def free_port() -> str:
    """Return a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture
def several(program, environment):
    """Return a function that runs a command as several processes of one training, as torchrun starts them.

    It returns what they said.
    """

    def run(size: int, words: list[object]) -> str:
        together = {
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": free_port(),
        }
        processes = [
            subprocess.Popen(
                [program, *map(str, words)],
                env={**environment, **together, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(size)
        ]
        said = [process.communicate()[1] for process in processes]
        assert not any(process.returncode for process in processes), said
        return "".join(said)

    return run


@pytest.fixture
def environment(cache) -> dict[str, str]:
    """The environment for commands that are run as processes."""
    return {**os.environ, "DRTOOLS_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
