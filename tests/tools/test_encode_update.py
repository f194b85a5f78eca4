"""encode --update against encoding everything: the same bytes; and what it refuses."""

import json

import numpy as np
import pytest
import torch
from conftest import WORDS, last_values, without_files, write_jsonl
from pieces_of import SIZE_FLAGS, SIZES, cls_of

from drtools.encoding.loop import encode_tokens
from drtools.formats.row_digests import RowsByDigest
from drtools.models.compute import Compute, place
from drtools.models.encoder import Encoder
from drtools.models.encoder_files import load_body, save_encoder
from drtools.models.heads import make_head
from drtools.models.length_batches import batches_of_one_length
from drtools.models.pieces import layout_of, tokenize_pieces
from drtools.models.settings import EncoderSettings
from drtools.models.spans import Spans

RESULTS, PIECES = ("vectors.npy", "ids.txt", "texts.npy"), ("pieces.npy", "piece_starts.npy")


def test_batches_of_one_length_are_those_of_a_loop():
    lengths = np.random.default_rng(3).integers(1, 9, 100)
    batches = list(batches_of_one_length(lengths, 20))
    expected = []
    for length in range(8, 0, -1):
        same = [row for row in range(100) if lengths[row] == length]
        expected += [same[start : start + max(1, 20 // length)] for start in range(0, len(same), max(1, 20 // length))]
    assert [batch.tolist() for batch in batches] == expected
    assert list(batches_of_one_length(np.array([], np.int64), 20)) == []


def test_rows_are_found_by_whole_digests():
    generator = np.random.default_rng(1)
    digests = generator.integers(0, 3, (200, 16), dtype=np.uint8)
    digests[:, :8] = digests[:, :8] // 2 * (np.arange(8) > 5)  # many begin alike
    asked = np.concatenate([digests[::3], generator.integers(0, 3, (50, 16), dtype=np.uint8), digests[:1] + 100])
    rows = [row.tobytes() for row in digests]
    assert RowsByDigest(digests).find(asked).tolist() == [
        rows.index(one.tobytes()) if one.tobytes() in rows else -1 for one in asked
    ]


def encoder_with(bert, kind) -> Encoder:
    heads = {
        "normalized": [{"kind": "normalize"}],
        "bare": [],
        "projection": [
            {"kind": "dense", "in": 32, "out": 48, "bias": True, "activation": "Identity"},
            {"kind": "layer-norm", "dimension": 48},
        ],
    }
    settings = EncoderSettings(
        pooling=("cls",) if kind == "projection" else ("mean", "max"),
        head=heads[kind],
        max_query_tokens=64,
        max_document_tokens=64,
    )
    torch.manual_seed(1)
    encoder = Encoder(*load_body(bert), settings, make_head(settings, None)).eval()
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0, 0.1)  # a new body's are 0, and hide how they are added
    return encoder


@pytest.mark.bits
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["normalized", "projection"])
def test_a_texts_vector_is_the_same_bits_whatever_is_encoded_beside_it(bert, kind, precision):
    from pathlib import Path

    encoder = encoder_with(Path(bert), kind)
    computing = Compute("cpu", precision, 512)
    place(encoder, computing)
    generator = np.random.default_rng(0)
    texts = [
        "",
        "fox",
        "fox otter",
        *(" ".join(generator.choice(WORDS, generator.integers(1, 70))) for _ in range(150)),
    ]
    tokens = encoder.tokenize(texts, "document")

    def encoded(rows, batch_tokens):
        made = np.empty((len(rows), encoder.dimension), np.float32)
        encode_tokens(
            encoder,
            encoder.tokenize([texts[row] for row in rows], "document"),
            computing._replace(batch_tokens=batch_tokens),
            made,
            one_length=True,
        )
        return made

    together = encoded(range(len(texts)), 512)
    assert np.isfinite(together).all() and len(set(tokens.lengths)) > 30
    for rows in (
        [0],
        [1],
        [2],
        list(range(len(texts)))[::-1],
        [*range(0, 150, 7), 5, 5],
        *([row] for row in range(3, 40)),
    ):
        for batch_tokens in (64, 4096):
            assert (encoded(rows, batch_tokens) == together[rows]).all()


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize("kind", ["attention", "mean"])
@pytest.mark.parametrize("longest", [12, 64])
def test_a_documents_pieces_are_the_same_bits_whatever_is_encoded_beside_it(bert, kind, longest):
    from pathlib import Path

    encoder = encoder_with(Path(bert), "projection")
    place(encoder, Compute("cpu", "fp32", 4096))
    encoder.settings.max_document_tokens = longest
    generator = np.random.default_rng(0)
    texts = [
        "",
        "fox",
        "fox otter",
        *(" ".join(generator.choice(WORDS, length)) for length in [*range(3, 80), *range(3, 80)]),
    ]
    layout = layout_of(encoder, SIZES)
    spans = Spans(encoder, layout.passages, layout.sentences, kind)

    def encoded(rows):
        made = np.empty((len(rows), spans.dimension), np.float32)
        encode_tokens(
            spans,
            tokenize_pieces(encoder, [texts[row] for row in rows], layout),
            Compute("cpu", "fp32", 4096),
            made,
            one_length=True,
        )
        return made

    together = encoded(range(len(texts)))
    assert np.isfinite(together).all()
    for rows in ([0, 1, 2], *([row] for row in range(len(texts))), list(range(len(texts)))[::-1]):
        assert (encoded(rows) == together[rows]).all(), rows


@pytest.fixture
def changed(toy):
    """The toy corpus a day later.

    Two texts changed, three new, two gone, one under another id, one text twice, another order.
    """
    documents = [dict(document) for document in toy.documents[4:]] + toy.documents[:2]
    documents[3]["text"] += " heron"
    documents[9]["title"] = "stoat"
    documents[20]["_id"] = "renamed"
    documents[30:30] = [
        {"_id": f"new{n}", "title": "", "text": text} for n, text in enumerate(["lynx runs", "", " ".join(WORDS * 3)])
    ]
    documents.append({**documents[40], "_id": "twice"})
    return write_jsonl(toy.folder / "changed.jsonl", documents)


def files(folder, pieces=False) -> list[bytes]:
    return [(folder / name).read_bytes() for name in (*RESULTS, *(PIECES if pieces else ()))]


@pytest.mark.bits
@pytest.mark.parametrize(
    "words",
    [
        ("--precision", "fp32", "--dtype", "float32"),
        ("--precision", "bf16"),
        ("--precision", "fp32", "--max-document-tokens", "12"),
    ],
)
def test_an_update_equals_a_full_encoding_bit_for_bit(toy, changed, encoder_folder, drtools, monkeypatch, words):
    from drtools.encoding import chunks

    command = ["encode", "--model", encoder_folder, *words]
    assert drtools(*command, "--corpus", toy.corpus, "-o", toy.folder / "old").status == 0
    full = drtools(*command, "--corpus", changed, "-o", toy.folder / "full", "--batch-tokens", "300")
    encoded, real = [], chunks.encode_tokens
    monkeypatch.setattr(
        chunks,
        "encode_tokens",
        lambda encoder, tokens, *rest, **more: (
            encoded.append(len(tokens.lengths)),
            real(encoder, tokens, *rest, **more),
        ),
    )
    outcome = drtools(
        *command, "--corpus", changed, "--update", toy.folder / "old", "--chunk", "17", "-o", toy.folder / "updated"
    )
    assert outcome.status == 0 and full.status == 0, outcome.err
    assert files(toy.folder / "updated") == files(toy.folder / "full")
    assert sum(encoded) == 5 + 16 and "57 of them copied" in outcome.err and "5 encoded" in outcome.err
    records = [json.loads((toy.folder / name / "manifest.json").read_text()) for name in ("full", "updated")]
    cut_and_empty, dropped = records[0]["notices"], [note for note in records[1]["notices"] if "dropped" in note]
    assert len(cut_and_empty) == 2 and records[1]["notices"] == [*dropped, *cut_and_empty]  # nothing of other bits
    assert len(dropped) == 1 and f"3 of its 60 documents are not in {changed}" in dropped[0]  # one got another id
    assert {**records[0]["counts"], "taken": 57} == records[1]["counts"]


@pytest.mark.bits
@pytest.mark.parametrize(
    "words",
    [
        ("--precision", "fp32", "--dtype", "float32"),
        ("--precision", "bf16"),
        ("--precision", "fp32", "--max-document-tokens", "12"),
        ("--precision", "fp32", "--spans", "mean"),
    ],
)
def test_an_update_with_pieces_equals_a_full_encoding_bit_for_bit(toy, bert, changed, drtools, words):
    command = ["encode", "--model", cls_of(bert, toy.folder / "cls", stronger=10), "--pieces", *SIZE_FLAGS, *words]
    assert drtools(*command, "--corpus", toy.corpus, "-o", toy.folder / "old").status == 0
    full = drtools(*command, "--corpus", changed, "-o", toy.folder / "full", "--batch-tokens", "300")
    outcome = drtools(
        *command, "--corpus", changed, "--update", toy.folder / "old", "--chunk", "17", "-o", toy.folder / "updated"
    )
    assert outcome.status == 0 and full.status == 0, outcome.err
    assert files(toy.folder / "updated", pieces=True) == files(toy.folder / "full", pieces=True)
    assert "57 of them copied" in outcome.err and "other bits" not in outcome.err
    assert (
        "5 to encode"
        in drtools(
            *command, "--corpus", changed, "--update", toy.folder / "old", "--dry-run", "-o", toy.folder / "none"
        ).err
    )
    records = [json.loads((toy.folder / name / "manifest.json").read_text()) for name in ("full", "updated")]
    assert records[0]["pieces"] == records[1]["pieces"] and records[0]["pieces"]["count"] == len(
        np.load(toy.folder / "full/pieces.npy")
    )


def test_pieces_that_are_not_those_of_the_texts_are_refused(toy, bert, drtools):
    command = [
        "encode",
        "--model",
        cls_of(bert, toy.folder / "cls", stronger=10),
        "--pieces",
        *SIZE_FLAGS,
        "--corpus",
        toy.corpus,
    ]
    assert drtools(*command, "-o", toy.folder / "old").status == 0
    update = [*command, "--update", toy.folder / "old", "-o", toy.folder / "new"]
    without_files(toy.folder / "old")
    array = np.load(toy.folder / "old/pieces.npy", mmap_mode="r+")
    array.view(np.uint16)[:] ^= 1  # the last bit
    array.flush()
    outcome = drtools(*update)
    assert outcome.status == 0 and "texts and pieces" in outcome.err and "not bit for bit" in outcome.err
    array[:] = array[::-1].copy()
    array.flush()
    outcome = drtools(*update, "--overwrite")
    assert outcome.status == 2 and "is not what the encoder makes of its text now" in outcome.err
    starts = np.load(toy.folder / "old/piece_starts.npy", mmap_mode="r+")
    starts[1:-1:2] -= 1
    starts.flush()
    outcome = drtools(*update, "--overwrite")
    assert (
        outcome.status == 2
        and "documents have other pieces" in outcome.err
        and outcome.err.count("drtools encode:") == 1
    )


def test_an_update_with_other_pieces_is_refused_by_name(toy, bert, drtools):
    command = ["encode", "--model", cls_of(bert, toy.folder / "cls"), "--corpus", toy.corpus]
    assert drtools(*command, "--pieces", *SIZE_FLAGS, "-o", toy.folder / "old").status == 0
    for words, expected in (
        ([], "made with --pieces; pass it too"),
        (["--pieces", *SIZE_FLAGS[:2], "--sentence-tokens", "4", *SIZE_FLAGS[4:]], "--sentence-tokens (8 then, 4 now)"),
        (["--pieces", *SIZE_FLAGS, "--spans", "mean"], "--spans ('attention' then, 'mean' now)"),
    ):
        outcome = drtools(*command, *words, "--update", toy.folder / "old", "-o", toy.folder / "new")
        assert outcome.status == 2 and expected in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err


def test_an_update_of_nothing_and_one_in_its_own_place(toy, encoder_folder, drtools):
    command = ["encode", "--model", encoder_folder, "--queries", toy.queries]
    assert drtools(*command, "-o", toy.folder / "old").status == 0
    outcome = drtools(*command, "--update", toy.folder / "old", "-o", toy.folder / "new")
    assert "20 of them copied" in outcome.err and files(toy.folder / "old") == files(toy.folder / "new")
    assert (
        "0 to encode" in drtools(*command, "--update", toy.folder / "old", "--dry-run", "-o", toy.folder / "none").err
    )
    # in its own place, as a cron job might
    assert drtools(*command, "--update", toy.folder / "old", "--overwrite", "-o", toy.folder / "old").status == 0
    assert files(toy.folder / "old") == files(toy.folder / "new")


@pytest.mark.bits
def test_a_stopped_update_continues_to_the_same_bytes(toy, changed, encoder_folder, drtools, interrupt_at):
    from drtools.encoding.folder import FolderEncoding

    command = ["encode", "--model", encoder_folder, "--chunk", "16"]
    drtools(*command, "--corpus", toy.corpus, "-o", toy.folder / "old")
    drtools(*command, "--corpus", changed, "-o", toy.folder / "full")
    update = [*command, "--corpus", changed, "--update", toy.folder / "old", "-o", toy.folder / "updated"]
    interrupt_at(FolderEncoding, "_encode", 3)
    assert drtools(*update).status == 130
    outcome = drtools(*update)
    assert outcome.status == 0 and "continuing" in outcome.err and "57 of them copied" in outcome.err
    assert files(toy.folder / "updated") == files(toy.folder / "full")


def test_vectors_of_another_machine_are_noted_and_those_of_another_text_refused(toy, encoder_folder, drtools):
    command = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "--precision", "fp32"]
    drtools(*command, "-o", toy.folder / "old")
    without_files(toy.folder / "old")
    array = np.load(toy.folder / "old" / "vectors.npy", mmap_mode="r+")
    array.view(np.uint16)[:] ^= 1  # the last bit
    array.flush()
    update = [*command, "--update", toy.folder / "old", "-o", toy.folder / "new"]
    strict = drtools(*update, "--strict")
    assert strict.status == 2 and "differ in their bits" in strict.err
    outcome = drtools(*update, "--overwrite")
    assert outcome.status == 0 and "16 of 16 texts" in outcome.err and "not bit for bit" in outcome.err
    array[:] = array[::-1].copy()
    array.flush()
    outcome = drtools(*update, "--overwrite")
    assert outcome.status == 2 and "is not what the encoder makes of its text now" in outcome.err


