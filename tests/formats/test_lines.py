"""Files that can be read once, other encodings and packings: read whole, or refused with the command that converts."""

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from drtools.errors import InputError
from drtools.formats import lines
from drtools.formats.corpora import read_corpus
from drtools.formats.lines import local, open_bytes, read_lines, reads_once, recorded_name, shown, unpacked
from drtools.formats.trec import read_qrels, read_run
from drtools.outputs.fingerprints import file_fingerprint

TEXT = b"one\ntwo\n"
JSON = b'{"_id": "d1", "text": "planes cut wood"}\n'


@pytest.fixture(autouse=True)
def forgotten():
    local.cache_clear()
    unpacked.cache_clear()


def fifo(path, content, pieces=None):
    """Make a FIFO, and a thread that writes into it as soon as it is opened, once."""
    os.mkfifo(path)

    def write():
        with open(path, "wb", buffering=0) as stream:
            for piece in pieces or [content]:
                stream.write(piece)

    threading.Thread(target=write, daemon=True).start()
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_pipe_is_read_once_and_can_be_read_again(tmp_path, pack):
    path = fifo(tmp_path / "p", pack(TEXT))
    assert [line for _, line in read_lines(path)] == [b"one", b"two"]
    assert [line for _, line in read_lines(path)] == [b"one", b"two"]
    assert shown(path) == str(path) == shown(local(str(path))) and reads_once(path)
    assert open_bytes(local(str(path))).read() == TEXT
    assert Path(unpacked(str(path))).read_bytes() == TEXT


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_pipe_counts_as_the_file_that_comes_through_it(tmp_path, pack):
    (tmp_path / "file").write_bytes(pack(TEXT))
    path = fifo(tmp_path / "p", pack(TEXT))
    assert file_fingerprint(Path(local(str(path)))) == file_fingerprint(tmp_path / "file")


def test_a_pipe_that_is_written_byte_by_byte(tmp_path):
    packed = gzip.compress(TEXT)
    path = fifo(tmp_path / "p", packed, [packed[at : at + 1] for at in range(len(packed))])
    assert open_bytes(local(str(path))).read() == TEXT


@pytest.mark.parametrize("content", [b"", b"x", JSON * 100_000], ids=["empty", "short", "long"])
def test_a_pipe_of_any_length(tmp_path, content):
    assert Path(local(str(fifo(tmp_path / "p", content)))).read_bytes() == content


def test_a_cut_pipe_is_refused_by_its_name(tmp_path):
    path = fifo(tmp_path / "p", gzip.compress(TEXT * 999)[:-9])
    with pytest.raises(InputError, match=r"/p:\d+: the gzip stream is cut short"):
        list(read_lines(path))
    with pytest.raises(InputError, match=r"/p: the gzip stream is cut short"):
        unpacked(str(path))


def test_a_pipe_that_unpacks_to_a_thousand_times_its_bytes_takes_neither_disk_nor_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 1 << 20)
    for content, read in ((b"a" * (1 << 26), 0), ((b"a" * 9999 + b"\n") * 6000, 6000)):
        packed = gzip.compress(content)
        path = fifo(tmp_path / f"p{read}", packed)
        tracemalloc.start()
        if read:
            assert sum(1 for _ in read_lines(path)) == read
        else:
            with pytest.raises(InputError, match=r"/p0:1: the line is longer than 1,048,576 bytes"):
                list(read_lines(path))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert Path(local(str(path))).stat().st_size == len(packed) < len(content) // 500
        assert peak < 1 << 23, "a block of the stream and the longest line"


def test_a_file_that_has_no_name_any_more_is_read(tmp_path):
    """As bash of some versions gives here-documents."""
    with open(tmp_path / "c", "wb+") as stream:
        stream.write(TEXT)
        stream.flush()
        name = f"/dev/fd/{stream.fileno()}"
        assert not reads_once(name) and [line for _, line in read_lines(name)] == [b"one", b"two"]
        os.unlink(tmp_path / "c")
        assert reads_once(name) and [line for _, line in read_lines(name)] == [b"one", b"two"]


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_names_of_standard_input_are_one(name, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(TEXT))))
    assert [line for _, line in read_lines(name)] == [b"one", b"two"] == [line for _, line in read_lines("-")]
    assert shown(local(name)) == "standard input" and recorded_name(name) == "-"


def test_a_manifest_keeps_no_name_of_a_pipe_that_could_be_opened_later(tmp_path):
    path = fifo(tmp_path / "p", TEXT)
    assert not Path(recorded_name(str(path))).exists() and recorded_name(str(tmp_path / "c")) == str(tmp_path / "c")
    local(str(path))


def test_several_processes_cannot_read_one_pipe(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "p")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in (str(tmp_path / "p"), "-"):
        with pytest.raises(InputError, match="but 2 processes read it"):
            local(name)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/random"])
def test_a_device_that_never_ends_is_refused(name):
    with pytest.raises(InputError, match="a device was found where a file was expected"):
        local(name)


