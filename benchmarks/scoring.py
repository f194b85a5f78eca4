"""Compare scoring pairs with CrossEncoder.predict: the same model, pairs and lengths, alternately in one process.

    python benchmarks/scoring.py DATA/scifact [--pairs 2000] [--rounds 3] [--model RANKER] [--device cuda]

For drtools, the time includes all that teacher-score does between loading the teacher and renaming its output: texts by
id, tokens, logits, the score cache on the disk, lines. Pairs are test queries of the collection with random documents.
Without --model, the ranker is all-MiniLM-L6-v2 with a random head, which costs the same. Prints pairs per second, the
ratio of each round (median, minimum, maximum), and the difference of the logits.
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from drtools.cli import console
from drtools.cli.flags.outputs import FileOutput
from drtools.costs import Forecast
from drtools.formats.corpora import read_queries
from drtools.formats.corpus_store import open_store
from drtools.formats.examples import Example
from drtools.formats.trec import read_qrels
from drtools.methods.teacher_scores import score_examples
from drtools.models.compute import BATCH_TOKENS, Compute
from drtools.models.cross_encoder import new_cross_encoder, save_cross_encoder
from drtools.outputs.opening import open_file
from drtools.teachers.scoring import WINDOW_PAIRS, load_teacher
from drtools.teachers.windows import Lacking, ScoredTexts

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def write_examples(data: Path, texts: ScoredTexts, count: int, path: Path) -> list[tuple[str, str]]:
    """Write examples with a hundred random documents for each query. Returns the texts of their pairs."""
    generator, pairs = random.Random(1), []
    queries = [query_id for query_id in read_qrels(str(data / "qrels/test.tsv")) if query_id in texts.queries]
    with open(path, "wb") as stream:
        for query_id in queries[: -(-count // 100)]:
            documents = texts.store.ids_at(generator.sample(range(len(texts.store)), min(100, count - len(pairs))))
            stream.write(Example(query_id, documents[:1], documents[1:]).line())
            pairs += [(texts.queries[query_id], texts.document(document)) for document in documents]
    return pairs


def ours(teacher, examples: Path, texts: ScoredTexts) -> tuple[float, np.ndarray]:
    """Score as the tool does. Returns seconds and logits."""
    for scorer in teacher.scorers:
        scorer.cache.connection.execute("delete from scores")
    with tempfile.TemporaryDirectory() as folder:
        file = FileOutput(output=f"{folder}/scored.jsonl")
        file.request.update({"tool": "teacher-score", "arguments": {}})
        started = time.perf_counter()
        with open_file(file) as work:
            score_examples(teacher, str(examples), texts, None, Lacking(texts, {}), WINDOW_PAIRS, work, Forecast(0))
            seconds = time.perf_counter() - started
            work.finish()
        from drtools.formats.examples import read_examples

        scored = list(read_examples(f"{folder}/scored.jsonl"))
    return seconds, np.array(
        [score for example in scored for score in example.positive_scores + example.negative_scores]
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    console.configure("benchmark", quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or f"{folder}/ranker"
        if not arguments.model:
            save_cross_encoder(new_cross_encoder("sentence-transformers/all-MiniLM-L6-v2", seed=1), Path(model))
        texts = ScoredTexts(
            read_queries(str(arguments.data / "queries.jsonl.gz")),
            open_store(str(arguments.data / "corpus.jsonl.gz")),
            " ",
        )
        examples = Path(folder) / "examples.jsonl"
        pairs = write_examples(arguments.data, texts, arguments.pairs, examples)
        sides = {}
        for precision, dtype in DTYPES.items():
            computing = Compute(arguments.device, precision, BATCH_TOKENS[arguments.device.split(":")[0]])
            sides[precision] = (
                load_teacher([model], computing),
                CrossEncoder(model, device=arguments.device, model_kwargs={"dtype": dtype}),
            )
        compare(sides, pairs, examples, texts, arguments.rounds)


def compare(sides, pairs: list[tuple[str, str]], examples: Path, texts: ScoredTexts, rounds: int) -> None:
    """Score alternately and print."""
    seconds = {f"{who} {precision}": [] for precision in sides for who in ("ours", "theirs")}
    for number in range(rounds):
        for precision, (teacher, peer) in sides.items():
            taken, logits = ours(teacher, examples, texts)
            seconds[f"ours {precision}"].append(taken)
            started = time.perf_counter()
            theirs = peer.predict(pairs)
            seconds[f"theirs {precision}"].append(time.perf_counter() - started)
            print(
                f"{precision}: {seconds[f'ours {precision}'][-1]:.1f} and {seconds[f'theirs {precision}'][-1]:.1f} s",
                flush=True,
            )
            if not number:
                print(
                    f"{precision}: logits up to {np.abs(logits - theirs).max():.2g} apart, whose deviation is "
                    f"{np.std(logits):.2g}"
                )
    tokens = sides["fp32"][0].counts["tokens"] / rounds
    print(f"{len(pairs):,} pairs, {tokens / len(pairs):.0f} tokens each; {torch.get_num_threads()} threads")
    for name, values in seconds.items():
        print(f"{name:<12} {len(pairs) / statistics.median(values):8.1f} pairs/s")
    for words, slow, fast in (
        ("float32", "theirs fp32", "ours fp32"),
        ("bfloat16", "theirs bf16", "ours bf16"),
        ("each at its defaults", "theirs fp32", "ours bf16"),
    ):
        ratios = sorted(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))
        print(f"{words:<21} {statistics.median(ratios):5.2f}x  ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
