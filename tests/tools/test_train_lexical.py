"""train-lexical from a teacher's run to a twin: what its loss counts, what dev measures, and that it learns."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import WORDS, changed_by_flags, write_jsonl

from drtools.formats.examples import read_examples
from drtools.formats.trec import rank
from drtools.methods.spar.twin import lexical_loss, target_loss
from drtools.randomness import generator


@pytest.mark.parametrize("mask_positives", [False, True])
def test_the_loss_is_the_papers_by_a_double_loop(mask_positives):
    random = np.random.default_rng(1)
    queries, documents = random.normal(size=(3, 4)), random.normal(size=(6, 4))
    relevant = np.array([[1, 1, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]], bool)
    total = 0.0
    for query in range(3):
        kept = [other for other in range(6) if other == query or not (mask_positives and relevant[query, other])]
        scores = [2.0 * float(queries[query] @ documents[other]) for other in kept]
        total -= 2.0 * float(queries[query] @ documents[query]) - math.log(sum(map(math.exp, scores)))
    loss, _ = lexical_loss(2.0, mask_positives)(
        torch.tensor(queries), torch.tensor(documents), SimpleNamespace(relevant=relevant, foreign=None)
    )
    assert float(loss) == pytest.approx(total / 3, rel=1e-5)


def test_the_error_of_vectors_is_relative_to_their_targets():
    rows = torch.tensor([[1.0, 2.0, 3.0, 2.0], [0.0, 0.0, 0.0, 4.0]])  # vectors of 2 dimensions, and their targets
    loss, metrics = target_loss(rows, torch.cat([rows[:, 2:], rows[:, 2:]], dim=1), SimpleNamespace())
    assert metrics == {"query_error": pytest.approx((4 + 0 + 0 + 16) / (9 + 4 + 16)), "document_error": 0}
    assert float(loss) == pytest.approx(20 / 29 / 2)


@pytest.fixture
def taught(toy, drtools):
    """The toy corpus's sentences, a foreign run that ranks by shared words, and examples of it."""
    random = np.random.default_rng(4)
    texts = {f"s{n}": " ".join(random.choice(WORDS, 4, replace=False)) for n in range(60)}
    toy.sentences = write_jsonl(
        toy.folder / "sentences.jsonl", [{"_id": name, "text": text} for name, text in texts.items()]
    )
    toy.run = {}
    for name, text in texts.items():
        shared = {
            document["_id"]: float(sum(document["text"].split().count(word) for word in text.split()))
            for document in toy.documents
        }
        toy.run[name] = rank({document: score for document, score in shared.items() if score})
    lines = [
        f"{name} Q0 {document} {place} {score} theirs\n"
        for name, hits in toy.run.items()
        for place, (document, score) in enumerate(hits.items(), 1)
    ]
    (toy.folder / "their.run").write_text("".join(lines))
    done = drtools(
        "mine-negatives",
        "--queries",
        toy.sentences,
        "--run",
        toy.folder / "their.run",
        "--by-rank",
        "4:19-20",
        "-o",
        toy.folder / "lexical.jsonl",
    )
    assert done.status == 0, done.err
    lines = (toy.folder / "lexical.jsonl").read_text().splitlines(keepends=True)
    (toy.folder / "train.jsonl").write_text("".join(lines[10:]))
    (toy.folder / "dev.jsonl").write_text("".join(lines[:10]))
    return toy


def test_examples_are_labelled_by_a_foreign_runs_ranks(taught):
    examples = list(read_examples(taught.folder / "lexical.jsonl"))
    long_enough = [name for name, hits in taught.run.items() if len(hits) >= 6]
    assert [example.query_id for example in examples] == long_enough and len(examples) > 30
    for example in examples:
        hits = list(taught.run[example.query_id])
        assert example.positives == hits[:4]
        assert example.negatives == (hits[18:20] if len(hits) >= 20 else hits[-2:])


@changed_by_flags
def command(toy, bert, out, *more):
    return [
        "train-lexical",
        "--model",
        bert,
        "--corpus",
        toy.corpus,
        "--queries",
        toy.sentences,
        "--examples",
        toy.folder / "train.jsonl",
        "--max-query-tokens",
        64,
        "--max-document-tokens",
        64,
        "--batch-queries",
        16,
        "--learning-rate",
        2e-3,
        "--precision",
        "fp32",
        "--threads",
        1,
        "-o",
        out,
        *more,
    ]


