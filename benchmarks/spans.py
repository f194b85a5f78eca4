"""Measure the cost of FGD's student.

A step with the vectors of all passages and sentences is compared with a contrastive step, alternately.

    python benchmarks/spans.py [--model MODEL] [--queries 2] [--rounds 5] [--device auto] [--precision auto]

Both have the same queries and documents of 512 tokens (random words), with one positive and 8 negatives each, and
compute forward and backward passes. The teacher's scores are random numbers. Prints the median seconds of both and the
share that FGD adds.
"""

import argparse
import random
import statistics
import time

import numpy as np

NEGATIVES = 8
DOCUMENT_TOKENS = 512


def batch_of(encoder, queries: int):
    """Return a batch of long documents with pieces and random scores."""
    from drtools.cli.flags.encoder import PieceFlags
    from drtools.methods.fgd.batches import Level, PieceBatch
    from drtools.models.pieces import layout_of, tokenize_pieces

    encoder.settings.max_document_tokens, encoder.settings.max_query_tokens = DOCUMENT_TOKENS, 32
    generator, numbers = random.Random(1), np.random.default_rng(1)
    words = [word for word in encoder.tokenizer.get_vocab() if word.isalpha() and len(word) > 3]
    layout = layout_of(encoder, PieceFlags())
    count = queries * (1 + NEGATIVES)
    tokens = {
        "query": encoder.tokenize([" ".join(generator.choices(words, k=8)) for _ in range(queries)], "query"),
        "document": tokenize_pieces(encoder, [" ".join(generator.choices(words, k=700)) for _ in range(count)], layout),
    }
    relevant = np.zeros((queries, count), bool)
    relevant[range(queries), range(queries)] = True
    owner = np.concatenate([np.arange(queries), np.repeat(np.arange(queries), NEGATIVES)])
    levels = [
        Level(np.ones((count, size), bool), numbers.normal(size=(count, size)).astype(np.float32))
        for size in (layout.passages, layout.sentences)
    ]
    parents = np.stack([layout.parents(layout.passages)] * count)
    return layout, PieceBatch(
        tokens,
        {"query": [queries], "document": [count]},
        relevant,
        owner,
        None,
        *levels,
        parents,
        np.zeros(count, bool),
    )


def main() -> None:
    """Time both and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--queries", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    words = parser.parse_args()

    from drtools.cli.flags.compute import ComputeFlags
    from drtools.methods.contrastive import contrastive_loss
    from drtools.methods.fgd.graph import SpanStudent
    from drtools.methods.fgd.loss import FgdLoss
    from drtools.models.compute import settle
    from drtools.models.cpu.attention import use_sliced_attention
    from drtools.models.cpu.dropout import use_own_dropout
    from drtools.models.loader import load_encoder
    from drtools.training.distributed import World
    from drtools.training.gradients import Gradients

    computing = settle(ComputeFlags(device=words.device, precision=words.precision))
    encoder = load_encoder(words.model, pooling="cls").to(computing.device).train()
    on_processor = computing.device == "cpu"
    if on_processor:
        use_own_dropout(encoder.body)
        use_sliced_attention(encoder.body)
    layout, batch = batch_of(encoder, words.queries)
    plain = batch._replace(tokens=batch.tokens | {"document": batch.tokens["document"].tokens})
    fgd = FgdLoss(
        ("passage", "sentence"),
        encoder.dimension,
        layout.passages,
        20.0,
        weight=0.2,
        negative_pieces=8,
        direction="teacher-student",
    )
    arms = {
        "contrastive": (encoder, plain, contrastive_loss(20.0)),
        "FGD": (SpanStudent(encoder, layout.passages, layout.sentences, "attention"), batch, fgd),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(words.rounds + 1):
        for name, (model, made, loss) in arms.items():
            gradients = Gradients(model, computing, World(), False, on_processor)
            started = time.perf_counter()
            gradients.of(made, loss, "seed", turn)  # its value is read, so that a GPU is done
            if not on_processor:
                float(gradients.parameters[0].grad.sum())
            if turn:
                seconds[name].append(time.perf_counter() - started)
            model.zero_grad()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    added = medians["FGD"] / medians["contrastive"] - 1
    print(
        f"{words.model}, {computing.device} in {computing.precision}, {words.queries} queries with {1 + NEGATIVES} "
        f"documents of {DOCUMENT_TOKENS} tokens: "
        + ", ".join(f"{name} {value:.3f} s" for name, value in medians.items())
        + f"; FGD adds {added:+.1%} (target: under 15%)"
    )


if __name__ == "__main__":
    main()
