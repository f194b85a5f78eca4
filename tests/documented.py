"""What the documentation says to type: code blocks of a page, the commands in them, and their run in this process."""

import gzip
import json
import random
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conftest import WORDS, make_bert, make_encoder, write_jsonl
from models.tiny_encoders import write_lora, write_qwen3_embedding
from models.tiny_rankers import qwen, qwen_tokenizer, write, write_families, write_qwen3_reranker
from models.toy_generators import make_causal

from drtools.cli.commands import command, flat_parameters, tool_module
from drtools.cli.main import tool_names
from drtools.cli.tool_flags import flags_of

DOCUMENTS = 1100  # FAISS trains IVF1024 on as many vectors or more
WORDS_OF_A_COMMAND = re.compile(r"(drtools|bin/[a-z-]+|torchrun|make|pip|python)\s")
# what is appended to a documented command so that it takes a moment on a toy collection
SHORTER = {
    **{
        tool: ["--steps", "2", "--batch-queries", "4"]
        for tool in (
            "train-star",
            "train-contrastive",
            "train-adore",
            "train-rem",
            "train-ranker",
            "train-lexical",
            "distill-adam",
            "distill-fgd",
        )
    },
    "generate-queries": ["--per-document", "1", "--max-query-tokens", "4"],
    "mlm-adapt": ["--steps", "1", "--head-steps", "1", "--batch-documents", "4"],
}
# the toy encoder has a twelfth of all-MiniLM-L6-v2's dimensions, and a toy ranker few layers
SMALLER = {"--score-layer": {"28": "2"}, "--matryoshka": {"384,192,96": "32,16,8"}, "--truncate-dimension": {"96": "8"}}
LEADING_SETTINGS = re.compile(r"[A-Z_]+=\S*")


@dataclass
class Block:
    """A code block of a page: its language (None: indented), its caption, and its lines by their number in the page."""

    language: str | None
    caption: str | None
    lines: list[tuple[int, str]]


def blocks(page: str) -> Iterator[Block]:
    """Yield a page's code blocks: fenced ones, MyST's too, and those indented by four spaces after an empty line."""
    fence, block, before = "", None, ""
    for number, line in enumerate(page.splitlines(), 1):
        opened = re.fullmatch(r"(```+)(?:\{code-block\} *)?([a-z]*)\s*", line)
        if block and fence and line == fence:
            yield block
            fence, block = "", None
        elif not fence and opened:
            if block:
                yield block
            fence, block = opened[1], Block(opened[2], None, [])
        elif fence:
            option = re.fullmatch(r":caption: (\S+)", line)
            block.caption = option[1] if option else block.caption
            block.lines += [(number, line)] if not option and (block.lines or line.strip()) else []
        elif line.startswith("    ") and (block or not before.strip()):
            block = block or Block(None, None, [])
            block.lines.append((number, line[4:]))
        elif block and line.strip():
            yield block
            block = None
        before = line
    if block:
        yield block


def python_of(page: str, word: str) -> str:
    """Return the one Python block of a page of docs/ that holds a word."""
    text = (Path(__file__).parents[1] / "docs" / page).read_text(encoding="utf-8")
    codes = ["\n".join(line for _, line in block.lines) for block in blocks(text) if block.language == "python"]
    (code,) = (code for code in codes if word in code)
    return code


def commands(page: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, command) with continued lines joined.

    Every line of a `sh` block, and what looks like a command elsewhere.
    """
    for block in blocks(page):
        joined, start = "", 0
        for number, line in block.lines:
            start = start if joined else number
            joined += line.removesuffix("\\")
            if line.endswith("\\"):
                continue
            if (block.language == "sh" and shlex.split(joined, comments=True)) or WORDS_OF_A_COMMAND.match(joined):
                yield start, joined
            joined = ""


def inline_commands(page: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, command) of the commands within sentences; they may leave out what a tool needs."""
    in_blocks = {number for block in blocks(page) for number, _ in block.lines}
    for number, line in enumerate(page.splitlines(), 1):
        if number not in in_blocks:
            yield from (
                (number, f"{found} ...") for found in re.findall(r"`((?:drtools|bin/|torchrun) ?[a-z-][^`]*)`", line)
            )


def stages(line: str) -> tuple[list[list[str]], str | None]:
    """Return the words of each command of a pipe, without settings, and the file that the last one's output goes to."""
    reader = shlex.shlex(line, posix=True, punctuation_chars="|>;&")
    reader.whitespace_split = True
    words = list(reader)
    into = None
    if ">" in words:
        into = words[words.index(">") + 1]
        assert words[words.index(">") :] == [">", into], f"the test knows one > at a line's end: {line}"
        words = words[: words.index(">")]
    assert not {";", "&", "&&", "||", ">>"} & set(words), (
        f"the test knows pipes and no other way to join commands: {line}"
    )
    found: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            found.append([])
        elif found[-1] or not LEADING_SETTINGS.fullmatch(word):
            found[-1].append(word)
    return found, into


def words_for_drtools(words: list[str]) -> list[str] | None:
    """Return what follows `drtools` in a command, the tool first; None if it is no command of drtools."""
    if words[0].startswith("bin/"):
        return words[1:] if words[0] == "bin/drtools" else [words[0].removeprefix("bin/"), *words[1:]]
    if words[0] in ("drtools", "torchrun"):
        return words[words.index("drtools") + 1 :]
    return None


