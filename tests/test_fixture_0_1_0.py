"""Files that drtools 0.1.0 wrote: this version reads them right, continues them, or refuses them in one line.

tests/fixtures/0.1.0 holds one of each kind, work that was stopped half-way, a cache, and the commands that made them.
The tests go by files and exit statuses, not by the words of messages, so that messages may change.
"""

import json
import os
import re
import shutil
import sqlite3
from contextlib import closing
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest
from conftest import Outcome, last_values

FIXTURE = Path(__file__).parent / "fixtures" / "0.1.0"
COMMANDS = json.loads((FIXTURE / "commands.json").read_text())
FINISHED, STOPPED = COMMANDS["finished"], COMMANDS["stopped"]

READ, REFUSED, RECOMPUTED = "read", "refused", "recomputed"
# What this version does with each kind of 0.1.0's. A version that gives one up writes REFUSED here: every command that
# meets the kind must then end with status 2 and one line that names the command which makes it anew. A cache is never
# refused; a version that does not read it any more writes RECOMPUTED.
EXPECTED = {
    "Lucene index": READ,
    "FAISS index": READ,
    "vectors": READ,
    "joined vectors": READ,
    "pieces": READ,
    "encoder": READ,
    "pair": READ,
    "query encoder": READ,
    "adapted body": READ,
    "REM": READ,
    "ranker": READ,
    "lexical encoder": READ,
    "run": READ,
    "examples": READ,
    "release": READ,
    "finished request": READ,
    "finished request, computed otherwise now": REFUSED,
    "stopped training": READ,
    "stopped encoding": READ,
    "stopped scoring": READ,
    "cached scores": READ,
    "cached texts": RECOMPUTED,
}
# Their remedy is the same command with a flag
OWN_OUTPUT = {
    "finished request",
    "finished request, computed otherwise now",
    "stopped training",
    "stopped encoding",
    "stopped scoring",
}

# Their negatives are without the query's own document and copies of its positives
COMPUTED_OTHERWISE = {"mine-negatives", "train-adore"}
NPY_HEADER = 128  # bytes
SCORE, VECTOR = 1e-4, 1e-5  # how much results may differ between processors
KINDS = {
    "bm25": ["Lucene index"],
    "faiss": ["FAISS index"],
    "live": ["release"],
    "live/faiss": ["release", "FAISS index"],
    "live/model": ["release", "encoder"],
    "pair": ["pair"],
    "adore": ["query encoder"],
    "dam": ["adapted body"],
    "rem": ["REM"],
    "ranker": ["ranker"],
    "pieces": ["pieces"],
    "lexical": ["lexical encoder"],
    "model": ["encoder"],
    "fgd": ["encoder"],
    # A search encodes queries by both encoders
    "joined": ["joined vectors", "encoder", "lexical encoder"],
    "named": ["joined vectors", "vectors", "encoder", "lexical encoder"],
    **{name: ["vectors"] for name in FINISHED if name.endswith("vectors")},
    **{name: ["run"] for name in FINISHED if name.endswith(".run")},
    **{name: ["examples"] for name in FINISHED if name.endswith(".jsonl")},
}
RUNS = [name for name in FINISHED if name.endswith(".run")]
VECTORS = [name for name in FINISHED if FINISHED[name][0] == "encode"]
EXAMPLES = [name for name in FINISHED if name.endswith(".jsonl")]


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    """Copy the fixture, give stopped work its own name, and change into the copy."""
    folder = tmp_path / "old"
    shutil.copytree(FIXTURE, folder, symlinks=True, ignore=shutil.ignore_patterns("make.py", "__pycache__"))
    for stopped in folder.glob("*.stopped"):
        (stopped / "working").mkdir(exist_ok=True)  # Git does not keep it where it is empty
        stopped.rename(stopped.with_suffix(".partial"))
    monkeypatch.chdir(folder)
    return folder


def kinds_in(words: list[str]) -> list[str]:
    """Return the kinds of what a command reads, its output left out."""
    inputs = [word for before, word in pairwise(words) if before != "-o"]
    return [kind for word in inputs for kind in KINDS.get(word, ())]


