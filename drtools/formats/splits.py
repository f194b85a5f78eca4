"""Split judged queries into train, dev and test, so that queries with a common relevant document stay together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from drtools.errors import InputError, param
from drtools.formats.trec import Qrels
from drtools.randomness import generator

SPLITS = ("test", "dev", "train")


def groups_by_document(qrels: Qrels, min_rel: int = 1) -> list[list[str]]:
    """Return the groups of queries that are connected by relevant documents, each in the order of the judgements.

    Two queries are in one group if some document has grade `min_rel` or more for both, or if a chain of such pairs
    leads from one to the other. A query without a relevant document is a group of its own.
    """
    parent = {query: query for query in qrels}

    def root(query: str) -> str:
        while parent[query] != query:
            parent[query] = parent[parent[query]]
            query = parent[query]
        return query

    first_of: dict[str, str] = {}
    for query, grades in qrels.items():
        for document, grade in grades.items():
            if grade >= min_rel:
                parent[root(query)] = root(first_of.setdefault(document, query))
    groups: dict[str, list[str]] = {}
    for query in qrels:
        groups.setdefault(root(query), []).append(query)
    return list(groups.values())


def split_queries(groups: Iterable[list[str]], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Split groups of queries at random; return the queries of test, dev and train.

    `shares` has the shares of test and dev, each in [0, 1). A group goes, whole, to the first of test and dev that has
    room for it, else to train. Raises InputError if a split gets less than half of its share because the groups are
    too large, or if nothing is left for train.
    """
    groups = list(groups)
    total = sum(map(len, groups))
    room = {name: round(shares[name] * total) for name in SPLITS[:-1]}
    chosen: dict[str, list[str]] = {name: [] for name in SPLITS}
    for at in generator(seed, "splits").permutation(len(groups)):
        group = groups[at]
        name = next((name for name in room if len(chosen[name]) + len(group) <= room[name]), "train")
        chosen[name] += group
    largest = max(map(len, groups), default=0)
    for name, wanted in room.items():
        if len(chosen[name]) < wanted / 2:
            raise InputError(
                f"{name} would get {len(chosen[name]):,} of {wanted:,} queries, since {largest:,} of {total:,} queries "
                "are connected by common relevant documents",
                remedy=f"pass {param('by')} query, which splits them too: then documents of training are found again "
                "in the other splits",
            )
    if not chosen["train"]:
        raise InputError(
            f"no query is left for train out of {total:,}",
            remedy=f"lower {param('dev')} and {param('test')}, or judge more queries",
        )
    return chosen
