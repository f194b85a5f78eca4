"""publish: a version holds its own texts and its own encoder, whatever happens to what it was made from."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from conftest import write_jsonl

from drtools.cli.flags.outputs import FolderOutput
from drtools.formats.corpus_store import open_store
from drtools.models.settings import fingerprints, read_settings
from drtools.outputs import manifest
from drtools.outputs.cache import cache_directory
from drtools.outputs.contents import TEXTS
from drtools.outputs.opening import open_folder
from drtools.outputs.releases import publish
from drtools.outputs.versions import current_version, pinned, release_of, versions_of

WORDS = "words typed here"


@pytest.fixture
def made(toy, encoder_folder, drtools, monkeypatch):
    """An encoder with a manifest, vectors and indexes of the toy corpus, made by relative names."""
    monkeypatch.chdir(toy.folder)
    finish_encoder(encoder_folder)
    for command in (
        "encode --model model --corpus corpus.jsonl --precision fp32 -o vectors",
        "index --vectors vectors -o index",
    ):
        outcome = drtools(*command.split())
        assert outcome.status == 0, outcome.err
    return toy


def finish_encoder(source: str) -> None:
    """Copy an encoder to `model` as a finished output."""
    asked = FolderOutput("model", overwrite=True)
    asked.request.update({"tool": "train-star", "arguments": {}})
    with open_folder(asked) as work:
        shutil.copytree(source, work.path, dirs_exist_ok=True)
        prints = fingerprints(work.path, read_settings(work.path))
        work.finish(kind="encoder", **{f"{side}_fingerprint": value for side, value in prints.items()})


def changed_corpus(folder: Path, word: str = "OTHER") -> None:
    """Replace the corpus by one in which each text is another, and the first ten documents are gone."""
    documents = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()][10:]
    write_jsonl(folder / "corpus.jsonl", [each | {"title": word, "text": word} for each in documents])


def titles(toy) -> set[str]:
    return {document["title"] for document in toy.documents}


def search(drtools, where, *words):
    outcome = drtools("search", *words, *(() if WORDS in words else (WORDS,)), "--depth", "60")
    assert outcome.status == 0, outcome.err
    return outcome


def test_hits_have_the_versions_texts_from_anywhere_and_after_a_move(made, drtools, monkeypatch, tmp_path_factory):
    published = drtools("publish", "index", "vectors", "model", "live")
    assert published.status == 0 and "texts" not in published.err, published.err
    version = versions_of(Path("live"))[0]
    assert manifest.read(version)["texts"] == {"index": TEXTS, "vectors": TEXTS}
    cached = next((cache_directory() / "stores").glob("*.sqlite"))
    assert os.stat(version / TEXTS).st_ino in {each.stat().st_ino for each in cached.parent.glob("*.sqlite")}
    before = {what: search(drtools, made, f"--{what}", f"live/{what}").out for what in ("index", "vectors")}
    assert all(title in before["index"] for title in titles(made))
    assert "\n  texts.sqlite: texts of index, vectors\n" in drtools("show", "live").out
    shown = drtools("show", "live/index").out
    assert f"d0  {made.documents[0]['title']}" in shown
    changed_corpus(made.folder)
    assert drtools("search", "--index", "live/index", "--queries", "queries.jsonl", "-o", "a.run").status == 0
    assert made.documents[0]["title"] in drtools("show", "a.run", "--count", "20", "--depth", "60").out
    shutil.rmtree(cached.parent)
    (made.folder / "corpus.jsonl").unlink()
    shutil.rmtree("model"), shutil.rmtree("vectors"), shutil.rmtree("index")
    moved = tmp_path_factory.mktemp("elsewhere")
    for name in ("live", "live.versions"):
        os.rename(name, moved / name)
    monkeypatch.chdir("/")
    for what, hits in before.items():
        outcome = search(drtools, made, f"--{what}", moved / "live" / what)
        assert outcome.out == hits and "note" not in outcome.err, outcome.err
    assert f"d0  {made.documents[0]['title']}" in drtools("show", moved / "live/index").out
    monkeypatch.chdir(moved / "live/index")
    assert search(drtools, made, "--index", ".").out == before["index"]


@pytest.mark.slow
def test_a_corpus_that_changed_or_is_gone_is_said_and_nothing_else_changes(made, drtools):
    with_texts = Path(drtools("publish", "index", "model", "first").err.split()[-1])
    changed_corpus(made.folder)
    outcome = drtools("publish", "index", "model", "live")
    assert outcome.status == 0 and "index: published without texts" in outcome.err, outcome.err
    assert "its corpus corpus.jsonl has changed since" in outcome.err
    version = current_version(Path("live"))
    assert version.name == with_texts.name and not (version / TEXTS).exists() and "texts" not in manifest.read(version)
    assert "no titles and texts" in search(drtools, made, "--index", "live/index").err
    again = drtools("publish", "index", "model", "live")
    assert again.status == 0 and "already" in again.err and "without" not in again.err
    (made.folder / "corpus.jsonl").unlink()
    assert "its corpus corpus.jsonl is no longer there" in drtools("publish", "vectors", "live").err
    now = os.readlink("live")
    shutil.rmtree("vectors")
    outcome = drtools("publish", "index", "live", "--strict")
    assert outcome.status == 2 and "vectors, which it was made from, is no longer there" in outcome.err, outcome.err
    assert os.readlink("live") == now and len(outcome.err.splitlines()) == 1
    assert drtools("publish", "first/index", "live").err.count("\n") == 1, "a version's own texts go with its parts"
    assert all(title in search(drtools, made, "--index", "live", "--model", "model").out for title in titles(made))


def test_vectors_that_were_made_anew_do_not_lend_their_texts_to_an_older_index(made, drtools):
    changed_corpus(made.folder)
    command = "encode --model model --corpus corpus.jsonl --precision fp32 -o vectors --overwrite"
    assert drtools(*command.split()).status == 0
    outcome = drtools("publish", "index", "vectors", "live")
    assert "index: published without texts, because vectors, which it was made from, has changed since" in outcome.err
    assert manifest.read("live")["texts"] == {"vectors": TEXTS}


def test_one_folder_has_its_texts_and_a_true_manifest(made, drtools):
    assert drtools("publish", "vectors", "live").status == 0
    assert manifest.read("live") == manifest.read("vectors")
    assert manifest.fingerprint("live") == manifest.fingerprint("vectors")
    expected = search(drtools, made, "--vectors", "live").out
    changed_corpus(made.folder)
    assert search(drtools, made, "--vectors", "live").out == expected and made.documents[0]["title"] in expected
    record = json.loads(Path("vectors/manifest.json").read_text())
    del record["files"]  # as 0.1.0 wrote it, which counts whatever lies in the folder
    for name in ("live", "vectors"):
        shutil.copytree(name, f"old-{name}", symlinks=False)
        Path(f"old-{name}/manifest.json").write_text(json.dumps(record))
        for file in Path(f"old-{name}").iterdir():
            os.utime(file)
    assert manifest.fingerprint("old-live") == manifest.fingerprint("old-vectors")
    assert drtools("publish", "live", "other").err.count("\n") == 1
    assert search(drtools, made, "--vectors", "other").out == expected


def test_several_corpora_have_a_store_each(made, drtools):
    assert drtools("index", "--corpus", "corpus.jsonl", "-o", "same").status == 0
    shutil.copy("corpus.jsonl", "second.jsonl")
    changed = [json.loads(line) | {"title": "SECOND"} for line in Path("second.jsonl").read_text().splitlines()]
    write_jsonl(Path("second.jsonl"), changed)
    assert drtools("index", "--corpus", "second.jsonl", "-o", "bm25").status == 0
    assert drtools("publish", "index", "same", "bm25", "live").status == 0
    assert manifest.read("live")["texts"] == {"index": TEXTS, "same": TEXTS, "bm25": "texts-2.sqlite"}
    words = made.documents[3]["text"]
    for part, title in {"same": made.documents[3]["title"], "bm25": "SECOND"}.items():
        assert title in drtools("search", "--index", f"live/{part}", words).out


def test_modes_follow_the_umask_and_a_folder_that_may_not_be_written_is_read(made, drtools):
    for store in (cache_directory() / "stores").glob("*.sqlite"):
        store.chmod(0o600)
    before = os.umask(0o022)
    try:
        assert drtools("publish", "index", "model", "live").status == 0
    finally:
        os.umask(before)
    version = current_version(Path("live"))
    assert stat.S_IMODE(os.stat(version / TEXTS).st_mode) & 0o444 == 0o444
    expected = sorted(version.rglob("*"))
    for place in (version, *expected):
        place.chmod(0o555 if place.is_dir() else 0o444)
    try:
        assert made.documents[0]["title"] in search(drtools, made, "--index", "live/index").out
        assert sorted(version.rglob("*")) == expected, "reading must make no file"
    finally:
        for place in (version, *expected):
            place.chmod(0o755 if place.is_dir() else 0o644)


def test_a_corpus_that_cannot_be_read_is_said(tmp_path, drtools, monkeypatch):
    """Vectors of another program name a corpus whose texts nothing has read before."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("twice.jsonl"), [{"_id": "a", "text": "one"}, {"_id": "a", "text": "two"}])
    asked = FolderOutput("vectors")
    corpus = {"path": "twice.jsonl", "fingerprint": manifest.fingerprint("twice.jsonl")}
    asked.request.update({"tool": "convert", "arguments": {"documents": corpus}})
    with open_folder(asked) as work:
        (work.path / "ids.txt").write_text("a\n")
        work.finish(kind="vectors", side="document", corpus="twice.jsonl")
    outcome = drtools("publish", "vectors", "live")
    assert outcome.status == 0 and manifest.read("live") == manifest.read("vectors"), outcome.err
    expected = "vectors: published without texts, because its corpus cannot be read: twice.jsonl:2: the document id 'a'"
    assert expected in outcome.err, outcome.err
    assert drtools("publish", "vectors", "other", "--strict").status == 2 and not Path("other").is_symlink()


