"""A teacher's soft labels and its students' agreement, against brute force; pictures that are there."""

import json
import math
from statistics import fmean

import numpy as np
import pytest
from conftest import write_jsonl
from test_analyze import check_picture


def softmax(scores):
    return [math.exp(score) / sum(math.exp(other) for other in scores) for score in scores]


def naive_tau(first, second):
    """Kendall's tau-b, pair by pair."""
    signs = [
        (np.sign(first[i] - first[j]), np.sign(second[i] - second[j])) for i in range(len(first)) for j in range(i)
    ]
    return sum(a * b for a, b in signs) / math.sqrt(sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs))


@pytest.fixture
def taught(toy, drtools):
    """Examples of two negatives with dark items.

    Q0 has two positives of which the second is dark's, q1 lacks a negative's score.
    """
    draw = np.random.default_rng(3)
    toy.records = []
    for n in range(20):
        p = f"d{n}"
        toy.records.append(
            {
                "query_id": f"q{n}",
                "positives": ["d55", p] if n == 0 else [p],
                "negatives": ["d40", "d41"],
                "positive_scores": draw.normal(4, 1, 2 if n == 0 else 1).tolist(),
                "negative_scores": [None if n == 1 else draw.normal(-3), draw.normal(-3)],
                "dark": [
                    {"kind": "reinforced", "positive": p, "negative": "d40"},
                    {"kind": "noisy", "positive": p, "ratio": 0.3, "seed": 5},
                ],
                "dark_scores": draw.normal(3, 1, 2).tolist(),
                "scored_by": "teacher@1",
            }
        )
    toy.taught = write_jsonl(toy.folder / "taught.jsonl", toy.records)
    return toy


@pytest.mark.slow
def test_the_mass_on_the_top_item_falls_with_dark_items(taught, drtools):
    outcome = drtools("analyze", "--examples", taught.taught, "-o", taught.folder / "out")
    assert outcome.status == 0, outcome.err
    found = json.loads((taught.folder / "out" / "analysis.json").read_text())["soft_labels"]["taught"]
    expected = {}
    for record in taught.records:
        positive, negatives = (
            record["positive_scores"][-1],
            [score for score in record["negative_scores"] if score is not None],
        )
        for kind, scores in (
            ("positive, negatives", [positive, *negatives]),
            ("positive, negatives, dark", [positive, *negatives, *record["dark_scores"]]),
            ("negatives", negatives),
            ("negatives, dark", [*negatives, *record["dark_scores"]]),
        ):
            expected.setdefault(kind, []).append(softmax(scores))
    assert list(found) == list(expected)
    for kind, lists in expected.items():
        evenness = [
            -sum(share * math.log(share) for share in shares) / math.log(len(shares)) if len(shares) > 1 else 0
            for shares in lists
        ]
        assert found[kind] == {
            "mass": pytest.approx(fmean(map(max, lists))),
            "evenness": pytest.approx(fmean(evenness)),
            "queries": 20,
        }
    assert found["positive, negatives, dark"]["mass"] < found["positive, negatives"]["mass"] - 0.1
    assert f"{found['negatives, dark']['evenness']:.4f}" in outcome.out
    check_picture(taught.folder / "out" / "soft-labels.png")
    check_picture(taught.folder / "out" / "scores.png")
    plain = write_jsonl(
        taught.folder / "plain.jsonl",
        [{key: value for key, value in record.items() if not key.startswith("dark")} for record in taught.records],
    )
    assert drtools("analyze", "--examples", plain, "-o", taught.folder / "plain").status == 0
    assert list(json.loads((taught.folder / "plain" / "analysis.json").read_text())["soft_labels"]["plain"]) == [
        "positive, negatives",
        "negatives",
    ]


def expected_agreement(pairs, scale):
    divergences, taus = [], []
    for told, own in pairs:
        p, q = softmax(told), softmax([scale * score for score in own])
        divergences.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        taus.append(naive_tau(told, own))
    return fmean(divergences), fmean(taus)


