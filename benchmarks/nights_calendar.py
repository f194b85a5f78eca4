"""What goes wrong in which of the nights that benchmarks/nights.py plays, and what each night must end with.

The first ten nights have the faults that matter most; a test plays these.
"""

import gzip
import json
import os
import signal
import time
from collections.abc import Callable

from nights_site import Site, kill_all_of, wait_for

Outcome = tuple[str, list[int], bool]  # what it was, the exit statuses, whether they are those that must be


def plain(site: Site, trains: bool = False) -> Outcome:
    site.deliver()
    status, mail = site.run(trains=trains)
    return "training" if trains else "update", [status], status == 0 and not mail


def training(site: Site) -> Outcome:
    return plain(site, trains=True)


def with_bad(site: Site, what: str, files: dict[str, tuple[bytes, str]], causes: int) -> Outcome:
    """Deliver bad files beside a good one: the night goes on, and its mail has a line for each."""
    site.deliver()
    for name, (content, ending) in files.items():
        site.put(name, content, ending)
    status, mail = site.run()
    told = [line for line in mail.splitlines() if line.startswith("retrain: refused ")]
    return what, [status], status == 0 and len(told) == causes


def damaged_gzip(site: Site) -> Outcome:
    lines = b'{"_id": "x", "text": "never served"}\n' * 50
    files = {
        "cut": (gzip.compress(lines)[:-6], ".jsonl.gz"),
        "plain": (lines, ".jsonl.gz"),
        "packed": (gzip.compress(lines), ".jsonl"),
    }
    return with_bad(site, "a truncated gzip, a .gz that is none, gzip without .gz", files, 3)


def bad_documents(site: Site) -> Outcome:
    marked = f"marked-{site.night}"
    good = json.dumps({"_id": marked, "text": "begins with a byte-order mark"}).encode() + b"\n"
    files = {
        "notext": (b'{"_id": "x", "text": ""}\n', ".jsonl"),
        "twice": (b'{"_id": "x", "text": "a"}\n{"_id": "x", "text": "b"}\n', ".jsonl"),
        "empty": (b"", ".jsonl"),
        "half": (b'{"_id": "x", "text": "a', ".jsonl"),
        "latin1": ('{"_id": "x", "text": "é"}\n'.encode("latin1"), ".jsonl"),
    }
    site.put("0", b"\xef\xbb\xbf" + good)
    what, statuses, is_right = with_bad(
        site, "no text, an id twice, empty, cut short, Latin-1; a byte-order mark is taken", files, 5
    )
    site.truth[marked] = good  # behind those of the good delivery, as its name is
    return what, statuses, is_right


def killed(site: Site, times: int = 3, trains: bool = True) -> Outcome:
    site.deliver()
    statuses = []
    for _ in range(times):
        night = site.start(trains=trains)
        time.sleep(site.generator.uniform(0.05, 0.6) * site.seconds)
        kill_all_of(night)
        statuses.append(-9)
    status, mail = site.run(trains=trains)
    return f"killed {times} times at random", [*statuses, status], status == 0 and not mail


def overlapping(site: Site) -> Outcome:
    site.deliver()
    night = site.start()
    wait_for(night, " encode")
    status, mail = site.run()
    first = night.wait()
    site.note(first, night.communicate()[0])
    return "two nights at once", [first, status], (first, status) == (0, 75) and "under way" in mail


def killed_for_memory(site: Site) -> Outcome:
    site.deliver()
    night = site.start(trains=True)
    os.kill(wait_for(night, " train-star"), signal.SIGKILL)
    mail = night.communicate()[0]
    site.note(night.returncode, mail)
    status, _ = site.run(trains=True)
    return "the memory killer takes train-star", [night.returncode, status], (night.returncode, status) == (137, 0)


def full_disk(site: Site) -> Outcome:
    site.deliver()
    sizes = [sum(len(line) for line in site.truth.values()), (site.work / "log/tools.jsonl").stat().st_size]
    first, mail = site.run(trains=True, largest=max(sizes) + 60_000)
    status, _ = site.run(trains=True)
    return "no room for a large file", [first, status], (first, status) == (1, 0) and "Traceback" not in mail


