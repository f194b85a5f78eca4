"""A bit that flips in what unfinished work has written: the command that continues the work says so in one line."""

import json
import random
import zlib
from pathlib import Path

import pytest
import torch

from drtools.errors import InputError
from drtools.outputs import work as work_module
from drtools.outputs.checksums import Checksums, Span
from drtools.training.checkpoints import load_tensors, save_tensors

FP32 = ["--precision", "fp32", "--threads", "1"]


def test_a_checksum_grows_with_its_file_and_keeps_what_was_read(tmp_path):
    content, draw = bytearray(), random.Random(3)
    checksums = Checksums(tmp_path)
    for _ in range(5):
        content += draw.randbytes(2_000_000)
        (tmp_path / "a").write_bytes(content + b"not yet")
        spans = {"a": Span(10, len(content))}
        assert checksums.of(spans)["a"]["crc32"] == zlib.crc32(content[10:])
    content[1000] ^= 4  # after it was read; the checksum is that of what was written
    written = zlib.crc32(content[10:])
    content += b"more"
    (tmp_path / "a").write_bytes(content)
    assert checksums.of({"a": Span(10, len(content))})["a"]["crc32"] not in (written, zlib.crc32(content[10:]))


def test_a_whole_file_is_read_again_when_it_changed(tmp_path):
    checksums, path = Checksums(tmp_path), tmp_path / "a"
    for content in (b"one", b"three", b"3", b""):
        path.write_bytes(content)
        for _ in range(2):
            assert checksums.of({"a": Span(0, None)})["a"] == {
                "first": 0,
                "last": len(content),
                "crc32": zlib.crc32(content),
                "whole": True,
            }


def test_only_a_file_that_grows_may_be_longer_than_its_checksum(tmp_path):
    for name in ("grows", "whole"):
        (tmp_path / name).write_bytes(b"one")
    recorded = Checksums(tmp_path).of({"grows": Span(0, 3), "whole": Span(0, None)})
    (tmp_path / "grows").write_bytes(b"one, two")
    Checksums(tmp_path).compare(recorded)
    (tmp_path / "whole").write_bytes(b"one, two")
    with pytest.raises(InputError, match="/whole: its content changed after it was written"):
        Checksums(tmp_path).compare(recorded)


@pytest.fixture
def commands(toy, encoder_folder, rankers, drtools, monkeypatch):
    """Return commands that save what they have written, several times."""
    monkeypatch.setattr("drtools.search.mining_run.QUERIES_A_SAVE", 4)
    monkeypatch.setattr("drtools.search.runs.QUERIES_A_SAVE", 4)
    monkeypatch.setattr("drtools.methods.spar.joining.ROWS_A_BLOCK", 20)
    monkeypatch.setattr("drtools.training.loop.LOG_EVERY_STEPS", 1)
    vectors = toy.folder / "vectors"
    encode = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, *FP32]
    assert drtools(*encode, "-o", vectors).status == 0
    queries = ["--vectors", vectors, "--model", encoder_folder, "--queries", toy.queries, *FP32]
    train = ["--model", encoder_folder, *toy.training, "--batch-queries", "8", "--save-every-minutes", "0", *FP32]
    pieces = ["--pieces", "--passage-tokens", "24", "--sentence-tokens", "12", "--least-piece-tokens", "4"]
    adapt = ["mlm-adapt", "--model", encoder_folder, "--corpus", toy.corpus, "--steps", "4", "--head-steps", "2"]
    return {
        "encode": [*encode, "--chunk", "16"],
        "pieces": [*encode, "--chunk", "16", *pieces, "--spans", "mean"],
        "teacher-score": [
            *("teacher-score", "--teacher", rankers["bert"], *toy.training, "--window", "20", *FP32),
        ],
        "mine-negatives": ["mine-negatives", *queries, "--qrels", toy.qrels, "--ranks", "1-20"],
        "search": ["search", *queries, "--depth", "5"],
        "concat-spar": ["concat-spar", vectors, vectors, "--mu", "1"],
        "train-star": ["train-star", *train, "--steps", "5", "--refresh-every-steps", "2", "--refresh-ranks", "1-50"],
        "mlm-adapt": [*adapt, "--batch-documents", "8", "--save-every-minutes", "0", "--crops", "windows", *FP32],
    }


def written_for_good(partial: Path) -> dict[Path, range]:
    """Return the bytes on which whoever continues builds, by file."""
    state = json.loads((partial / "state.json").read_bytes())
    checksums = {name: each for name, each in state["checksums"].items() if name != "state.json"}
    spans = {partial / name: range(each["first"], each["last"]) for name, each in checksums.items()}
    if "checkpoint" in state:
        path = partial / "working" / state["checkpoint"]
        header = int.from_bytes(path.read_bytes()[:8], "little")
        spans[path] = range(8 + header, path.stat().st_size)
    return spans


