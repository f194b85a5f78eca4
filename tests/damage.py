"""Damage to machine files, as a bad disk, a cut copy, an editor or another program's version leaves it.

`make_world` makes one small artefact of each kind, `CASES` says which file of it is damaged and which tools read it,
and a mutation returns other bytes for a file, drawn by a seeded generator.
"""

import ast
import json
import random
import shutil
import struct
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

VALUES = (
    *(None, True, False, 0, -1, 1, 10**30, -(10**30), 2**63, 1.5, 1e308, float("nan"), float("inf")),
    *("", "x", " ", "a\tb", "../../x", "/etc/passwd", "a\u2028b", "a\x00b", "\x1b[31m", "\ud800", "x" * 100_000),
    *([], {}, [[]], [1, 2], ["d1", 3], {"a": 1}),
)
DEPTHS = (100, 900, 5000, 100_000)
CONTROL = [ord(letter) for letter in "\x00\xff\x7f\x80\n"]
SCRATCH = "damaged-"
WHOLE = ("cut", "garbage", "a list", "null", "nested")  # what no reader can take for what was written
Mutation = tuple[bytes, str]  # the file's new bytes, and what was done to it


def nested(depth: int) -> bytes:
    """Return a JSON object in an object, so many times."""
    return b'{"a":' * depth + b"1" + b"}" * depth


def damaged_bytes(raw: bytes, draw: random.Random, least: int = 0, most: int | None = None) -> Mutation:
    """Flip bits, write over, cut out or put in bytes between two places."""
    if not raw:
        return b"\x00", "a byte"
    most = len(raw) if most is None else min(most, len(raw))
    at, data = draw.randrange(least, most), bytearray(raw)
    match draw.choice(["flip", "flip", "flips", "cut", "repeat", "zero", "insert", "append"]):
        case "flip":
            data[at] ^= 1 << draw.randrange(8)
            return bytes(data), f"bit {at}"
        case "flips":
            for _ in range(draw.choice([4, 40, 400])):
                data[draw.randrange(most)] = draw.choice([*CONTROL, draw.randrange(256)])
            return bytes(data), "bytes"
        case "cut":
            return raw[:at], "cut"
        case "repeat":
            return raw[:at] + raw[at : at + 64] + raw[at:], f"repeated at {at}"
        case "zero":
            data[at : at + 512] = bytes(len(data[at : at + 512]))
            return bytes(data), f"zeros at {at}"
        case "insert":
            return raw[:at] + draw.randbytes(9) + raw[at:], f"inserted at {at}"
        case _:
            return raw + draw.randbytes(100), "appended"


def _places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value[:5]) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*at, key))


def damaged_value(raw: bytes, draw: random.Random) -> Mutation:
    """Set, retype, rename or remove one value of a JSON file."""
    value = json.loads(raw)
    *way, key = draw.choice([*_places(value)] or [()])
    holder = value
    for step in way:
        holder = holder[step]
    what, before, name = (
        draw.choice(["set"] * 5 + ["remove", "rename", "retype", "nest"]),
        holder[key],
        ".".join(map(str, [*way, key])),
    )
    if what == "set":
        holder[key] = draw.choice(VALUES)
    elif what == "retype":
        holder[key] = int(draw.randint(-5, 10**6)) if isinstance(before, str) else str(before)
    elif what == "nest":
        holder[key] = "@nested@"
    else:
        del holder[key]
        if what == "rename" and isinstance(holder, dict):
            holder[f"{key}_"] = before
    text = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    return text.replace(
        b'"@nested@"', nested(draw.choice(DEPTHS))
    ), f"{what} {name}: {str(holder[key])[:30] if what == 'set' else ''}"


