"""Model cards: what they say, what they must not say, and that others can read them."""

import re

import pytest
import yaml
from huggingface_hub import ModelCard

from drtools.cli.model_card import write_card

FINGERPRINT = "0123456789abcdef0123456789abcdef"


def record(**changes):
    arguments = {
        "corpus": {"path": "/home/someone/secret/corpus.jsonl.gz", "fingerprint": FINGERPRINT},
        "examples": [
            {"path": "/home/someone/a.jsonl", "fingerprint": "f" * 32},
            {"path": "b.jsonl", "fingerprint": "e" * 32},
        ],
        "model": {"path": "sentence-transformers/all-MiniLM-L6-v2"},
        "learning_rate": 2e-05,
        "steps": None,
        "minutes": 7.5,
        "title_separator": " ",
        "tied": True,
        "odd": "a|b\nc `d` *e*",
        "weights": [1.0, 0.5],
    }
    return {
        "tool": "train-star",
        "version": "0.1.0",
        "request": {"tool": "train-star", "arguments": arguments},
        "base": "sentence-transformers/all-MiniLM-L6-v2",
        "dimension": 384,
        "normalized": True,
        "max_query_tokens": 64,
        "max_document_tokens": 256,
        "query_prompt": "query: ",
        "document_prompt": "",
        "steps": 1234,
        "training_seconds": 431.0,
        "evaluations": [
            {"step": 0, "nDCG@10": 0.70123, "RR@10": 0.6},
            {"step": 1000, "nDCG@10": 0.7777, "RR@10": 0.65},
            {"step": 1234, "nDCG@10": 0.75, "RR@10": 0.7},
        ],
        "best": {"step": 1000, "value": 0.7777, "measure": "nDCG@10"},
        **changes,
    }


def written(folder, **changes):
    write_card(folder, record(**changes))
    return (folder / "README.md").read_text(encoding="utf-8")


def rows(text, heading):
    """Return the cells of the table below a heading; a pipe behind a backslash is part of a cell."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in section.splitlines()
        if line.startswith("|")
    ]


def test_hugging_face_reads_the_front_matter(tmp_path):
    text = written(tmp_path)
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["library_name"] == "sentence-transformers" and front["pipeline_tag"] == "sentence-similarity"
    assert front["tags"] == ["sentence-transformers", "feature-extraction", "sentence-similarity", "dense-retrieval"]
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2" and card.data.tags == front["tags"]
    assert card.text.strip().startswith("# A dense retrieval encoder")


def test_a_base_on_this_machine_is_no_hub_name_and_its_place_stays_private(tmp_path):
    (tmp_path / "warm-up").mkdir()
    request = {
        "tool": "train-star",
        "arguments": {"model": {"path": str(tmp_path / "warm-up"), "fingerprint": FINGERPRINT}},
    }
    text = written(tmp_path, base=str(tmp_path / "warm-up"), request=request)
    assert "base_model" not in yaml.safe_load(text.split("---\n")[1])
    assert "the local model `warm-up`" in text and str(tmp_path) not in text
    assert rows(text, "Settings")[2] == ["`--model`", f'`"warm-up"`, fingerprint `"{FINGERPRINT}"`']


def test_it_says_what_the_model_is(tmp_path):
    text = written(tmp_path)
    assert "`drtools train-star` (drtools 0.1.0)" in text and "1,234 steps, 7 min 11 s" in text
    assert "Dimension: 384. Similarity: cosine" in text and "encode_query" in text and "drtools search" in text
    assert rows(text, "Vectors")[2:] == [["longest text, in tokens", "64", "256"], ["prompt", '`"query: "`', "none"]]
    assert "cuts both sides at the longer length" in text
    plain = written(tmp_path, normalized=False, max_query_tokens=256)
    assert "Similarity: inner product." in plain and "cuts both sides" not in plain


def test_the_best_evaluation_is_marked(tmp_path):
    table = rows(written(tmp_path), "Evaluation while training")
    assert table[0] == ["step", "nDCG@10", "RR@10", ""]
    assert table[2:] == [
        ["0", "0.7012", "0.6000", ""],
        ["1,000", "0.7777", "0.6500", "best"],
        ["1,234", "0.7500", "0.7000", ""],
    ]
    assert "None was made." in written(tmp_path, evaluations=[], best=None)


def test_settings_are_the_request_without_this_machines_paths(tmp_path):
    text = written(tmp_path)
    assert "/home" not in text and "secret" not in text
    settings = dict(rows(text, "Settings")[2:])
    assert settings["`--corpus`"] == f'`"corpus.jsonl.gz"`, fingerprint `"{FINGERPRINT}"`'
    assert (
        settings["`--examples`"] == f'`"a.jsonl"`, fingerprint `"{"f" * 32}"`, `"b.jsonl"`, fingerprint `"{"e" * 32}"`'
    )
    assert (
        settings["`--model`"] == '`"sentence-transformers/all-MiniLM-L6-v2"`'
        and settings["`--learning-rate`"] == "`2e-05`"
    )
    assert (
        settings["`--title-separator`"] == '`" "`'
        and settings["`--tied`"] == "`true`"
        and settings["`--weights`"] == "`[1.0, 0.5]`"
    )
    assert "`--steps`" not in settings


def test_what_markdown_would_read_breaks_no_table(tmp_path):
    text = written(tmp_path, query_prompt="a|b\n", document_prompt="``x``")
    assert all(len(row) == 2 for row in rows(text, "Settings")) and all(len(row) == 3 for row in rows(text, "Vectors"))
    assert dict(rows(text, "Settings")[2:])["`--odd`"] == r'`` "a\|b\nc `d` *e*" ``'
    markdown = (
        pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table").render(text.split("---\n", 2)[2])
    )
    assert markdown.count("<table>") == 3
    for cell in (
        r"<code>&quot;a|b\nc `d` *e*&quot;</code>",
        r"<code>&quot;a|b\n&quot;</code>",
        "<code>&quot;``x``&quot;</code>",
    ):
        assert f"{cell}</td>" in markdown


def test_no_name_puts_html_or_markdown_into_the_card(tmp_path):
    hostile = "a\n\n<img src=x onerror=alert(1)>\n\n# `Fake` ``heading``\x1b[2J |"
    model, data = {"path": hostile}, {"path": f"/data/{hostile}", "fingerprint": FINGERPRINT}
    text = written(
        tmp_path,
        base=hostile,
        document_base=hostile,
        query_prompt=hostile,
        request={"arguments": {"model": model, "corpus": data, "note": hostile, "examples": [data]}},
    )
    body = text.split("\n---\n", 1)[1]
    assert not any(line.lstrip().startswith(("<", "# `")) for line in body.splitlines())
    assert "\x1b" not in text
    outside = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", body, flags=re.DOTALL)
    assert "<img" not in outside and "Fake" not in outside and body.count("<img") == 7
    assert yaml.safe_load(text.split("---\n")[1])["base_model"] == hostile
