"""Archives that are unpacked: plain files in their folder, and nothing else."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from drtools.errors import InputError
from drtools.formats.archives import is_inside, unpack

FILES = {"a/one.txt": b"1\n", "a/b/two.txt": b"", "./three.bin": bytes(range(256)) * 1000}


def tarred(path: Path, files: dict[str, bytes], *others: tarfile.TarInfo, how: str = "w") -> Path:
    with tarfile.open(path, how) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in others:
            archive.addfile(entry)
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def other(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_zip_and_tar_hold_the_same(tmp_path):
    made = [zipped(tmp_path / "x.zip", FILES), tarred(tmp_path / "x.tar", FILES)]
    made += [tarred(tmp_path / f"x.tar.{how}", FILES, how=f"w:{how}") for how in ("gz", "bz2", "xz")]
    for path in made:
        files = unpack(path, tmp_path / f"{path.name}-out")
        assert everything(tmp_path / f"{path.name}-out") == {os.path.normpath(name): FILES[name] for name in FILES}
        assert len(files) == len(FILES)


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "a\\..\\outside"])
def test_nothing_is_written_outside(name, tmp_path):
    assert not is_inside(name)
    for number, path in enumerate((zipped(tmp_path / "x.zip", {name: b"x"}), tarred(tmp_path / "x.tar", {name: b"x"}))):
        with pytest.raises(InputError, match=r"it holds .*outside of its folder"):
            unpack(path, tmp_path / "deep" / "out" / str(number))
    assert not [*tmp_path.rglob("*outside*")]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind, tmp_path):
    """A link that is followed by a file behind it would lead outside."""
    (tmp_path / "elsewhere").mkdir()
    entry = other("link", kind, str(tmp_path / "elsewhere"))
    path = tarred(tmp_path / "x.tar", {"first": b"1"}, entry, other("link/file", tarfile.REGTYPE))
    with pytest.raises(InputError, match=r"it holds 'link', expected plain files"):
        unpack(path, tmp_path / "out")
    assert not [*(tmp_path / "elsewhere").iterdir()] and not (tmp_path / "out/link").exists()


def test_a_link_in_a_zip_is_refused(tmp_path):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = 0xA1FF << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(entry, str(tmp_path))
    with pytest.raises(InputError, match=r"it holds 'link', expected plain files"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path):
    inner = zipped(tmp_path / "weights.bin", {"data.pkl": b"x" * 1000}).read_bytes()
    unpack(tarred(tmp_path / "x.tar", {"config.json": b"{}", "weights.bin": inner}), tmp_path / "out")
    assert everything(tmp_path / "out") == {"config.json": b"{}", "weights.bin": inner}


def test_archives_that_are_cut_or_damaged_are_named(tmp_path):
    content = {"a": os.urandom(300_000)}
    made = [zipped(tmp_path / "x.zip", content), tarred(tmp_path / "x.tar", content)]
    made += [tarred(tmp_path / f"x.tar.{how}", content, how=f"w:{how}") for how in ("gz", "bz2", "xz")]
    for path in made:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=r"x\.\S+: not a whole"):
            unpack(path, tmp_path / f"{path.name}-out")
    (tmp_path / "text.tar").write_text("words")
    with pytest.raises(InputError, match="not a whole"):
        unpack(tmp_path / "text.tar", tmp_path / "none")
    with pytest.raises(InputError, match="a damaged archive"):
        unpack(tarred(tmp_path / "twice.tar", {"a": b"1", "a/b": b"2"}), tmp_path / "twice")
