"""The five methods together: each line starts from the one before, on the collection's own labels or another's.

The chain runs on a toy collection.
"""

import os
import shlex
import subprocess
import sys
from functools import partial
from itertools import pairwise

import makefiles
import pytest
from makefiles import parsed

make, printed = partial(makefiles.make, "all-five"), partial(makefiles.printed, "all-five")


@pytest.fixture
def other(beir):
    """The labelled collection, of which only the names count."""
    (beir / "other/qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
        (beir / "other" / name).touch()
    return beir / "other"


def outputs(commands):
    """Return what each tool gets, by its output."""
    return {
        value["output"].removeprefix("five/"): (tool, value)
        for tool, value in ((words[0], parsed(words)) for words in commands)
        if "output" in value
    }


@pytest.mark.parametrize(("distil", "last"), [("adam", "adam"), ("fgd", "fgd"), ("adam fgd", "fgd")])
def test_each_line_starts_from_the_one_before(beir, other, distil, last):
    commands = printed(f"DATA={beir}", f"SOURCE={other}", f"DISTILL={distil}", folder=beir)
    made = outputs(commands)
    order = ["ddr", *distil.split()]
    for before, after in pairwise(order):
        tool, value = made[after]
        assert (tool, value["body"], value["rem"]) == (
            f"distill-{after}",
            "five/dam",
            "five/ddr" if before == "ddr" else f"five/{before}/rem",
        )
        (examples,) = value["examples"]
        assert f"{before}-mined.jsonl" in " ".join(shlex.join(words) for words in commands) and examples in {
            f"five/{name}" for name in made
        }
    assert made["dam"][1]["model"] == made["ddr"][1]["model"] == "five/source-dam"
    assert (
        "other/" in made["source-dam"][1]["corpus"]
        and "other/" in made["teacher"][1]["corpus"][0]
        and "other/" not in made["dam"][1]["corpus"]
    )
    adore = made["adore"][1]
    assert (adore["rem"], adore["vectors"], adore["index"]) == (f"five/{last}/rem", f"five/{last}-vectors", "five/PQ")
    spar = made["spar-vectors"][1]
    assert (spar["first"], spar["second"], spar["model"]) == (
        f"five/{last}-vectors",
        "five/lexical-vectors",
        "five/adore",
    )
    assert made["spar-PQ"][1]["factory"] == "PQ144" and made["PQ"][1]["factory"] == "PQ48"
    table = parsed(next(words for words in commands if words[0] == "eval"))
    assert [run.removeprefix("five/").removesuffix(".run") for run in table["runs"]] == [
        "zero-shot",
        *order,
        f"{last}-on-PQ",
        "adore-on-PQ",
        "adore",
        "spar",
        "spar-on-PQ",
        "bm25",
    ]


def test_what_was_made_elsewhere_is_not_made_again(beir, other):
    words = [f"SOURCE={other}", "SOURCE_DAM=a", "DAM=b", "REM=c", "TEACHER=d"]
    made = outputs(printed(f"DATA={beir}", *words, folder=beir))
    assert not {"source-dam", "dam", "ddr", "teacher"} & set(made)
    assert (
        made["ddr-vectors"][1]["body"],
        made["ddr-vectors"][1]["rem"],
        *made["adam-scored.jsonl"][1]["teacher"],
    ) == ("b", "c", "d")
    made = outputs(printed(f"DATA={beir}", *words, "DISTILLED=e", folder=beir))
    assert "adam" not in made and "adam-scored.jsonl" not in made and made["adore"][1]["rem"] == "e"


def test_what_was_made_again_elsewhere_is_noticed(beir, other):
    words = [
        "five/ddr-vectors",
        f"DATA={beir}",
        f"SOURCE={other}",
        "SOURCE_DAM=a",
        "DAM=b",
        "REM=c/rem",
        "TEACHER=some/name-on-the-hub",
    ]
    for folder in ("b", "c/rem", "five/ddr-vectors"):
        (beir / folder).mkdir(parents=True)
    for name, time in (
        ("b/manifest.json", 1),
        ("c/rem/manifest.json", 1),
        ("five/ddr-vectors", 1000),
        ("corpus.jsonl", 1),
    ):
        (beir / name).touch()
        os.utime(beir / name, (time, time))
    assert printed(*words, folder=beir) == []
    for again in ("b", "c/rem"):
        os.utime(beir / again / "manifest.json", (2000, 2000))
        assert outputs(printed(*words, folder=beir)).keys() == {"ddr-vectors"}, again
        os.utime(beir / again / "manifest.json", (1, 1))


def test_what_cannot_be_meant_is_said(beir):
    assert "use DATA=folder" in make(folder=beir).stderr
    for distil in ("fgd adam fgd-too", ""):
        assert "expected adam, fgd or both" in make(f"DATA={beir}", f"DISTILL={distil}", folder=beir).stderr


@pytest.mark.slow
def test_the_chain_runs_and_a_second_run_does_nothing(beir, encoder_folder, drtools):
    """Without dev judgements: each fifth query is held out.

    The commands are make's, drtools' in this process; then make itself finds nothing left to do.
    """
    (beir / "qrels/dev.tsv").unlink()
    steps = "--steps 2 --batch-queries 4"
    words = [
        f"DATA={beir}",
        f"OUT={beir / 'out'}",
        f"MODEL={encoder_folder}",
        "DISTILL=adam fgd",
        "PQ=4x4",
        "JOINED_PQ=8x4",
        "LEXICAL=32",
        f"PYTHON={sys.executable}",
        "ADAPT=--steps 2 --batch-documents 4",
        f"CONTRAST={steps}",
        f"RANKER={steps} --negatives 2",
        f"ADAM={steps} --max-document-tokens 30",
        "M=2",
        f"FGD={steps} --spans mean --hard-negatives 2",
        "FGD_TOKENS=--max-query-tokens 16 --max-document-tokens 48",
        "SIZES=--passage-tokens 24 --sentence-tokens 8 --least-piece-tokens 2",
        "ADORE=--steps 2 --batch-queries 4 --depth 20",
        "ENCODE=--max-document-tokens 48",
    ]
    for line in make("-n", *words, folder=beir).stdout.splitlines():
        if line.startswith("drtools "):
            makefiles.run_all([shlex.split(line)[1:]], drtools)
        elif line.startswith(("awk ", "mkdir ")):
            subprocess.run(line, shell=True, check=True, cwd=beir)
    again = make(*words, folder=beir)
    assert again.returncode == 0, again.stderr
    assert not [line for line in again.stdout.splitlines() if line.startswith("drtools ")]
    for line in ("zero-shot", "ddr", "adam", "fgd", "fgd-on-PQ", "adore-on-PQ", "adore", "spar", "spar-on-PQ", "bm25"):
        assert f"out/{line}.run" in again.stdout
    for step in ("mlm-adapt", "train-rem", "train-ranker", "distill-adam", "distill-fgd", "train-adore", "concat-spar"):
        assert f"min  {step} " in again.stdout, "the minutes of each step"
    train, dev = ((beir / f"out/{name}.tsv").read_text().splitlines() for name in ("train", "dev"))
    assert train[0] == dev[0] == "query-id\tcorpus-id\tscore" and len(train) == 1 + 10 and len(dev) == 1 + 2
    assert sorted(train[1:] + dev[1:]) == sorted((beir / "qrels/train.tsv").read_text().splitlines()[1:])
