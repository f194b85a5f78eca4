"""`search --queries -`: one process that answers each query before the next is asked."""

import json
import subprocess
import sys

import pytest

from drtools.formats.corpora import read_queries


@pytest.fixture
def search(toy, encoder_folder, drtools):
    vectors = toy.folder / "vectors"
    assert drtools("encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", vectors).status == 0
    return ["search", "--vectors", vectors, "--depth", "3", "--precision", "fp32"]


def test_arriving_queries_are_answered_as_those_of_a_file(search, toy, drtools):
    lines = b"".join(
        json.dumps({"_id": query, "text": text}).encode() + b"\n" for query, text in read_queries(toy.queries).items()
    )
    for more in ([], ["--ignore-identical-ids"]):
        whole = drtools(*search, *more, "--queries", toy.queries)
        arrived = drtools(*search, *more, "--queries", "-", stdin=lines)
        assert whole.status == arrived.status == 0, arrived.err
        assert arrived.out == whole.out and len(whole.out.splitlines()) == 3 * len(read_queries(toy.queries))
        assert ("with the same id" in arrived.err) == bool(more)


@pytest.mark.slow
def test_a_process_answers_before_it_is_asked_again(search, toy, environment):
    with subprocess.Popen(
        [sys.executable, "-m", "drtools", *map(str, search), "--queries", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        for query, text in [*read_queries(toy.queries).items()][:4]:
            process.stdin.write(f"{query}\t{text}\n".encode())
            process.stdin.flush()
            answer = [process.stdout.readline().split() for _ in range(3)]
            assert [(line[0], line[3]) for line in answer] == [
                (query.encode(), str(rank).encode()) for rank in (1, 2, 3)
            ]
        process.stdin.close()
        assert process.stdout.read() == b"" and process.wait(60) == 0
