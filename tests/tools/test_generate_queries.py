"""generate-queries with toys: what transformers would write, the same whatever the batch, filtered and counted."""

import json
from collections import Counter
from pathlib import Path

import pytest
from models.toy_generators import make_causal, make_t5

from drtools.methods.generation.generate import GenerationState

PROMPT = "Document: a b c\nQuery: a\n\nDocument: {document}\nQuery:"


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    return make_t5(tmp_path_factory.mktemp("t5") / "generator")


@pytest.fixture(scope="module")
def causal(tmp_path_factory) -> str:
    return make_causal(tmp_path_factory.mktemp("causal") / "generator")


@pytest.fixture
def prompt(tmp_path) -> str:
    (tmp_path / "prompt.txt").write_text(PROMPT + "\n")
    return str(tmp_path / "prompt.txt")


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (Path(folder) / "queries.jsonl").read_text().splitlines()]


def bytes_of(folder) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in ("queries.jsonl", "qrels/train.tsv")}


def counts_of(folder) -> dict[str, int]:
    return json.loads((Path(folder) / "manifest.json").read_text())["counts"]


def usual(model, toy, out, *more) -> list[object]:
    lengths = {"--max-query-tokens": 8, "--max-document-tokens": 150, "--precision": "fp32"}
    words = [word for flag, value in lengths.items() if flag not in more for word in (flag, value)]
    return ["generate-queries", "--model", model, "--corpus", toy.corpus, *words, *more, "-o", out]


