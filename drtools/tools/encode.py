"""Encode documents or queries into a vectors folder.

Any Hugging Face or sentence-transformers encoder: its pooling, normalization, prompts, head and length are read from
its files. The folder holds vectors.npy [N, D], ids.txt and manifest.json. A stopped encoding continues where it was.
--pieces also stores the vectors of each document's passages and sentences, pieces.npy [T, D] and piece_starts.npy, for
search --multi-vector.

    drtools encode --model star --documents today.jsonl.gz --update vectors-of-yesterday -o vectors

--update takes over the vectors of texts that an earlier folder has, by digests in its texts.npy (with --pieces those of
their pieces too), and encodes the others alone. On a processor the result is that of encoding everything, bit for bit
(in bfloat16 where it has no AMX): texts go in batches of one length, without padding. --device cuda:all encodes on
every GPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from typer import Option

from drtools import reporting, units
from drtools.cli.flags.common import DryRun, Only, Role, TitleSeparator, names_of
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags, PieceFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.errors import InputError
from drtools.outputs import work as output


def main(
    folder: FolderOutput,
    encoder_flags: EncoderFlags,
    compute: ComputeFlags,
    documents: Annotated[str | None, Option(help="corpus to encode: JSONL or TSV, `.gz` or `-`"), Role.INPUT] = None,
    queries: Annotated[str | None, Option(help="queries to encode: JSONL or TSV, `.gz` or `-`"), Role.INPUT] = None,
    only: Only = None,
    dtype: Annotated[Literal["float16", "float32"], Option(help="numbers of vectors.npy")] = "float16",
    batch_tokens: Annotated[
        int | None, Option(min=1, help="tokens in a batch; default by device", rich_help_panel="Computing")
    ] = None,
    chunk: Annotated[
        int | None,
        Option(
            min=1,
            help="texts that are sorted by length and made durable together: what a stop may lose; default: 2048 on a "
            "processor, else 16384 for each device",
            rich_help_panel="Computing",
        ),
        Role.UNRECORDED,
    ] = None,
    title_separator: TitleSeparator = " ",
    update: Annotated[
        str | None,
        Option(help="vectors folder of the same encoder and settings: take over what has not changed"),
        Role.UPDATED,
    ] = None,
    pieces: Annotated[
        bool, Option("--pieces", help="--documents: encode passages and sentences too", rich_help_panel="Pieces")
    ] = False,
    spans: Annotated[
        Literal["attention", "mean"] | None,
        Option(
            help="a piece's vector: by the last layer's attention to it (FGD), or its mean; default: as trained, else "
            "attention",
            rich_help_panel="Pieces",
        ),
    ] = None,
    sizes: PieceFlags = PieceFlags(),
    dry_run: DryRun = False,
) -> None:
    """Compose: texts by chunk, tokenized ahead in a thread, sorted by length, written through the memory map."""
    if (documents is None) == (queries is None):
        raise InputError("say either --documents CORPUS or --queries QUERIES")
    if only and queries is None:
        raise InputError("--only keeps queries of --queries; documents are all encoded")
    if pieces and documents is None:
        raise InputError("--pieces cuts --documents; queries have none")
    of_pieces = names_of({"spans": spans}) + sizes.said
    if of_pieces and not pieces:
        raise InputError(
            f"{' and '.join(of_pieces)}: for pieces, which --pieces encodes; say it too, or leave these out"
        )
    from drtools.encoding.folder import FolderEncoding
    from drtools.encoding.pieces import PieceEncoding
    from drtools.formats.text_sources import texts_of
    from drtools.models import compute as compute_module
    from drtools.models import loader

    texts = texts_of(documents, queries, only, title_separator)
    if dry_run:
        return say_plan(
            texts,
            encoder_flags,
            compute,
            dtype,
            batch_tokens,
            title_separator,
            update,
            (sizes, spans) if pieces else None,
        )
    with output.folder(folder) as work:
        if "precision" in work.state:  # as it was begun, also on another device
            compute = replace(compute, precision=work.state["precision"])
        computing = compute_module.settle(compute, batch_tokens, several=True)
        encoder = loader.load_for_encoding(encoder_flags, computing, texts.side)
        if texts.side == "document":
            loader.check_title_separator(encoder, title_separator)
        with_pieces = PieceEncoding(encoder.of("document"), sizes, spans, dtype) if pieces else None
        if with_pieces:
            with_pieces.write_to(work.path, len(texts), work.state)
        now = settings_of(encoder, texts, computing, dtype, title_separator, encoder_flags, with_pieces)
        counts = FolderEncoding(
            encoder,
            texts,
            computing,
            dtype,
            chunk or compute_module.CHUNK[computing.kind] * len(computing.devices),
            work,
            with_pieces,
            open_old(update, now),
        ).run()
        reporting.notice(
            counts["truncated"],
            f"{counts['truncated']:,} of {len(texts):,} texts were longer than "
            f"{encoder.settings.max_tokens(texts.side)} tokens and were cut",
        )
        reporting.notice(counts["empty"], f"{counts['empty']:,} of {len(texts):,} texts were empty")
        if update and len(texts) and not counts["taken"]:
            note_nothing_taken(update, texts)
        if with_pieces:
            now["pieces"] = {"count": with_pieces.writer.written, **now["pieces"]}
        work.finish(kind="vectors", **now, count=len(texts), counts=counts, updated=update)
    taken = (
        f", {counts['taken']:,} of them taken over from {update}, {len(texts) - counts['taken']:,} encoded"
        if update
        else ""
    )
    reporting.say(f"{folder.output}: {units.counted(len(texts), 'vector')} of {encoder.dimension} dimensions{taken}")


def settings_of(encoder, texts, computing, dtype, title_separator, encoder_flags, with_pieces) -> dict[str, Any]:
    """Return what a manifest says of how its vectors were made."""
    return {
        "side": texts.side,
        "dimension": encoder.dimension,
        "dtype": dtype,
        "normalized": encoder.settings.normalized,
        "model": encoder_flags.start(),
        **({"document_model": encoder_flags.document_model} if encoder_flags.document_model else {}),
        "rem": encoder_flags.rem,
        "corpus": texts.path,
        "title_separator": title_separator,
        "max_tokens": encoder.settings.max_tokens(texts.side),
        "precision": computing.precision,
        "pieces": with_pieces.facts() if with_pieces else None,
        **{f"{side}_fingerprint": value for side, value in encoder.side_fingerprints().items()},
    }


def note_nothing_taken(update: str, texts) -> None:
    """Note an earlier folder that has no text of this one, as if it were of another collection."""
    from drtools.formats.joins import Join
    from drtools.formats.vectors import open_vectors

    pair = Join(open_vectors(update).ids, update, texts.slice(0, 1)[0]).pair()
    reporting.notice(
        1, f"{update}: none of its texts is in {texts.path}, so that nothing was taken over {pair}".rstrip()
    )


def open_old(update, now):
    """Open the folder that vectors are taken over from, if one is named."""
    from drtools.encoding.update import OldVectors

    return OldVectors(update, now) if update else None


def say_plan(texts, encoder_flags, compute, dtype, batch_tokens, title_separator, update, pieces) -> None:
    """Say what the work would be: texts, disk, and time by encoding a sample.

    `pieces` is their sizes and spans, if they are encoded too.
    """
    import time

    from drtools.encoding.loop import encode_texts
    from drtools.encoding.pieces import PieceEncoding
    from drtools.models.compute import settle
    from drtools.models.loader import load_for_encoding
    from drtools.models.pieces import PieceTokens
    from drtools.models.replicas import Copies

    computing = settle(compute, batch_tokens, several=True)
    encoder = load_for_encoding(encoder_flags, computing, texts.side)
    with_pieces = PieceEncoding(encoder.of("document"), pieces[0], pieces[1], dtype) if pieces else None
    old = open_old(update, settings_of(encoder, texts, computing, dtype, title_separator, encoder_flags, with_pieces))
    count = old.count_new(texts, 4096) if old else len(texts)
    _, sample = texts.slice(0, 256)
    run = (
        with_pieces.try_out
        if with_pieces
        else lambda some, computing: encode_texts(encoder, some, texts.side, computing)[1]
    )
    one = computing._replace(copies=Copies(()))  # a sample is too little for several
    run(sample[:8], one)
    started = time.perf_counter()
    tokens = run(sample, one)
    seconds = (time.perf_counter() - started) * count / len(sample) / len(computing.devices)
    found = sum(int(counts.sum()) for counts in tokens.counts()) if isinstance(tokens, PieceTokens) else 0
    cut = round(found / len(sample) * len(texts))
    size = (len(texts) + cut) * encoder.dimension * (2 if dtype == "float16" else 4)
    reporting.say(
        f"{len(texts):,} {texts.side}s{f' and about {cut:,} pieces' if pieces else ''}, about "
        f"{tokens.lengths.mean():.0f} tokens each; {units.bytes_as_words(size)} of vectors; "
        f"{f'{count:,} to encode, the others taken over; ' if old else ''}"
        f"about {units.seconds_as_words(seconds)} on {' '.join(computing.devices)} in "
        f"{computing.precision} (by the first {len(sample)}{' on one' if len(computing.devices) > 1 else ''})"
    )