def damaged_json(raw: bytes, draw: random.Random) -> Mutation:
    """Damage a JSON file: a value of it, or the whole."""
    if draw.random() < 0.75:
        return damaged_value(raw, draw)
    return draw.choice(
        [
            (b"", "cut"),
            (raw[: len(raw) // 2], "cut"),
            (b"[]", "a list"),
            (b"null", "null"),
            (b'"x"', "a string"),
            (nested(100_000), "nested"),
            (b"\xff\xfe" + raw, "UTF-16 mark"),
            (b"\xef\xbb\xbf" + raw, "byte-order mark"),
            (b'{"a": ' + b"9" * 5000 + b"}", "5000 digits"),
            (draw.randbytes(300), "garbage"),
            (bytes(len(raw)), "garbage"),
        ]
    )


def damaged_npy(raw: bytes, draw: random.Random) -> Mutation:
    """Damage an array's file: its header, or any bytes."""
    chance, length = draw.random(), struct.unpack("<H", raw[8:10])[0]
    if chance < 0.3:
        return damaged_bytes(raw, draw)
    if chance < 0.5:
        return damaged_bytes(raw, draw, 0, 80)
    header = ast.literal_eval(raw[10 : 10 + length].decode("latin1"))
    first, *others = shape = header["shape"]
    changed: dict[Any, Any] = draw.choice(
        [
            *({"shape": new} for new in [(-1, *others), (10**12, *others), (10**30, *others), (0, *others)]),
            *({"shape": new} for new in [(*shape, 1), (), (first - 1, *others), (first, -3), (2**62, 2**62), "x"]),
            *({"descr": new} for new in ["|O", "<f8", "|V4", ">f2", "<i4", "<M8[s]", "<U100000000", "|S0", None]),
            *({"descr": [("a", "<f4")]}, {"fortran_order": True}, {"fortran_order": "x"}, {5: 1}, {"shape": (1.5, 2)}),
        ]
    )
    text = repr(header | changed).encode() + b" " * 10 + b"\n" if draw.random() < 0.9 else b"(" * 5000
    return raw[:8] + struct.pack("<H", len(text)) + text + raw[10 + length :], f"header {changed}"


def damaged_safetensors(raw: bytes, draw: random.Random) -> Mutation:
    """Damage a file of weights: its length, its header, or any bytes."""
    chance, length = draw.random(), struct.unpack("<Q", raw[:8])[0]
    if chance < 0.4:
        return damaged_bytes(raw, draw, 0, 8 if chance < 0.2 else None)
    if chance < 0.5:
        new = draw.choice([0, 2**63, 2**64 - 1, 10**9, length + 1, length - 1])
        return struct.pack("<Q", new) + raw[8:], f"header's length {new}"
    header, what = damaged_value(raw[8 : 8 + length], draw)
    return struct.pack("<Q", len(header)) + header + raw[8 + length :], f"header: {what}"


def damaged_lines(raw: bytes, draw: random.Random) -> Mutation:
    """Damage a text file: one line of it, or any bytes."""
    lines = raw.split(b"\n")[:-1] or [b""]
    at = draw.randrange(len(lines))
    chance = draw.random()
    if chance < 0.3:
        return damaged_bytes(raw, draw)
    if chance < 0.6 and lines[at].startswith(b"{"):
        lines[at], what = damaged_value(lines[at], draw)
    else:
        what, lines[at] = draw.choice(
            [
                ("a line less", b""),
                ("a line twice", lines[at] + b"\n" + lines[at]),
                ("NUL", lines[at] + b"\x00"),
                ("Latin-1", lines[at].replace(b"e", b"\xe9") + b"\xe9"),
                ("long", lines[at] + b"x" * 10**6),
                ("backwards", lines[at][::-1]),
                ("a number", b"12345"),
                ("carriage returns", lines[at].replace(b" ", b"\r")),
            ]
        )
    return b"\n".join(lines) + b"\n", f"line {at + 1}: {what}"


def damaged_head(raw: bytes, draw: random.Random) -> Mutation:
    """Damage a file's first bytes, or, at times, any."""
    return damaged_bytes(raw, draw, 0, 128 if draw.random() < 0.7 else None)


def damaged_file(file: Path, draw: random.Random) -> bytes:
    """Return other bytes for a file of unfinished work."""
    raw = file.read_bytes()
    if file.suffix == ".json" and draw.random() < 0.8:
        return damaged_json(raw, draw)[0]
    return damaged_npy(raw, draw)[0] if file.suffix == ".npy" else damaged_bytes(raw, draw)[0]


MUTATIONS: dict[str, Callable[[bytes, random.Random], Mutation]] = {
    "json": damaged_json,
    "npy": damaged_npy,
    "safetensors": damaged_safetensors,
    "lines": damaged_lines,
    "bytes": damaged_bytes,
    "head": damaged_head,
}
FP32 = ("--precision", "fp32", "--threads", "1")
TEXTS = ("--corpus", "corpus.jsonl", "--queries", "queries.jsonl")
SIZES = ("--passage-tokens", "24", "--sentence-tokens", "12", "--least-piece-tokens", "4", "--spans", "mean")
STEPS = ("--steps", "2", "--batch-queries", "4", *FP32)
EXAMPLES = ("--examples", "examples.jsonl")
QUERIES = ("--queries", "queries.jsonl")
DOCUMENTS = ("--corpus", "corpus.jsonl")
MADE: list[tuple[str, ...]] = [
    ("encode", "--model", "model", *DOCUMENTS, *FP32, "-o", "vectors"),
    ("encode", "--model", "model", *DOCUMENTS, "--pieces", *SIZES, *FP32, "-o", "piece-vectors"),
    ("encode", "--model", "model", *QUERIES, *FP32, "-o", "query-vectors"),
    ("index", "--vectors", "vectors", "--factory", "Flat", "-o", "flat"),
    ("index", "--vectors", "vectors", "--factory", "IVF4,Flat", "-o", "ivf"),
    ("search", "--vectors", "vectors", *QUERIES, "--depth", "20", *FP32, "-o", "dense.run"),
    ("mine-negatives", "--run", "dense.run", *QUERIES, "--qrels", "qrels.tsv", "--ranks", "1-20", "-o", "mined.jsonl"),
    ("train-contrastive", "--model", "model", *TEXTS, *EXAMPLES, *STEPS, "--untied", "-o", "pair"),
    ("train-ranker", "--model", "bert", *TEXTS, *EXAMPLES, *STEPS, "-o", "ranker"),
    ("teacher-score", "--teacher", "ranker", *EXAMPLES, *TEXTS, *FP32, "-o", "scored.jsonl"),
    (
        "mlm-adapt",
        "--model",
        "model",
        "--corpus",
        "corpus.jsonl",
        "--steps",
        "2",
        "--head-steps",
        "1",
        *FP32,
        "-o",
        "dam",
    ),
    ("train-rem", "--model", "dam", *TEXTS, *EXAMPLES, *STEPS, "--lora-rank", "4", "--adapter-size", "4", "-o", "rem"),
    ("make-lexical", *TEXTS, "--only", "qrels.tsv", "--dimension", "32", "-o", "lexical"),
    ("encode", "--model", "lexical", *DOCUMENTS, "-o", "lexical-vectors"),
    ("concat-spar", "vectors", "lexical-vectors", "--mu", "0.5", "--no-copy", "-o", "joined"),
    ("fuse", "dense.run", "dense.run", "-o", "fused.run"),
    ("publish", "vectors", "live"),
]
LUCENE = ("index", "--corpus", "corpus.jsonl", "--document-vectors", "-o", "bm25")


class Case(NamedTuple):
    """A file of an artefact, how it is damaged, and commands that read it; `@` stands for the damaged artefact."""

    artefact: str
    file: str  # a name, or a pattern
    mutation: str
    commands: tuple[tuple[str, ...], ...]


ENCODE = ("encode", "--model", "@", *DOCUMENTS, *FP32)
SHOW = ("show", "@")
SEARCH = ("search", "--vectors", "@", *QUERIES, "--depth", "5", *FP32)
SEARCH_INDEX = ("search", "--index", "@", *QUERIES, *FP32)
INDEX = ("index", "--vectors", "@", "--factory", "Flat")
UPDATE = ("encode", "--model", "model", *DOCUMENTS, "--update", "@", *FP32)
UPDATE_INDEX = ("index", "--vectors", "vectors", "--update", "@")
PIECES = ("search", "--vectors", "@", "--multi-vector", *QUERIES, *FP32)
ADORE = ("train-adore", "--model", "model", "--vectors", "@", *QUERIES, "--qrels", "qrels.tsv", "--depth", "20", *STEPS)
STAR = ("train-star", "--model", "@", *TEXTS, *EXAMPLES, *STEPS)
JOIN = ("concat-spar", "@", "lexical-vectors", "--mu", "0.5")
SCORE = ("teacher-score", "--teacher", "@", *EXAMPLES, *TEXTS, *FP32)
MERGE = ("merge", "--body", "dam", "--rem", "@")
WITH_REM = ("encode", "--body", "dam", "--rem", "@", *DOCUMENTS, *FP32)
ADOPT = ("convert", "--vectors", "vectors/vectors.npy", "--ids", "vectors/ids.txt", "--model", "@")
PUBLISH = ("publish", "@")
MINE = ("mine-negatives", "--run", "@", *QUERIES, "--qrels", "qrels.tsv", "--ranks", "1-20", "--negatives", "3")
FUSE = ("fuse", "@", "dense.run")
CONVERT = ("convert", "--to", "dpr", "--examples", "@", *TEXTS)
SETTINGS = ("model", "pair/query", "ranker", "rem", "lexical")
CASES = [
    Case("vectors", "manifest.json", "json", (SEARCH, SHOW, INDEX, UPDATE, ADORE, JOIN, PUBLISH)),
    Case("vectors", "vectors.npy", "npy", (SEARCH, SHOW, INDEX, UPDATE, ADORE)),
    Case("vectors", "texts.npy", "npy", (UPDATE,)),
    Case("vectors", "ids.txt", "bytes", (SEARCH, SHOW, INDEX, ADORE)),
    Case("query-vectors", "ids.txt", "lines", (("search", "--vectors", "vectors", "--query-vectors", "@"),)),
    Case("piece-vectors", "manifest.json", "json", (PIECES, SHOW)),
    Case("piece-vectors", "pieces.npy", "npy", (PIECES,)),
    Case("piece-vectors", "piece_starts.npy", "npy", (PIECES,)),
    Case("joined", "manifest.json", "json", (SEARCH, SHOW, INDEX)),
    Case("joined", "parts.json", "json", (SEARCH,)),
    Case("flat", "manifest.json", "json", (SEARCH_INDEX, SHOW, UPDATE_INDEX, PUBLISH)),
    Case("flat", "index.faiss", "head", (SEARCH_INDEX, UPDATE_INDEX, SHOW)),
    Case("flat", "ids.txt", "bytes", (SEARCH_INDEX, UPDATE_INDEX)),
    Case("flat", "digests.npy", "npy", (UPDATE_INDEX,)),
    Case("ivf", "index.faiss", "bytes", (SEARCH_INDEX, UPDATE_INDEX)),
    Case("model", "config.json", "json", (ENCODE, SHOW, STAR, ADOPT)),
    Case("model", "modules.json", "json", (ENCODE, SHOW, STAR)),
    Case("model", "1_Pooling/config.json", "json", (ENCODE, SHOW)),
    Case("model", "sentence_bert_config.json", "json", (ENCODE, SHOW)),
    Case("model", "config_sentence_transformers.json", "json", (ENCODE, SHOW)),
    Case("model", "tokenizer.json", "json", (ENCODE, STAR)),
    Case("model", "tokenizer_config.json", "json", (ENCODE,)),
    Case("model", "drtools.json", "json", (ENCODE, SHOW, STAR)),
    Case("model", "model.safetensors", "safetensors", (ENCODE, SHOW, STAR)),
    Case("pair", "drtools.json", "json", (ENCODE, SHOW)),
    Case("pair", "modules.json", "json", (SHOW,)),  # sentence-transformers alone reads it
    Case("pair", "manifest.json", "json", (ENCODE, SHOW, PUBLISH)),
    Case("pair", "query/config.json", "json", (ENCODE, SHOW, STAR)),
    Case("ranker", "model.safetensors", "safetensors", (SCORE, SHOW)),
    Case("ranker", "config.json", "json", (SCORE, SHOW)),
    Case("ranker", "drtools.json", "json", (SCORE, SHOW)),
    Case("ranker", "tokenizer_config.json", "json", (SCORE,)),
    Case(
        "dam",
        "drtools.json",
        "json",
        (ENCODE, SHOW, ("mlm-adapt", "--model", "@", "--corpus", "corpus.jsonl", "--steps", "1", *FP32)),
    ),
    Case("rem", "rem.safetensors", "safetensors", (MERGE, WITH_REM, SHOW)),
    Case("rem", "drtools.json", "json", (MERGE, WITH_REM, SHOW)),
    Case("lexical", "lexical.safetensors", "safetensors", (ENCODE, SHOW)),
    Case("lexical", "drtools.json", "json", (ENCODE, SHOW)),
    Case("lexical", "manifest.json", "json", (ENCODE, SHOW)),
    Case("dense.run", "", "lines", (("eval", "--qrels", "qrels.tsv", "@"), FUSE, MINE, SHOW)),
    Case("fused.run", ".manifest.json", "json", (SHOW, ("fuse", "dense.run", "dense.run", "-o", "@"))),
    Case("examples.jsonl", "", "lines", (CONVERT, SHOW, ("make-dark-examples", "@", "--negatives", "2"))),
    Case("scored.jsonl", "", "lines", (CONVERT, SHOW)),
    Case("pair", "training.jsonl", "lines", (("analyze", "--logs", "@/training.jsonl"), SHOW)),
    Case("cache", "stores/*.sqlite", "head", (("convert", "--to", "dpr", *EXAMPLES, *TEXTS),)),
    Case("cache", "scores/*.sqlite", "head", (("teacher-score", "--teacher", "ranker", *EXAMPLES, *TEXTS, *FP32),)),
    Case("cache", "fingerprints.sqlite", "head", (("fuse", "dense.run", "dense.run"),)),
]
WITH_LUCENE = [
    Case("bm25", "manifest.json", "json", (("search", "--index", "@", *QUERIES), SHOW)),
    Case(
        "bm25",
        "lucene/*",
        "bytes",
        (("search", "--index", "@", *QUERIES), ("search", "--index", "@", "--rm3", *QUERIES)),
    ),
]


class Outcome(NamedTuple):
    """How a command ended: its exit status (negative for a signal), and what it wrote to standard error."""

    status: int
    err: str


Run = Callable[..., Outcome]


def make_world(folder: Path, run: Run, outputs: Collection[str] | None = None) -> None:
    """Make the artefacts, or those that are named, in a folder that has `model`, `bert` and the toy collection."""
    for words in MADE:
        if outputs is None or words[-1] in outputs:
            outcome = run(*words, cwd=folder, cache=folder / "cache")
            assert outcome.status == 0, (words, outcome.err)


def faults(outcome: Outcome) -> list[str]:
    """Return in which ways an end is none that a tool promises: a status of 0, 1 or 2, with one line for the latter."""
    found = []
    if outcome.status not in (0, 1, 2):
        found.append(f"status {outcome.status}")
    if "Traceback" in outcome.err:
        found.append("traceback")
    if "internal error" in outcome.err:
        found.append("internal error")
    lines = [line for line in outcome.err.splitlines() if line.startswith("drtools")]
    if outcome.status in (1, 2) and len(lines) != 1:
        found.append(f"{len(lines)} lines")
    return found


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
        return
    for file in source.parent.glob(f"{source.name}*"):  # with its manifest
        shutil.copy2(file, target.with_name(target.name + file.name.removeprefix(source.name)))


def _remove_scratch(world: Path) -> None:
    for path in world.glob(f"{SCRATCH}*"):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def damage_once(case: Case, world: Path, draw: random.Random, run: Run) -> str | None:
    """Damage one file of a copy of an artefact and run one command on it; return what went wrong, None if nothing."""
    _remove_scratch(world)
    artefact, cache, out = (world / f"{SCRATCH}{name}" for name in (case.artefact.replace("/", "-"), "cache", "out"))
    for name in {case.artefact, "cache"}:
        _copy(world / name, world / f"{SCRATCH}{name.replace('/', '-')}")
    files = artefact.glob(case.file) if artefact.is_dir() else [artefact.with_name(artefact.name + case.file)]
    file = draw.choice(sorted(files))
    raw = file.read_bytes()
    new, what = MUTATIONS[case.mutation](raw, draw)
    file.write_bytes(new)
    words = [word.replace("@", str(artefact.name)) for word in draw.choice(case.commands)]
    if words[0] == "publish":
        words.append(out.name)
    elif "-o" not in words and words[0] not in ("show", "eval", "analyze"):
        words += ["-o", out.name]
    outcome = run(*words, cwd=world, cache=cache)
    found = faults(outcome)
    if (
        outcome.status == 0
        and what in WHOLE
        and case.mutation != "lines"
        and words[0] != "show"
        and case.artefact != "cache"
        and new != raw
    ):
        found.append("not noticed")
    if not found:
        return None
    return (
        f"{case.artefact}/{file.name}: {what[:90]} | {' '.join(words[:3])} | {', '.join(found)} | {outcome.err[-300:]}"
    )