@pytest.mark.slow
def test_students_before_and_after(taught, encoder_folder, drtools, tmp_path):
    from sentence_transformers import SentenceTransformer

    from drtools.formats.dark_items import Noisy, Reinforced
    from drtools.methods.adam.dark import dark_text, special_of

    words = ["--corpus", taught.corpus, "--queries", taught.queries, "--precision", "fp32"]
    trained = drtools(
        "distill-adam",
        "--model",
        encoder_folder,
        *words,
        "--examples",
        write_jsonl(tmp_path / "whole.jsonl", [taught.records[0], *taught.records[2:]]),
        "--batch-queries",
        "10",
        "--max-document-tokens",
        "32",
        "--learning-rate",
        "1e-3",
        "--steps",
        "30",
        "--pacing",
        "none",
        "--threads",
        "1",
        "-o",
        tmp_path / "after",
    )
    assert trained.status == 0, trained.err
    # the starting encoder at the student's length: no text of either is cut differently
    before = SentenceTransformer(encoder_folder, device="cpu")
    settings = json.loads((tmp_path / "after" / "drtools.json").read_text())
    assert settings["max_document_tokens"] == 32
    import shutil

    shutil.copytree(encoder_folder, tmp_path / "before")
    (tmp_path / "before" / "drtools.json").write_text(
        json.dumps(json.loads((tmp_path / "before" / "drtools.json").read_text()) | {"max_document_tokens": 32})
    )
    outcome = drtools(
        "analyze",
        "--examples",
        taught.taught,
        "--student",
        tmp_path / "before",
        "--student",
        tmp_path / "after",
        *words,
        "-o",
        tmp_path / "out",
    )
    assert outcome.status == 0, outcome.err
    found = json.loads((tmp_path / "out" / "analysis.json").read_text())["agreement"]
    texts = {document["_id"]: f"{document['title']} {document['text']}" for document in taught.documents}
    queries = {record["_id"]: record["text"] for record in map(json.loads, open(taught.queries))}
    special = special_of(before.tokenizer, 32, {"reinforced", "noisy"}, "before")
    pairs = {"positive, negatives": [], "positive, negatives, dark": []}
    for record in taught.records:
        query = before.encode(queries[record["query_id"]])
        told, items = [], []
        for key in ("positive", "negative"):
            for document, score in zip(record[f"{key}s"], record[f"{key}_scores"], strict=True):
                if score is not None:
                    told.append(score)
                    items.append((texts[document], 32))
        p = record["dark"][0]["positive"]
        plain = len(items)
        items += [
            (dark_text(Reinforced(p, "d40"), record["query_id"], texts.get, special), 64),
            (dark_text(Noisy(p, 0.3, 5), record["query_id"], texts.get, special), 32),
        ]
        own = []
        for text, longest in items:
            before.max_seq_length = longest
            own.append(float(query @ before.encode(text)))
        pairs["positive, negatives"].append((told, own[:plain]))
        pairs["positive, negatives, dark"].append((told + record["dark_scores"], own))
    for kind, lists in pairs.items():
        divergence, tau = expected_agreement(lists, 20)
        one = found["before"][kind]
        assert (one["divergence"], one["tau"], one["queries"]) == (
            pytest.approx(divergence, rel=1e-3),
            pytest.approx(tau, abs=1e-6),
            20,
        )
        assert found["after"][kind]["divergence"] < 0.7 * one["divergence"] and found["after"][kind]["tau"] > one["tau"]
    check_picture(tmp_path / "out" / "agreement.png")


@pytest.mark.slow
def test_a_run_beside_the_teacher(taught, drtools, tmp_path):
    draw, scores = np.random.default_rng(8), {}
    for n in range(19):
        scores[f"q{n}"] = {f"d{m}": round(float(draw.normal()), 3) for m in (n, 40, 41, 59)}
    (tmp_path / "student.run").write_text(
        "".join(
            f"{query} Q0 {document} 0 {score} t\n" for query, hits in scores.items() for document, score in hits.items()
        )
    )
    outcome = drtools(
        "analyze",
        tmp_path / "student.run",
        "--examples",
        taught.taught,
        "--agreement",
        "--scale",
        "2",
        "-o",
        tmp_path / "out",
    )
    assert outcome.status == 0, outcome.err
    pairs = []
    for record in taught.records[:19]:
        told = {
            **dict(zip(record["positives"], record["positive_scores"], strict=True)),
            **dict(zip(record["negatives"], record["negative_scores"], strict=True)),
        }
        both = [
            document for document, score in told.items() if score is not None and document in scores[record["query_id"]]
        ]
        pairs.append(
            ([told[document] for document in both], [scores[record["query_id"]][document] for document in both])
        )
    divergence, tau = expected_agreement(pairs, 2)
    items = sum(
        score is not None
        for record in taught.records
        for key in ("positive", "negative")
        for score in record[f"{key}_scores"]
    )
    lacking = items - sum(len(told) for told, _ in pairs)
    assert (
        lacking > 0
        and f"student: {lacking} of the {items} documents that the teacher scored are not among the hits of their query"
        in outcome.err
    ), outcome.err
    found = json.loads((tmp_path / "out" / "analysis.json").read_text())["agreement"]["student"]
    assert found == {
        "positive, negatives": {
            "divergence": pytest.approx(divergence, rel=1e-4),
            "tau": pytest.approx(tau, abs=1e-6),
            "queries": 19,
            "tied": 0,
        }
    }
    (tmp_path / "other.run").write_text("q0 Q0 d59 1 1 t\n")
    assert (
        "no query has two documents"
        in drtools(
            "analyze", tmp_path / "other.run", "--examples", taught.taught, "--agreement", "-o", tmp_path / "none"
        ).err
    )


