"""distill-adam on the toy collection.

What its lists hold, scores from the file and from a teacher, forms, stops, refusals.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import changed_by_flags, write_jsonl
from safetensors.numpy import load_file

from drtools.formats.dark_items import Noisy, Reinforced
from drtools.methods.adam.batches import AdamBatches, Form, list_visit
from drtools.methods.adam.dark import dark_text, special_of

TOKENS = 24


@pytest.fixture
def scored(toy, drtools):
    """Examples with dark items and made-up scores: a positive about 3, negatives about -2, dark ones between.

    Q1 has two positives.
    """
    examples = [json.loads(line) for line in open(toy.examples)]
    examples[1]["positives"] = ["d1", "d50"]
    write_jsonl(toy.folder / "examples.jsonl", examples)
    assert (
        drtools("make-dark-examples", toy.examples, "--ratios", "0.2,0.5", "-o", toy.folder / "dark.jsonl").status == 0
    )
    draw = np.random.default_rng(5)
    records = [json.loads(line) for line in open(toy.folder / "dark.jsonl")]
    for record in records:
        for key, mean in (("positive", 3), ("negative", -2), ("dark", 1)):
            items = record["dark" if key == "dark" else f"{key}s"]
            record[f"{key}_scores"] = draw.normal(mean, 1, len(items)).tolist()
        record["scored_by"] = "teacher@1"
    toy.dark, toy.records, toy.scored = (
        toy.folder / "dark.jsonl",
        records,
        write_jsonl(toy.folder / "scored.jsonl", records),
    )
    return toy


@changed_by_flags
def command(toy, encoder_folder, out, *more, examples=None):
    return [
        str(word)
        for word in [
            "distill-adam",
            "--model",
            encoder_folder,
            "--corpus",
            toy.corpus,
            "--queries",
            toy.queries,
            "--examples",
            examples or toy.scored,
            "--batch-queries",
            "8",
            "--learning-rate",
            "1e-3",
            "--max-query-tokens",
            "16",
            "--max-document-tokens",
            TOKENS,
            "--precision",
            "fp32",
            "--threads",
            "1",
            "-o",
            out,
            *more,
        ]
    ]


def batches_of(toy, encoder_folder, form, **settings):
    from drtools.formats.corpus_store import open_store
    from drtools.models.loader import load_encoder
    from drtools.training.examples import Scores, usable_examples
    from drtools.training.sampling import ExampleSource

    store, model = open_store(toy.corpus), load_encoder(encoder_folder)
    model.settings.max_document_tokens = TOKENS
    for name, value in settings.pop("set", {}).items():
        setattr(model.settings, name, value)
    source = ExampleSource(usable_examples(toy.scored, toy.queries, store, Scores.TEACHER), store)
    return model, AdamBatches(
        [source], model, form, name="toy", **{"batch_queries": 8, "seed": 1, "share_of": lambda step: 1.0, **settings}
    )


FORMS = {
    "adam": (Form(), ["negatives", "reinforced", "noisy"]),
    "without reinforced": (Form(("noisy",)), ["negatives", "noisy"]),
    "without noisy": (Form(("reinforced",)), ["negatives", "reinforced"]),
    "without both": (Form(()), ["negatives"]),
    "two negatives": (Form(negatives=2), ["negatives", "reinforced", "noisy"]),
}


@pytest.mark.parametrize("name,lower_case", [*((name, False) for name in FORMS), ("adam", True)])
def test_each_list_holds_what_it_should_and_each_item_its_text_and_score(scored, encoder_folder, name, lower_case):
    form, groups = FORMS[name]
    if lower_case:
        write_jsonl(
            scored.folder / "corpus.jsonl",
            [document | {"text": document["text"].upper()} for document in scored.documents],
        )
    model, batches = batches_of(scored, encoder_folder, form, set={"lower_case": lower_case})
    texts = {document["_id"]: f"{document['title']} {document['text']}" for document in scored.documents}
    special = special_of(model.tokenizer, TOKENS, {"reinforced", "noisy"}, "toy")
    queries = {record["_id"]: record["text"] for record in map(json.loads, open(scored.queries))}
    seen = set()
    for step in range(3):
        batch = batches(step)
        mine = [
            record
            for visit in batches.visits(step)
            for record in scored.records
            if queries[record["query_id"]] == visit.query
        ]
        documents = len(batch.tokens["document"].lengths)
        assert ("reinforced" in batch.tokens) == ("reinforced" in groups)
        for row, record in enumerate(mine):
            p = record["dark"][0]["positive"]
            listed = list_visit(batches.visits(step)[row], form)
            negatives = batches.visits(step)[row].source.store.ids_at(listed.negatives)
            assert negatives == [document for document in record["negatives"] if document in negatives]
            assert len(negatives) == (form.negatives or 3)
            scores = dict(zip(record["negatives"], record["negative_scores"], strict=True))
            items = [(texts[p], record["positive_scores"][record["positives"].index(p)])]
            items += [(texts[document], scores[document]) for document in negatives]
            own = len(items)
            for item, score in zip(record["dark"], record["dark_scores"], strict=True):
                if item["kind"] in groups and item.get("negative", negatives[0]) in negatives:
                    made = (
                        Reinforced(p, item["negative"])
                        if item["kind"] == "reinforced"
                        else Noisy(p, item["ratio"], item["seed"])
                    )
                    items.append((dark_text(made, record["query_id"], texts.get, special), score))
            count = len(items)
            assert batch.is_own[row].tolist() == [True] * own + [False] * (batch.columns.shape[1] - own)
            assert np.flatnonzero(batch.is_dark[row]).tolist() == list(range(own, count))
            np.testing.assert_allclose(batch.teacher[row, :count], [score for _, score in items], rtol=1e-6)
            for at, (text, _) in enumerate(items):
                column = batch.columns[row, at]
                side, column = ("document", column) if column < documents else ("reinforced", column - documents)
                assert (side == "reinforced") == (at >= own and at < own + len(negatives) and "reinforced" in groups)
                tokens = batch.tokens[side]
                longest = TOKENS if side == "document" else 2 * TOKENS
                assert (
                    tokens.flat[tokens.starts[column] : tokens.starts[column + 1]].tolist()
                    == model.tokenizer(text, truncation=True, max_length=longest)["input_ids"]
                )
            seen.add(record["query_id"])
    assert len(mine) == 8 and len(seen) == 20


def test_negatives_and_their_dark_items_are_drawn_anew_at_each_visit(scored, encoder_folder):
    form = Form(negatives=2)
    _, batches = batches_of(scored, encoder_folder, form)
    _, again = batches_of(scored, encoder_folder, form)
    drawn = {}
    for step in range(40):  # 16 epochs of 20 queries
        for visit, same in zip(batches.visits(step), again.visits(step), strict=True):
            listed, ids_at = list_visit(visit, form), visit.source.store.ids_at
            assert str(listed) == str(list_visit(same, form)), "a function of seed, epoch and query"
            record = scored.records[visit.at]
            negatives = ids_at(listed.negatives)
            drawn.setdefault(visit.at, []).append(tuple(negatives))
            items = [row.item(ids_at) for row in listed.dark]
            assert [item.negative for item in items if item.kind == "reinforced"] == negatives
            assert [item.ratio for item in items if item.kind == "noisy"] == [0.2, 0.5]
            scores = dict(zip(record["negatives"], record["negative_scores"], strict=True))
            dark = dict(zip((item.get("negative") for item in record["dark"]), record["dark_scores"], strict=True))
            expected = [*(scores[document] for document in negatives), *(dark[document] for document in negatives)]
            np.testing.assert_allclose(listed.scores[1:-2], expected, rtol=1e-6)
    assert len(drawn) == 20 and all(len(visits) == 16 for visits in drawn.values())
    for at, visits in drawn.items():
        assert {document for pair in visits for document in pair} == set(scored.records[at]["negatives"])
        assert len(set(visits)) == 3, "each pair of three is met in 16 visits"


def test_random_negatives_are_drawn_afresh_and_never_relevant(scored, encoder_folder):
    _, batches = batches_of(scored, encoder_folder, Form((), 30, True), teacher=object())
    drawn = {}
    for step in range(8):
        for visit in batches.visits(step):
            listed = list_visit(visit, batches.form)
            relevant = visit.source.examples.positives[visit.at].tolist()
            assert (
                listed.positive in relevant
                and not set(listed.negatives) & set(relevant)
                and 20 < len(listed.negatives) <= 30
            )
            drawn.setdefault(visit.at, []).append(tuple(listed.negatives))
    assert all(len(set(lists)) == len(lists) for lists in drawn.values()) and max(map(len, drawn.values())) > 1


def test_it_learns_and_the_kept_share_falls(scored, encoder_folder, drtools, tmp_path):
    outcome = drtools(
        *command(scored, encoder_folder, tmp_path / "adam", "--epochs", "16", "--dev-qrels", scored.qrels)
    )
    assert outcome.status == 0, outcome.err
    made = json.loads((tmp_path / "adam/manifest.json").read_text())
    assert made["teacher"] == "teacher@1" and made["steps"] == 40
    assert made["best"]["value"] > made["evaluations"][0]["nDCG@10"] + 0.05
    log = [json.loads(line) for line in (tmp_path / "adam/training.jsonl").read_text().splitlines()]
    shares = [record["kept_share"] for record in log if "kept_share" in record]
    assert shares[0] > 0.9 and 0.5 < shares[-1] < 0.75 and shares == sorted(shares, reverse=True)
    divergences = [record["divergence"] for record in log if "divergence" in record]
    assert divergences[-1] < 0.8 * divergences[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ["--baseline", "hard-kd"],
        ["--without", "reinforced"],
        ["--without", "noisy", "--without", "reinforced"],
        ["--pacing", "steps"],
        ["--lambda", "0"],
        ["--without-positive"],
        ["--kl", "reverse", "--reduction", "sum"],
        ["--negatives", "1"],
    ],
    ids=" ".join,
)
def test_every_form_trains_to_weights_of_its_own(scored, encoder_folder, drtools, tmp_path, more):
    for name, words in (("adam", []), ("form", more)):
        assert drtools(*command(scored, encoder_folder, tmp_path / name, "--steps", "8", *words)).status == 0
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("adam", "form"))
    assert any(np.abs(one[name] - other[name]).max() > 1e-5 for name in one)


@pytest.mark.slow
def test_scores_computed_before_and_during_training_agree(scored, encoder_folder, rankers, drtools, tmp_path):
    teach = [
        "teacher-score",
        "--teacher",
        rankers["roberta"],
        "--corpus",
        scored.corpus,
        "--queries",
        scored.queries,
        "--precision",
        "fp32",
        "--max-query-tokens",
        "14",
        "--max-document-tokens",
        TOKENS - 2,
        "--examples",
        scored.dark,
    ]
    live = ["--teacher", rankers["roberta"], "--steps", "6"]
    assert drtools(*command(scored, encoder_folder, tmp_path / "live", *live, examples=scored.dark)).status == 0
    assert drtools(*teach, "-o", tmp_path / "taught.jsonl").status == 0
    assert "the others were in the cache" in drtools(*teach, "--overwrite", "-o", tmp_path / "taught.jsonl").err
    assert (
        drtools(
            *command(scored, encoder_folder, tmp_path / "file", "--steps", "6", examples=tmp_path / "taught.jsonl")
        ).status
        == 0
    )
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("live", "file"))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    teachers = {json.loads((tmp_path / name / "manifest.json").read_text())["teacher"] for name in ("live", "file")}
    assert len(teachers) == 1 and teachers.pop().startswith("roberta@")
    counted = json.loads((tmp_path / "taught.jsonl.manifest.json").read_text())["counts"]
    assert counted["pairs"] == 20 * (1 + 3 + 3 + 2) + 1 and not counted.get("computed"), "two positives in q1"
    assert (
        drtools(
            *command(scored, encoder_folder, tmp_path / "random", *live, "--baseline", "rand-kd", examples=scored.dark)
        ).status
        == 0
    )


@pytest.mark.parametrize("scored_beforehand", [False, True], ids=["while training", "beforehand"])
def test_teacher_and_student_read_the_same_text(scored, encoder_folder, rankers, scored_beforehand):
    """Plain documents, masked ones and both halves of reinforced ones are cut at the same token, and so are queries."""
    from functools import partial

    from drtools.formats.corpus_store import open_store
    from drtools.formats.examples import read_examples
    from drtools.methods.adam.dark import dark_asked, own_tokens, special_of_teacher
    from drtools.models.compute import Compute
    from drtools.models.pair_tokens import tokenize_pairs
    from drtools.teachers.scoring import load_teacher
    from drtools.teachers.windows import ScoredTexts, asked_of

    longer = [document | {"text": " ".join([document["text"]] * 2)} for document in scored.documents]
    write_jsonl(Path(scored.corpus), longer)
    queries = {f"q{n}": " ".join(longer[n]["text"].split()[:9]) for n in range(20)}
    write_jsonl(Path(scored.queries), [{"_id": query, "text": text} for query, text in queries.items()])
    lengths = {"max_document_tokens": TOKENS, "max_query_tokens": 8}
    form, computing = Form(("reinforced", "noisy")), Compute("cpu", "fp32", 1024)
    model, batches = batches_of(scored, encoder_folder, form, set=lengths)
    own = own_tokens(model, "query"), own_tokens(model, "document")
    assert own == (6, TOKENS - 2)
    if scored_beforehand:
        teacher = load_teacher([rankers["bert"]], computing, max_query_tokens=6, max_document_tokens=TOKENS - 2)
    else:
        teacher = load_teacher([rankers["bert"]], computing, student_tokens=own)
    batches.teacher = partial(special_of_teacher, teacher, form.kinds)
    batch, visits = batches(0), batches.visits(0)
    examples = {example.query_id: example for example in read_examples(scored.dark)}
    texts = ScoredTexts(queries, open_store(scored.corpus), " ")
    documents = len(batch.tokens["document"].lengths)
    cut = 0
    for row, visit in enumerate(visits):
        listed = list_visit(visit, form)
        if scored_beforehand:
            query_id = visit.source.examples.query_ids[visit.at]
            asked = asked_of(examples[query_id], texts, [partial(dark_asked, teacher=teacher)])[
                -len(listed.items) :
            ]  # its last positive, and so on
            pairs = [(visit.query, one.text) for one in asked]
            limits = [one.limit for one in asked]
        else:
            pairs, limits = batch.asked[row].texts, batch.asked[row].limits
        assert len(pairs) == len(listed.items) == 1 + 3 + 3 + 2
        read = tokenize_pairs(teacher.scorers[0].encoder, pairs, limits)
        query = batch.tokens["query"].inputs([row])[0][0].tolist()
        for at in range(len(pairs)):
            column = int(batch.columns[row, at])
            side, column = ("document", column) if column < documents else ("reinforced", column - documents)
            tokens = batch.tokens[side]
            student = tokens.flat[tokens.starts[column] : tokens.starts[column + 1]].tolist()
            pair = read.flat[read.starts[at] : read.starts[at + 1]].tolist()
            end = pair.index(model.tokenizer.sep_token_id)
            assert pair[: end + 1] == [token for token in query if token != 0][: end + 1] and end == 7
            assert pair[end + 1 :] == student[1:], (side, at)
            cut += bool(tokens.cut[column])
    assert cut > 20


def test_another_length_of_the_teacher_is_said(scored, encoder_folder, rankers, drtools, tmp_path):
    texts = ["--corpus", scored.corpus, "--queries", scored.queries, "--examples", scored.dark]
    said = {}
    for name, lengths in (("whole", []), ("alike", ["--max-query-tokens", "14", "--max-document-tokens", TOKENS - 2])):
        path = tmp_path / f"{name}.jsonl"
        assert drtools("teacher-score", "--teacher", rankers["bert"], *texts, *lengths, "-o", path).status == 0
        outcome = drtools(*command(scored, encoder_folder, tmp_path / name, "--steps", "1", examples=path))
        assert outcome.status == 0, outcome.err
        said[name] = outcome.err
    assert "its teacher reads" not in said["alike"]
    for words in (
        "its teacher reads 30 tokens of a query and 31 tokens of a document, the student 14 and 22 (without special",
        "run teacher-score with --max-query-tokens 14 --max-document-tokens 22",
    ):
        assert words in said["whole"], said["whole"]


def test_a_teacher_without_room_for_the_students_texts_is_said(scored, encoder_folder, rankers, drtools, tmp_path):
    words = ["--teacher", rankers["bert"], "--steps", "1", "--max-query-tokens", "40", "--baseline", "hard-kd"]
    outcome = drtools(*command(scored, encoder_folder, tmp_path / "out", *words))
    assert outcome.status == 0 and "the teacher has room for 30 tokens of a query and 22 of a document" in outcome.err


@pytest.mark.slow
def test_a_teacher_that_keeps_its_dropout_draws_it_anew_at_each_step(rankers):
    from drtools.methods.adam.teacher import Dropping, keep_dropout
    from drtools.models.compute import Compute
    from drtools.teachers.scoring import load_teacher

    pairs = [(f"fox {n}", "otter river " * (1 + n % 9)) for n in range(30)]
    computing = Compute("cpu", "fp32", 64)
    plain = load_teacher([rankers["bert"], rankers["roberta"]], computing).scores(pairs)
    teacher = load_teacher([rankers["bert"], rankers["roberta"]], computing, dropout=0.1)
    keep_dropout(teacher)
    first, again, other = (Dropping(teacher, ("seed", step)).scores(pairs) for step in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    drawn = np.array([Dropping(teacher, ("many", step)).scores(pairs) for step in range(200)])
    assert drawn.std(axis=0).min() > 0
    assert (
        np.abs(drawn.mean(axis=0) - plain).max() < 6 * drawn.std(axis=0).max() / 200**0.5 + 0.1 * np.abs(plain).max()
    ), "around the scores without"
    assert [len(scorer.cache) for scorer in teacher.scorers] == [30, 30] and teacher.counts[
        "computed"
    ] == 2 * 203 * 30, "past the cache"


@pytest.mark.bits
@pytest.mark.slow
def test_teacher_dropout_continues_to_the_same_weights(
    scored, encoder_folder, rankers, drtools, tmp_path, interrupt_at
):
    words = ["--teacher", rankers["bert"], "--teacher-dropout", "0.1", "--steps", "6", "--save-every-minutes", "0"]
    assert drtools(*command(scored, encoder_folder, tmp_path / "whole", *words, examples=scored.dark)).status == 0
    interrupt_at(AdamBatches, "__call__", 5)
    assert drtools(*command(scored, encoder_folder, tmp_path / "stopped", *words, examples=scored.dark)).status == 130
    assert drtools(*command(scored, encoder_folder, tmp_path / "stopped", *words, examples=scored.dark)).status == 0
    assert (
        drtools(
            *command(
                scored,
                encoder_folder,
                tmp_path / "without",
                "--teacher",
                rankers["bert"],
                "--steps",
                "6",
                examples=scored.dark,
            )
        ).status
        == 0
    )
    whole, stopped, without = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped", "without")
    )
    assert all(np.array_equal(whole[name], stopped[name]) for name in whole)
    assert any(not np.array_equal(whole[name], without[name]) for name in whole)


def test_dark_scores_are_those_of_the_peer_on_the_rendered_text(scored, rankers, drtools, tmp_path):
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer

    drtools(
        "teacher-score",
        "--teacher",
        rankers["bert"],
        "--corpus",
        scored.corpus,
        "--queries",
        scored.queries,
        "--precision",
        "fp32",
        "--examples",
        scored.dark,
        "--max-document-tokens",
        "16",
        "-o",
        tmp_path / "taught.jsonl",
    )
    texts = {document["_id"]: f"{document['title']} {document['text']}" for document in scored.documents}
    queries = {record["_id"]: record["text"] for record in map(json.loads, open(scored.queries))}
    special = special_of(AutoTokenizer.from_pretrained(rankers["bert"]), 16 + 2, {"reinforced", "noisy"}, "bert")
    peer = CrossEncoder(rankers["bert"], device="cpu")
    taught = [json.loads(line) for line in open(tmp_path / "taught.jsonl")]
    assert len(taught) == 20 and all(record["dark"] for record in taught)
    for record in taught:
        items = [
            Reinforced(item["positive"], item["negative"])
            if item["kind"] == "reinforced"
            else Noisy(item["positive"], item["ratio"], item["seed"])
            for item in record["dark"]
        ]
        rendered = [dark_text(item, record["query_id"], texts.get, special) for item in items]
        shorts = [at for at, item in enumerate(items) if item.kind == "reinforced"]
        expected = peer.predict([(queries[record["query_id"]], rendered[at]) for at in shorts])
        np.testing.assert_allclose([record["dark_scores"][at] for at in shorts], expected, rtol=1e-4, atol=1e-4)
        assert len(record["dark_scores"]) == len(items)


@pytest.mark.slow
@pytest.mark.bits
def test_a_stopped_training_ends_in_the_same_weights(scored, encoder_folder, drtools, tmp_path, monkeypatch):
    words = ["--steps", "12", "--save-every-minutes", "0"]
    assert drtools(*command(scored, encoder_folder, tmp_path / "whole", *words)).status == 0
    original, stops = AdamBatches.__call__, [3, 8]

    def stopping(self, step):
        if stops and step == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt
        return original(self, step)

    monkeypatch.setattr(AdamBatches, "__call__", stopping)
    said = [drtools(*command(scored, encoder_folder, tmp_path / "stopped", *words)) for _ in range(3)]
    assert [one.status for one in said] == [130, 130, 0] and "continuing the work" in said[2].err
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"with_positive": False, "negatives": None},
            ["--negatives: None then, 10 now", "--with-positive: False then"],
        ),
        ({}, []),
    ],
    ids=["defaults", "with the same flags"],
)
def test_a_training_that_0_1_0_began_is_refused_by_naming_the_difference(
    scored, encoder_folder, drtools, tmp_path, interrupt_at, arguments, said
):
    words = ["--steps", "12", "--save-every-minutes", "0"]
    interrupt_at(AdamBatches, "__call__", 8)
    assert drtools(*command(scored, encoder_folder, tmp_path / "out", *words)).status == 130
    written = tmp_path / "out.partial/request.json"
    request = json.loads(written.read_text())
    assert request.pop("changes")
    request["arguments"] |= arguments
    written.write_text(json.dumps(request))
    refused = drtools(*command(scored, encoder_folder, tmp_path / "out", *words))
    assert refused.status == 2 and "begun by another request" in refused.err
    for words in (*said, "since then negatives are drawn anew at each visit"):
        assert words in refused.err, refused.err
    assert written.exists()


@pytest.mark.slow
def test_two_processes_equal_one(scored, encoder_folder, drtools, tmp_path, several):
    words = ["--steps", "4", "--dropout", "0", "--batch-queries", "7", "--pacing", "steps", "--dev-qrels", scored.qrels]
    assert drtools(*command(scored, encoder_folder, tmp_path / "one", *words)).status == 0
    several(2, command(scored, encoder_folder, tmp_path / "two", *words))
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    start = load_file(Path(encoder_folder) / "model.safetensors")
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=1e-5)
    assert max(np.abs(one[name] - start[name]).max() for name in one) > 1e-3


def test_items_that_the_corpus_lacks_are_left_out_and_counted(scored, encoder_folder, drtools, tmp_path):
    scored.records[4]["dark"][0]["negative"] = "gone"
    scored.records[5]["dark"][-1]["positive"] = "gone"
    write_jsonl(Path(scored.scored), scored.records)
    outcome = drtools(*command(scored, encoder_folder, tmp_path / "out", "--steps", "3"))
    assert outcome.status == 0 and "2 dark items have a document that is not in the corpus; left out" in outcome.err


def unscored(toy):
    for record in toy.records[:2]:
        record["dark_scores"][1] = None
    toy.records[3]["negative_scores"][0] = None
    return write_jsonl(toy.folder / "unscored.jsonl", toy.records)


def by_retriever(toy):
    return write_jsonl(
        toy.folder / "bm25.jsonl",
        [{key: value for key, value in record.items() if key != "scored_by"} for record in toy.records],
    )


def of_kind(toy, kind):
    kept = []
    for record in toy.records:
        at = [place for place, item in enumerate(record["dark"]) if item["kind"] == kind]
        kept.append(record | {key: [record[key][place] for place in at] for key in ("dark", "dark_scores")})
    return write_jsonl(toy.folder / f"{kind}.jsonl", kept)


BAD = {
    "items without scores": (
        lambda t: [],
        unscored,
        "3 of 180 items to distill have no score; run teacher-score on the file, or use --teacher",
    ),
    "nothing scored": (lambda t: ["--accept-scores"], lambda t: t.dark, "180 of 180 items"),
    "scores of a retriever": (lambda t: [], by_retriever, "scores are not from a teacher"),
    "no dark items": (
        lambda t: ["--accept-scores"],
        lambda t: write_jsonl(t.folder / "plain.jsonl", [{"query_id": "q1", "positives": ["d1"], "negatives": ["d2"]}]),
        "no example has dark items",
    ),
    "no items of a kind": (
        lambda t: [],
        lambda t: of_kind(t, "noisy"),
        "no example has a reinforced item; run make-dark-examples and teacher-score again, or use --without reinforced",
    ),
    "an unknown kind": (lambda t: ["--without", "masked"], None, "--without masked: expected reinforced or noisy"),
    "a baseline without a kind": (
        lambda t: ["--baseline", "hard-kd", "--without", "noisy"],
        None,
        "a baseline has no dark examples",
    ),
    "random without a teacher": (lambda t: ["--baseline", "rand-kd"], None, "use --teacher, or mine"),
    "dropout without a teacher": (
        lambda t: ["--teacher-dropout", "0.1"],
        None,
        "use --teacher to score during training",
    ),
    "a baseline without its positive": (
        lambda t: ["--baseline", "hard-kd", "--without-positive"],
        None,
        "a baseline distills the positive and negatives",
    ),
    "no random document": (
        lambda t: ["--baseline", "rand-kd", "--teacher", "x", "--negatives", "0"],
        None,
        "expected the number of random documents",
    ),
    "two sources of scores": (lambda t: ["--teacher", "x", "--accept-scores"], None, "leave one of the two out"),
    "minutes alone": (lambda t: ["--minutes", "1"], None, "only --minutes 1 was given"),
    "too few positions": (lambda t: ["--max-document-tokens", "40"], None, "use 32 or less, or --without reinforced"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_meant_is_refused_in_one_line(scored, encoder_folder, drtools, tmp_path, name):
    words, examples, expected = BAD[name]
    outcome = drtools(
        *command(scored, encoder_folder, tmp_path / "out", *words(scored), examples=examples and examples(scored))
    )
    assert outcome.status == 2 and expected in outcome.err, outcome.err
    assert (
        len([line for line in outcome.err.splitlines() if "note:" not in line]) == 1 and not (tmp_path / "out").exists()
    )


def test_examples_without_dark_items_are_counted(scored, encoder_folder, drtools, tmp_path):
    bare = write_jsonl(
        tmp_path / "bare.jsonl",
        [record | {"dark": [], "dark_scores": []} if at < 3 else record for at, record in enumerate(scored.records)],
    )
    outcome = drtools(*command(scored, encoder_folder, tmp_path / "out", "--steps", "1", examples=bare))
    assert outcome.status == 0 and "3 of 20 examples have none of the requested dark items" in outcome.err, outcome.err


def test_negatives_without_a_reinforced_item_are_counted(scored, encoder_folder, drtools, tmp_path):
    for record in scored.records[:4]:
        del record["dark"][0], record["dark_scores"][0]
    path = write_jsonl(tmp_path / "some.jsonl", scored.records)
    outcome = drtools(*command(scored, encoder_folder, tmp_path / "out", "--steps", "1", examples=path))
    assert outcome.status == 0 and "4 of 60 negatives have no reinforced item" in outcome.err, outcome.err
    without = ["--steps", "1", "--without", "reinforced"]
    outcome = drtools(*command(scored, encoder_folder, tmp_path / "noisy", *without, examples=path))
    assert outcome.status == 0 and "have no reinforced item" not in outcome.err


@pytest.mark.parametrize("kinds", [(), ("noisy",), ("reinforced",), ("reinforced", "noisy")], ids=str)
def test_what_examples_offer_equals_loops(scored, encoder_folder, monkeypatch, kinds):
    from drtools.methods.adam import batches as adam

    monkeypatch.setattr(adam, "EXAMPLES_A_COUNT", 7)
    draw = np.random.default_rng(4)
    for record in scored.records:
        for key in ("positive", "negative", "dark"):
            values = record[f"{key}_scores"]
            record[f"{key}_scores"] = [None if draw.random() < 0.3 else value for value in values]
        kept = [at for at in range(len(record["dark"])) if draw.random() < 0.6]
        for key in ("dark", "dark_scores"):
            record[key] = [record[key][at] for at in kept if record["query_id"] != "q7"]
    write_jsonl(Path(scored.scored), scored.records)
    _, batches = batches_of(scored, encoder_folder, Form())
    expected = adam.Supply()
    for record in scored.records:
        of = {
            kind: [at for at, item in enumerate(record["dark"]) if item["kind"] == kind]
            for kind in ("reinforced", "noisy")
        }
        items = [*record["negative_scores"], *(record["dark_scores"][at] for kind in kinds for at in of[kind])]
        if record["dark"]:
            items.append(record["positive_scores"][record["positives"].index(record["dark"][0]["positive"])])
            paired = {record["dark"][at]["negative"] for at in of["reinforced"]}
            expected.negatives += len(record["negatives"])
            expected.unpaired += len(set(record["negatives"]) - paired)
        else:
            items += record["positive_scores"]
        expected.items += len(items)
        expected.unscored += items.count(None)
        expected.of_kind.update(kind for kind in kinds if of[kind])
        expected.without += not any(of[kind] for kind in kinds)
    assert adam.count_supply(batches.visits.sources[0].examples, Form(kinds)) == expected
    assert expected.unscored and expected.unpaired and expected.without


def test_two_teachers_do_not_mix(scored, encoder_folder, drtools, tmp_path):
    other = write_jsonl(tmp_path / "other.jsonl", [record | {"scored_by": "other@1"} for record in scored.records])
    outcome = drtools(*command(scored, encoder_folder, tmp_path / "out", "--examples", other, "--steps", "1"))
    assert (
        outcome.status == 2 and "other.jsonl by other@1; scores of different teachers cannot be mixed" in outcome.err
    ), outcome.err


@pytest.mark.slow
def test_what_a_live_teacher_cuts_is_said(scored, encoder_folder, rankers, drtools, tmp_path):
    write_jsonl(
        Path(scored.corpus), [{**document, "text": " ".join([document["text"]] * 9)} for document in scored.documents]
    )
    said = []
    for number, dropout in enumerate(([], [], ["--teacher-dropout", "0.1"])):  # the second finds its pairs in the cache
        outcome = drtools(
            *command(
                scored,
                encoder_folder,
                tmp_path / f"out{number}",
                "--teacher",
                rankers["bert"],
                "--steps",
                "1",
                *dropout,
            )
        )
        said += re.findall(r"note: \d+ of the pairs had a document that was cut", outcome.err)
        assert outcome.status == 0 and len(said) == number + 1, outcome.err
    assert said[0] == said[1]


def test_reinforced_texts_that_lose_the_end_of_a_half_count_as_cut(scored, encoder_folder):
    write_jsonl(
        Path(scored.corpus),
        [
            {**document, "text": " ".join([document["text"]] * (1 + at % 3))}
            for at, document in enumerate(scored.documents)
        ],
    )
    model, batches = batches_of(scored, encoder_folder, Form(("reinforced",)))
    batch, ids = batches(0), {}
    for document in map(json.loads, open(scored.corpus)):
        ids[document["_id"]] = model.tokenizer(f"{document['title']} {document['text']}", add_special_tokens=False)[
            "input_ids"
        ]
    visits = [list_visit(visit, Form(("reinforced",))) for visit in batches.visits(0)]
    items = [row.item(batches.visits(0)[0].source.store.ids_at) for listed in visits for row in listed.dark]
    whole = [len(ids[item.positive]) + len(ids[item.negative]) + 3 <= 2 * TOKENS for item in items]
    assert batch.tokens["reinforced"].cut.tolist() == [not each for each in whole] and 0 < sum(whole) < len(whole)


def test_a_retrievers_scores_are_learnt_from_if_that_was_said(scored, encoder_folder, drtools, tmp_path):
    assert (
        drtools(
            *command(
                scored,
                encoder_folder,
                tmp_path / "out",
                "--steps",
                "2",
                "--accept-scores",
                examples=by_retriever(scored),
            )
        ).status
        == 0
    )
