"""The history of a link: one whole line for each publication, whatever dies, and show's table of it."""

import json
import os
import re
from datetime import datetime
from pathlib import Path

import pytest

from drtools.cli.flags.outputs import FolderOutput
from drtools.outputs import history, manifest
from drtools.outputs.opening import open_folder
from drtools.outputs.releases import publish
from drtools.outputs.versions import current_version, versions_of

FILE = Path("live.history.jsonl")


def finished(name: str, **fields: object) -> Path:
    """Make a finished output with these fields in its manifest."""
    asked = FolderOutput(name, overwrite=True)
    asked.request.update({"tool": "test", "arguments": {"content": json.dumps(fields, sort_keys=True)}})
    with open_folder(asked) as work:
        (work.path / "content").write_text(json.dumps(fields, sort_keys=True))
        work.finish(**fields)
    return Path(name)


def model(value: float, name: str = "model") -> Path:
    best = {"measure": "nDCG@10", "value": value, "step": 7}
    return finished(name, kind="encoder", queries=40, best=best)


def vectors(count: int, name: str = "vectors") -> Path:
    return finished(name, kind="vectors", count=count, side="document")


def check_picture(path: Path) -> None:
    """Check that a PNG shows something."""
    from matplotlib.image import imread

    assert len({tuple(colour) for colour in imread(path).reshape(-1, 4).tolist()}) > 50


def lines() -> list[dict]:
    return [json.loads(line) for line in FILE.read_bytes().splitlines()]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_each_publication_is_a_line_with_what_the_manifests_know(drtools):
    assert drtools("publish", vectors(1000), model(0.709), "live").status == 0
    first = current_version(Path("live"))
    assert drtools("publish", vectors(1518), model(0.668), "live").status == 0
    assert drtools("publish", "vectors", "model", "live").status == 0, "the same again is no publication"
    assert drtools("publish", first, "live").status == 0
    found = lines()
    assert [each["version"][:5] for each in found] == ["00001", "00002", "00001"]
    assert [each["documents"] for each in found] == [each["vectors"] for each in found] == [1000, 1518, 1000]
    assert found[1]["measures"] == {"dev nDCG@10": 0.668} and found[1]["queries"] == 40 and found[1]["notices"] == 0
    parts = {"vectors": manifest.fingerprint("vectors"), "model": manifest.fingerprint("model")}
    assert found[1]["fingerprints"] == parts and found[0]["fingerprint"] == found[2]["fingerprint"]
    assert abs(datetime.fromisoformat(found[1]["date"]).timestamp() - os.lstat("live").st_mtime) < 100
    assert FILE.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_measures_of_several_parts_and_of_an_evaluation():
    publish(
        [model(0.5, "query"), model(0.6, "other"), finished("run", kind="run", measures={"R@100": 0.9})],
        Path("live"),
        3,
    )
    assert lines()[0]["measures"] == {"other dev nDCG@10": 0.6, "query dev nDCG@10": 0.5, "R@100": 0.9}


def test_a_half_line_is_ended_before_the_next():
    publish([vectors(1)], Path("live"), 3)
    with FILE.open("ab") as stream:
        stream.write(b'{"date": "2026-01-01", "versi')
    publish([vectors(2)], Path("live"), 3)
    assert FILE.read_bytes().endswith(b"\n") and len(FILE.read_bytes().splitlines()) == 3
    found = history.history_of(Path("live"))
    assert [each["vectors"] for each in found.publications] == [1, 2] and found.damaged == 1