def clock(site: Site, days: int) -> Outcome:
    site.set_clock(days)
    site.deliver()
    status, mail = site.run()
    return f"all files dated {days:+d} days", [status], status == 0 and not mail


def empty_share(site: Site) -> Outcome:
    moved = site.arrivals.rename(site.folder / "unmounted")
    site.arrivals.mkdir()
    first, mail = site.run()
    site.arrivals.rmdir()
    second, _ = site.run()
    moved.rename(site.arrivals)
    site.deliver()
    status, _ = site.run()
    good = (first, second, status) == (3, 1, 0) and "are missing now" in mail
    return "an empty share, then none, then it is back", [first, second, status], good


def no_change(site: Site) -> Outcome:
    for path in site.arrivals.glob("*.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    site.arrivals = site.arrivals.rename(site.folder / f"arrivals-{site.night}")
    version = site.version()
    status, mail = site.run()
    return "compressed anew, folder moved", [status], status == 0 and not mail and site.version() == version


def gate(site: Site) -> Outcome:
    site.deliver()
    status, mail = site.run(trains=True, GATE="nDCG@10>=2")
    again, words = site.run(trains=True, GATE="nDCG@10>=2")
    return "the gate refuses the encoder", [status, again], (status, again) == (3, 0) and "R@100" in mail and not words


def stopped(site: Site) -> Outcome:
    site.deliver()
    night = site.start(trains=True)
    wait_for(night, " mlm-adapt")
    os.kill(night.pid, signal.SIGTERM)
    site.note(night.wait(), night.communicate()[0])
    status, _ = site.run(trains=True)
    return "SIGTERM", [night.returncode, status], (night.returncode, status) == (143, 0)


def bad_queries(site: Site) -> Outcome:
    site.deliver()
    path = site.data / "queries.jsonl.gz"
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    first, _ = site.run()
    path.write_bytes(good)
    status, _ = site.run()
    return "a truncated file of queries, then a whole one", [first, status], (first, status) == (2, 0)


def half_a_corpus(site: Site) -> Outcome:
    path = site.data / "corpus.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[: whole.count(b"\n") // 2]))
    first, _ = site.run()
    path.write_bytes(whole)
    site.deliver()
    status, _ = site.run()
    return "half a corpus, then a whole one", [first, status], (first, status) == (3, 0)


def another_model(site: Site) -> Outcome:
    site.deliver()
    status, mail = site.run(MODEL="a/newer-one")
    return "another start model", [status], status == 0 and "is not used" in mail


def floor(site: Site) -> Outcome:
    site.deliver()
    first, _ = site.run(FLOOR="R@100>=1")
    status, _ = site.run()
    return "below the floor, then another floor", [first, status], (first, status) == (3, 0)


def judgements(site: Site) -> Outcome:
    path = site.data / "qrels/train.tsv"
    query = path.read_text().splitlines()[-1].split("\t")[0]
    path.write_text(path.read_text() + f"{query}\t{next(iter(site.truth))}\t1\n")
    return training(site)


CALENDAR: dict[int, Callable[[Site], Outcome]] = {
    1: training,
    3: damaged_gzip,
    4: killed,
    5: bad_documents,
    6: overlapping,
    7: killed_for_memory,
    8: full_disk,
    9: lambda site: clock(site, 2),
    10: empty_share,
    11: lambda site: clock(site, -2),
    12: no_change,
    13: gate,
    15: stopped,
    16: bad_queries,
    17: judgements,
    18: half_a_corpus,
    19: another_model,
    21: lambda site: killed(site, 5),
    22: floor,
    23: bad_documents,
    25: lambda site: killed(site, 4, trains=False),
    26: overlapping,
    27: full_disk,
    28: empty_share,
    29: damaged_gzip,
    30: training,
}  # a night that is not here is an ordinary update