def is_read(outcome: Outcome, *kinds: str) -> bool:
    """Return whether a command read its kinds, or refused one of them; fail if it did not do what is expected."""
    refused = [kind for kind in kinds if EXPECTED[kind] == REFUSED]
    if not refused:
        assert outcome.status == 0, outcome.err
        return True
    tools = "|".join(sorted({words[0] for words in FINISHED.values()}))
    remedy = rf"\bdrtools ({tools})\b" + (r"|--overwrite\b|--renew\b" if OWN_OUTPUT & {*refused} else "")
    lines = outcome.err.splitlines()
    assert outcome.status == 2 and len(lines) == 1, outcome.err
    message = re.sub(r"^drtools [a-z-]+: ", "", lines[0])  # which tool speaks
    assert re.search(remedy, message), f"{lines[0]!r} does not name the command that makes {refused[0]} anew"
    return False


def elsewhere(name: str) -> tuple[list[str], Path]:
    """Return the command that made an artefact, with an output that is not there yet; and that output."""
    *words, output = FINISHED[name]
    assert (words[-1], output) == ("-o", name)
    return [*words, f"new-{name}", "--quiet"], Path(f"new-{name}")


def hits_of(run: Path | str) -> dict[str, list[tuple[str, float]]]:
    """Return each query's documents and scores in their order; a run of the fixture has 20 queries of 10 documents."""
    hits: dict[str, list[tuple[str, float]]] = {}
    for line in Path(run).read_text().splitlines():
        query, _, document, _, score, _ = line.split()
        hits.setdefault(query, []).append((document, float(score)))
    assert len(hits) == 20 and all(len(found) == 10 for found in hits.values())
    return hits


def check_hits(found: dict, expected: dict) -> None:
    """Hold hits to the same documents in the same order, with the same scores."""
    assert found.keys() == expected.keys()
    for query, documents in found.items():
        assert [document for document, _ in documents] == [document for document, _ in expected[query]], query
        np.testing.assert_allclose([score for _, score in documents], [score for _, score in expected[query]], 0, SCORE)


def array(folder: str | Path, name: str = "vectors") -> np.ndarray:
    """Read an array of a folder."""
    found = np.load(Path(folder) / f"{name}.npy")
    assert len(found)
    return found


def ids_of(folder: str | Path) -> list[str]:
    """Read the ids of a folder's rows."""
    return (Path(folder) / "ids.txt").read_text().splitlines()


def check_vectors(found: Path, expected: str) -> None:
    """Hold a folder's vectors to those of another, and all that goes with them."""
    np.testing.assert_allclose(array(found), array(expected), 0, VECTOR * np.abs(array(expected)).max())
    assert ids_of(found) == ids_of(expected) and len(ids_of(found)) == len(array(found))
    assert (found / "texts.npy").read_bytes() == (Path(expected) / "texts.npy").read_bytes()
    if (Path(expected) / "pieces.npy").exists():
        assert np.array_equal(array(found, "piece_starts"), array(expected, "piece_starts"))
        wanted = array(expected, "pieces")
        np.testing.assert_allclose(array(found, "pieces"), wanted, 0, VECTOR * np.abs(wanted).max())


def top(scores: np.ndarray, queries: str, documents: str, depth: int = 10) -> dict[str, list[tuple[str, float]]]:
    """Return the hits of scores [queries, documents]."""
    names = ids_of(documents)
    return {
        query: [(names[row], float(of_query[row])) for row in np.argsort(-of_query)[:depth]]
        for query, of_query in zip(ids_of(queries), scores, strict=True)
    }


def products(queries: str, documents: str) -> np.ndarray:
    """Return the inner products of two folders in float64."""
    return array(queries).astype(np.float64) @ array(documents).astype(np.float64).T


def products_of_pieces() -> np.ndarray:
    """Return s + gamma * (best passage + best sentence) of the ten documents of the highest s, by loops."""
    queries, pieces, starts = array("piece-query-vectors"), array("pieces", "pieces"), array("pieces", "piece_starts")
    scores = products("piece-query-vectors", "pieces")
    for vector, of_query in zip(queries.astype(np.float64), scores, strict=True):
        rescored = set(np.argsort(-of_query)[:10])
        for row in range(len(of_query)):
            passages, sentences = (pieces[starts[2 * row + level] : starts[2 * row + level + 1]] for level in (0, 1))
            sentences = sentences if len(sentences) else passages  # a document of one piece holds it as a passage alone
            best = [max(float(vector @ piece) for piece in level) for level in (passages, sentences)]
            of_query[row] = of_query[row] + 0.5 * sum(best) if row in rescored else -np.inf
    return scores


