"""The loader: names are looked up once, and what a caller needs no weights for is loaded without them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drtools.errors import InputError
from drtools.methods.fgd.piece_scores import load_cutter
from drtools.models import loader, resolving, sides
from drtools.models.bodies import positions_of
from drtools.models.compute import Compute
from drtools.models.encoder_files import load_reader, save_encoder
from drtools.models.loader import load_encoder
from drtools.models.pair import untie
from drtools.models.pieces import cut_of, layout_of, tokenize_pieces
from drtools.models.rem import add_rem
from drtools.models.rem_files import save_rem
from drtools.models.settings import RemSettings
from drtools.models.sides import read_encoder
from drtools.models.specs import EncoderSpec, PieceSizes
from tests.models.tiny_bodies import FAMILIES

TEXT = "the fox runs in the forest and the otter swims in the river, a hammer drives a nail"
COMPUTING = Compute("cpu", "fp32", 1000)
SIZES = PieceSizes(8, 4, 2)


@pytest.fixture
def looked_up(monkeypatch) -> list[str]:
    """Return a list that grows by each name that is looked up."""
    names: list[str] = []

    def resolve(name: str) -> Path:
        names.append(name)
        return resolving.resolve(name)

    monkeypatch.setattr(sides, "resolve", resolve)
    return names


@pytest.fixture
def pair_folder(encoder_folder, tmp_path) -> Path:
    """Write a pair whose two encoders are the same."""
    save_encoder(untie(load_encoder(encoder_folder)), tmp_path / "pair")
    return tmp_path / "pair"


def test_each_name_is_looked_up_once(encoder_folder, pair_folder, looked_up):
    loader.load_for_encoding(EncoderSpec(encoder_folder), COMPUTING)
    assert looked_up == [encoder_folder]
    loader.load_for_encoding(EncoderSpec(str(pair_folder)), COMPUTING, "query")
    loader.load_named(EncoderSpec(str(pair_folder)))
    assert looked_up == [encoder_folder, str(pair_folder), str(pair_folder)]
    del looked_up[:]
    folders = [str(pair_folder / side) for side in ("query", "document")]
    plain = [shutil.copytree(encoder_folder, f"{folder}-alone") for folder in folders]
    loader.load_for_encoding(EncoderSpec(plain[0], plain[1]), COMPUTING, "document")
    assert looked_up == plain


def test_files_are_read_without_weights(pair_folder):
    for side in ("query", "document"):
        (pair_folder / side / "model.safetensors").unlink()
    files = read_encoder(EncoderSpec(str(pair_folder)))
    assert files.is_pair and files.folders["query"] == pair_folder / "query"
    assert files.settings["query"].pooling == ("mean",) and files.settings["query"] is not files.settings["document"]
    assert [*read_encoder(EncoderSpec(str(pair_folder)), "query").settings] == ["query"]
    with pytest.raises(InputError, match="an encoder only for queries"):
        read_encoder(EncoderSpec(str(pair_folder / "query")), "document")


def test_what_becomes_of_a_rem(bert, families, tmp_path):
    names = {"bert": bert, "modernbert": families["modernbert"]}
    for family, body in names.items():
        encoder = load_encoder(body, "mean")
        add_rem(encoder, RemSettings(4, 8), seed=1)
        (tmp_path / family).mkdir()
        save_rem(encoder, tmp_path / family)
    plain, gated = (EncoderSpec(body=body, rem=str(tmp_path / name), pooling="mean") for name, body in names.items())
    assert loader.load_named(plain).rem is not None
    assert loader.load_named(plain, rem="must-fold").settings.folded_rem
    assert loader.load_named(gated, rem="fold").settings.folded_rem, "an adapter may stay beside a gated block"
    for rem in ("keep", "must-fold"):
        with pytest.raises(InputError, match="a parallel adapter cannot become part of a plain modernbert body"):
            loader.load_named(gated, rem=rem)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reader_reads_as_the_encoder_without_its_weights(families, family, tmp_path):
    encoder = load_encoder(families[family], "cls")
    folder = Path(shutil.copytree(families[family], tmp_path / "copy"))
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    reader = load_reader(folder, read_encoder(EncoderSpec(str(folder), pooling="cls")).settings["document"])
    assert reader.positions == positions_of(encoder.body) and reader.settings == encoder.settings
    layout = layout_of(encoder, SIZES)
    assert layout_of(reader, SIZES) == layout and cut_of(reader, layout, " ") == cut_of(encoder, layout, " ")
    mine, theirs = (tokenize_pieces(each, [TEXT], layout) for each in (reader, encoder))
    assert mine.pieces(0) == theirs.pieces(0) and len(theirs.pieces(0)) > 2


def test_a_tokenizer_that_does_not_belong_to_the_body_is_refused_without_weights(bert, tmp_path):
    folder = Path(shutil.copytree(bert, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 9}))
    with pytest.raises(InputError, match="its embeddings have 9 rows"):
        load_reader(folder, read_encoder(EncoderSpec(str(folder), pooling="cls")).settings["document"])


def test_pieces_are_cut_by_the_encoder_of_documents(pair_folder):
    (pair_folder / "query" / "model.safetensors").unlink()
    cutter = load_cutter(str(pair_folder), 32, SIZES, "about: ", False)
    assert cutter.encoder.folder == pair_folder / "document"
    assert cutter.encoder.settings.max_document_tokens == 32 and cutter.encoder.settings.document_prompt == "about: "
    with pytest.raises(InputError, match="an encoder only for queries; pass the encoder of documents"):
        load_cutter(str(pair_folder / "query"), 32, SIZES, None, False)
    with pytest.raises(InputError, match=r"max_document_tokens 65: .* has 64 positions; use 64 or less"):
        load_cutter(str(pair_folder), 65, SIZES, None, False)


def test_files_are_read_without_torch():
    code = (
        "import sys, drtools.models.sides; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_spec_without_an_encoder_takes_that_of_a_manifest():
    made = {"model": "m", "rem": None}
    assert EncoderSpec(query_prompt="p").or_from(made) == EncoderSpec("m", query_prompt="p")
    assert EncoderSpec().or_from({"model": "b", "rem": "r"}) == EncoderSpec(body="b", rem="r")
    assert EncoderSpec().or_from({"model": "m"}) == EncoderSpec("m")
    for spec in (EncoderSpec("own"), EncoderSpec(body="own", rem="r")):
        assert spec.or_from(made) is spec