def test_what_died_between_the_switch_and_the_line_is_noted_by_the_next(monkeypatch):
    publish([vectors(1)], Path("live"), 5)

    def dies(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("drtools.outputs.history._append", dies)
        with pytest.raises(KeyboardInterrupt):
            publish([vectors(2)], Path("live"), 5)
    assert [each["vectors"] for each in lines()] == [1] and current_version(Path("live")).name[:5] == "00002"
    os.utime("live", (10**9, 10**9), follow_symlinks=False)
    publish([vectors(3)], Path("live"), 5)
    assert [each["vectors"] for each in lines()] == [1, 2, 3]
    assert datetime.fromisoformat(lines()[1]["date"]).timestamp() == 10**9
    FILE.unlink()
    publish([vectors(3)], Path("live"), 5)
    assert [each["vectors"] for each in lines()] == [3], "of a link that an older drtools published"


def test_a_full_disk_is_one_line_and_the_same_command_mends_it(drtools, monkeypatch):
    drtools("publish", vectors(1), "live")
    vectors(2)
    real = os.write

    def short(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[:20]) if data.lstrip().startswith(b'{"date"') else real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        outcome = drtools("publish", "vectors", "live")
    assert outcome.status == 1 and "live.history.jsonl: No space left" in outcome.err
    assert len(outcome.err.splitlines()) == 1 and "the same command again" in outcome.err
    assert current_version(Path("live")).name[:5] == "00002"
    assert drtools("publish", "vectors", "live").status == 0
    found = history.history_of(Path("live"))
    assert [each["vectors"] for each in found.publications] == [1, 2] and found.damaged == 1


def test_a_version_with_a_damaged_manifest_can_be_replaced():
    publish([vectors(1)], Path("live"), 3)
    FILE.unlink()
    (Path("live") / manifest.NAME).unlink()
    (Path(os.path.realpath("live")) / manifest.NAME).write_text("{")
    publish([vectors(2)], Path("live"), 3)
    assert [each.get("vectors") for each in lines()] == [None, 2]


def test_show_prints_the_last_ten_and_what_changed(drtools):
    assert "history" not in drtools("show", vectors(5)).out
    for number in range(12):
        publish([vectors(1000 + number), model(0.7 - number / 100)], Path("live"), 3)
    with FILE.open("ab") as stream:
        stream.write(b"[1]\n")
    outcome = drtools("show", "live")
    assert outcome.status == 0, outcome.err
    told = outcome.out[outcome.out.index("\nhistory") + 1 :].splitlines()
    assert told[0] == "history: the last 10, 2 more in live.history.jsonl"
    assert re.split("  +", told[1]) == ["version", "date", "documents", "vectors", "queries", "dev nDCG@10"]
    numbers = [line.split("-")[0] for line in told[2:12]]
    assert numbers == [f"{number:05d}" for number in range(3, 13)]
    assert re.split("  +", told[11])[2:] == ["1,011", "1,011", "40", "0.5900"]
    change = "dev nDCG@10 0.6000 -> 0.5900 (documents 1,010 -> 1,011, vectors 1,010 -> 1,011)"
    assert told[12] == f"since version 11: {change}"
    change = "dev nDCG@10 0.7000 -> 0.5900 (documents 1,000 -> 1,011, vectors 1,000 -> 1,011)"
    assert told[13] == f"since version 1: {change}"
    assert told[14:] == ["note: 1 line of the history is cut short or damaged, and left out"]


def test_young_versions_stay_beyond_the_number(drtools):
    for number in range(6):
        assert drtools("publish", vectors(number), "live", "--keep", "2", "--keep-days", "7").status == 0
    assert len(versions_of(Path("live"))) == 6
    old = lines()
    for each, days in zip(old, (30, 20, 3, 2, 1, 0), strict=True):
        each["date"] = datetime.fromtimestamp(os.lstat("live").st_mtime - days * 86_400).astimezone().isoformat()
    FILE.write_text("".join(json.dumps(each) + "\n" for each in old))
    outcome = drtools("publish", vectors(6), "live", "--keep", "2", "--keep-days", "7")
    assert [path.name[:5] for path in versions_of(Path("live"))] == ["00003", "00004", "00005", "00006", "00007"]
    assert outcome.err.count("00001-") == outcome.err.count("00002-") == 1 and "removed" in outcome.err
    drtools("publish", vectors(7), "live", "--keep", "4", "--keep-days", "2")
    assert [path.name[:5] for path in versions_of(Path("live"))] == ["00005", "00006", "00007", "00008"]
    FILE.unlink()
    drtools("publish", vectors(8), "live", "--keep", "2", "--keep-days", "1")
    assert len(versions_of(Path("live"))) == 5, "without a history it counts when the folder got its name"
    drtools("publish", vectors(9), "live", "--keep", "2")
    assert [path.name[:5] for path in versions_of(Path("live"))] == ["00009", "00010"]
    assert drtools("publish", "vectors", "live", "--keep-days", "-1").status == 2


@pytest.mark.slow
def test_analyze_draws_the_history(drtools):
    for number in range(4):
        publish([vectors(1000 + 100 * number), model(0.7 - number / 100)], Path("live"), 3)
    versions = [each["version"] for each in lines()]
    with FILE.open("ab") as stream:
        stream.write(b"half")
    outcome = drtools("analyze", "--history", FILE, "-o", "drift")
    assert outcome.status == 0 and "1 line is no publication" in outcome.err, outcome.err
    found = json.loads(Path("drift/analysis.json").read_text())["history"]
    assert found["curves"]["documents"] == {"publications": [1, 2, 3, 4], "values": [1000, 1100, 1200, 1300]}
    assert found["curves"]["dev nDCG@10"]["values"] == pytest.approx([0.7, 0.69, 0.68, 0.67])
    assert [each["version"] for each in found["publications"]] == versions
    check_picture(Path("drift/history.png"))
    assert re.search(r"dev nDCG@10 +0\.7 +0\.67\n", outcome.out) and re.search(r"documents +1000 +1300", outcome.out)
    Path("none.jsonl").write_text('{"step": 1}\n')
    outcome = drtools("analyze", "--history", "none.jsonl", "-o", "none")
    assert outcome.status == 2 and "none.jsonl: no publication with a figure was found" in outcome.err
    assert len(outcome.err.splitlines()) == 1
