"""Queries that arrive on a pipe, in pieces and in packs, against the reader of files."""

import gzip
import os
import threading
import time

import pytest

from drtools.errors import InputError
from drtools.formats.arriving import arriving_queries
from drtools.formats.corpora import read_queries

JSON = b'\n{"_id": "1", "text": "fox"}\r\n\n{"_id": "2", "text": "otter \xc3\xa9"}\n  \n{"_id": "3", "text": "wrench"}'
HEADLESS = b"\xef\xbb\xbf1\tfox\n\n2\totter \xc3\xa9\n3\twrench\n"
HEADED = b'text\tid\nfox\t1\n"otter\n\xc3\xa9"\t2\nwrench\t3\n'


def arrive(content, sizes, most=100):
    """Write content in pieces of these sizes, and yield the blocks of queries that arrive."""
    reading, writing = os.pipe()

    def write():
        at = 0
        for size in [*sizes, len(content)]:
            os.write(writing, content[at : at + size])
            at += size
            time.sleep(0.001)
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    with open(reading, "rb") as stream:
        yield from arriving_queries(most, stream)
    thread.join()


@pytest.mark.parametrize("content", [JSON, HEADLESS, HEADED], ids=["json", "tsv", "header"])
@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda text: gzip.compress(text[:30]) + gzip.compress(text[30:])]
)
@pytest.mark.parametrize("sizes", [[], [1] * 200, [20, 3, 15]], ids=["whole", "bytes", "pieces"])
def test_what_arrives_is_what_a_file_holds(tmp_path, content, pack, sizes):
    (tmp_path / "queries").write_bytes(content)
    blocks = list(arrive(pack(content), sizes))
    assert all(blocks) and [query for block in blocks for query in block] == [
        *read_queries(tmp_path / "queries").items()
    ]


def test_queries_that_wait_are_one_block():
    content = b"".join(b"%d\tfox\n" % number for number in range(25))
    reading, writing = os.pipe()
    os.write(writing, content)
    with open(reading, "rb") as stream:
        blocks = arriving_queries(10, stream)
        assert [len(next(blocks)) for _ in range(3)] == [10, 10, 5]
        os.write(writing, b"25\totter\n\n")  # only now, and the writer goes on to hold its end
        assert next(blocks) == [("25", "otter")]
        os.close(writing)
        assert next(blocks, None) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no queries"),
        (b"\n \n", "no queries"),
        (b"1\tfox\n1\totter\n", "standard input:2: the query id '1' is also on line 1"),
        (b'{"_id": "1", "text": "fox"}\n{"_id"\n', "standard input:2"),
        (b"1\tfox\xff\n", "standard input:1: byte 6 is not UTF-8"),
        (gzip.compress(JSON)[:-9], "gzip stream is damaged"),
        (b"PAR1" + bytes(20), "Parquet"),
    ],
)
def test_what_is_no_query_is_named_by_its_line(content, words):
    with pytest.raises(InputError) as caught:
        list(arrive(content, []))
    assert words in str(caught.value)