REFUSALS = {
    "another encoder": (["--model", "other"], "another encoder"),
    "title rule": (["--title-separator", " | "], "--title-separator (' ' then, ' | ' now)"),
    "length": (["--max-document-tokens", "9"], "--max-document-tokens (64 then, 9 now)"),
    "precision": (["--precision", "bf16"], "--precision ('fp32' then, 'bf16' now)"),
    "dtype": (["--dtype", "float32"], "--dtype ('float16' then, 'float32' now)"),
    "side": (["--queries"], "--corpus or --queries"),
    "pieces": (["--pieces", "--spans", "mean"], "made without --pieces; leave it out"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_an_update_of_other_vectors_is_refused_by_name(name, toy, bert, encoder_folder, drtools):
    from pathlib import Path

    words, expected = REFUSALS[name]
    if name == "another encoder":
        words = ["--model", toy.folder / "other"]
        save_encoder(encoder_with(Path(bert), "bare"), toy.folder / "other")
    made = ["encode", "--precision", "fp32", "--model", encoder_folder]
    assert drtools(*made, "--corpus", toy.corpus, "-o", toy.folder / "old").status == 0
    source = ["--queries", toy.queries] if name == "side" else ["--corpus", toy.corpus, *words]
    outcome = drtools(*last_values([*made, *source, "--update", toy.folder / "old", "-o", toy.folder / "new"]))
    said = [
        line for line in outcome.err.splitlines() if not line.startswith("note: --precision")
    ]  # a note where bfloat16 is slow
    assert outcome.status == 2 and len(said) == 1 and expected in said[0], outcome.err


def test_folders_that_do_not_know_their_texts_are_refused(toy, encoder_folder, drtools):
    command = ["encode", "--model", encoder_folder, "--corpus", toy.corpus]
    drtools(*command, "-o", toy.folder / "old")
    without_files(toy.folder / "old")
    update = [*command, "--update", toy.folder / "old", "-o", toy.folder / "new"]
    whole = (toy.folder / "old" / "texts.npy").read_bytes()
    for content, expected in ((whole[:200], "not a whole .npy file"), (None, "make the folder once without --update")):
        (toy.folder / "old" / "texts.npy").unlink()
        if content:
            (toy.folder / "old" / "texts.npy").write_bytes(content)
        outcome = drtools(*update)
        assert outcome.status == 2 and expected in outcome.err
    (toy.folder / "old" / "manifest.json").unlink()
    assert "not a finished output" in drtools(*update).err


@pytest.mark.parametrize("amx", [False, True])
def test_other_bits_are_odd_where_the_same_ones_are_promised(toy, encoder_folder, drtools, monkeypatch, amx):
    command = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "--precision", "bf16"]
    assert drtools(*command, "-o", toy.folder / "old").status == 0
    without_files(toy.folder / "old")
    array = np.load(toy.folder / "old/vectors.npy", mmap_mode="r+")
    array.view(np.uint16)[:] ^= 1  # the last bit
    array.flush()
    real = torch.cpu.get_capabilities()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {**real, "amx_bf16": amx})
    outcome = drtools(*command, "--update", toy.folder / "old", "-o", toy.folder / "new")
    assert (
        outcome.status == 0
        and "differ in their bits" in outcome.err
        and ("another machine or version" in outcome.err) != amx
    )
    notices = json.loads((toy.folder / "new/manifest.json").read_text())["notices"]
    assert any("differ in their bits" in notice for notice in notices) != amx