def test_a_pipe_that_nobody_writes_is_named_while_it_is_waited_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lines, "PATIENCE_SECONDS", 0.05)
    os.mkfifo(tmp_path / "p")
    threading.Timer(0.5, lambda: (tmp_path / "p").write_bytes(TEXT)).start()
    assert Path(local(str(tmp_path / "p"))).read_bytes() == TEXT
    assert f"{tmp_path}/p: waiting for a process that writes into this pipe" in capsys.readouterr().err


def zipped(content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("c.jsonl", content)
    return stream.getvalue()


def npz():
    stream = io.BytesIO()
    np.savez(stream, vectors=np.eye(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [(bz2.compress(JSON), "bzip2"), (b"\x28\xb5\x2f\xfd\x24\x00", "zstd"), (zipped(JSON), "a zip")],
)
def test_another_format_in_a_file_that_is_called_gz_is_named(tmp_path, content, found):
    path = tmp_path / "c.gz"
    path.write_bytes(content)
    for read in (lambda path: list(read_corpus(path)), read_qrels, read_run):
        with pytest.raises(InputError, match=rf"c\.gz:1: found {found}"):
            read(path)
    path.write_bytes(b"plain\n")
    with pytest.raises(InputError, match=r"the name ends in \.gz, but the file is not gzip"):
        read_qrels(path)


@pytest.mark.parametrize(
    ("rows", "read", "found"),
    [
        ([["q1", "Q0", "d1", 1, 0.5, "t"]], read_run, {"q1": {"d1": 0.5}}),
        ([["q1", "d1", 2]], read_qrels, {"q1": {"d1": 2}}),
        ([["d1", "text"]], lambda path: [each.id for _, each in read_corpus(path)], ["d1"]),
    ],
    ids=["run", "qrels", "corpus"],
)
def test_following_the_advice_for_a_table_gives_the_file(tmp_path, rows, read, found, monkeypatch):
    """The advice is run as it stands, with a table in place of reading Parquet."""
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    Path("c.parquet").write_bytes(b"PAR1\x15\x04\x15")
    with pytest.raises(InputError) as refusal:
        read("c.parquet")
    program = str(refusal.value).split("`")[1].removeprefix('python -c "').removesuffix('"')
    names = {6: list("abcdef"), 3: ["query-id", "corpus-id", "score"], 2: ["_id", "text"]}[len(rows[0])]
    monkeypatch.setattr(pandas, "read_parquet", lambda _: pandas.DataFrame(rows, columns=names))
    exec(program)
    (out,) = Path().glob("OUT*")
    assert read(str(out)) == found


CONVERTED = {  # encoding or packing: the program of the advice, run as it stands, gives the text back
    "utf-16": lambda content: content.decode().encode("utf-16"),
    "utf-16le": lambda content: content.decode().encode("utf-16le"),
    "utf-16be": lambda content: content.decode().encode("utf-16be"),
    "utf-32": lambda content: content.decode().encode("utf-32"),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("name", CONVERTED)
@pytest.mark.parametrize(
    ("content", "read"),
    [
        (JSON, lambda path: list(read_corpus(path))),
        (b"q1\td1\t1\n", read_qrels),
        (b"q1 Q0 d1 1 0.5 t\nq1 Q0 d2 2 0.25 t\n", read_run),
    ],
    ids=["corpus", "qrels", "run"],
)
def test_following_the_advice_gives_the_file(tmp_path, name, content, read, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a file").write_bytes(CONVERTED[name](content))
    with pytest.raises(InputError) as refusal:
        read("a file")
    assert str(refusal.value).startswith("a file:1: found ") and "latin1" not in str(refusal.value)
    command = str(refusal.value).split("`")[1]
    subprocess.run(command, shell=True, check=True)
    assert Path("OUT").read_bytes() == content and read("OUT")


PACKED = [  # first bytes or a whole file, what it is, the advice
    (b"\x28\xb5\x2f\xfd\x24\x00", "zstd", "zstd -dc c > OUT"),
    (b"\x04\x22\x4d\x18\x64", "lz4", "lz4 -dc c > OUT"),
    (zipped(JSON), "a zip archive", "unzip -p c > OUT"),
    (b"7z\xbc\xaf\x27\x1c\x00", "a 7z archive", "7z x"),
    (b"c.jsonl" + bytes(250) + b"ustar\x0000", "a tar archive", "tar -xOf c > OUT"),
    (b"PAR1\x15\x04\x15", "a Parquet file", "pandas.read_parquet"),
    (b"ARROW1\x00\x00", "an Arrow file", "pandas.read_feather"),
    (b"ORC\x00", "an ORC file", "pandas.read_orc"),
    (b"\x93NUMPY\x01\x00", "a numpy array", "drtools convert vectors c ids IDS"),
    (npz(), "an archive of numpy arrays (.npz)", "numpy.save; vectors of another program"),
    (b"SQLite format 3\x00", "an SQLite database", "JSON lines"),
    (b"\x80\x04\x95", "a pickle", "JSON lines"),
    (b"%PDF-1.7\n", "a PDF", "JSON lines"),
    (gzip.compress(JSON), "gzip", "add .gz to the name"),
]


@pytest.mark.parametrize(("content", "found", "advice"), PACKED, ids=[found for _, found, _ in PACKED])
def test_what_is_no_text_is_named(tmp_path, content, found, advice, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c").write_bytes(content)
    for read in (lambda path: list(read_corpus(path)), read_qrels, read_run):
        with pytest.raises(InputError) as refusal:
            read("c")
        assert str(refusal.value).startswith(f"c:1: found {found}") and advice in str(refusal.value)
        assert "latin1" not in str(refusal.value)


@pytest.mark.parametrize("text", ["PAR1\tx", "ORC\tx", "BZh9\tx", "%PDF\tx", "PK\tx", "ARROW1\tx", "7z\tx", "漢\t字"])
def test_text_that_begins_like_a_format_is_text(tmp_path, text):
    (tmp_path / "c.tsv").write_text(f"{text}\n", encoding="utf-8")
    assert [document.id for _, document in read_corpus(tmp_path / "c.tsv")] == [text.split("\t")[0]]


@pytest.mark.parametrize("name", ["c.JSONL.GZ", "c.Gz"])
def test_names_of_gzip_in_capitals(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(JSON))
    assert [document.id for _, document in read_corpus(tmp_path / name)] == ["d1"]
    (tmp_path / name).write_bytes(gzip.compress(gzip.compress(JSON)))
    with pytest.raises(InputError, match="found gzip in gzip"):
        list(read_corpus(tmp_path / name))


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ('{"_id": "d1", "title": NaN, "text": "x"}', "JSON has no NaN and no Infinity, write null"),
        ('{"_id": "d1", "text": "a lone \\ud83d surrogate"}', "half of a surrogate pair"),
        ('{"_id": "d1", "text": "tab\there"}', "write control characters as escapes"),
        ('[{"_id": "d1", "text": "x"},', "jq -c '.[]' FILE"),
        ("{", "jq -c . FILE"),
        ('{"_id": "d1", "text": "x"}\r{"_id": "d2", "text": "x"}\r', "jq -c . FILE"),
        ('{"_id": "d1", "text": "x"},', "take the comma after it away"),
    ],
)
def test_lines_that_are_nearly_json_get_a_next_move(tmp_path, drtools, line, advice):
    path = tmp_path / "c.jsonl"
    path.write_text(f"{line}\n", newline="")
    with pytest.raises(InputError) as refusal:
        list(read_corpus(path))
    assert str(refusal.value).startswith(f"{path}:1: not JSON") and advice in str(refusal.value)
    outcome = drtools("show", path)
    assert outcome.status == 2 and advice in outcome.err


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_a_line_beyond_the_limit_is_refused_with_its_number(tmp_path, drtools, monkeypatch, name):
    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    fits, path = b'{"_id": "d1", "text": "%s"}' % (b"a" * 75), tmp_path / name
    assert len(fits) == 100
    write = gzip.compress if name.endswith(".gz") else bytes
    path.write_bytes(write(fits + b"\n" + fits.replace(b"d1", b"d2")))
    assert [document.id for _, document in read_corpus(path)] == ["d1", "d2"]
    path.write_bytes(write(fits + b"\n" + fits.replace(b"d1", b"d22") + b"\n"))
    with pytest.raises(InputError, match=rf"{name}:2: the line is longer than 100 bytes; "):
        list(read_corpus(path))


def test_a_run_with_a_line_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    from drtools.formats import trec

    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    monkeypatch.setattr(trec, "LONGEST_LINE", 100)
    (tmp_path / "a.run").write_text(f"q1 Q0 d1 1 0.5 t\nq1 Q0 {'d' * 200} 2 0.4 t\n")
    with pytest.raises(InputError, match=r"a\.run:2: the line is longer than 100 bytes"):
        trec.read_run(tmp_path / "a.run")


def test_a_json_array_may_stand_in_one_line_of_any_length(tmp_path, monkeypatch):
    from drtools.formats.json_array import read_records

    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    (tmp_path / "a.json").write_text(json.dumps([{"question": "a" * 90}] * 3))
    assert len(list(read_records(tmp_path / "a.json"))) == 3


# prints the most memory it took, in kB; what getrusage says may be the most of the process that started it
SHOW = """
import re, sys
from drtools.cli.main import main
try:
    main(["show", sys.argv[1]])
finally:
    print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
def test_a_bomb_takes_no_more_memory_than_the_longest_line(tmp_path, environment):
    """300 MB of one letter in 300 kB, which took nearly a gigabyte."""
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb", 9) as packed:
        packed.write(b'{"_id": "d1", "text": "')
        for _ in range(300):
            packed.write(b"a" * (1 << 20))
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(tmp_path / "bomb.jsonl.gz")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2 and "bomb.jsonl.gz:1: the line is longer than 134,217,728 bytes" in done.stderr
    assert done.stderr.count("\n") == 1 and int(done.stdout.split()[-1]) < 500_000, "kB"
