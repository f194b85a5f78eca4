"""Thirty nights of retraining by cron, with all that goes wrong in a month, and a reader who searches all the time.

    python benchmarks/nights.py [--nights 30] [--collection BEIR_FOLDER] [--drtools bin/drtools] -o build/nights

The collection is the docstrings of this machine's Python packages, the model a small random BERT. Each night
examples/retrain/nightly runs as cron starts it: a bare environment, another working folder. The calendar has bad
deliveries of every kind, kills, overlaps, full disks, clocks that step, shares that are not mounted, gates that refuse.
A reader searches the published index by words from another folder. At the end a table says what happened, and day 30 is
compared with a rebuild from nothing. The exit status is 0 if no search failed or mixed two versions, every version held
what had been delivered, no night needed a hand, and the rebuild has the same bytes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from nights_calendar import CALENDAR, plain
from nights_site import ROOT, Reader, Site


def collection_of(folder: Path, documents: int) -> Path:
    """Return the docstrings of the installed packages as a collection, made once."""
    made = folder.with_name(folder.name + "-docstrings")
    if not (made / "corpus.jsonl.gz").exists():
        script = ROOT / "examples/quickstart/docstrings.py"
        subprocess.run([sys.executable, script, "--documents", str(documents), "-o", made], check=True)
    return made


def megabytes(folder: Path) -> float:
    """Return the disk that a folder takes, hard links counted once."""
    sizes = {}
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values()) / 1e6


def is_a_rebuild_equal(site: Site) -> bool:
    """Return whether vectors and index made from nothing have the bytes of the served ones."""
    folder = site.folder / "rebuild"
    folder.mkdir()
    (folder / "corpus.jsonl").write_bytes(b"".join(site.truth.values()))
    environment = {**os.environ, "DRTOOLS_CACHE": str(folder / "cache")}
    encode = ["encode", "--model", site.live / "model", "--corpus", folder / "corpus.jsonl"]
    encode += [*site.settings["ENCODING"].split(), "-o", folder / "vectors"]
    index = ["index", "--vectors", folder / "vectors", "--factory", site.settings["FACTORY"], "-o", folder / "index"]
    for words in (encode, index):
        subprocess.run([site.drtools, *words, "--quiet"], check=True, env=environment)
    names = ("vectors/vectors.npy", "vectors/ids.txt", "index/index.faiss", "index/ids.txt")
    return all((folder / name).read_bytes() == (site.live / name).read_bytes() for name in names)


def play(site: Site, nights: int, reader: Reader) -> list[dict]:
    """Play the nights; return a row for each."""
    rows = []
    for site.night in range(1, nights + 1):
        started = time.monotonic()
        what, statuses, is_right = CALENDAR.get(site.night, plain)(site)
        if not reader.is_alive():
            reader.start()
        row = {
            "night": site.night,
            "what": what,
            "status": " ".join(map(str, statuses)),
            "as it must be": is_right,
            "version": site.version(),
            "documents": len(site.truth),
            "as delivered": site.is_as_delivered(),
            "seconds": round(time.monotonic() - started),
            "MB": round(megabytes(site.work), 1),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """Return rows of dicts as a table."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Play the nights and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=30, help="how many of the calendar's nights are played")
    parser.add_argument("--collection", type=Path, help="folder in BEIR's form; default: docstrings")
    parser.add_argument("--documents", type=int, default=1700, help="docstrings in the collection")
    parser.add_argument("--share", type=float, default=0.6, help="of the documents that are there in the first night")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two searches of the reader")
    parser.add_argument("--drtools", default=str(ROOT / "bin/drtools"))
    parser.add_argument("-o", "--output", type=Path, default=Path("build/nights"), help="folder, emptied first")
    arguments = parser.parse_args()
    folder = arguments.output.resolve()
    if folder.exists():
        if any(folder.iterdir()) and not (folder / "nights.marker").exists():
            sys.exit(f"{folder}: it is not a folder of this script; choose another -o")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / "nights.marker").touch()
    started = time.monotonic()
    collection = arguments.collection or collection_of(folder, arguments.documents)
    site = Site(folder, collection, arguments.drtools, arguments.share)
    reader = Reader(site, arguments.pause)
    rows = play(site, arguments.nights, reader)
    reader.stop.set()
    reader.join()
    failures, mixtures, examples = reader.judged()
    rebuilt = is_a_rebuild_equal(site)
    hands = sum(not (row["as it must be"] and row["as delivered"]) for row in rows)
    print(table(rows), "\n")
    print(table([{"refusal": words, "times": count} for words, count in site.refusals.items()]), "\n")
    facts = {
        "nights": len(rows),
        "versions": len(list(site.archive.iterdir())),
        "searches": len(reader.seen),
        "searches that failed": failures,
        "hits of no single version": mixtures,
        "nights that needed a hand": hands,
        "a rebuild has the same bytes": rebuilt,
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    print(table([{"what": name, "found": found} for name, found in facts.items()]))
    print(*examples[:5], sep="\n", file=sys.stderr)
    sys.exit(bool(failures or mixtures or hands or not rebuilt or not reader.seen))


if __name__ == "__main__":
    main()
