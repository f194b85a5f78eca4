"""MS MARCO's public hard negatives and a cross-encoder's scores of them, as sentence-transformers publishes both.

The negatives are JSONL, `{"qid", "pos": [pid], "neg": {system: [pid]}}`; the scores are a pickled {qid: {pid: score}}.
A pickle can call any function while it is read; here everything but plain values and numpy's numbers is refused.
"""

from __future__ import annotations

import gzip
import pickle
import zlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from drtools.errors import InputError
from drtools.formats.examples import Example
from drtools.formats.json_lines import checked_id, read_json_lines
from drtools.formats.lines import local, open_bytes, shown

if TYPE_CHECKING:
    from drtools.formats.score_pickles import Scores


def read_scores(path: str | Path) -> Scores:
    """Read {query id: {document id: score}} from a pickle without running any code in it.

    It is read as a stream into arrays: about 2 GB for the 160 million scores of MS MARCO.
    """
    from drtools.formats.score_pickles import Scores, load_scores

    try:
        with open_bytes(local(str(path))) as stream:
            scores = load_scores(stream)
    except (OSError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, IndexError, KeyError) as error:
        raise InputError(f"could not be read as a pickle ({error}); is the file whole?", where=shown(path)) from None
    except (pickle.UnpicklingError, AttributeError, ImportError, TypeError, AssertionError) as error:
        raise InputError(
            f"not a pickle of scores ({error})", where=shown(path), expected="{query id: {document id: score}}"
        ) from None
    if not isinstance(scores, Scores):
        raise InputError(
            where=shown(path), expected=f"a pickled {{query id: {{document id: score}}}}, found {_kind(scores)}"
        )
    return scores


def _kind(value: object) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, dict | list | tuple) else "")


def read_hard_negatives(
    path: str | Path,
    scores: Scores | None = None,
    scored_by: str | None = None,
    systems: Sequence[str] | None = None,
    per_system: int | None = None,
) -> Iterator[Example]:
    """Yield one example per line: the positives, and the other documents found by any system, rank by rank.

    With scores each document has its own, None where there is none. `systems` are those whose negatives are taken, of
    each the first `per_system`; by default all of all.
    """
    seen: set[str] = set()
    for number, record in read_json_lines(path):
        where = f"{shown(path)}:{number}"
        held = record.get("neg")
        if "qid" not in record or not isinstance(record.get("pos"), list) or not isinstance(held, dict):
            raise InputError(where=where, expected='{"qid", "pos": [pid], "neg": {system: [pid]}}')
        if not all(isinstance(found, list) for found in held.values()):
            raise InputError("neg holds something that is not a list of document ids", where=where)
        seen |= held.keys()
        query_id = checked_id(record["qid"], path, number)
        positives = [checked_id(document, path, number) for document in record["pos"]]
        chosen = [found[:per_system] for system, found in held.items() if systems is None or system in systems]
        ranked = (document for rank in zip_longest(*chosen) for document in rank if document is not None)
        negatives = [checked_id(document, path, number) for document in ranked]
        relevant = {*positives}
        example = Example(query_id, positives, [each for each in dict.fromkeys(negatives) if each not in relevant])
        if scores is not None:
            known = scores.of(query_id)
            example.positive_scores = [known.get(document) for document in positives]
            example.negative_scores = [known.get(document) for document in example.negatives]
            example.scored_by = scored_by
        yield example
    unknown = [system for system in systems or () if system not in seen]
    if unknown:
        raise InputError(
            f"no query has negatives of {', '.join(unknown)}",
            where=shown(path),
            expected=f"some of {', '.join(sorted(seen))}",
        )
