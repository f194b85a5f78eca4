"""Measure how long one core prepares a batch of ED-MLM at the paper's sizes, from texts and from kept tokens.

    python benchmarks/batches.py corpus.jsonl [--model MODEL] [--documents 2048] [--steps 3]

Windows of 384 tokens moving by 64, whole words, masked twice (30% and 50%). Prints the seconds of the processor that
the thread takes for a batch, the median of the steps, and whether both ways give the same bytes. A step on an H200 is
estimated as 6 operations a weight and token at 400 TFLOP/s.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core, whose time is measured

CROP_TOKENS, STRIDE, SHARES = 384, 64, (0.3, 0.5)
BASE_WEIGHTS, DECODER_SHARE, OPERATIONS_A_SECOND = 86e6, 1 / 6, 4e14  # BERT-base's layers; 2 of 12 more; [ours]


def main() -> None:
    from drtools.formats.corpus_store import open_store
    from drtools.methods.ddr.masking import MaskedBatches
    from drtools.methods.ddr.token_file import TokenFile
    from drtools.methods.ddr.windows import count_windows
    from drtools.methods.fgd.ed_mlm import TwiceMasked, TwiceMasker
    from drtools.models.encoder import Encoder
    from drtools.models.loader import load_encoder

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--documents", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    encoder, store = load_encoder(arguments.model), open_store(arguments.corpus)
    assert isinstance(encoder, Encoder)
    masker = TwiceMasker(encoder, CROP_TOKENS, *SHARES, STRIDE, whole_words=True)
    with tempfile.TemporaryDirectory() as folder:
        windows = count_windows(store, masker, " ", Path(folder) / "tokens")
        found = []
        for name, tokens in (("texts", None), ("kept tokens", TokenFile.open(Path(folder) / "tokens"))):
            batches = MaskedBatches(
                store,
                masker,
                batch_documents=arguments.documents,
                seed=1,
                held_out=np.empty(0, int),
                windows=windows,
                tokens=tokens,
            )
            batches.visit(0)
            seconds, content = [], []
            for step in range(arguments.steps):
                started = time.thread_time()
                batch = batches(step).tokens["text"]
                seconds.append(time.thread_time() - started)
                assert isinstance(batch, TwiceMasked)
                content += [part.tobytes() for each in batch.every for part in (each.tokens.flat, each.labels)]
            found.append(content)
            count = int(batch.lengths.sum())
            print(f"{name}: {statistics.median(seconds):.2f} s for {arguments.documents:,} windows, {count:,} tokens")
    print(f"the same bytes: {found[0] == found[1]}")
    estimated = 6 * BASE_WEIGHTS * (1 + DECODER_SHARE) * count / OPERATIONS_A_SECOND
    print(f"a step of BERT-base on an H200, estimated: {estimated:.2f} s")


if __name__ == "__main__":
    main()