def check(words: list[str]) -> None:
    """Raise for a tool that is not there, for former names, and what typer raises for a flag that it does not know.

    Where `...` stands only flags are looked at.
    """
    if not words or words[0] in ("--help", "--version", "..."):
        return
    tool, *rest = words
    assert tool in tool_names(), f"there is no tool {tool}"
    former = {name for flag in flags_of(flat_parameters(tool_module(tool).main)[0]) for name in flag.former_names}
    assert not former & set(rest), f"drtools {tool} has other names now for {', '.join(former & set(rest))}"
    if {"--help", "--help-all"} & set(rest):
        return
    if not {"...", "…"} & set(rest):
        command(tool).make_context(tool, rest)
        return
    known = {option for parameter in command(tool).params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = {word for word in rest if re.match(r"--?[a-z]", word)} - known
    assert not unknown, f"drtools {tool} has no {', '.join(unknown)}"


def shortened(words: list[str], flags: list[str]) -> list[str]:
    """Return a command with other values of flags (names and values in turn), those that it gives itself replaced."""
    kept = [
        SMALLER.get(before, {}).get(word, word)
        for word, before in zip(words, ["", *words], strict=False)
        if word not in flags[::2] and before not in flags[::2]
    ]
    return [*kept, *flags]


def run_line(line: str, drtools: Callable, shorter: dict[str, list[str]], statuses: tuple[int, ...] = (0,)) -> None:
    """Run a line: drtools in this process, with what makes a tool's work short; other commands by themselves.

    Pipes between them.
    """
    piped, into = stages(line)
    data = b""
    for words in piped:
        ours = words_for_drtools(words)
        if ours is None:
            data = subprocess.run(words, input=data, capture_output=True, check=True).stdout
            continue
        outcome = drtools(*(shortened(ours, shorter.get(ours[0], [])) if ours else []), stdin=data)
        assert outcome.status in statuses, f"exit {outcome.status}: {outcome.err}"
        data = outcome.out.encode()
    if into:
        Path(into).write_bytes(data)


HUB = {  # names on the hub, and the small models that stand for them
    "BAAI/bge-reranker-v2-gemma": "gemma",
    "BAAI/bge-reranker-v2-minicpm-layerwise": "minicpm",
    "mixedbread-ai/mxbai-rerank-base-v2": "mxbai",
    "castorini/monot5-base-msmarco": "monot5",
    "castorini/rankllama-v1-7b-lora-passage": "rankllama",
}


def write_language_models(folder: Path) -> None:
    """Write small language models under the names that the pages use."""
    families = write_families(folder / "families")
    for name, family in HUB.items():
        (folder / name).parent.mkdir(exist_ok=True)
        families[family].rename(folder / name)
    write_qwen3_embedding(folder / "Qwen" / "Qwen3-Embedding-0.6B", "left", positions=1024)
    write_lora(folder / "my-lora", str(folder / "Qwen" / "Qwen3-Embedding-0.6B"))
    write_qwen3_reranker(folder / "Qwen" / "Qwen3-Reranker-0.6B")
    tokenizer = qwen_tokenizer(padding_side="left")
    write(folder / "Qwen" / "Qwen2.5-0.5B-Instruct", qwen("qwen2", tokenizer), tokenizer)


def toy_world(folder: Path) -> None:
    """Write a collection and two encoders under the names that the pages use."""
    generator = random.Random(11)
    documents = [
        {
            "_id": f"d{n}",
            "title": f"{WORDS[n % len(WORDS)]} {n}",
            "text": " ".join(generator.choices(WORDS, k=generator.randint(5, 12))) + ".",
        }
        for n in range(DOCUMENTS)
    ]
    queries = [{"_id": f"q{n}", "text": " ".join(documents[n]["text"].rstrip(".").split()[:3])} for n in range(24)]
    (folder / "qrels").mkdir()
    for split, numbers in {"train": range(12), "dev": range(12, 18), "test": range(18, 24)}.items():
        (folder / "qrels" / f"{split}.tsv").write_text(
            "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n}\t1\n" for n in numbers)
        )
    for name, records in {
        "corpus": documents,
        "queries": queries,
        "source": documents,
        "target": documents[:100],
    }.items():
        plain = folder / f"{name}.jsonl"
        write_jsonl(plain, records)
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
        plain.unlink()
    shutil.copytree(folder / "qrels", folder / "source" / "qrels")
    for name in ("corpus", "queries"):
        shutil.copy(folder / f"{name}.jsonl.gz", folder / "source")
    (folder / "arrivals").mkdir()
    write_jsonl(
        folder / "arrivals" / "monday.jsonl",
        [{"_id": "new", "text": "otter and lathe"}, {"_id": documents[0]["_id"], "deleted": True}],
    )
    (folder / "arrivals" / "tuesday.jsonl").write_text("{")
    make_causal(folder / "generator", positions=1024)
    write_language_models(folder)
    (folder / "prompt.txt").write_text("Document: {document}\nQuery:")
    (folder / "sentence-transformers").mkdir()
    bert = make_bert(folder / "bert-base-uncased", positions=512)
    make_encoder(folder / "sentence-transformers" / "all-MiniLM-L6-v2", bert, longest=256)
    for name, architecture in {
        "Luyu/co-condenser-marco": "BertForMaskedLM",
        "facebook/contriever": "Contriever",
    }.items():
        published = Path(shutil.copytree(bert, folder / name)) / "config.json"
        published.write_text(json.dumps({**json.loads(published.read_text()), "architectures": [architecture]}))