@pytest.mark.slow
def test_a_students_own_scale_and_what_its_corpus_lacks(taught, encoder_folder, drtools, tmp_path):
    import shutil

    shutil.copytree(encoder_folder, tmp_path / "student")
    (tmp_path / "student" / "manifest.json").write_text('{"scale": 3.0}')
    part = write_jsonl(
        tmp_path / "part.jsonl", [document for document in taught.documents if document["_id"] not in ("d41", "d59")]
    )
    divergences = []
    for out, more in (("own", []), ("said", ["--scale", "3"]), ("other", ["--scale", "20"])):
        outcome = drtools(
            "analyze",
            "--examples",
            taught.taught,
            "--student",
            tmp_path / "student",
            "--corpus",
            part,
            "--queries",
            taught.queries,
            "--precision",
            "fp32",
            "--max-document-tokens",
            "32",
            *more,
            "-o",
            tmp_path / out,
        )
        assert outcome.status == 0 and "have a document that is not in" in outcome.err, outcome.err
        divergences.append(
            json.loads((tmp_path / out / "analysis.json").read_text())["agreement"]["student"]["positive, negatives"][
                "divergence"
            ]
        )
    assert divergences[0] == divergences[1] != divergences[2]
    foreign = write_jsonl(tmp_path / "foreign.jsonl", [{"_id": "x", "title": "", "text": "fox"}])
    outcome = drtools(
        "analyze",
        "--examples",
        taught.taught,
        "--student",
        encoder_folder,
        "--corpus",
        foreign,
        "--queries",
        taught.queries,
        "--max-document-tokens",
        "32",
        "-o",
        tmp_path / "none",
    )
    assert outcome.status == 2 and "do the examples and the corpus belong together?" in outcome.err, outcome.err


def test_a_lexical_encoder_is_no_student(taught, drtools, tmp_path):
    lexical = tmp_path / "lexical"
    words = ["make-lexical", "--corpus", taught.corpus, "--encoder", "projection", "--dimension", 16, "-o", lexical]
    assert drtools(*words).status == 0
    texts = ["--corpus", taught.corpus, "--queries", taught.queries]
    done = drtools("analyze", "--examples", taught.taught, "--student", lexical, *texts, "-o", tmp_path / "out")
    assert done.status == 2 and "a lexical encoder" in done.err.splitlines()[-1] and "--agreement" in done.err, done.err


def test_taus_below_zero_and_none_at_all(tmp_path, monkeypatch):
    from drtools.evaluation import pictures
    from drtools.evaluation.analyses import base

    drawn = []
    monkeypatch.setattr(
        pictures, "draw_shares", lambda path, series, *others, **named: drawn.append((series, named["low"]))
    )
    base.agreement({"student": {"plain": [([1.0, 2.0], [2.0, 1.0], 1.0), ([1.0, 2.0], [1.0, 2.0], 1.0)]}}, tmp_path)
    assert drawn == [({"student": [-1.0, 1.0]}, -1.0)], "as they are, so that the picture's mean is the table's"
    base.agreement({"student": {"plain": [([1.0, 1.0], [2.0, 1.0], 1.0)]}}, tmp_path)
    assert len(drawn) == 1, "nothing to draw where all are tied"