@pytest.fixture
def first_vectors(toy, encoder_folder, drtools):
    """Vectors of the toy corpus, and the command to update them with documents in toy.folder/today.jsonl."""
    command = ["encode", "--model", encoder_folder, "--corpus"]
    assert drtools(*command, toy.corpus, "-o", toy.folder / "old").status == 0
    return [*command, toy.folder / "today.jsonl", "--update", toy.folder / "old", "-o", toy.folder / "new"]


def test_a_days_delivery_alone_is_refused_before_any_work(toy, first_vectors, drtools, monkeypatch):
    delivery = [*toy.documents[:2], {"_id": "new", "title": "", "text": "lynx runs"}]
    write_jsonl(toy.folder / "today.jsonl", delivery)
    said = "58 of its 60 documents are not in"
    with monkeypatch.context() as patch:
        patch.setattr("drtools.models.loader.load_for_encoding", None)  # it is not called
        for more in ([], ["--allow-dropped", "0.96"]):
            outcome = drtools(*first_vectors, *more)
            assert outcome.status == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err
            assert "--allow-dropped 0.97" in outcome.err and "'d2'" in outcome.err, outcome.err
    assert said in drtools(*first_vectors, "--dry-run").err
    assert not (toy.folder / "new").exists() and not (toy.folder / "new.partial").exists()
    outcome = drtools(*first_vectors, "--allow-dropped", "0.97")
    assert outcome.status == 0 and said in outcome.err and "2 of them copied" in outcome.err, outcome.err
    assert (toy.folder / "new/ids.txt").read_text().split() == ["d0", "d1", "new"]


@pytest.mark.parametrize(("gone", "status"), [(0, 0), (6, 0), (7, 2)])
def test_up_to_a_tenth_is_dropped_and_counted(toy, first_vectors, drtools, gone, status):
    documents = [{**document, "text": f"anvil {document['text']}"} for document in toy.documents[gone:30]]
    write_jsonl(toy.folder / "today.jsonl", documents + toy.documents[30:])  # a changed document is not dropped
    outcome = drtools(*first_vectors)
    said = f"{gone} of its 60 documents are not in"
    assert outcome.status == status and (said in outcome.err) == (gone > 0), outcome.err
    if status == 0:
        notices = json.loads((toy.folder / "new/manifest.json").read_text())["notices"]
        assert len(notices) == (gone > 0) and all(said in note for note in notices)
        strict = drtools(*first_vectors, "--overwrite", "--strict")
        assert strict.status == (2 if gone else 0) and (said in strict.err) == (gone > 0), strict.err


def test_what_is_dropped_without_an_update_means_nothing(toy, drtools):
    outcome = drtools("encode", "--model", "x", "--corpus", toy.corpus, "--allow-dropped", "1", "-o", toy.folder / "x")
    assert outcome.status == 2 and "--allow-dropped needs --update" in outcome.err
