"""teacher-score.

Raw logits beside CrossEncoder.predict, in order, through the cache, averaged, continued after a kill.
"""

import hashlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import changed_by_flags

from drtools.formats.dark_items import Reinforced
from drtools.methods.adam.dark import asked_text, special_of_teacher
from drtools.models.compute import Compute
from drtools.models.cross_encoder import load_cross_encoder
from drtools.models.pair_tokens import tokenize_pairs
from drtools.teachers.score_cache import ScoreCache, pair_key
from drtools.teachers.scoring import load_teacher


@changed_by_flags
def command(toy, *more):
    return ["teacher-score", "--corpus", toy.corpus, "--queries", toy.queries, "--precision", "fp32", *map(str, more)]


def records(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def texts(toy):
    queries = {record["_id"]: record["text"] for record in records(toy.queries)}
    return queries, {document["_id"]: f"{document['title']} {document['text']}" for document in toy.documents}


def predicted(folder, pairs):
    from sentence_transformers import CrossEncoder

    return CrossEncoder(folder, device="cpu").predict(pairs)


def cached(cache):
    total = 0
    for path in (cache / "scores").glob("*.sqlite"):
        total += sqlite3.connect(path).execute("select count(*) from scores").fetchone()[0]
    return total


def test_examples_get_the_logits_that_the_peer_gives_in_their_order(toy, rankers, drtools, tmp_path, cache):
    done = drtools(
        *command(
            toy,
            "--teacher",
            rankers["bert"],
            "--examples",
            toy.examples,
            "--window",
            7,
            "--batch-tokens",
            64,
            "-o",
            tmp_path / "scored.jsonl",
        )
    )
    assert done.status == 0, done.err
    queries, documents = texts(toy)
    before, after = records(toy.examples), records(tmp_path / "scored.jsonl")
    assert [record["query_id"] for record in after] == [record["query_id"] for record in before]
    for one, other in zip(before, after, strict=True):
        assert {key: other[key] for key in one} == one
        expected = predicted(
            rankers["bert"],
            [(queries[one["query_id"]], documents[document]) for document in one["positives"] + one["negatives"]],
        )
        np.testing.assert_allclose(other["positive_scores"] + other["negative_scores"], expected, rtol=1e-5, atol=1e-5)
    made = json.loads((tmp_path / "scored.jsonl.manifest.json").read_text())
    assert (
        {record["scored_by"] for record in after} == {made["scored_by"]}
        and made["scored_by"].startswith("bert@")
        and made["counts"]["computed"] == 80 == cached(cache)
    )


def test_the_manifest_says_how_much_of_a_document_the_teacher_read(toy, rankers, drtools, tmp_path):
    room = load_cross_encoder(rankers["bert"]).longest_pair - 3
    for words, expected in (([], room - room // 2), (["--max-document-tokens", "5"], 5)):
        drtools(
            *command(
                toy,
                "--teacher",
                rankers["bert"],
                "--examples",
                toy.examples,
                *words,
                "--overwrite",
                "-o",
                tmp_path / "scored.jsonl",
            )
        )
        assert json.loads((tmp_path / "scored.jsonl.manifest.json").read_text())["max_document_tokens"] == expected


def test_what_is_known_is_not_scored_again(toy, rankers, drtools, tmp_path):
    first = drtools(*command(toy, "--teacher", rankers["bert"], "--examples", toy.examples))
    run = tmp_path / "a.run"
    run.write_text("q3 Q0 d3 1 9 x\nq3 Q0 d10 2 8 x\nq3 Q0 d55 3 7 x\n")
    assert first.status == 0 and "80 scores were computed now" in first.err
    second = drtools(*command(toy, "--teacher", rankers["bert"], "--examples", toy.examples))
    assert second.out == first.out and "0 scores were computed now" in second.err
    ranked = drtools(*command(toy, "--teacher", rankers["bert"], "--run", run))
    assert "1 score was computed now" in ranked.err
    assert (
        "80 scores"
        in drtools(
            *command(toy, "--teacher", rankers["bert"], "--examples", toy.examples, "--max-document-tokens", 3)
        ).err
    )


def test_a_run_is_ranked_anew(toy, rankers, drtools, tmp_path):
    run = tmp_path / "a.run"
    run.write_text(
        "".join(f"q{n} Q0 d{(7 * n + step) % 60} {step} {50 - step} x\n" for n in (4, 2, 11) for step in range(9))
    )
    done = drtools(*command(toy, "--teacher", rankers["bert"], "--run", run, "--depth", 5, "--window", 6, "--tag", "T"))
    assert done.status == 0, done.err
    queries, documents = texts(toy)
    lines = [line.split() for line in done.out.splitlines()]
    assert [line[0] for line in lines] == ["q4"] * 5 + ["q2"] * 5 + ["q11"] * 5 and {line[5] for line in lines} == {"T"}
    for n in (4, 2, 11):
        ids = [f"d{(7 * n + step) % 60}" for step in range(5)]
        scores = dict(
            zip(
                ids,
                predicted(rankers["bert"], [(queries[f"q{n}"], documents[document]) for document in ids]),
                strict=True,
            )
        )
        found = {line[2]: float(line[4]) for line in lines if line[0] == f"q{n}"}
        assert list(found) == sorted(ids, key=lambda document: -scores[document])
        np.testing.assert_allclose(
            [found[document] for document in ids], [scores[document] for document in ids], rtol=1e-5, atol=1e-5
        )


def test_several_teachers_are_averaged(toy, rankers, drtools):
    names = ("bert", "roberta")
    alone = [
        [
            json.loads(line)
            for line in drtools(*command(toy, "--teacher", rankers[name], "--examples", toy.examples)).out.splitlines()
        ]
        for name in names
    ]
    both = drtools(
        *command(toy, "--teacher", rankers["bert"], "--teacher", rankers["roberta"], "--examples", toy.examples)
    )
    assert both.status == 0, both.err
    for one, other, mean in zip(*alone, map(json.loads, both.out.splitlines()), strict=True):
        np.testing.assert_allclose(
            mean["negative_scores"], (np.array(one["negative_scores"]) + other["negative_scores"]) / 2, rtol=1e-6
        )
        assert mean["scored_by"] == f"{one['scored_by']}+{other['scored_by']}"
    assert (
        drtools(
            *command(toy, "--teacher", rankers["bert"], "--teacher", rankers["bert"], "--examples", toy.examples)
        ).status
        == 2
    )


def test_another_teachers_pieces_are_left_out(toy, rankers, drtools, tmp_path):
    def score(ranker, examples, out, *more):
        done = drtools(*command(toy, "--teacher", rankers[ranker], "--examples", examples, "-o", tmp_path / out, *more))
        assert done.status == 0, done.err
        return records(tmp_path / out), done.err

    with_pieces, _ = score(
        "bert", toy.examples, "first.jsonl", "--pieces", rankers["bert"], "--pieces-max-document-tokens", "64"
    )
    same, said = score("bert", tmp_path / "first.jsonl", "same.jsonl")
    assert same == with_pieces and "pieces" in same[0] and "another teacher" not in said
    other, said = score("roberta", tmp_path / "first.jsonl", "other.jsonl")
    assert f"{len(other)} examples had pieces that another teacher scored" in said
    assert (
        not any(key.startswith("piece") for record in other for key in record)
        and other[0]["scored_by"] != same[0]["scored_by"]
    )
    anew, said = score(
        "roberta",
        tmp_path / "first.jsonl",
        "anew.jsonl",
        "--pieces",
        rankers["bert"],
        "--pieces-max-document-tokens",
        "64",
    )
    assert (
        anew[0]["pieces"] == same[0]["pieces"]
        and anew[0]["piece_scores"] != same[0]["piece_scores"]
        and "another teacher" not in said
    )


def test_only_pieces_leaves_the_documents_out(toy, rankers, drtools, tmp_path):
    """The pieces' scores are those of a scoring with documents; no pair of a whole document is scored."""

    def score(examples, out, *more):
        done = drtools(*command(toy, "--teacher", rankers["bert"], "--examples", examples, "-o", tmp_path / out, *more))
        assert done.status == 0, done.err
        return records(tmp_path / out), int(
            json.loads((tmp_path / f"{out}.manifest.json").read_text())["counts"]["pairs"]
        )

    lines = records(toy.examples)
    lines[0]["negatives"].append("nowhere")
    (tmp_path / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pieces = ["--pieces", rankers["bert"], "--pieces-max-document-tokens", "64"]
    whole, pairs = score(tmp_path / "examples.jsonl", "whole.jsonl", *pieces)
    alone, fewer = score(tmp_path / "examples.jsonl", "alone.jsonl", *pieces, "--only-pieces")
    scored = ("positive_scores", "negative_scores")
    assert [{key: value for key, value in record.items() if key not in scored} for record in whole] == alone
    documents = sum(score is not None for record in whole for key in scored for score in record[key])
    assert documents > 0 and pairs - fewer == documents and all(record["piece_scores"] for record in alone)
    again, same = score(tmp_path / "whole.jsonl", "again.jsonl", *pieces, "--only-pieces")
    assert again == whole and same == fewer, "scores of the same teacher are kept"
    distil = ["distill-fgd", "--model", rankers["bert"], "--pooling", "cls", "--corpus", toy.corpus]
    done = drtools(
        *distil, "--queries", toy.queries, "--examples", tmp_path / "alone.jsonl", "--levels", "document,passage",
        "--max-document-tokens", "60", "--steps", "1", "-o", tmp_path / "student",
    )  # fmt: skip
    assert done.status == 2 and "run teacher-score without --only-pieces" in done.err, done.err


def test_flags_of_pieces_need_pieces(toy, rankers, drtools, tmp_path):
    for more in (
        ["--only-pieces"],
        ["--passage-tokens", "9"],
        ["--pieces-max-document-tokens", "60"],
        ["--pieces-document-prompt", "x"],
    ):
        done = drtools(
            *command(toy, "--teacher", rankers["bert"], "--examples", toy.examples, *more, "-o", tmp_path / "x")
        )
        assert done.status == 2 and f"{more[0]}: this needs --pieces MODEL" in done.err, done.err


def test_what_is_lacking_is_counted_and_has_no_score(toy, rankers, drtools):
    lines = [
        {"query_id": "q1", "positives": ["d1"], "negatives": ["gone", "d5"], "kept": 1},
        {"query_id": "nobody", "positives": ["d1"], "negatives": ["d2"]},
    ]
    done = drtools(
        *command(toy, "--teacher", rankers["bert"], "--examples", "-"),
        stdin="".join(json.dumps(line) + "\n" for line in lines).encode(),
    )
    assert done.status == 0, done.err
    first, second = map(json.loads, done.out.splitlines())
    assert first["kept"] == 1 and first["negative_scores"][0] is None and isinstance(first["negative_scores"][1], float)
    assert second["positive_scores"] == second["negative_scores"] == [None]
    assert "1 query has no text" in done.err and "1 document is not in the corpus" in done.err
    done = drtools(
        *command(toy, "--teacher", rankers["bert"], "--examples", "-", "--strict"),
        stdin="".join(json.dumps(line) + "\n" for line in lines).encode(),
    )
    assert done.status == 2


def test_bad_usage_has_one_line(toy, rankers, bert, drtools):
    for words, said in (
        (["--teacher", bert, "--examples", toy.examples], "expected a cross-encoder"),
        (["--teacher", rankers["bert"]], "pass either --examples EXAMPLES or --run RUN"),
        (
            ["--teacher", rankers["bert"], "--examples", toy.examples, "--max-query-tokens", "70"],
            "--max-query-tokens 70",
        ),
    ):
        done = drtools(*command(toy, *words))
        assert done.status == 2 and said in done.err and done.err.count("\n") == 1


def test_mined_examples_come_through_a_pipe(toy, rankers, drtools, tmp_path):
    mined = drtools(
        "mine-negatives",
        "--random",
        "--corpus",
        toy.corpus,
        "--queries",
        toy.queries,
        "--qrels",
        toy.qrels,
        "--negatives",
        3,
    )
    scored = drtools(
        *command(toy, "--teacher", rankers["bert"], "-", "-o", tmp_path / "scored.jsonl"), stdin=mined.out.encode()
    )
    assert scored.status == 0 and len(records(tmp_path / "scored.jsonl")) == 20


# dies in its fourth batch of pairs, as a machine does, and prints how many pairs were in the three before
DYING = """
import os, sys, time, drtools.cli.main, drtools.encoding.loop as encoding
plain, batches = encoding._encode_batch, []
def encode(*inputs):
    batches.append(len(inputs[2]))
    if len(batches) == 4:
        print(sum(batches[:3]), flush=True)
        time.sleep(2)  # what is done is kept by another thread
        os.kill(os.getpid(), 9)
    plain(*inputs)
encoding._encode_batch = encode
drtools.cli.main.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_it_loses_the_batches_in_flight_at_most(toy, rankers, drtools, tmp_path, program, environment, cache):
    words = command(
        toy,
        "--teacher",
        rankers["bert"],
        "--examples",
        toy.examples,
        "--batch-tokens",
        128,
        "--threads",
        1,
        "-o",
        tmp_path / "scored.jsonl",
    )
    died = subprocess.run([program, "-c", DYING, *map(str, words)], env=environment, stdout=subprocess.PIPE, text=True)
    kept = cached(cache)
    assert died.returncode == -signal.SIGKILL and 0 < kept == int(died.stdout) < 80
    done = drtools(*words)
    assert done.status == 0 and f"{80 - kept} scores were computed now" in done.err, done.err
    assert (
        drtools(*command(toy, "--teacher", rankers["bert"], "--examples", toy.examples)).out
        == (tmp_path / "scored.jsonl").read_text()
    )


def test_stopped_between_windows_it_continues_behind_what_is_written(toy, rankers, drtools, tmp_path, monkeypatch):
    from drtools.encoding import loop
    from drtools.errors import Terminated

    words = command(
        toy,
        "--teacher",
        rankers["bert"],
        "--examples",
        toy.examples,
        "--window",
        8,
        "--threads",
        1,
        "-o",
        tmp_path / "scored.jsonl",
    )
    plain, batches = loop._encode_batch, []

    def stopped(*inputs):
        batches.append(len(inputs[2]))
        if len(batches) == 4:
            raise Terminated
        plain(*inputs)

    monkeypatch.setattr(loop, "_encode_batch", stopped)
    assert drtools(*words).status == 143
    monkeypatch.setattr(loop, "_encode_batch", plain)
    assert json.loads((tmp_path / "scored.jsonl.partial/state.json").read_text())["counts"]["examples"] == 6, (
        "three windows of two examples"
    )
    done = drtools(*words)
    assert done.status == 0 and "continuing" in done.err and "80 pairs; 56 scores were computed now" in done.err
    assert (
        drtools(*command(toy, "--teacher", rankers["bert"], "--examples", toy.examples)).out
        == (tmp_path / "scored.jsonl").read_text()
    )


def test_a_stop_keeps_the_batches_that_had_ended_behind_one_that_had_not(toy, rankers, drtools, monkeypatch, cache):
    from drtools.encoding import loop
    from drtools.errors import Terminated

    plain, first, ended, told = loop._encode_batch, threading.Lock(), threading.Event(), []

    def slow(*inputs):
        if first.acquire(blocking=False):
            ended.wait(60)  # the first batch of all ends last
        plain(*inputs)
        told.append(len(inputs[2]))
        if len(told) == 3:
            ended.set()

    wait = loop.as_completed

    def stopped(batches):
        yield next(wait(batches))
        ended.wait(60)
        raise Terminated

    monkeypatch.setattr(loop, "_encode_batch", slow)
    monkeypatch.setattr(loop, "as_completed", stopped)
    words = command(
        toy, "--teacher", rankers["bert"], "--examples", toy.examples, "--batch-tokens", 128, "--threads", 2
    )
    assert drtools(*words).status == 143
    assert cached(cache) == sum(told) and len(told) >= 3


def test_a_stop_within_keeping_leaves_the_cache_usable(cache):
    kept = ScoreCache("f")

    def stopping():
        yield b"a", 1.0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.keep(stopping())
    kept.keep([(b"b", 2.0)])
    assert ScoreCache("f").known([b"a", b"b"]) == {b"b": 2.0}


def test_a_damaged_cache_is_said_in_one_line(toy, rankers, drtools, cache):
    words = command(toy, "--teacher", rankers["bert"], "--examples", toy.examples)
    assert drtools(*words).status == 0
    for path in (cache / "scores").glob("*.sqlite*"):
        path.write_bytes(b"no database " * 2000)
    done = drtools(*words)
    assert (
        done.status == 1
        and "a file of the cache is damaged" in done.err
        and str(cache) in done.err
        and done.err.count("\n") == 1
    )


def test_several_processes_write_one_cache_and_read_it_meanwhile_in_a_thread(cache):
    code = (
        "import sys, threading; from drtools.teachers.score_cache import ScoreCache\ncache, ended = ScoreCache('f'), "
        "threading.Event()\n"
        "def read():\n    while not ended.is_set(): cache.known([f'{part} {at}'.encode() for part in range(40) for at "
        "in range(50)])\n"
        "reader = threading.Thread(target=read)\nreader.start()\n"
        "try:\n    for part in range(40): cache.keep((f'{part} {at}'.encode(), part + at / 2) for at in "
        "range(50))\nfinally: ended.set()\n"
        "reader.join()"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "DRTOOLS_CACHE": str(cache)})
        for _ in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    kept = ScoreCache("f")
    assert len(kept) == 2000 and kept.known([b"3 7", b"none", b"39 49"]) == {b"3 7": 6.5, b"39 49": 63.5}


def test_keys_of_a_query_are_side_by_side_and_those_of_earlier_versions_are_found(cache):
    pairs = [(f"query {query}", f"document {document}") for document in range(9) for query in range(5)]
    keys = {pair: pair_key(*pair) for pair in pairs}
    ordered = [query for (query, _), key in sorted(keys.items(), key=lambda item: item[1])]
    assert [query for query, _ in itertools.groupby(ordered)] == list(dict.fromkeys(ordered)) and len(set(ordered)) == 5
    former = {
        pair: hashlib.blake2b(f"{len(pair[0])} \0{pair[0]}{pair[1]}".encode(), digest_size=16).digest()
        for pair in pairs
    }
    kept = ScoreCache("f")
    kept.keep([(former[pair], float(at)) for at, pair in enumerate(pairs[:9])], [(former[pairs[0]], 3)])
    kept.keep(
        [(keys[pair], float(at)) for at, pair in enumerate(pairs) if at >= 30],
        [(keys[pairs[30]], 5), (keys[pairs[31]], 0)],
    )
    known = ScoreCache("f").known(list(keys.values()))
    assert known == {keys[pair]: float(at) for at, pair in enumerate(pairs) if at < 9 or at >= 30}
    odd = ScoreCache("f").known_oddities(list(keys.values()))
    assert odd == {keys[pairs[0]]: 3, **{keys[pair]: 5 * (at == 30) for at, pair in enumerate(pairs) if at >= 30}}


def test_many_scores_are_written_together_and_a_stop_keeps_them(toy, rankers, drtools, monkeypatch, cache):
    from drtools.encoding import loop
    from drtools.errors import Terminated
    from drtools.teachers import scoring

    monkeypatch.setattr(scoring, "WRITTEN_AT_ONCE", 8)
    writes, batches, plain, keep = [], [], loop._encode_batch, ScoreCache.keep

    def counted(self, scores, oddities=()):
        writes.append(len(list(scores := list(scores))))
        keep(self, scores, oddities)

    def stopped(*inputs):
        batches.append(len(inputs[2]))
        if len(batches) == 6:
            raise Terminated
        plain(*inputs)

    monkeypatch.setattr(ScoreCache, "keep", counted)
    monkeypatch.setattr(loop, "_encode_batch", stopped)
    words = command(
        toy, "--teacher", rankers["bert"], "--examples", toy.examples, "--batch-tokens", 128, "--threads", 1
    )
    assert drtools(*words).status == 143
    assert cached(cache) == sum(writes) < 80 and len(writes) < len(batches) - 1 and writes[-1] > 8
    monkeypatch.setattr(loop, "_encode_batch", plain)
    kept = len(writes)
    done = drtools(*words)
    assert done.status == 0 and f"{80 - sum(writes[:kept])} scores were computed now" in done.err


def test_keys_tell_pairs_apart():
    pairs = [("a", "bc"), ("ab", "c"), ("a", "bc", 3), ("1 a", "bc"), ("", "abc"), ("abc", "")]
    assert len({pair_key(*pair) for pair in pairs}) == len(pairs)


def test_scores_answers_in_order_with_limits_and_the_teachers_own_special_tokens(rankers):
    from drtools.models.compute import Compute
    from drtools.teachers.scoring import load_teacher

    computing = Compute("cpu", "fp32", 64)
    long = " ".join(["otter", "lathe", "hill"] * 30)
    pairs = [("fox", "hill [SEP] river"), ("fox", long), ("fox", long), ("fox", "hill [SEP] river")]
    teacher = load_teacher([rankers["bert"]], computing, max_document_tokens=10)
    assert teacher.max_document_tokens == 10
    told = []
    scores = teacher.scores(pairs, [None, None, 20, None], told.append)
    expected = predicted(
        rankers["bert"],
        [("fox", "hill [SEP] river"), ("fox", " ".join(long.split()[:10])), ("fox", " ".join(long.split()[:20]))],
    )
    np.testing.assert_allclose(scores, [*expected, expected[0]], rtol=1e-5, atol=1e-5)
    assert sum(told) == 3 and teacher.scores([]).shape == (0,)
    again = load_teacher([rankers["bert"]], computing, max_document_tokens=10)
    np.testing.assert_array_equal(again.scores(pairs[::-1], [None, 20, None, None]), scores[::-1])
    assert again.counts["computed"] == 0
    with pytest.raises(ValueError, match="zip"):
        again.scores(pairs, [None])


def test_both_halves_of_a_reinforced_text_reach_a_teacher_of_short_pairs(rankers):
    """Twice 40 tokens do not fit into the pair's 64: what is cut is the halves, not the negative alone."""
    teacher = load_teacher([rankers["bert"]], Compute("cpu", "fp32", 1024), max_query_tokens=8, max_document_tokens=40)
    special = special_of_teacher(teacher, {"reinforced"}, "hound " * 20)
    text, limit = asked_text(Reinforced("p", "n"), "q", {"p": "fox " * 60, "n": "owl " * 60}.get, special)
    read = tokenize_pairs(teacher.scorers[0].encoder, [("hound " * 20, text)], [limit])
    words = teacher.tokenizer.convert_ids_to_tokens(read.flat.tolist())
    ends = [at for at, word in enumerate(words) if word == teacher.tokenizer.sep_token]
    first, second = ends[1] - ends[0] - 1, ends[2] - ends[1] - 1
    assert len(ends) == 3 and read.truncated == 0 and abs(first - second) <= 1 and first + second == 64 - 4 - 8
    assert special_of_teacher(teacher, {"reinforced"}, "hound fox").room == 64 - 4 - 2, (
        "what a short query leaves is the document's"
    )


def test_strict_refuses_again_what_the_cache_knows(toy, rankers, drtools, tmp_path, cache):
    """No count depends on the cache, nor on what an earlier process wrote: the same command is refused as before."""
    words = command(
        toy, "--teacher", rankers["bert"], "--examples", toy.examples, "--max-document-tokens", 5, "--window", 8
    )
    first, again = (drtools(*words, "--strict", "-o", tmp_path / "scored.jsonl") for _ in range(2))
    assert first.status == again.status == 2 and "of the pairs had a document that was cut" in first.err
    known = drtools(*words, "-o", tmp_path / "known.jsonl")
    assert known.status == 0 and "0 scores were computed now" in known.err
    counts = json.loads((tmp_path / "known.jsonl.manifest.json").read_text())["counts"]
    said = f"{counts['truncated']} of the pairs had a document that was cut"
    assert counts["truncated"] > 40 and all(said in outcome.err for outcome in (first, again, known))
    for path in (cache / "scores").glob("*.sqlite"):  # as drtools 0.1.0 left it
        with sqlite3.connect(path) as connection:
            connection.execute("drop table oddities")
            connection.execute("update scores set pair = substr(pair, 9)")
    older = drtools(*words)
    assert "0 scores were computed now" in older.err and said in older.err


def test_each_pair_counts_that_is_cut_or_empty_known_or_not(rankers):
    long = " ".join(["otter"] * 30)
    pairs = [("fox", long), ("fox", long), (long * 2, "hill"), ("fox", ""), ("fox", "hill")]
    for computed in (4, 0):
        teacher = load_teacher([rankers["bert"]], Compute("cpu", "fp32", 64), max_document_tokens=10)
        teacher.scores(pairs)
        counts = teacher.counts
        assert counts["computed"] == computed
        assert [counts[name] for name in ("truncated", "truncated_queries", "empty")] == [2, 1, 1]


def test_a_language_model_scores_as_its_peer_does_and_flags_change_its_scores(
    toy, chat_reranker, drtools, tmp_path, cache
):
    from sentence_transformers import CrossEncoder

    peer, (queries, documents) = CrossEncoder(str(chat_reranker), device="cpu"), texts(toy)
    found = {}
    for instruction in (None, "Find tools"):
        told = ["--instruction", instruction] if instruction else []
        done = drtools(*command(toy, "--teacher", chat_reranker, "--examples", toy.examples, *told))
        assert done.status == 0, done.err
        example = json.loads(done.out.splitlines()[0])
        pairs = [
            (queries[example["query_id"]], documents[each]) for each in example["positives"] + example["negatives"]
        ]
        found[instruction] = example["positive_scores"] + example["negative_scores"]
        expected = peer.predict(pairs, **({"prompt": instruction} if instruction else {}))
        np.testing.assert_allclose(found[instruction], expected, rtol=1e-5, atol=1e-5)
    assert np.abs(np.subtract(*found.values())).max() > 0.01 and len([*(cache / "scores").glob("*.sqlite")]) == 2


def test_scores_of_another_ranker_come_in_as_a_run(toy, drtools, tmp_path):
    first, *others = records(toy.examples)
    named = {example["query_id"]: example["positives"] + example["negatives"] for example in (first, others[0])}
    run = tmp_path / "other.run"
    lines = [f"{query} Q0 {name} {n} {-n / 3} x" for query, names in named.items() for n, name in enumerate(names, 1)]
    run.write_text("\n".join(lines[1:]) + "\n")  # without the first positive
    done = drtools("teacher-score", "--scores", run, "--examples", toy.examples, "-o", tmp_path / "scored.jsonl")
    assert done.status == 0, done.err
    after = records(tmp_path / "scored.jsonl")
    for example in after[:2]:
        names = example["positives"] + example["negatives"]
        scores = [
            None if name == named[first["query_id"]][0] and example["query_id"] == first["query_id"] else -n / 3
            for n, name in enumerate(names, 1)
        ]
        assert example["positive_scores"] + example["negative_scores"] == scores
    assert after[0]["scored_by"].startswith("other.run@") and len({each["scored_by"] for each in after}) == 1
    missing = sum(len(example["positives"]) + len(example["negatives"]) for example in others[1:]) + 1
    assert (
        f"{missing} documents of the examples are not in" in done.err
        and f"({len(others) - 1} queries not at all)" in done.err
    )
    strict = drtools(
        "teacher-score", "--scores", run, "--examples", toy.examples, "--strict", "-o", tmp_path / "b.jsonl"
    )
    assert strict.status == 2


def test_scores_come_from_a_teacher_or_a_run(toy, rankers, drtools, tmp_path):
    run = tmp_path / "other.run"
    run.write_text("nobody Q0 d1 1 2.5 x\n")
    asked = ["--examples", toy.examples]
    for words, message in (
        ([*asked], "pass either --teacher MODEL or --scores RUN"),
        ([*asked, "--scores", run, "--teacher", rankers["bert"]], "pass either --teacher MODEL or --scores RUN"),
        (["--scores", run, "--run", run], "--scores with --run: the scores of a run go into examples"),
        ([*asked, "--teacher", rankers["bert"]], "a teacher reads texts, and --corpus and --queries are not given"),
        ([*asked, "--scores", run, "--instruction", "x"], "--instruction: this needs --teacher"),
        ([*asked, "--scores", run], "other.run: it has no score for any of"),
    ):
        refused = drtools("teacher-score", *words)
        assert refused.status == 2 and message in refused.err, refused.err
