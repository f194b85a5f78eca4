"""split-queries: groups beside a search through the graph, leaks, shares, and what it refuses."""

import random

import pytest

from drtools.errors import InputError
from drtools.formats.splits import groups_by_document, split_queries
from drtools.formats.trec import read_qrels


def judgements(queries: int, documents: int, seed: int = 1) -> dict[str, dict[str, int]]:
    """Return judgements with one to three documents for each query, some of grade 0."""
    draw = random.Random(seed)
    return {
        f"q{n}": {f"d{draw.randrange(documents)}": draw.choice([0, 1, 1, 2]) for _ in range(draw.randint(1, 3))}
        for n in range(queries)
    }


def reachable(qrels: dict[str, dict[str, int]], start: str) -> set[str]:
    """Return the queries that a breadth-first search finds from one query."""
    found, todo = {start}, [start]
    while todo:
        mine = {document for document, grade in qrels[todo.pop()].items() if grade >= 1}
        for query, grades in qrels.items():
            if query not in found and any(grades.get(document, 0) >= 1 for document in mine):
                found.add(query)
                todo.append(query)
    return found


def test_groups_are_what_a_search_through_the_graph_finds():
    qrels = judgements(80, 120)
    groups = groups_by_document(qrels)
    assert sorted(query for group in groups for query in group) == sorted(qrels)
    assert max(map(len, groups)) > 2 and len(groups) > 20
    for group in groups:
        assert reachable(qrels, group[0]) == set(group)


def test_no_relevant_document_is_in_two_splits(drtools, tmp_path):
    qrels = judgements(300, 900)
    path = tmp_path / "all.tsv"
    path.write_text("".join(f"{q} 0 {d} {grade}\n" for q, grades in qrels.items() for d, grade in grades.items()))
    done = drtools("split-queries", "--qrels", path, "-o", tmp_path / "qrels")
    assert done.status == 0, done.err
    parts = {name: read_qrels(tmp_path / "qrels" / f"{name}.tsv") for name in ("train", "dev", "test")}
    assert {query: grades for part in parts.values() for query, grades in part.items()} == qrels
    assert 45 <= len(parts["test"]) <= 60 and 20 <= len(parts["dev"]) <= 30
    relevant = [{d for grades in part.values() for d, g in grades.items() if g} for part in parts.values()]
    assert not relevant[0] & relevant[1] and not relevant[0] & relevant[2] and not relevant[1] & relevant[2]
    again = drtools("split-queries", "--qrels", path, "--seed", 7, "-o", tmp_path / "other")
    assert again.status == 0 and set(read_qrels(tmp_path / "other" / "test.tsv")) != set(parts["test"])


def test_connected_queries_are_refused_with_a_way_out(drtools, tmp_path):
    path = tmp_path / "all.tsv"
    path.write_text("".join(f"q{n} 0 same 1\n" for n in range(50)))
    refused = drtools("split-queries", "--qrels", path, "-o", tmp_path / "qrels")
    assert refused.status == 2 and "50 of 50 queries are connected" in refused.err and "--by query" in refused.err
    assert not (tmp_path / "qrels").exists()
    done = drtools("split-queries", "--qrels", path, "--by", "query", "-o", tmp_path / "qrels")
    assert done.status == 0 and len(read_qrels(tmp_path / "qrels" / "test.tsv")) == 10
    too_much = drtools("split-queries", "--qrels", path, "--dev", 0.5, "--test", 0.5, "-o", tmp_path / "x")
    assert too_much.status == 2 and "add up to 1" in too_much.err


def test_train_must_keep_some():
    with pytest.raises(InputError, match="no query is left for train"):
        split_queries([["a"], ["b"]], {"test": 0.5, "dev": 0.49}, 1)
