"""Encode documents or queries into a vectors folder.

Any Hugging Face or sentence-transformers encoder: its pooling, normalization, prompts, head and length are read from its
files. The folder holds vectors.npy [N, D], ids.txt and manifest.json. A stopped encoding continues where it was. --pieces also
stores the vectors of each document's passages and sentences, pieces.npy [T, D] and piece_starts.npy, for search --multi-vector.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

from typer import Option

from drtools import console, flags, output
from drtools.errors import UserError


def main(
    folder: flags.FolderOutput,
    encoder_flags: flags.EncoderFlags,
    compute: flags.ComputeFlags,
    documents: Annotated[str | None, Option(help="corpus to encode: JSONL or TSV, `.gz` or `-`"), flags.Role.INPUT] = None,
    queries: Annotated[str | None, Option(help="queries to encode: JSONL or TSV, `.gz` or `-`"), flags.Role.INPUT] = None,
    only: flags.Only = None,
    dtype: Annotated[Literal["float16", "float32"], Option(help="numbers of vectors.npy")] = "float16",
    batch_tokens: Annotated[int | None, Option(min=1, help="tokens in a batch; default by device", rich_help_panel="Computing")] = None,
    chunk: Annotated[int, Option(min=1, help="texts that are sorted by length together and made durable together", rich_help_panel="Computing")] = 16384,
    title_separator: flags.TitleSeparator = " ",
    pieces: Annotated[bool, Option("--pieces", help="--documents: encode passages and sentences too", rich_help_panel="Pieces")] = False,
    spans: Annotated[Literal["attention", "mean"] | None, Option(help="a piece's vector: by the last layer's attention to it (FGD), or its mean; default: as trained, else attention", rich_help_panel="Pieces")] = None,
    sizes: flags.PieceFlags = flags.PieceFlags(),
    dry_run: flags.DryRun = False,
) -> None:
    """Compose: texts by chunk, tokenized ahead in a thread, sorted by length, written through the memory map."""
    if (documents is None) == (queries is None):
        raise UserError("say either --documents CORPUS or --queries QUERIES")
    if pieces and documents is None:
        raise UserError("--pieces cuts --documents; queries have none")
    of_pieces = flags.names_of({"spans": spans}) + sizes.said
    if of_pieces and not pieces:
        raise UserError(f"{' and '.join(of_pieces)}: for pieces, which --pieces encodes; say it too, or leave these out")
    from drtools.retrieval import encoding
    from drtools.retrieval.encoding_pieces import PieceEncoding
    from drtools.retrieval.texts import texts_of

    texts = texts_of(documents, queries, only, title_separator)
    if dry_run:
        return say_plan(texts, encoder_flags, compute, dtype, batch_tokens, (sizes, spans) if pieces else None)
    with output.folder(folder) as work:
        computing = encoding.choose_computing(compute, batch_tokens)
        encoder = encoding.load_for_encoding(encoder_flags, computing, texts.side)
        if texts.side == "document":
            encoding.check_title_separator(encoder, title_separator)
        with_pieces = PieceEncoding(encoder.of("document"), sizes, spans, dtype) if pieces else None
        if with_pieces:
            with_pieces.write_to(work.path, len(texts), work.state)
        counts = encode_chunks(encoder, texts, computing, dtype, chunk, work, with_pieces)
        console.notice(counts["truncated"], f"{counts['truncated']:,} of {len(texts):,} texts were longer than {encoder.settings.max_tokens(texts.side)} tokens and were cut")
        console.notice(counts["empty"], f"{counts['empty']:,} of {len(texts):,} texts were empty")
        work.finish(
            kind="vectors", side=texts.side, count=len(texts), dimension=encoder.dimension, dtype=dtype, normalized=encoder.settings.normalized,
            model=encoder_flags.start(), rem=encoder_flags.rem, corpus=texts.path, title_separator=title_separator, max_tokens=encoder.settings.max_tokens(texts.side),
            precision=computing.precision, counts=counts, pieces={"count": with_pieces.writer.written, **with_pieces.facts()} if pieces else None,
            **{f"{side}_fingerprint": value for side, value in encoder.side_fingerprints().items()},
        )
    console.say(f"{folder.output}: {len(texts):,} vectors of {encoder.dimension} dimensions")


def encode_chunks(encoder, texts, computing, dtype, chunk, work, with_pieces=None) -> dict[str, int]:
    """Encode chunk by chunk, `with_pieces` documents and their pieces; a chunk counts as done once it is on the disk."""
    from concurrent.futures import ThreadPoolExecutor

    from drtools.batches.tokens import tokenize
    from drtools.formats.vectors import ARRAY, IDS, create_array, open_array
    from drtools.retrieval.encoding import encode_tokens

    counts = work.state.get("counts", {"truncated": 0, "empty": 0, "tokens": 0})
    done = work.state.get("done", 0)
    if not done:
        create_array(work.path, len(texts), encoder.dimension, dtype)

    def prepare(start: int):
        ids, wanted = texts.slice(start, start + chunk)
        return ids, with_pieces.tokenize(wanted) if with_pieces else tokenize(encoder, wanted, texts.side)

    with console.progress("encoding", len(texts), f"{texts.side}s", done) as progress, ThreadPoolExecutor(1) as ahead, \
            open(work.path / IDS, "r+b" if done else "wb") as id_file:
        id_file.truncate(work.state.get("id_bytes", 0))
        id_file.seek(0, 2)

        def told(count: int, token_count: int) -> None:
            counts["tokens"] += token_count
            progress.advance(count, tokens=counts["tokens"])

        prepared = ahead.submit(prepare, done)
        for start in range(done, len(texts), chunk):
            ids, tokens = prepared.result()
            if start + chunk < len(texts):
                prepared = ahead.submit(prepare, start + chunk)
            array = open_array(work.path / ARRAY, "r+")  # anew, so that no more than a chunk of it is ever in memory
            if with_pieces:
                with_pieces.encode(tokens, computing, array[start : start + chunk], told)
            else:
                encode_tokens(encoder, tokens, computing, array[start : start + chunk], told)
            counts["truncated"] += tokens.truncated
            counts["empty"] += tokens.empty
            id_file.write("".join(f"{text_id}\n" for text_id in ids).encode())
            array.flush()
            del array
            id_file.flush()
            os.fsync(id_file.fileno())
            work.save(done=min(start + chunk, len(texts)), counts=counts, id_bytes=id_file.tell(), pieces=with_pieces.writer.written if with_pieces else 0)
    if with_pieces:
        with_pieces.writer.finish()
    return counts


def say_plan(texts, encoder_flags, compute, dtype, batch_tokens, pieces) -> None:
    """Say what the work would be: texts, disk, and time by encoding a sample; `pieces` is their sizes and spans, if they are encoded too."""
    import time

    from drtools.retrieval.encoding import choose_computing, encode_texts, load_for_encoding
    from drtools.retrieval.encoding_pieces import PieceEncoding

    computing = choose_computing(compute, batch_tokens)
    encoder = load_for_encoding(encoder_flags, computing, texts.side)
    _, sample = texts.slice(0, 256)
    with_pieces = PieceEncoding(encoder.of("document"), *pieces, dtype) if pieces else None
    run = with_pieces.try_out if with_pieces else lambda some, computing: encode_texts(encoder, some, texts.side, computing)[1]
    run(sample[:8], computing)
    started = time.perf_counter()
    tokens = run(sample, computing)
    seconds = (time.perf_counter() - started) * len(texts) / len(sample)
    count = round(sum(map(sum, tokens.counts())) / len(sample) * len(texts)) if pieces else 0
    size = (len(texts) + count) * encoder.dimension * (2 if dtype == "float16" else 4)
    console.say(f"{len(texts):,} {texts.side}s{f' and about {count:,} pieces' if pieces else ''}, about {tokens.lengths.mean():.0f} tokens each; {console.bytes_as_words(size)} of vectors; "
                f"about {console.seconds_as_words(seconds)} on {computing.device} in {computing.precision} (by the first {len(sample)})")
