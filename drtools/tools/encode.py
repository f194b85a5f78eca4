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

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools import reporting, units
from drtools.cli.flags.common import DryRun, Only, Role, TitleSeparator, given_flags
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags, PieceFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.encoding.specs import PiecesSpec, VectorsSpec
from drtools.errors import InputError
from drtools.formats.text_sources import texts_of
from drtools.outputs.opening import open_folder


@dataclass(frozen=True)
class EncodeFlags:
    """What is encoded, and into what."""

    documents: Annotated[str | None, Option(help="corpus to encode: JSONL or TSV, `.gz` or `-`"), Role.INPUT] = None
    queries: Annotated[str | None, Option(help="queries to encode: JSONL or TSV, `.gz` or `-`"), Role.INPUT] = None
    only: Only = None
    dtype: Annotated[Literal["float16", "float32"], Option(help="numbers of vectors.npy")] = "float16"
    batch_tokens: Annotated[
        int | None, Option(min=1, help="tokens in a batch; default by device", rich_help_panel="Computing")
    ] = None
    chunk: Annotated[
        int | None,
        Option(
            min=1,
            help="texts that are sorted by length and made durable together: what a stop may lose; default: 2048 on a "
            "processor, else 16384 for each device",
            rich_help_panel="Computing",
        ),
        Role.UNRECORDED,
    ] = None
    title_separator: TitleSeparator = " "
    update: Annotated[
        str | None,
        Option(help="vectors folder of the same encoder and settings: take over what has not changed"),
        Role.UPDATED,
    ] = None
    pieces: Annotated[
        bool, Option("--pieces", help="--documents: encode passages and sentences too", rich_help_panel="Pieces")
    ] = False
    spans: Annotated[
        Literal["attention", "mean"] | None,
        Option(
            help="a piece's vector: by the last layer's attention to it (FGD), or its mean; default: as trained, else "
            "attention",
            rich_help_panel="Pieces",
        ),
    ] = None

    def check(self, sizes: PieceFlags) -> None:
        """Raise InputError for flags that do not go together."""
        if (self.documents is None) == (self.queries is None):
            raise InputError("pass either --documents CORPUS or --queries QUERIES")
        if self.only and self.queries is None:
            raise InputError("--only keeps queries of --queries; documents are all encoded")
        if self.pieces and self.documents is None:
            raise InputError("--pieces cuts --documents; queries have none")
        of_pieces = given_flags({"spans": self.spans}) + sizes.said
        if of_pieces and not self.pieces:
            raise InputError(
                "for pieces, which --pieces encodes",
                where=" and ".join(of_pieces),
                remedy="pass it too, or leave these out",
            )

    def spec(self, sizes: PieceFlags) -> VectorsSpec:
        """Return how texts are encoded."""
        pieces = PiecesSpec(sizes, self.spans) if self.pieces else None
        return VectorsSpec(self.dtype, self.batch_tokens, self.chunk, self.title_separator, self.update, pieces)


def main(
    folder: FolderOutput,
    encoder_flags: EncoderFlags,
    compute: ComputeFlags,
    flags: EncodeFlags,
    sizes: PieceFlags = PieceFlags(),
    dry_run: DryRun = False,
) -> None:
    """Compose: texts by chunk, tokenized ahead in a thread, sorted by length, written through the memory map."""
    flags.check(sizes)
    from drtools.encoding.folder import encode_folder
    from drtools.encoding.plan import say_plan

    texts = texts_of(flags.documents, flags.queries, flags.only, flags.title_separator)
    if dry_run:
        return say_plan(texts, encoder_flags, compute, flags.spec(sizes))
    with open_folder(folder) as work:
        made = encode_folder(work, texts, encoder_flags, compute, flags.spec(sizes))
        work.finish(**made.record())
    old = made.counts["taken"] if made.counts else 0
    taken = f", {old:,} of them taken over from {flags.update}, {len(texts) - old:,} encoded" if flags.update else ""
    reporting.say(f"{folder.output}: {units.counted(len(texts), 'vector')} of {made.dimension} dimensions{taken}")
