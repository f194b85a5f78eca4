"""The model card: README.md in the folder of a trained model, with what it is, how it was made and how to use it.

It states the training and the measures on dev, without a judgement.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drtools.escapes import escaped_line
from drtools.units import counted, seconds_as_words

TAGS = ("sentence-transformers", "feature-extraction", "sentence-similarity", "dense-retrieval")
RANKER_TAGS = ("sentence-transformers", "cross-encoder", "reranker")
USAGE = """\
With drtools:

```
drtools encode --model MODEL --corpus corpus.jsonl.gz -o vectors
drtools index --vectors vectors --factory HNSW32 -o index
drtools search --index index --model MODEL --queries queries.jsonl.gz -o model.run
```

With sentence-transformers:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("MODEL")
query_vectors = model.encode_query(["how do vaccines work"])
document_vectors = model.encode_document(["Vaccines train the immune system."])
print(model.similarity(query_vectors, document_vectors))
```

`MODEL` is the path of this folder. Prompts are put before the texts by both programs."""


RANKER_USAGE = """\
With drtools:

```
drtools teacher-score --teacher MODEL --run bm25.run --corpus corpus.jsonl.gz --queries queries.jsonl.gz -o ranked.run
drtools teacher-score --teacher MODEL --examples examples.jsonl --corpus corpus.jsonl.gz \\
    --queries queries.jsonl.gz -o scored.jsonl