BRUTE_FORCE = {
    "vectors.run": lambda: top(products("query-vectors", "vectors"), "query-vectors", "vectors"),
    "faiss.run": lambda: top(products("query-vectors", "vectors"), "query-vectors", "faiss"),
    "lexical.run": lambda: top(
        products("lexical-query-vectors", "lexical-vectors"), "lexical-query-vectors", "lexical-vectors"
    ),
    "pieces.run": lambda: top(products_of_pieces(), "piece-query-vectors", "pieces"),
    **dict.fromkeys(
        ["joined.run", "named.run"],
        lambda: top(
            products("query-vectors", "vectors") + 0.5 * products("lexical-query-vectors", "lexical-vectors"),
            "query-vectors",
            "vectors",
        ),
    ),
}


def hash_of(path: Path) -> str:
    """Return a file's hash."""
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()


def hashes_of(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder, by its path in it."""
    return {str(path.relative_to(folder)): hash_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def manifest(output: str | Path) -> dict:
    """Read the manifest of a folder, or of a file."""
    output = Path(output)
    return json.loads(
        (output / "manifest.json" if output.is_dir() else output.with_name(f"{output.name}.manifest.json")).read_text()
    )


def test_what_counts_as_a_refusal(monkeypatch):
    monkeypatch.setitem(EXPECTED, "vectors", REFUSED)
    monkeypatch.setitem(EXPECTED, "stopped encoding", REFUSED)
    said = "drtools search: old/vectors: written by drtools 0.1.0, which is not read any more; "
    remedies = {"vectors": "make it again with `drtools encode`", "stopped encoding": "pass --overwrite"}
    for kind, remedy in remedies.items():
        assert not is_read(Outcome(2, "", said + remedy + "\n"), "encoder", kind)
        for status, words in ((0, said + remedy), (1, said + remedy), (2, said), (2, ""), (2, f"{said}{remedy}\nmore")):
            with pytest.raises(AssertionError):
                is_read(Outcome(status, "", words), kind)
    with pytest.raises(AssertionError):
        is_read(Outcome(2, "", said + remedies["stopped encoding"]), "vectors")
    assert is_read(Outcome(0, "", ""), "encoder")


def test_the_fixture_is_as_0_1_0_wrote_it(old):
    """Hold every output to the fingerprint in its manifest: no line end, no byte may have changed on the way."""
    assert set(KINDS) >= set(FINISHED) and {kind for kinds in KINDS.values() for kind in kinds} <= set(EXPECTED)
    assert len(RUNS) == 9 and len(VECTORS) == 9 and len(EXAMPLES) == 4
    versions = sorted(old.glob("live.versions/0*/*/"))
    assert len(versions) == 5
    for output in [*map(Path, FINISHED), *versions]:
        record = manifest(output)
        assert record["version"] == "0.1.0", output
        if output.is_dir():
            files = [(name, found) for name, found in hashes_of(output).items() if name != "manifest.json"]
            assert record["fingerprint"] == blake2b(orjson.dumps(files), digest_size=16).hexdigest(), output
        else:
            assert record["fingerprint"] == hash_of(output), output
    arguments = manifest("model")["request"]["arguments"]
    for name in ("corpus", "queries", "examples"):
        assert [item["fingerprint"] for item in arguments[name]] == [hash_of(old / arguments[name][0]["path"])]


def test_everything_is_shown(old, drtools):
    for name, kinds in KINDS.items():
        outcome = drtools("show", name, "--quiet")
        if is_read(outcome, kinds[0]):
            made_by = manifest(name)["tool"]
            assert made_by in outcome.out and len(outcome.out.splitlines()) > 3, (name, outcome.out)


def test_a_finished_command_is_not_run_again(old, drtools):
    before = hashes_of(old)
    for words in [*FINISHED.values(), *COMMANDS["published"][1:]]:
        kind = "finished request, computed otherwise now" if words[0] in COMPUTED_OTHERWISE else "finished request"
        is_read(drtools(*words, "--quiet"), kind)
    history = {"live.history.jsonl"}  # of a link that 0.1.0 published; it begins with the current version
    after = hashes_of(old)
    assert {name: after[name] for name in after.keys() - history} == before  # manifests, with their dates, too


@pytest.mark.parametrize("name", RUNS)
def test_a_search_finds_what_0_1_0_found(old, drtools, name):
    words, output = elsewhere(name)
    if is_read(drtools(*words), *kinds_in(words)):
        check_hits(hits_of(output), hits_of(name))
        if name in BRUTE_FORCE:
            check_hits(hits_of(output), BRUTE_FORCE[name]())


@pytest.mark.parametrize("name", VECTORS)
def test_an_encoder_makes_the_vectors_that_it_made(old, drtools, name):
    words, output = elsewhere(name)
    if is_read(drtools(*words), *kinds_in(words)):
        check_vectors(output, name)


def test_vectors_are_joined_to_the_same(old, drtools):
    words, output = elsewhere("joined")
    if is_read(drtools(*words), *kinds_in(words)):
        assert np.array_equal(array(output), array("joined")) and ids_of(output) == ids_of("joined")
        assert np.array_equal(array(output), np.concatenate([array("vectors"), array("lexical-vectors")], axis=1))


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_become_the_same_examples(old, drtools, name):
    """Mine, darken and score anew: scores to 1e-4, all else as it was."""
    words, output = elsewhere(name)
    if not is_read(drtools(*words), *kinds_in(words)):
        return
    found, expected = ([json.loads(line) for line in Path(path).read_text().splitlines()] for path in (output, name))
    assert len(found) == len(expected) == 20
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            if key.endswith("_scores"):
                assert one[key] == pytest.approx(value, rel=0, abs=SCORE) and value
            else:
                assert one[key] == value


@pytest.mark.parametrize(
    "words",
    [
        "train-contrastive --model model --examples mined.jsonl",
        "distill-adam --model model --examples scored.jsonl --max-document-tokens 32",
        "distill-fgd --model fgd --examples scored-pieces.jsonl --max-document-tokens 64",
    ],
)
def test_a_training_takes_examples_and_encoders(old, drtools, words):
    texts = "--corpus corpus.jsonl --queries queries.jsonl --steps 1 --batch-queries 8 --precision fp32 --threads 1"
    if is_read(drtools(*words.split(), *texts.split(), "-o", "new", "--quiet"), *kinds_in(words.split())):
        assert manifest("new")["steps"] == 1
        start, trained = ((Path(name) / "model.safetensors").read_bytes() for name in (words.split()[2], "new"))
        assert len(start) == len(trained) and start != trained


def test_an_adaptation_goes_on_with_the_head_that_an_earlier_one_left(old, drtools):
    words, output = elsewhere("dam")
    words[words.index("--model") + 1] = "dam"
    if is_read(drtools(*last_values([*words, "--steps", "1"])), "adapted body"):
        first = json.loads((output / "training.jsonl").read_text().splitlines()[0])
        assert first["step"] == 0
        assert first["dev log-likelihood"] == pytest.approx(manifest("dam")["best"]["value"], abs=SCORE)


def test_a_run_is_measured(old, drtools):
    outcome = drtools("eval", "--qrels", "qrels.tsv", "bm25.run", "--measures", "RR@10", "--quiet")
    if is_read(outcome, "run"):
        wanted = {query.split()[0]: query.split()[1] for query in Path("qrels.tsv").read_text().splitlines()[1:]}
        ranks = [
            [document for document, _ in hits].index(wanted[query]) + 1 if wanted[query] in dict(hits) else np.inf
            for query, hits in hits_of("bm25.run").items()
        ]
        value = sum(1 / rank for rank in ranks) / 20
        assert 0.1 < value < 1 and f"{value:.4f}" in outcome.out, (value, outcome.out)


def write_changed_corpus() -> list[str]:
    """Write the corpus without its first five documents, two changed and one new; return the ids of these three."""
    documents = [json.loads(line) for line in Path("corpus.jsonl").read_text().splitlines()][5:]
    documents[7]["text"] += " heron"
    documents[30]["title"] = "stoat"
    documents.insert(20, {"_id": "new", "title": "", "text": "lynx runs"})
    Path("changed.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    return [documents[place]["_id"] for place in (7, 20, 31)]


@pytest.mark.parametrize("name", ["vectors", "pieces"])
def test_an_update_takes_over_what_has_not_changed(old, drtools, name):
    changed = write_changed_corpus()
    words, full = elsewhere(name)
    words[words.index("corpus.jsonl")] = "changed.jsonl"
    if not is_read(drtools(*words), *kinds_in(words)):
        return
    words = last_values([*words, "--update", name, "-o", "updated"])
    if not is_read(drtools(*words), *kinds_in(words)):
        return
    check_vectors(Path("updated"), str(full))
    assert manifest("updated")["counts"]["taken"] == 53 and len(ids_of("updated")) == 56
    before = dict(zip(ids_of(name), array(name), strict=True))
    for document, vector in zip(ids_of("updated"), array("updated"), strict=True):
        assert document in changed or np.array_equal(vector, before[document])


def test_an_index_is_updated(old, drtools):
    write_changed_corpus()
    words, _ = elsewhere("vectors")
    words[words.index("corpus.jsonl")] = "changed.jsonl"
    if not is_read(drtools(*words), *kinds_in(words)):
        return
    outcome = drtools("index", "--vectors", "new-vectors", "--update", "faiss", "-o", "updated", "--quiet")
    if is_read(outcome, "FAISS index"):
        words, output = elsewhere("faiss.run")
        words[words.index("faiss")] = "updated"
        assert drtools(*words).status == 0
        check_hits(hits_of(output), top(products("query-vectors", "new-vectors"), "query-vectors", "new-vectors"))


def test_a_release_is_served_and_a_third_version_follows(old, drtools):
    first, second = sorted(Path("live.versions").glob("0*"))
    assert Path("live").resolve() == second.resolve()
    words, output = elsewhere("faiss.run")
    words[words.index("faiss")], words[words.index("model")] = "live/faiss", "live/model"
    if is_read(drtools(*words), *kinds_in(words)):
        check_hits(hits_of(output), hits_of("faiss.run"))
    if not is_read(drtools("publish", "pair", "pair-vectors", "live", "--quiet"), "release"):
        assert Path("live").resolve() == second.resolve()
        return
    third = Path(os.readlink("live"))
    assert third.name.startswith("00003-") and sorted(Path("live.versions").glob("0*")) == [first, second, third]
    assert hashes_of(third / "pair") == hashes_of(Path("pair"))
    assert drtools("publish", first, "live", "--quiet").status == 0
    assert Path(os.readlink("live")) == first and hashes_of(Path("live/model")) == hashes_of(Path("model"))


def test_a_stopped_encoding_continues_where_it_was(old, drtools):
    """Turn the sign of what is done: a vector that keeps it was not made anew."""
    for name, whole in (("half-encode", "vectors"), ("half-pieces", "pieces")):
        state = json.loads(Path(f"{name}.partial/state.json").read_text())
        done = {"vectors": state["done"], **({"pieces": state["pieces"]} if whole == "pieces" else {})}
        assert done["vectors"] == 32 and min(done.values()) > 0
        for kind, count in done.items():
            part = np.memmap(f"{name}.partial/{kind}.npy", np.float32, "r+", NPY_HEADER).reshape(-1, 16)
            part[:count] *= -1
            part.flush()
            del part
        words = [*STOPPED[name], "--quiet"]
        if not is_read(drtools(*words), "stopped encoding", *kinds_in(words)):
            assert not Path(name).exists()
            continue
        for kind, count in done.items():
            found = array(name, kind)
            found[:count] *= -1
            np.save(f"{name}/{kind}.npy", found)
        check_vectors(Path(name), whole)
        assert not Path(f"{name}.partial").exists()


def test_a_stopped_training_continues_from_its_checkpoint(old, drtools):
    """Change the log of the steps that were taken: it is kept if the training continues."""
    log = Path("half-training.partial/training.jsonl")
    lines = log.read_text().splitlines()
    value = str(json.loads(lines[0])["dev nDCG@10"])
    log.write_text(log.read_text().replace(value, "9." + "0" * (len(value) - 2), 1))
    taken = log.read_text()
    words = [*STOPPED["half-training"], "--quiet"]
    if not is_read(drtools(*words), "stopped training", *kinds_in(words)):
        assert not Path("half-training").exists()
        return
    found, whole = (
        [json.loads(line) for line in Path(name, "training.jsonl").read_text().splitlines()]
        for name in ("half-training", "model")
    )
    assert Path("half-training/training.jsonl").read_text().startswith(taken) and found[0]["dev nDCG@10"] == 9
    assert [record["step"] for record in found] == [record["step"] for record in whole]
    losses = [[record["loss"] for record in records if record.get("loss")] for records in (found, whole)]
    assert len(losses[0]) == 4
    np.testing.assert_allclose(*losses, rtol=1e-3)  # by the same optimizer state, batches and dropout
    assert manifest("half-training")["steps"] == 40
    words, output = elsewhere("vectors")
    words[words.index("model")] = "half-training"
    assert drtools(*words).status == 0
    np.testing.assert_allclose(array(output), array("vectors"), 0, 1e-2)


def test_a_stopped_scoring_continues_where_it_was(old, drtools):
    """Change the first line of what is written: it is kept if the scoring continues."""
    data = Path("half-scored.run.partial/data")
    data.write_bytes(data.read_bytes().replace(b" drtools\n", b" slootrd\n", 1))
    words = [*STOPPED["half-scored.run"], "--quiet"]
    if not is_read(drtools(*words), "stopped scoring", *kinds_in(words)):
        assert not Path("half-scored.run").exists()
        return
    tags = [line.split()[-1] for line in Path("half-scored.run").read_text().splitlines()]
    assert tags == ["slootrd", *["drtools"] * 199]
    check_hits(hits_of("half-scored.run"), hits_of("reranked.run"))


def test_cached_scores_are_not_computed_again(old, drtools, monkeypatch):
    """Add 1 to each score in the cache: what comes back with it was not computed."""
    monkeypatch.setenv("DRTOOLS_CACHE", str(old / "cache"))
    (scores,) = Path("cache/scores").glob("*.sqlite")
    with closing(sqlite3.connect(scores)) as connection, connection:
        assert connection.execute("update scores set score = score + 1").rowcount > 400
    words, output = elsewhere("reranked.run")
    if not is_read(drtools(*words), *kinds_in(words)):
        return
    more = {READ: 1, RECOMPUTED: 0}[EXPECTED["cached scores"]]
    expected = hits_of("reranked.run")
    check_hits(
        hits_of(output),
        {query: [(document, score + more) for document, score in hits] for query, hits in expected.items()},
    )


def test_cached_texts_are_read(old, drtools, monkeypatch):
    """Give a document another title in the cache and look for it where the document is shown."""
    monkeypatch.setenv("DRTOOLS_CACHE", str(old / "cache"))
    (store,) = Path("cache/stores").iterdir()
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("update documents set title = 'of the cache' where id = 'd0'")
    outcome = drtools("show", "vectors", "--count", "1", "--quiet")
    title = {READ: "of the cache", RECOMPUTED: "fox 0"}[EXPECTED["cached texts"]]
    if is_read(outcome, "vectors"):
        assert title in outcome.out, outcome.out


def test_a_cached_fingerprint_is_not_believed_of_a_file_that_has_changed_since(old, drtools, monkeypatch):
    monkeypatch.setenv("DRTOOLS_CACHE", str(old / "cache"))
    for path in old.iterdir():
        os.utime(path)
    with closing(sqlite3.connect("cache/fingerprints.sqlite")) as connection, connection:
        moved = "update files set hash = ?, path = replace(path, '/drtools-fixture', ?)"
        assert connection.execute(moved, ("0" * 32, str(old.resolve()))).rowcount > 100
        assert connection.execute(
            "select 1 from files where path = ?", (str(old.resolve() / "corpus.jsonl"),)
        ).fetchone()
    before = hashes_of(old / "vectors")
    is_read(drtools(*FINISHED["vectors"], "--quiet"), "finished request")
    assert hashes_of(old / "vectors") == before
