"""Display of folders: vectors, indexes, models, releases."""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drtools import units
from drtools.cli.show.files import TextsBehind
from drtools.errors import InputError
from drtools.formats.ids import Ids
from drtools.formats.vectors import maker_of, open_vectors
from drtools.models.json_files import body_config, own_settings
from drtools.models.module_files import has_modules
from drtools.models.settings import (
    SIDES,
    is_lexical,
    is_pair,
    read_settings,
    side_folder,
    vector_dimension,
)
from drtools.outputs import manifest
from drtools.outputs.records import WHOLE, list_of, map_of, object_of, parse_json
from drtools.outputs.versions import current_version, versions_of

DAMAGED_WEIGHTS = "it was cut short or damaged, fetch or make it again"
PRECISIONS = {
    "bf16": "bfloat16 (sentence-transformers' vectors are those of float32, --precision fp32)",
    "fp16": "float16 (sentence-transformers' vectors are those of float32, --precision fp32)",
    "fp32": "float32",
    "int8": "int8 (sentence-transformers' vectors are those of float32, --precision fp32)",
}
SAMPLE = 1000  # rows whose lengths are measured


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    return (
        path.stat().st_size
        if path.is_file()
        else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    )


def vector_lines(path: Path, texts: TextsBehind, count: int) -> Iterator[str]:
    """Yield the form of vectors, the lengths of a sample, and the first rows."""
    import numpy as np

    opened = open_vectors(path, part=True)
    rows: np.ndarray | list[int] = (
        np.unique(np.linspace(0, len(opened.array) - 1, min(SAMPLE, len(opened.array))).astype(int))
        if len(opened.array)
        else []
    )
    yield (
        f"{units.counted(len(opened.array), 'vector')} of {opened.array.shape[1]} dimensions, "
        f"{opened.array.dtype}, of {opened.manifest['side']} texts"
    )
    if part := opened.manifest.get("part"):
        yield (
            f"part {part['number']} of {part['of']}: rows {part['first'] + 1:,} to {part['last']:,} of "
            f"{part['total']:,}; `drtools gather` puts the parts together"
        )
    precision = opened.manifest.get("precision")
    computed = f", computed in {PRECISIONS.get(precision, precision)}" if precision else ""
    yield f"by {maker_of(opened.manifest)}, cut at {opened.manifest.get('max_tokens')} tokens{computed}"
    lengths = np.array([np.linalg.norm(np.asarray(opened.array[row : row + 1], np.float32)) for row in rows])
    if len(rows):
        yield (
            f"lengths of {len(rows):,} rows: {lengths.min():.4f} to {lengths.max():.4f}, mean {lengths.mean():.4f}"
            + ("" if np.isfinite(lengths).all() else "; SOME ARE NOT NUMBERS")
        )
    for row in range(min(count, len(opened.array))):
        vector = np.asarray(opened.array[row : row + 1], np.float32)[0]
        name = (
            texts.document(opened.ids[row]) if opened.manifest["side"] == "document" else texts.query(opened.ids[row])
        )
        yield f"  [{' '.join(f'{value:+.3f}' for value in vector[:4])} …]  {name}"


def index_lines(path: Path, texts: TextsBehind, count: int) -> Iterator[str]:
    """Yield what an index is, and its first documents."""
    record = manifest.read(path)
    if record["kind"] == "lucene":
        yield (
            f"Lucene, {units.counted(record['count'], 'document')} ({record['empty']:,} empty ones left out), analyzer "
            f"{record['language']}, {'with' if record['document_vectors'] else 'without'} document vectors"
        )
        return
    if record["kind"] == "milvus":
        parameters = ", ".join(f"{name} {value}" for name, value in record["parameters"].items())
        fields = f", fields {', '.join(record['fields'])}" if record["fields"] else ""
        yield (
            f"Milvus {record['index_type']}{f' ({parameters})' if parameters else ''}, "
            f"{units.counted(record['count'], 'vector')} of {record['dimension']} dimensions{fields}"
        )
        yield f"collection {record['collection']} of {record['uri']}"
    else:
        yield from _faiss_lines(path, record)
    yield f"of {record['side']} vectors by {maker_of(record)}"
    if record.get("document_model"):
        yield f"searched with {record['model']}"
    if record.get("recall"):
        yield (
            f"recall of the exact top {record['recall']['depth']}: {record['recall']['value']:.4f} "
            f"({units.counted(record['recall']['queries'], 'query', 'queries')})"
        )
    ids = Ids(path / "ids.txt")
    yield from (f"  {texts.document(ids[row])}" for row in range(min(count, len(ids))))


def _faiss_lines(path: Path, record: dict[str, Any]) -> Iterator[str]:
    from drtools.search import faiss_index, faiss_marks

    yield f"FAISS {record['factory']}: {faiss_index.describe(faiss_index.load(path / 'index.faiss', memory_map=True))}"
    if marked := record.get("marked"):
        stored = record["count"] + marked
        yield (
            f"{marked:,} of its {stored:,} stored rows are marked as deleted; index --update builds it anew if "
            f"these are more than {faiss_marks.largest_marked(stored):,}"
        )