def test_texts_are_copied_where_there_are_no_hard_links(made, drtools, monkeypatch):
    def no_link(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    assert drtools("publish", "index", "vectors", "live").status == 0
    version = current_version(Path("live"))
    assert [path.name for path in sorted(version.glob("texts*"))] == [TEXTS]
    store = open_store(str(version / TEXTS))
    assert store.get("d3").title == made.documents[3]["title"] and len(store) == 60


def test_a_damaged_store_and_a_manifest_of_another_program(made, drtools):
    drtools("publish", "index", "model", "live")
    texts = current_version(Path("live")) / TEXTS
    texts.unlink()
    with closing(sqlite3.connect(texts)) as other:
        other.execute("create table something (else_ text)")
    outcome = drtools("search", "--index", "live/index", WORDS)
    assert outcome.status == 1 and f"{TEXTS}: not the texts of a published version" in outcome.err, outcome.err
    assert len(outcome.err.splitlines()) == 1
    texts.unlink()
    assert made.documents[0]["title"] in search(drtools, made, "--index", "live/index").out
    Path("manifest.json").write_text("[]")
    assert release_of(Path("index")) is None and search(drtools, made, "--index", "index").out


def test_a_version_uses_its_own_encoder(made, drtools, bert, monkeypatch):
    """The index names the encoder by the path it had, where another is being trained by now."""
    from conftest import make_bert, make_encoder

    drtools("publish", "index", "vectors", "model", "live")
    expected = search(drtools, made, "--index", "live/index").out
    shutil.rmtree("model")
    other = make_encoder(made.folder / "other", make_bert(made.folder / "body", seed=7))
    finish_encoder(other)
    assert "made by another encoder" in drtools("search", "--index", "index", WORDS).err
    assert search(drtools, made, "--index", "live/index").out == expected
    mined = "mine-negatives --queries queries.jsonl --qrels qrels.tsv --ranks 1-4 -o"
    for what in ("index", "vectors"):
        outcome = drtools(*mined.split(), f"{what}.jsonl", f"--{what}", f"live/{what}")
        assert outcome.status == 0, outcome.err
    changed_corpus(made.folder)
    assert drtools(*mined.split(), "later.jsonl", "--index", "live/index").status == 0
    assert Path("later.jsonl").read_bytes() == Path("index.jsonl").read_bytes()


def test_one_link_under_two_spellings_is_one_version(made, drtools):
    drtools("publish", "index", "model", "live")
    Path("own").symlink_to("live")
    seen: dict = {}
    first = pinned("live/index", seen)
    drtools("publish", "vectors", "model", "live")
    here = Path.cwd()
    for spelled in (f"{here}/live/model", f"../{here.name}/live/model", "own/model"):
        assert Path(pinned(spelled, seen)).parent.name == Path(first).parent.name, spelled


@pytest.mark.slow
def test_a_reader_during_publications_sees_each_version_with_its_texts(made, environment, drtools):
    """Texts are of the version whose hits they are, while versions of two corpora take turns."""
    drtools("publish", "index", "vectors", "model", "live")
    shutil.copytree("model", "b/model")
    old = current_version(Path("live"))
    changed_corpus(made.folder, "NEW")
    encode = "encode --model model --corpus corpus.jsonl --precision fp32 -o b/vectors"
    assert drtools(*encode.split()).status == 0
    assert drtools("index", "--vectors", "b/vectors", "-o", "b/index").status == 0
    assert drtools("publish", "b/index", "b/vectors", "b/model", "live", "--allow-shrinking", 1).status == 0
    versions = [old, current_version(Path("live"))]
    stop = threading.Event()

    def go_round() -> None:
        while not stop.is_set():
            for version in versions:
                publish([version], Path("live"), 3, allow_shrinking=1)

    publisher = threading.Thread(target=go_round)
    publisher.start()
    try:
        for _ in range(3):
            command = [sys.executable, "-m", "drtools", "search", "--index", made.folder / "live/index", WORDS]
            done = subprocess.run(
                [*command, "--depth", "60"], env=environment, cwd="/", capture_output=True, text=True, check=True
            )
            found = [title in done.stdout for title in ("[d0]", *titles(made))]
            new = done.stdout.count("NEW") == 2 * 50  # a title and a text of each document
            assert new != all(found) and (new or "NEW" not in done.stdout), done.stdout
    finally:
        stop.set()
        publisher.join()