```

With sentence-transformers:

```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("MODEL")
print(model.predict([("how do vaccines work", "Vaccines train the immune system.")]))
```

`MODEL` is the path of this folder. Scores are raw logits in both programs."""


def write_card(folder: Path, record: dict[str, Any]) -> None:
    """Write README.md into a model folder.

    `record` has: tool, version, request (as in manifests), base, dimension, normalized, max_query_tokens,
    max_document_tokens, query_prompt, document_prompt, evaluations ([{"step", measure: value}]), best ({"step",
    "value", "measure"} or None), steps, training_seconds, head_steps if others came first, and measured_on if this was
    not on dev queries. Of paths on this machine, only the last name is written.
    """
    parts = [
        _front_matter(record["base"], "sentence-similarity", TAGS),
        "# A dense retrieval encoder",
        _what(record, f"It maps queries and documents to vectors of {record['dimension']} dimensions"),
        "## Use",
        USAGE,
        "## Vectors",
        _vectors(record),
        "## Evaluation while training",
        _evaluations(record),
        "## Settings",
        _settings(record["request"]["arguments"]),
    ]
    _write(folder, parts)


def write_ranker_card(folder: Path, record: dict[str, Any]) -> None:
    """Write README.md into the folder of a cross-encoder.

    `record` is as for an encoder, without the keys of vectors and prompts, and with max_pair_tokens.
    max_document_tokens may be None.
    """
    parts = [
        _front_matter(record["base"], "text-ranking", RANKER_TAGS),
        "# A cross-encoder",
        _what(record, "It reads a query and a document together and returns one logit"),
        "## Use",
        RANKER_USAGE,
        "## Pairs",
        _pairs(record),
        "## Evaluation while training",
        _evaluations(record),
        "## Settings",
        _settings(record["request"]["arguments"]),
    ]
    _write(folder, parts)


def _write(folder: Path, parts: list[str]) -> None:
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _is_hub_name(base: str) -> bool:
    return not Path(base).exists()


def _front_matter(base: str, task: str, tags: Sequence[str]) -> str:
    lines = [
        "---",
        "library_name: sentence-transformers",
        f"pipeline_tag: {task}",
        "tags:",
        *(f"- {tag}" for tag in tags),
    ]
    if _is_hub_name(base):
        lines.append(f"base_model: {json.dumps(base)}")  # a JSON string is a YAML string
    return "\n".join([*lines, "---"])


def _what(record: dict[str, Any], does: str) -> str:
    base = (
        _code(record["base"])
        if _is_hub_name(record["base"])
        else f"the local model {_code(Path(record['base']).absolute().name)}"
    )
    documents = record.get("document_base")
    if documents:
        base += f" (queries) and {_code(documents if _is_hub_name(documents) else Path(documents).absolute().name)}"
        base += " (documents)"
    head = record.get("head_steps")
    after = f" after {counted(head, 'step')} that fitted a new masked head" if head else ""
    return (
        f"{does}, and was made by `drtools {record['tool']}` "
        f"(drtools {record['version']}) from {base} in {counted(record['steps'], 'step')}{after}, "
        f"{seconds_as_words(record['training_seconds'])} of training."
    )


def _vectors(record: dict[str, Any]) -> str:
    similarity = (
        "cosine; vectors have length 1, so it is the inner product" if record["normalized"] else "inner product"
    )
    rows = [
        ["", "queries", "documents"],
        ["longest text, in tokens", str(record["max_query_tokens"]), str(record["max_document_tokens"])],
        [
            "prompt",
            *(
                _cell(record[f"{side}_prompt"]) if record[f"{side}_prompt"] else "none"
                for side in ("query", "document")
            ),
        ],
    ]
    cut = (
        ""
        if record["max_query_tokens"] == record["max_document_tokens"]
        else " sentence-transformers cuts both sides at the longer length."
    )
    prefixes = record.get("matryoshka")
    trained = (
        f" The training summed its loss over prefixes of {', '.join(map(str, prefixes))} dimensions, to which vectors "
        "can be cut (`encode --truncate-dimension`, `truncate_dim`)."
        if prefixes
        else ""
    )
    return f"Dimension: {record['dimension']}. Similarity: {similarity}.{trained}{cut}\n\n{_table(rows)}"


def _pairs(record: dict[str, Any]) -> str:
    document = record["max_document_tokens"]
    rows = [
        ["longest, in tokens", ""],
        ["query", str(record["max_query_tokens"])],
        ["document", "what the query leaves" if document is None else str(document)],
        ["pair, with special tokens", str(record["max_pair_tokens"])],
    ]
    return (
        "Longer texts are cut. sentence-transformers only uses the length of the pair, and cuts the longer text of a "
        f"pair.\n\n{_table(rows)}"
    )


def _evaluations(record: dict[str, Any]) -> str:
    if not record["evaluations"]:
        return "None was made."
    measures = list(
        dict.fromkeys(name for evaluation in record["evaluations"] for name in evaluation if name != "step")
    )
    best_step = record["best"]["step"] if record["best"] else None
    first = min(evaluation["step"] for evaluation in record["evaluations"])
    before = " Steps below 0 fitted a new masked head." if first < 0 else ""
    rows = [["step", *measures, ""]]
    for evaluation in record["evaluations"]:
        values = [f"{evaluation[name]:.4f}" if name in evaluation else "" for name in measures]
        rows.append([f"{evaluation['step']:,}", *values, "best" if evaluation["step"] == best_step else ""])
    words = (
        f" The weights are those of step {best_step:,}, the best by {record['best']['measure']}."
        if record["best"]
        else ""
    )
    return f"On {record.get('measured_on', 'the dev queries')}.{words}{before}\n\n{_table(rows)}"


def _settings(arguments: dict[str, Any]) -> str:
    rows = [["flag", "value"]]
    rows += [
        [f"`--{name.replace('_', '-')}`", _setting(value)] for name, value in arguments.items() if value is not None
    ]
    return f"Other settings are the defaults of the tool or those of the model's files.\n\n{_table(rows)}"


def _setting(value: object) -> str:
    """Return a table cell for the value of a flag in a request.

    For an input, the cell has its name and fingerprint.
    """
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return ", ".join(_setting(item) for item in value)
    if not isinstance(value, dict):
        return _cell(value)
    path = (
        value["path"] if "fingerprint" not in value else Path(value["path"]).absolute().name
    )  # a hub name has no fingerprint
    return ", ".join([_cell(path), *(f"{key} {_cell(item)}" for key, item in value.items() if key != "path")])


def _cell(value: object) -> str:
    """Return a value as JSON code in a table cell, which shows spaces at both ends and escapes line breaks."""
    return _code(json.dumps(value, ensure_ascii=False)).replace("|", r"\|")


def _code(text: str) -> str:
    """Return a text as code, in which HTML and Markdown are not interpreted. It must not have line breaks."""
    text = escaped_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