def model_lines(path: Path) -> Iterator[str]:
    """Yield facts about a model: its body and sizes, how its vectors are computed, its training."""
    ours = own_settings(path)
    if ours.get("kind") in ("rem", "lexical", "ranker"):
        yield f"{ours['kind']}: " + ", ".join(
            f"{name} {value}" for name, value in ours.items() if not isinstance(value, dict) and name != "kind"
        )
    for side in SIDES if is_pair(path) else ("both sides",):
        folder = side_folder(path, side)
        if (folder / "config.json").exists():
            yield f"{side}: {_body(folder)}"
        if (
            (folder / "config.json").exists()
            and has_modules(folder)
            and ours.get("kind") != "ranker"
            and not is_lexical(folder)
        ):
            yield from _encoder(folder)
    weights = [file for file in path.rglob("*.safetensors") if "working" not in file.relative_to(path).parts]
    yield (
        f"{sum(map(_parameters, weights)):,} parameters in "
        f"{', '.join(sorted(str(file.relative_to(path)) for file in weights)) or 'no file'}"
    )
    yield from _training(manifest.read(path) if (path / manifest.NAME).exists() else {})


def _body(folder: Path) -> str:
    config = body_config(folder)
    layers, size = (
        next((config[name] for name in names if name in config), "?")
        for names in (("num_hidden_layers", "n_layers", "n_layer"), ("hidden_size", "dim", "d_model", "n_embd"))
    )
    return f"{config.get('model_type', 'unknown')}, {layers} layers of {size} dimensions"


def _encoder(folder: Path) -> Iterator[str]:
    settings = read_settings(folder)
    head = " + ".join(layer["kind"] for layer in settings.head) or "no head"
    yield (
        f"  vectors of {vector_dimension(folder, settings)} dimensions: pooling {', '.join(settings.pooling)}, "
        f"{head}, compared by {settings.similarity_word}"
    )
    if settings.matryoshka:
        yield f"  trained for prefixes of {', '.join(map(str, settings.matryoshka))} dimensions"
    yield f"  queries are cut at {settings.max_query_tokens} tokens, documents at {settings.max_document_tokens}"
    prompts = {side: settings.prompt(side) for side in SIDES if settings.prompt(side)}
    yield from (f"  before each {side}: {prompt!r}" for side, prompt in prompts.items())


def _parameters(file: Path) -> int:
    """Return the number of parameters in a safetensors file; only the header is read."""
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = stream.read(min(length, file.stat().st_size))
    except struct.error:
        raise InputError("not a complete safetensors file", where=file, remedy=DAMAGED_WEIGHTS) from None
    total = 0
    tensors = parse_json(header, file, DAMAGED_WEIGHTS)
    kind = map_of(object_of({"shape": list_of(WHOLE)}))
    if not kind.fits(tensors):
        raise InputError("the header of a safetensors file was damaged", where=file, remedy=DAMAGED_WEIGHTS)
    for name, tensor in tensors.items():
        if name != "__metadata__":
            total += math.prod(tensor["shape"])
    return total


def _training(record: dict[str, Any]) -> Iterator[str]:
    if "steps" in record:
        head = record.get("head_steps") or 0
        after = f" after {units.counted(head, 'step')} that fitted a new masked head," if head else ""
        yield (
            f"trained for {units.counted(record['steps'], 'step')}{after} in "
            f"{units.seconds_as_words(record.get('training_seconds', 0))} "
            f"({record.get('precision')}, {units.counted(record.get('processes', 1), 'process', 'processes')}), from "
            f"{record.get('base') or record.get('body')}"
        )
    if record.get("best"):
        best = record["best"]
        yield f"best dev {best['measure']} {best['value']:.4f} at step {best['step']:,}"
    yield from (f"{name.replace('_', ' ')}: {record[name]}" for name in record if name.endswith("_fingerprint"))


def release_lines(link: Path) -> Iterator[str]:
    """Yield the versions behind a published link, the current one marked."""
    current = current_version(link)
    for version in versions_of(link):
        record = manifest.read(version)
        yield (
            f"{'* ' if version == current else '  '}{version.name}  {record.get('kind')}, "
            f"{record['created'][:16].replace('T', ' ')}, {units.bytes_as_words(size_of(version))}"
        )


def part_lines(path: Path) -> Iterator[str]:
    """Yield the parts of a release."""
    for part in sorted(path.iterdir()):
        if part.is_dir():
            record = manifest.read(part)
            yield f"  {part.name}: {record.get('kind')} by {record['tool']}, {record['created'][:16].replace('T', ' ')}"
    texts = manifest.read(path).get("texts", {})
    for name in sorted(set(texts.values())):
        yield f"  {name}: texts of {', '.join(folder for folder in texts if texts[folder] == name)}"