def by_transformers(folder: str, prompt: str) -> str:
    """The likeliest query of one text, without padding, by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    kind = AutoModelForSeq2SeqLM if "T5" in (Path(folder) / "config.json").read_text() else AutoModelForCausalLM
    model = kind.from_pretrained(folder).eval()
    given = tokenizer(prompt, return_tensors="pt")
    ids, mask = given["input_ids"], given["attention_mask"]
    written = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, num_beams=1, max_new_tokens=8, pad_token_id=0
    )
    new = written[0] if kind is AutoModelForSeq2SeqLM else written[0, ids.shape[1] :]
    text = tokenizer.decode(new, skip_special_tokens=True)
    return " ".join((text if kind is AutoModelForSeq2SeqLM else text.split("\n")[0]).split())


@pytest.mark.parametrize("kind", ["t5", "causal"])
def test_the_likeliest_queries_are_those_of_transformers(kind, t5, causal, toy, tmp_path, prompt, drtools):
    model, words = (t5, []) if kind == "t5" else (causal, ["--prompt", prompt])
    outcome = drtools(
        *usual(model, toy, tmp_path / "out", "--temperature", 0, "--per-document", 1, "--sample", 9, *words)
    )
    assert outcome.status == 0, outcome.err
    found = {record["document"]: record["text"] for record in lines(tmp_path / "out")}
    documents = {document["_id"]: f"{document['title']} {document['text']}" for document in toy.documents}
    template = "{document}" if kind == "t5" else PROMPT
    assert len(found) > 4 and len(set(found.values())) > 2
    for document, text in found.items():
        assert text == by_transformers(model, template.replace("{document}", documents[document])), document
    assert counts_of(tmp_path / "out")["documents"] == 9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "causal"])
def test_sampled_queries_depend_on_the_seed_and_not_on_the_batch(kind, t5, causal, toy, tmp_path, prompt, drtools):
    model, words = (t5, []) if kind == "t5" else (causal, ["--prompt", prompt])
    for batch in (1, 7, 60):
        assert drtools(*usual(model, toy, tmp_path / f"by-{batch}", "--batch-documents", batch, *words)).status == 0
    assert bytes_of(tmp_path / "by-1") == bytes_of(tmp_path / "by-7") == bytes_of(tmp_path / "by-60")
    assert drtools(*usual(model, toy, tmp_path / "other", "--seed", 1, *words)).status == 0
    assert bytes_of(tmp_path / "other") != bytes_of(tmp_path / "by-7")
    assert drtools(*usual(model, toy, tmp_path / "some", "--sample", 10, *words)).status == 0
    all_of = {record["_id"]: record["text"] for record in lines(tmp_path / "by-7")}
    some = {record["_id"]: record["text"] for record in lines(tmp_path / "some")}
    assert len(some) > 15 and some.items() <= all_of.items()


def test_what_is_written_is_a_collection_s_queries_and_judgements(t5, toy, tmp_path, drtools):
    outcome = drtools(*usual(t5, toy, tmp_path / "out"))
    records, counts = lines(tmp_path / "out"), counts_of(tmp_path / "out")
    assert len({record["_id"] for record in records}) == len(records) == counts["queries"] > 60
    judged = (tmp_path / "out" / "qrels" / "train.tsv").read_text().splitlines()
    assert judged == ["query-id\tcorpus-id\tscore", *(f"{each['_id']}\t{each['document']}\t1" for each in records)]
    assert counts["generated"] == 180 == counts["queries"] + counts["empty"] + counts["repeated"]
    pairs = Counter((record["document"], record["text"].casefold()) for record in records)
    assert max(pairs.values()) == 1 and all(record["text"].strip() for record in records)
    assert outcome.status == 0 and f"{counts['queries']} queries for 60 documents" in outcome.err, outcome.err
    again = drtools(*usual(t5, toy, tmp_path / "out"))
    assert again.status == 0 and "already done" in again.err


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 3, 8])
def test_a_stopped_generation_continues_with_the_same_bytes(
    call, t5, toy, tmp_path, drtools, interrupt_at, monkeypatch
):
    assert drtools(*usual(t5, toy, tmp_path / "whole")).status == 0
    with monkeypatch.context():
        interrupt_at(GenerationState, "record", call)
        assert drtools(*usual(t5, toy, tmp_path / "out")).status == 130
        monkeypatch.undo()
    partial = tmp_path / "out.partial"
    assert partial.exists() == (call > 1)
    if call > 1:  # what a killed process had written and not yet saved
        with open(next(partial.rglob("generated.jsonl")), "ab") as stream:
            stream.write(b'{"_id": "half')
    assert drtools(*usual(t5, toy, tmp_path / "out", "--batch-documents", 3)).status == 0
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert counts_of(tmp_path / "out") == counts_of(tmp_path / "whole")


@pytest.mark.slow
def test_a_round_trip_keeps_what_search_finds(t5, toy, tmp_path, encoder_folder, drtools):
    exact = ["--model", encoder_folder, "--precision", "fp32"]
    assert drtools("encode", *exact, "--corpus", toy.corpus, "-o", tmp_path / "vectors").status == 0
    assert drtools(*usual(t5, toy, tmp_path / "all")).status == 0
    searched = ["search", "--vectors", tmp_path / "vectors", "--queries", tmp_path / "all" / "queries.jsonl"]
    assert drtools(*searched, *exact, "--depth", 15, "-o", tmp_path / "run").status == 0
    hits = {(line.split()[0], line.split()[2]) for line in (tmp_path / "run").read_text().splitlines()}
    expected = [record for record in lines(tmp_path / "all") if (record["_id"], record["document"]) in hits]
    more = ["--round-trip", tmp_path / "vectors", "--round-trip-model", encoder_folder, "--round-trip-depth", 15]
    outcome = drtools(*usual(t5, toy, tmp_path / "kept", *more))
    assert outcome.status == 0 and "did not find their document" in outcome.err, outcome.err
    assert lines(tmp_path / "kept") == expected and 0 < len(expected) < len(lines(tmp_path / "all"))
    assert counts_of(tmp_path / "kept")["not found"] == len(lines(tmp_path / "all")) - len(expected)


@pytest.mark.slow
def test_a_teacher_keeps_what_it_scores_high(t5, bert, toy, tmp_path, drtools):
    train = ["train-ranker", "--model", bert, *toy.training, "--steps", 1, "--negatives", 2, "-o", tmp_path / "ranker"]
    assert drtools(*train).status == 0
    assert drtools(*usual(t5, toy, tmp_path / "all", "--sample", 12)).status == 0
    records = lines(tmp_path / "all")
    (tmp_path / "pairs.run").write_text("".join(f"{each['_id']} Q0 {each['document']} 1 1 x\n" for each in records))
    teacher = ["--teacher", tmp_path / "ranker"]
    data = ["--precision", "fp32", "--corpus", toy.corpus, "--queries", tmp_path / "all" / "queries.jsonl"]
    assert (
        drtools("teacher-score", "--run", tmp_path / "pairs.run", *teacher, *data, "-o", tmp_path / "scored").status
        == 0
    )
    scores = {line.split()[0]: float(line.split()[4]) for line in (tmp_path / "scored").read_text().splitlines()}
    middle = sorted(scores.values())[len(scores) // 2]
    more = [*teacher, "--least-score", repr(middle)]
    outcome = drtools(*usual(t5, toy, tmp_path / "kept", "--sample", 12, *more))
    assert outcome.status == 0 and "scored too low by the teacher" in outcome.err, outcome.err
    assert lines(tmp_path / "kept") == [
        {**each, "score": scores[each["_id"]]} for each in records if scores[each["_id"]] >= middle
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "a causal model continues a prompt; use --prompt FILE"),
        (["--prompt", "no-place"], "{document} occurs 0 times"),
        (["--prompt", "bytes"], "not UTF-8"),
        (["--prompt", "prompt.txt", "--max-document-tokens", 250], "reads 256 tokens"),
        (["--prompt", "prompt.txt", "--chat-template"], "has no chat template; leave --chat-template out"),
        (["--prompt", "prompt.txt", "--temperature", 0], "use --per-document 1"),
        (["--prompt", "prompt.txt", "--least-score", 1], "--teacher and --least-score go together"),
        (["--prompt", "prompt.txt", "--round-trip-model", "x"], "--round-trip-model needs --round-trip"),
        (["--prompt", "absent"], "no such file"),
        (["--prompt", "prompt.txt", "--round-trip", "prompt.txt"], "prompt.txt"),
    ],
)
def test_what_cannot_be_generated_is_refused(words, said, causal, toy, tmp_path, prompt, drtools, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no-place").write_text("Write a query.")
    (tmp_path / "bytes").write_bytes(b"\xff{document}")
    outcome = drtools(*usual(causal, toy, "out", *words))
    assert outcome.status == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err
    assert not Path("out").exists() and not Path("out.partial").exists()


def test_an_encoder_is_no_generator(bert, toy, tmp_path, prompt, drtools):
    outcome = drtools(*usual(bert, toy, tmp_path / "out", "--prompt", prompt))
    assert outcome.status == 2 and "internal" not in outcome.err, outcome.err


def test_a_chat_template_surrounds_the_prompt(causal, toy, tmp_path, prompt, drtools):
    import shutil

    from transformers import AutoTokenizer

    chatting = shutil.copytree(causal, tmp_path / "chatting")
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    tokenizer.chat_template = "{% for turn in messages %}User: {{ turn.content }}</s>{% endfor %}Answer:"
    tokenizer.save_pretrained(chatting)
    words = ["--prompt", prompt, "--temperature", 0, "--per-document", 1, "--sample", 6]
    outcome = drtools(*usual(str(chatting), toy, tmp_path / "out", *words, "--chat-template"))
    assert outcome.status == 0, outcome.err
    documents = {document["_id"]: f"{document['title']} {document['text']}" for document in toy.documents}
    for record in lines(tmp_path / "out"):
        whole = f"User: {PROMPT.replace('{document}', documents[record['document']])}</s>Answer:"
        assert record["text"] == by_transformers(str(causal), whole)
