"""Every two files that a tool joins by ids, one of them with ids in another spelling: refused, or noted.

Each case names the files that are spoilt, the ids that must be shown, and whether nothing in common is refused.
"""

import json
import re

import pytest
from conftest import Toy, write_jsonl

REFUSED, NOTED = 2, 0


def upper(path, to, what):
    """Write a copy of a file with ids of queries (`q`) or documents (`d`) in upper case."""
    text = path.read_text()
    pattern = rf'(?<![\w]){what}([0-9]+)(?=["\s])'
    to.write_text(re.sub(pattern, rf"{what.upper()}\1", text))
    return to


@pytest.fixture(scope="module")
def made(encoder_folder, rankers, tmp_path_factory):
    """The toy collection, what tools make of it, and each file once more with other ids."""
    from drtools.cli.main import main

    folder = tmp_path_factory.mktemp("joined")
    toy = Toy(folder)
    fp32 = ["--precision", "fp32"]
    model = ["--model", encoder_folder, *fp32]
    scored = ["--teacher", rankers["bert"], "--corpus", toy.corpus, "--queries", toy.queries]
    commands = [
        ["index", "--corpus", toy.corpus, "-o", folder / "bm25"],
        ["encode", *model, "--corpus", toy.corpus, "-o", folder / "vectors"],
        ["encode", *model, "--queries", toy.queries, "-o", folder / "query-vectors"],
        ["index", "--vectors", folder / "vectors", "-o", folder / "faiss"],
        ["search", "--index", folder / "bm25", "--queries", toy.queries, "--depth", 20, "-o", folder / "a.run"],
        ["search", "--vectors", folder / "vectors", "--queries", toy.queries, *fp32, "-o", folder / "b.run"],
        ["teacher-score", *scored, "--examples", toy.examples, "-o", folder / "scored.jsonl"],
        ["make-dark-examples", toy.examples, "--negatives", 2, "-o", folder / "dark.jsonl"],
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRTOOLS_CACHE", str(tmp_path_factory.mktemp("joined-cache")))
        for words in commands:
            main([str(word) for word in words])
        for name in ("corpus.jsonl", "examples.jsonl", "scored.jsonl", "qrels.tsv", "a.run"):
            upper(folder / name, folder / f"D-{name}", "d")
        for name in ("queries.jsonl", "examples.jsonl", "scored.jsonl", "qrels.tsv", "a.run"):
            upper(folder / name, folder / f"Q-{name}", "q")
        write_jsonl(folder / "answers.jsonl", [{"_id": f"q{n}", "answers": ["fox", "river"]} for n in range(20)])
        write_jsonl(folder / "Q-answers.jsonl", [{"_id": f"Q{n}", "answers": ["fox"]} for n in range(20)])
        (folder / "Q-mu.tsv").write_text("".join(f"Q{n}\t0.5\n" for n in range(20)))
        encode = ["encode", *model, "--corpus", folder / "D-corpus.jsonl", "-o", folder / "D-vectors"]
        main([str(word) for word in encode])
        encode = ["encode", *model, "--queries", folder / "Q-queries.jsonl", "-o", folder / "Q-query-vectors"]
        main([str(word) for word in encode])
    return folder


def on(model="MODEL"):
    return f"--model {model} --precision fp32"


TRAIN = f"{on()} --steps 1 --batch-queries 4"
TEXTS = "--corpus corpus.jsonl --queries queries.jsonl"
DEV = f"train-contrastive {TRAIN} {TEXTS} --examples examples.jsonl"
ADORE = f"train-adore {TRAIN} --vectors vectors"
RANKER = f"train-ranker {TRAIN} {TEXTS} --examples examples.jsonl --max-query-tokens 8"
SCORE = "teacher-score --teacher RANKER"
MINE = "mine-negatives --negatives 3 --queries queries.jsonl"
AGREE = f"--student MODEL {TEXTS} --precision fp32"
SPAR = "concat-spar vectors vectors --precision fp32"
NOTHING = "do the two belong together?"

CASES = [
    # run x qrels
    ("eval --qrels Q-qrels.tsv a.run", REFUSED, "Q0", "q0"),
    ("eval --qrels D-qrels.tsv a.run", NOTED, "D0", "d0"),
    ("eval --qrels qrels.tsv --only Q-qrels.tsv a.run", REFUSED, "Q0", "q0"),
    ("eval --answers Q-answers.jsonl --corpus corpus.jsonl a.run", REFUSED, "Q0", "q0"),
    ("eval --answers answers.jsonl --corpus D-corpus.jsonl a.run", REFUSED, "d", "D"),
    ("eval --qrels qrels.tsv a.run --train-qrels qrels.tsv --queries Q-queries.jsonl", REFUSED, "q0", "Q0"),
    ("analyze a.run --qrels Q-qrels.tsv -o OUT", REFUSED, "Q0", "q0"),
    ("analyze a.run --qrels D-qrels.tsv -o OUT", NOTED, "D0", "d0"),
    ("analyze a.run --against Q-a.run -o OUT", REFUSED, "Q0", "q0"),
    ("analyze a.run --against D-a.run -o OUT", NOTED, "D", "d"),
    ("analyze a.run --examples Q-examples.jsonl -o OUT", REFUSED, "Q0", "q0"),
    ("analyze a.run --examples D-examples.jsonl -o OUT", NOTED, "D", "d"),
    ("analyze D-a.run --examples scored.jsonl --agreement -o OUT", REFUSED, "d", "D"),
    (f"analyze --examples Q-scored.jsonl {AGREE} -o OUT", REFUSED, "Q0", "q0"),
    (f"analyze --examples D-scored.jsonl {AGREE} -o OUT", REFUSED, "D0", "d0"),
    ("fuse a.run Q-a.run -o OUT", NOTED, "Q0", "q0"),
    ("fuse a.run D-a.run -o OUT", NOTED, "d", "D"),
    ("fuse a.run b.run --method linear --tune Q-qrels.tsv -o OUT", REFUSED, "Q0", "q0"),
    ("fuse a.run b.run --method linear --tune D-qrels.tsv -o OUT", NOTED, "D0", "d0"),
    ("fuse a.run b.run --tune-answers answers.jsonl --corpus D-corpus.jsonl -o OUT", REFUSED, "d", "D"),
    # queries x qrels
    ("search --index bm25 --queries queries.jsonl --only Q-qrels.tsv -o OUT", REFUSED, "Q0", "q0"),
    ("search --vectors vectors --query-vectors query-vectors --only Q-qrels.tsv -o OUT", REFUSED, "Q0", "q0"),
    (f"encode {on()} --queries queries.jsonl --only Q-qrels.tsv -o OUT", REFUSED, "Q0", "q0"),
    ("make-lexical --corpus corpus.jsonl --queries queries.jsonl --only Q-qrels.tsv -o OUT", REFUSED, "Q0", "q0"),
    # a run that is ranked anew x queries, vectors, corpus
    ("search --vectors vectors --precision fp32 --rerank Q-a.run --queries queries.jsonl -o OUT", REFUSED, "q0", "Q0"),
    ("search --vectors vectors --precision fp32 --rerank D-a.run --queries queries.jsonl -o OUT", REFUSED, "D", "d"),
    (f"search {on()} --rerank D-a.run --corpus corpus.jsonl --queries queries.jsonl -o OUT", REFUSED, "D", "d"),
    # queries x their vectors, and their weights
    ("search --vectors vectors --query-vectors Q-query-vectors --queries queries.jsonl -o OUT", REFUSED, "q0", "Q0"),
    # positives x source
    (f"{MINE} --qrels Q-qrels.tsv --index bm25 -o OUT", REFUSED, "Q0", "q0"),
    (f"{MINE} --qrels D-qrels.tsv --index bm25 -o OUT", REFUSED, "D0", "d0"),
    (
        f"{MINE} --qrels D-qrels.tsv --vectors vectors --precision fp32 -o OUT",
        REFUSED,
        "D0",
        "d0",
    ),
    (f"{MINE} --qrels D-qrels.tsv --run a.run -o OUT", REFUSED, "D0", "d0"),
    (f"{MINE} --qrels qrels.tsv --run Q-a.run -o OUT", REFUSED, "q0", "Q0"),
    (
        f"{MINE} --qrels qrels.tsv --index bm25 --corpus D-corpus.jsonl -o OUT",
        REFUSED,
        "d0",
        "D0",
    ),
    (f"{MINE} --qrels D-qrels.tsv --random --corpus corpus.jsonl -o OUT", REFUSED, "D0", "d0"),
    (f"{MINE} --qrels qrels.tsv --only Q-qrels.tsv --index bm25 -o OUT", REFUSED, "Q0", "q0"),
    ("mine-negatives --queries queries.jsonl --run Q-a.run --by-rank 1:2-3 -o OUT", REFUSED, "q0", "Q0"),
    # examples x queries, corpus
    (f"train-star {TRAIN} {TEXTS} --examples Q-examples.jsonl -o OUT", REFUSED, "Q0", "q0"),
    (f"train-star {TRAIN} {TEXTS} --examples D-examples.jsonl -o OUT", REFUSED, "D0", "d0"),
    (f"{SCORE} {TEXTS} --examples Q-examples.jsonl -o OUT", REFUSED, "Q0", "q0"),
    (f"{SCORE} {TEXTS} --examples D-examples.jsonl -o OUT", REFUSED, "D0", "d0"),
    (f"{SCORE} {TEXTS} --run Q-a.run -o OUT", REFUSED, "Q0", "q0"),
    (f"{SCORE} {TEXTS} --run D-a.run -o OUT", REFUSED, "D", "d"),
    ("make-dark-examples D-examples.jsonl --text --corpus corpus.jsonl -o OUT", REFUSED, "D0", "d0"),
    (f"convert --to dpr --examples Q-examples.jsonl {TEXTS} -o OUT", REFUSED, "Q0", "q0"),
    (f"convert --to dpr --examples D-examples.jsonl {TEXTS} -o OUT", REFUSED, "D0", "d0"),
    # dev files of trainings
    (f"{DEV} --dev-qrels Q-qrels.tsv -o OUT", REFUSED, "Q0", "q0"),
    (f"{DEV} --dev-qrels D-qrels.tsv -o OUT", REFUSED, "D0", "d0"),
    (f"{DEV} --dev-qrels qrels.tsv --dev-corpus D-corpus.jsonl -o OUT", REFUSED, "d0", "D0"),
    (f"{ADORE} --queries queries.jsonl --qrels Q-qrels.tsv -o OUT", REFUSED, "Q0", "q0"),
    (f"{ADORE} --queries queries.jsonl --qrels D-qrels.tsv -o OUT", REFUSED, "D0", "d0"),
    (f"{ADORE} --queries queries.jsonl --qrels qrels.tsv --dev-qrels D-qrels.tsv -o OUT", REFUSED, "D0", "d0"),
    (f"{RANKER} --dev-qrels qrels.tsv --dev-run Q-a.run -o OUT", REFUSED, "q0", "Q0"),
    (f"{RANKER} --dev-qrels qrels.tsv --dev-run D-a.run -o OUT", REFUSED, "D", "d"),
    (f"{RANKER} --dev-qrels D-qrels.tsv --dev-run a.run -o OUT", NOTED, "D0", "d0"),
    (f"{RANKER} --dev-examples Q-examples.jsonl -o OUT", REFUSED, "Q0", "q0"),
    # two folders of vectors, dev judgements of what is joined
    ("concat-spar vectors D-vectors --mu 1 -o OUT", REFUSED, "d0", "D0"),
    (f"{SPAR} --dev-queries queries.jsonl --dev-qrels Q-qrels.tsv -o OUT", REFUSED, "Q0", "q0"),
    (f"{SPAR} --dev-queries queries.jsonl --dev-qrels D-qrels.tsv -o OUT", REFUSED, "D0", "d0"),
    # what is brought up to date
    ("index --vectors D-vectors --update faiss -o OUT", REFUSED, "d0", "D0"),
    ("index --vectors D-vectors --update faiss --allow-dropped 1 -o OUT", NOTED, "D0", "d0"),
]


@pytest.mark.parametrize(("line", "expected", "missing", "there"), CASES, ids=[case[0] for case in CASES])
def test_ids_of_another_spelling(made, encoder_folder, rankers, drtools, tmp_path, line, expected, missing, there):
    def command(*more):
        names = {"MODEL": encoder_folder, "RANKER": rankers["bert"], "OUT": tmp_path / f"out{len(more)}"}
        words = line.split()
        return [names.get(word, made / word if (made / word).exists() else word) for word in words] + list(more)

    outcome = drtools(*command())
    assert outcome.status == expected and "internal" not in outcome.err, outcome.err
    shown = re.findall(r"\(for instance '([^']+)'; [^()]+ has '([^']+)'\)", outcome.err)
    assert shown, outcome.err
    assert any(one.startswith(missing) and other == one.swapcase() and other[0] == there[0] for one, other in shown), (
        shown
    )
    if expected == REFUSED:
        assert len(outcome.err.splitlines()) < 5 and not (tmp_path / "out0").exists(), outcome.err
        assert not list(tmp_path.glob("*.partial")), "nothing of it is left to be continued"
    else:
        strict = drtools(*command("--strict"))
        assert strict.status == 2 and "for instance" in strict.err, strict.err


def test_a_join_that_lacks_little_is_noted_in_a_line(made, drtools, tmp_path):
    (tmp_path / "qrels.tsv").write_text((made / "qrels.tsv").read_text() + "q99\td1\t1\n")
    words = ["search", "--index", made / "bm25", "--queries", made / "queries.jsonl", "--depth", 3]
    outcome = drtools(*words, "--only", tmp_path / "qrels.tsv", "-o", tmp_path / "x.run")
    (said,) = [line for line in outcome.err.splitlines() if "q99" in line]
    assert "note: 1 of the 21 judged queries are not in" in said and "(for instance 'q99')" in said, outcome.err


def test_an_example_with_a_positive_of_another_spelling_has_it_as_no_negative(made, encoder_folder, drtools, tmp_path):
    examples = [json.loads(line) for line in open(made / "examples.jsonl")]
    examples[0] |= {"positives": ["d0", "D7"], "negatives": ["d1", "d7"]}
    write_jsonl(tmp_path / "e.jsonl", examples)
    texts = ["--corpus", made / "corpus.jsonl", "--queries", made / "queries.jsonl", "--examples", tmp_path / "e.jsonl"]
    words = ["train-star", "--model", encoder_folder, "--precision", "fp32", "--steps", 1, "--batch-queries", 4]
    outcome = drtools(*words, *texts, "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert "1 negatives may be a positive whose id is spelled differently in the corpus; left out" in outcome.err
    assert "1 documents of the examples are not in the corpus; left out (for instance 'D7'" in outcome.err, outcome.err