def vectors(drtools, model, toy, side, path):
    out = toy.folder / f"{Path(model).name}-{side}"
    assert (
        drtools(
            "encode", "--model", model, f"--{side}", path, "--dtype", "float32", "--precision", "fp32", "-o", out
        ).status
        == 0
    )
    return np.load(out / "vectors.npy").astype(np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
def test_it_learns_to_rank_as_the_teacher_and_dev_measures_that(taught, bert, drtools, tied):
    out = taught.folder / "lambda"
    done = drtools(
        *command(
            taught,
            bert,
            out,
            "--steps",
            6 if tied else 60,
            "--evaluate-every-steps",
            3 if tied else 20,
            "--dev-examples",
            taught.folder / "dev.jsonl",
            *(["--tied"] if tied else []),
        )
    )
    assert done.status == 0, done.err
    made = json.loads((out / "manifest.json").read_text())
    assert made["best"]["measure"] == "RR" and made["scale"] == 1
    values = [evaluation["RR"] for evaluation in made["evaluations"]]
    assert tied or max(values) > values[0] + 0.1, "one encoder for both learns too slowly to be seen here"
    assert (out / "query").exists() != tied
    where = out if tied else out / "document"
    assert json.loads((where / "1_Pooling/config.json").read_text())["pooling_mode_cls_token"]
    dev = list(read_examples(taught.folder / "dev.jsonl"))
    names = [document["_id"] for document in taught.documents]
    drawn = []
    for example in dev:
        rows = [names.index(document) for document in example.negatives]
        drawn.append(names[generator(42, "dev", example.query_id).choice(rows)])
    small = {*drawn, *(example.positives[0] for example in dev)}
    queries, documents = (
        vectors(drtools, out, taught, side, path)
        for side, path in (("queries", taught.sentences), ("documents", taught.corpus))
    )
    ranks = []
    for example in dev:
        scores = queries[int(example.query_id[1:])] @ documents.T
        ranks.append(1 + sum(scores[names.index(other)] > scores[names.index(example.positives[0])] for other in small))
    assert np.mean([1 / place for place in ranks]) == pytest.approx(made["best"]["value"], abs=1e-6)


@pytest.mark.slow
def test_it_learns_the_vectors_of_a_lexical_encoder(taught, bert, drtools):
    dimension = json.loads((Path(bert) / "config.json").read_text())["hidden_size"]
    lexical = taught.folder / "lexical"
    done = drtools("make-lexical", "--corpus", taught.corpus, "--dimension", dimension, "-o", lexical)
    assert done.status == 0, done.err
    sides = {"queries": taught.sentences, "documents": taught.corpus}
    theirs = {side: vectors(drtools, lexical, taught, side, path) for side, path in sides.items()}
    targets = [word for side in sides for word in (f"--target-{side}", taught.folder / f"lexical-{side}")]
    students = {name: taught.folder / name for name in ("start", "end")}
    for name, steps in (("start", 1), ("end", 40)):
        shape = ["--steps", steps, "--head", "none", "--warmup-steps", 0, "--schedule", "constant"]
        done = drtools(*command(taught, bert, students[name], *shape, *targets))
        assert done.status == 0, done.err
    errors = {}
    for name, student in students.items():
        ours = {side: vectors(drtools, student, taught, side, path) for side, path in sides.items()}
        errors[name] = {
            side: np.square(ours[side] - theirs[side]).sum() / np.square(theirs[side]).sum() for side in sides
        }
    assert all(errors["end"][side] < 0.9 * errors["start"][side] for side in sides), errors
    last = json.loads((students["end"] / "training.jsonl").read_text().splitlines()[-1])
    assert last["document_error"] < 2 * errors["end"]["documents"]


def test_targets_of_another_dimension_are_refused(taught, bert, drtools):
    drtools("make-lexical", "--corpus", taught.corpus, "--dimension", 8, "-o", taught.folder / "lexical")
    for side, path in {"queries": taught.sentences, "documents": taught.corpus}.items():
        vectors(drtools, taught.folder / "lexical", taught, side, path)
    documents, queries = taught.folder / "lexical-documents", taught.folder / "lexical-queries"
    out = taught.folder / "lambda"
    done = drtools(*command(taught, bert, out, "--target-documents", documents, "--target-queries", queries))
    assert done.status == 2 and "vectors of 8 dimensions" in done.err and "make-lexical" in done.err
    done = drtools(*command(taught, bert, out, "--target-documents", documents))
    assert done.status == 2 and "--target-documents" in done.err and "--target-queries" in done.err


@pytest.mark.slow
def test_a_base_may_start_from_it(taught, bert, drtools):
    assert drtools(*command(taught, bert, taught.folder / "lambda", "--steps", 2)).status == 0
    done = drtools(
        "train-contrastive",
        "--model",
        taught.folder / "lambda",
        "--corpus",
        taught.corpus,
        "--queries",
        taught.queries,
        "--examples",
        taught.examples,
        "--batch-queries",
        8,
        "--steps",
        2,
        "--precision",
        "fp32",
        "-o",
        taught.folder / "base",
    )
    assert done.status == 0, done.err
    assert (taught.folder / "base" / "query" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_head_can_be_left_behind(taught, encoder_folder, drtools):
    assert drtools(*command(taught, encoder_folder, taught.folder / "kept", "--steps", 1, "--tied")).status == 0
    assert (
        drtools(
            *command(taught, encoder_folder, taught.folder / "bare", "--steps", 1, "--tied", "--head", "none")
        ).status
        == 0
    )
    kept, bare = (json.loads((taught.folder / name / "manifest.json").read_text()) for name in ("kept", "bare"))
    assert (kept["scale"], bare["scale"]) == (20, 1)
    lengths = {
        name: np.linalg.norm(vectors(drtools, taught.folder / name, taught, "documents", taught.corpus), axis=1)
        for name in ("kept", "bare")
    }
    assert lengths["kept"] == pytest.approx(1, abs=1e-5) and abs(lengths["bare"] - 1).min() > 0.1


@pytest.mark.slow
def test_processes_equal_one(taught, bert, drtools, several):
    words = ["--steps", 3, "--dropout", 0, "--batch-queries", 7]
    assert drtools(*command(taught, bert, taught.folder / "one", *words)).status == 0
    several(2, command(taught, bert, taught.folder / "two", *words))
    assert drtools(*command(taught, bert, taught.folder / "other", *words, "--seed", 7)).status == 0
    tables = []
    for name in ("one", "two", "other"):
        queries, documents = (
            vectors(drtools, taught.folder / name, taught, side, path)
            for side, path in (("queries", taught.sentences), ("documents", taught.corpus))
        )
        scores = queries @ documents.T
        tables.append(
            scores - scores.mean(1, keepdims=True)
        )  # what is added to all of a query's scores has no gradient but rounding, of which Adam makes whole steps
    np.testing.assert_allclose(tables[1], tables[0], atol=2e-5)
    assert np.abs(tables[2] - tables[0]).max() > 1e-3, "other batches make another twin"


@pytest.mark.slow
def test_a_dev_example_without_its_first_positive_is_left_out(taught, bert, drtools):
    """The teacher's rank 2 must not pass for its rank 1."""
    lines = (taught.folder / "dev.jsonl").read_text().splitlines()
    lost = json.loads(lines[0])
    lost["positives"][0] = "gone"
    (taught.folder / "lost.jsonl").write_text("\n".join([json.dumps(lost), *lines[1:]]) + "\n")
    (taught.folder / "rest.jsonl").write_text("\n".join(lines[1:]) + "\n")
    found = {}
    for name in ("lost", "rest"):
        done = drtools(
            *command(
                taught, bert, taught.folder / name, "--steps", 2, "--dev-examples", taught.folder / f"{name}.jsonl"
            )
        )
        assert done.status == 0, done.err
        assert ("1 of the 10 dev examples" in done.err) == (name == "lost")
        found[name] = json.loads((taught.folder / name / "manifest.json").read_text())["evaluations"]
    assert found["lost"] == found["rest"]