@pytest.mark.parametrize(
    "name, at, files",
    [
        ("encode", 4, {"vectors.npy", "texts.npy", "ids.txt"}),
        pytest.param(
            *("pieces", 3, {"vectors.npy", "texts.npy", "ids.txt", "pieces.npy", "piece_starts.npy"}),
            marks=pytest.mark.slow,
        ),
        ("teacher-score", 3, {"data"}),
        ("mine-negatives", 4, {"data"}),
        pytest.param("search", 4, {"data"}, marks=pytest.mark.slow),
        pytest.param("concat-spar", 3, {"vectors.npy", "ids.txt"}, marks=pytest.mark.slow),
        pytest.param("train-star", 6, {"training.jsonl", "refreshed", "checkpoint"}, marks=pytest.mark.slow),
        pytest.param("mlm-adapt", 3, {"training.jsonl", "checkpoint"}, marks=pytest.mark.slow),
    ],
)
def test_a_flipped_bit_is_refused_in_one_line(commands, toy, drtools, interrupt_at, monkeypatch, name, at, files):
    words, whole, out, partial = commands[name], toy.folder / "whole", toy.folder / "out", toy.folder / "out.partial"
    assert drtools(*words, "-o", whole).status == 0
    plain = work_module.write_json
    calls = interrupt_at(work_module, "write_json", at)
    assert drtools(*words, "-o", out).status == 130 and len(calls) == at
    monkeypatch.setattr(work_module, "write_json", plain)
    spans = written_for_good(partial)
    assert {path.name.partition("-")[0].removesuffix(".safetensors") for path in spans} == files
    draw = random.Random(name)
    for path, span in spans.items():
        whole_bytes = path.read_bytes()
        for place in {span[0], span[-1], draw.choice(span)} - {0}:  # the first byte of a header is another damage
            damaged = bytearray(whole_bytes)
            damaged[place] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            outcome = drtools(*words, "-o", out)
            lines = [line for line in outcome.err.splitlines() if line.startswith("drtools ")]
            assert outcome.status == 2 and len(lines) == 1, (path.name, place, outcome.err)
            assert path.name in lines[0] and "afresh" in lines[0] and "--overwrite" in lines[0], (
                path.name,
                place,
                outcome.err,
            )
        path.write_bytes(whole_bytes)
    windows = partial / "working/windows.npz"
    if name == "mlm-adapt":  # they are counted again
        damaged = bytearray(windows.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        windows.write_bytes(damaged)
    state = (partial / "state.json").read_bytes()
    key, value = draw.choice([pair for pair in json.loads(state).items() if pair[0] != "checksums"])
    changed = value + 1 if isinstance(value, int | float) else None if value else "x"
    (partial / "state.json").write_text(json.dumps({**json.loads(state), key: changed}))
    outcome = drtools(*words, "-o", out)
    assert outcome.status == 2 and "state.json: its content changed after it was written" in outcome.err, outcome.err
    (partial / "state.json").write_bytes(state)
    assert drtools(*words, "-o", out).status == 0
    compared = ("model.safetensors", "vectors.npy", "ids.txt", "pieces.npy", "piece_starts.npy", "texts.npy")
    pairs = [(whole, out)] if whole.is_file() else [(whole / each, out / each) for each in compared]
    same = [one.read_bytes() == other.read_bytes() for one, other in pairs if one.exists()]
    assert same and all(same)


def test_every_flipped_bit_of_a_checkpoint_is_refused(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    path = tmp_path / "checkpoint.safetensors"
    save_tensors(path, model, optimizer)
    load_tensors(path, model, optimizer)
    written = path.read_bytes()
    header = 8 + int.from_bytes(written[:8], "little")
    for place in range(header, len(written)):
        damaged = bytearray(written)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="the checkpoint is damaged or missing"):
            load_tensors(path, model, optimizer)


@pytest.mark.slow
def test_damaged_negatives_of_a_refresh_without_checksums_are_one_line(commands, toy, drtools, interrupt_at):
    words, working = commands["train-star"], toy.folder / "out.partial/working"
    interrupt_at(work_module, "write_json", 6)
    assert drtools(*words, "-o", toy.folder / "out").status == 130
    state = toy.folder / "out.partial/state.json"
    record = json.loads(state.read_bytes())
    record.pop("checksums")
    state.write_text(json.dumps(record))
    damaged = bytearray((working / record["refreshed"]).read_bytes())
    damaged[len(damaged) // 3] ^= 1
    (working / record["refreshed"]).write_bytes(damaged)
    outcome = drtools(*words, "-o", toy.folder / "out")
    assert (
        outcome.status == 2
        and "not a whole .npz file of arrays (found a damaged archive); use --overwrite" in outcome.err
    ), outcome.err


@pytest.mark.parametrize("name", ["vectors.npy", "texts.npy"])
def test_bytes_after_an_array_of_unfinished_work_are_refused(toy, encoder_folder, drtools, interrupt_at, name):
    words = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "--chunk", "16", *FP32]
    interrupt_at(work_module, "write_json", 3)
    assert drtools(*words, "-o", toy.folder / "out").status == 130
    with open(toy.folder / "out.partial" / name, "ab") as stream:
        stream.write(b"more")
    outcome = drtools(*words, "-o", toy.folder / "out")
    assert outcome.status == 2 and f"{name}: 4 bytes follow the array; use --overwrite" in outcome.err, outcome.err


def test_work_without_checksums_is_continued(toy, encoder_folder, drtools, interrupt_at):
    words = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "--chunk", "16", *FP32]
    interrupt_at(work_module, "write_json", 3)
    assert drtools(*words, "-o", toy.folder / "out").status == 130
    state = toy.folder / "out.partial/state.json"
    record = json.loads(state.read_bytes())
    assert record.pop("checksums")
    state.write_text(json.dumps(record))  # as earlier releases wrote it
    outcome = drtools(*words, "-o", toy.folder / "out")
    assert outcome.status == 0 and "continuing" in outcome.err
