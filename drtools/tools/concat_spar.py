"""Join the vectors of two encoders into one space, where scores are s1 + mu * s2 (SPAR).

    drtools concat-spar base-vectors lambda-vectors --dev-queries queries.jsonl.gz --dev-qrels qrels/dev.tsv -o joined
    drtools index --vectors joined -o index
    drtools search --index index --queries queries.jsonl.gz -o spar.run
    drtools search --index index --queries queries.jsonl.gz --mu 0.5 -o other.run

The result is a vectors folder that index and search take; queries are encoded by both encoders and weighed by mu, which
the documents know nothing of. mu is said (--mu), or tuned on dev: 19 values from .1 to 10, further if the best stands
at an end, by both exact scores of each encoder's top 100 (the first encodes --dev-queries as --model and its like say).
--no-copy names both folders and copies no vector. Vectors of queries are joined with --mu.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import Role
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.errors import InputError
from drtools.outputs import work as output
from drtools.outputs.request import add_change

if TYPE_CHECKING:
    from drtools.formats.joined_vectors import How, JoinedArray
    from drtools.formats.vectors import Vectors

ROWS_A_BLOCK = 16384
TIES = "equals in the tuning of mu are told apart by acc@k * k over six k, not all up to 100"
TUNING = "Tuning mu"


def main(
    folder: FolderOutput,
    first: Annotated[str, Argument(help="vectors folder of the base encoder"), Role.INPUT],
    second: Annotated[
        str, Argument(help="vectors folder of the second, the lexical one; of the same texts"), Role.INPUT
    ],
    how: Annotated[
        Literal["concat", "sum"], Option(help="concat: [q1, mu * q2] and [d1, d2]; sum: q1 + mu * q2 and d1 + d2")
    ] = "concat",
    mu: Annotated[float | None, Option(help="weight of the second encoder on the query side")] = None,
    dev_qrels: Annotated[
        str | None, Option(help="judgements to tune mu on", rich_help_panel=TUNING), Role.INPUT
    ] = None,
    dev_answers: Annotated[
        str | None,
        Option(help="answers to tune mu on, in place of judgements (eval --answers)", rich_help_panel=TUNING),
        Role.INPUT,
    ] = None,
    corpus: Annotated[str | None, Option(help="--dev-answers: the texts", rich_help_panel=TUNING), Role.INPUT] = None,
    answer_match: Annotated[
        Literal["string", "regex"] | None,
        Option(help="--dev-answers: as eval --answer-match; default: string", rich_help_panel=TUNING),
    ] = None,
    dev_queries: Annotated[
        str | None, Option(help="their queries, encoded by both encoders", rich_help_panel=TUNING), Role.INPUT
    ] = None,
    dev_query_vectors: Annotated[
        list[str] | None,
        Option(
            help="vectors folders of the queries by the first and by the second, in place of --dev-queries",
            rich_help_panel=TUNING,
        ),
        Role.INPUT,
    ] = None,
    measure: Annotated[
        str | None, Option(help="what to tune for; default RR@10, with answers Success@100", rich_help_panel=TUNING)
    ] = None,
    no_copy: Annotated[bool, Option("--no-copy", help="name both folders, copy no vector")] = False,
    dtype: Annotated[
        Literal["float16", "float32"] | None, Option(help="numbers of vectors.npy; default: the wider of the two")
    ] = None,
    encoder_flags: EncoderFlags = EncoderFlags(),
    compute: ComputeFlags = ComputeFlags(),
) -> None:
    """Compose: two folders into one, mu tuned if it was not said."""
    from drtools.cli.flags.search import check_weight
    from drtools.evaluation.answers import check_measures
    from drtools.evaluation.measures import parse_measure
    from drtools.search.query_vectors import joined_record

    if (mu is None) == (dev_qrels is None and dev_answers is None) or (dev_qrels and dev_answers):
        raise InputError("say one of --mu X, --dev-qrels QRELS and --dev-answers ANSWERS, which mu is tuned on")
    if mu is not None:
        check_weight(mu)
        of_tuning = {
            "--dev-queries": dev_queries,
            "--dev-query-vectors": dev_query_vectors,
            "--measure": measure,
            "--corpus": corpus,
            "--answer-match": answer_match,
        }
        if needless := [name for name, value in of_tuning.items() if value]:
            raise InputError(f"{' and '.join(needless)}: to tune mu with, but --mu says it; leave one of the two out")
    wrong_number = dev_query_vectors and len(dev_query_vectors) != 2
    if wrong_number or (mu is None and bool(dev_queries) == bool(dev_query_vectors)):
        raise InputError(
            "mu is tuned with --dev-queries QUERIES, or with --dev-query-vectors twice: by the first encoder and by "
            "the second"
        )
    if corpus and not dev_answers:
        raise InputError("--corpus: where --dev-answers are looked for, which were not said; leave it out")
    if answer_match and not dev_answers:
        raise InputError("--answer-match: for --dev-answers; pass them too, or leave --answer-match out")
    if dev_answers and not corpus:
        raise InputError("--dev-answers are looked for in texts: say --corpus CORPUS")
    if not dev_queries and encoder_flags != EncoderFlags():
        raise InputError(
            "what is said of an encoder is for --dev-queries, which are encoded; here none are: leave it out"
        )
    asked = parse_measure(measure or ("Success@100" if dev_answers else "RR@10"))
    if dev_answers:
        check_measures([asked])
    if no_copy and dtype:
        raise InputError("--dtype with --no-copy: no vector is written; leave one of the two out")
    if mu is None:
        add_change(folder.request, TIES)
    with output.folder(folder) as work:
        parts, joined = open_parts(first, second, how)
        side = parts[0].manifest["side"]
        if side == "query" and (mu is None or no_copy):
            raise InputError(
                f"{first}: vectors of queries are joined with the --mu that was tuned on documents, and copied"
            )
        tried: list[dict] = []
        if mu is None:
            mu, tried = tuned(
                parts,
                joined,
                dev_qrels,
                dev_answers,
                corpus,
                answer_match,
                dev_queries,
                dev_query_vectors,
                asked.name,
                encoder_flags,
                compute,
            )
        write_vectors(parts, joined, dtype or joined.dtype.name, mu if side == "query" else 1.0, no_copy, work)
        work.finish(
            kind="vectors",
            count=len(joined),
            dimension=joined.shape[1],
            dtype=dtype or joined.dtype.name,
            tried=tried,
            **joined_record(parts, how, mu),
        )
    reporting.say(f"{folder.output}: {len(joined):,} vectors of {joined.shape[1]} dimensions, mu {mu:g}")


def open_parts(first: str, second: str, how: How) -> tuple[list[Vectors], JoinedArray]:
    """Open both folders; return them and their vectors as one array."""
    from drtools.formats.joined_vectors import JoinedArray, order_of
    from drtools.formats.vectors import open_vectors

    parts = [open_vectors(path) for path in (first, second)]
    sides = [part.manifest["side"] for part in parts]
    if sides[0] != sides[1]:
        raise InputError(
            f"{second}: vectors of {sides[1]} texts, but {first} of {sides[0]} texts; join two folders of one side"
        )
    order = order_of(parts[0].ids, parts[1].ids, (first, second))
    more = len(parts[1].ids) - len(parts[0].ids)
    if more:
        other = next(text_id for text_id in parts[1].ids if text_id not in parts[0].ids)
        reporting.notice(more, f"{more:,} vectors of {second} are not in {first}; left out (for instance {other!r})")
    return parts, JoinedArray(how, parts[0].array, parts[1].array, order)


def tuned(
    parts, joined, qrels, answers, corpus, answer_match, queries, query_vectors, measure, encoder_flags, compute
) -> tuple[float, list[dict]]:
    """Return the best mu on dev and everything that was tried."""
    from drtools.evaluation.answers import judge
    from drtools.formats.answers import read_answers
    from drtools.formats.corpus_store import open_store
    from drtools.formats.joins import note_nothing_relevant
    from drtools.formats.text_sources import check_judged_documents
    from drtools.formats.trec import read_qrels
    from drtools.methods.spar.mu import candidates, texts_to_tune_on, tune
    from drtools.search.query_vectors import flags_of_parts, open_queries

    given = read_answers(answers) if answers else {}
    judged = {} if answers else read_qrels(qrels)
    sources = [
        open_queries(part.manifest, part.path, part_flags, compute, path)
        for part, part_flags, path in zip(
            parts, flags_of_parts(encoder_flags), query_vectors or (None, None), strict=True
        )
    ]
    texts = texts_to_tune_on(queries, sources[0], given or judged, answers or qrels)
    if qrels:
        note_nothing_relevant(judged, qrels)
        check_judged_documents({query_id: judged[query_id] for query_id, _ in texts}, parts[0].ids, str(parts[0].path))
    first, second = (source.encode(texts) for source in sources)
    found = candidates(joined, [query_id for query_id, _ in texts], (first, second), device=sources[0].computing.device)
    for name, words in (("truncated", "cut"), ("empty", "empty")):
        count = max(source.noted[name] for source in sources)
        reporting.notice(count, f"{count:,} of {len(texts):,} dev queries were {words}")
    if answers:
        lists = {each.query_id: [parts[0].ids[row] for row in each.rows.tolist()] for each in found}
        judged = judge(lists, given, open_store(corpus), answer_match or "string")
    mu, tried = tune(found, parts[0].ids, judged, measure)
    best = max(one["value"] for one in tried)
    reporting.say(
        f"mu {mu:g}: {measure} {best:.4f} on {len(texts):,} dev queries, the best of {len(tried)} values from "
        f"{tried[0]['mu']:g} to {tried[-1]['mu']:g}"
    )
    return mu, tried


def write_vectors(parts, joined, dtype: str, mu: float, no_copy: bool, work) -> None:
    """Write ids and joined rows block by block, each done once it is on the disk; or the names of both folders."""
    import shutil

    from drtools.formats.joined_vectors import join
    from drtools.formats.vectors import ARRAY, IDS, create_array, find_not_finite, open_array, write_parts

    shutil.copyfile(parts[0].path / IDS, work.path / IDS)
    if no_copy:
        return write_parts(work.path, joined.how, parts, work.target)
    done = work.state.get("done", 0)
    if not done:
        create_array(work.path, len(joined), joined.shape[1], dtype)
    with reporting.progress("joining", len(joined), "vectors", done) as progress:
        for start in range(done, len(joined), ROWS_A_BLOCK):
            rows = slice(start, min(start + ROWS_A_BLOCK, len(joined)))
            first, second = joined.parts(rows)
            array = open_array(work.path / ARRAY, "r+")  # anew, so that no more than a block of it is ever in memory
            array[rows] = join(joined.how, first, second, mu)
            bad = find_not_finite(array[rows])
            if bad is not None:
                raise InputError(
                    f"{parts[1].path}: joined, the vector of {parts[0].ids[start + bad]!r} holds a number beyond "
                    f"{dtype}, or none; say --dtype float32, or encode again"
                )
            array.flush()
            del array
            work.save(done=rows.stop)
            progress.advance(rows.stop - start)
