"""Comparison of test queries with the training queries of the models behind a run, according to the manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from drtools import reporting
from drtools.cli.show import lineage
from drtools.formats.corpora import read_queries
from drtools.formats.examples import read_examples
from drtools.formats.leakage import Trained, note_leakage
from drtools.formats.trec import Qrels, read_qrels

MODEL_FLAGS = ("model", "document_model", "body", "rem", "teacher", "second")  # `second`: vectors, of concat-spar
TRAINED_ON = ("queries", "examples", "qrels")
TRAININGS = ("train-", "distill-")  # prefixes of tools that learn from queries


def trainings_behind(run: Path) -> Iterator[Path]:
    """Yield the models behind a run that were trained here and are unchanged."""
    for ancestor in lineage.ancestors(run, (*lineage.SEARCHED_FLAGS, *MODEL_FLAGS)):
        if ancestor.place and not ancestor.state:
            record = lineage.manifest_of(ancestor.place) or {}
            if str(record.get("tool")).startswith(TRAININGS):
                yield ancestor.place


def queries_of_training(model: Path) -> list[tuple[str, str]] | None:
    """Return (id, text) of a model's training queries, None if one of their files is missing or has changed."""
    found: dict[str, list[Path]] = {flag: [] for flag in TRAINED_ON}
    for ancestor in lineage.ancestors(model, TRAINED_ON):
        if ancestor.depth > 1:
            continue
        if ancestor.place is None or "changed" in ancestor.state:
            return None
        found[ancestor.flag].append(ancestor.place)
    files = found["examples"] or found["qrels"]
    texts = [read_queries(path) for path in found["queries"]]
    if not files or len(texts) not in (1, len(files)):
        return None
    pairs: list[tuple[str, str]] = []
    for place, path in enumerate(files):
        known = texts[place if len(texts) > 1 else 0]
        ids = (example.query_id for example in read_examples(path)) if found["examples"] else read_qrels(path)
        pairs += [(query_id, known[query_id]) for query_id in ids if query_id in known]
    return pairs


def note_trained_on(runs: Sequence[str], judged: Qrels) -> None:
    """Report the judged queries of runs that a model behind them was trained on, as far as manifests are available."""
    met: set[tuple[Path, str]] = set()
    for run in runs:
        models = list(dict.fromkeys(trainings_behind(Path(run))))
        queries = lineage.source(Path(run), lineage.QUERIES_FLAGS, lineage.SEARCHED_FLAGS) if models else None
        for model in models if queries else ():
            assert queries, "asked above"
            if (model.resolve(), queries) in met:
                continue
            met.add((model.resolve(), queries))
            trained = queries_of_training(model)
            if trained is None:
                reporting.say(
                    f"{model}: its training queries are missing or have changed, and are not compared with the queries"
                )
                continue
            tested = {query_id: text for query_id, text in read_queries(queries).items() if query_id in judged}
            note_leakage("test", tested, None, Trained(trained, whose=f" of {model}"))
