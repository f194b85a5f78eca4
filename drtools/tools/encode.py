"""Encode documents or queries into a vectors folder.

    drtools encode --model star --corpus corpus.jsonl.gz -o vectors
    drtools encode --model star --queries queries.jsonl.gz -o query-vectors
    drtools encode --model star --corpus today.jsonl.gz --update vectors -o vectors-today

Takes any Hugging Face or sentence-transformers encoder. Its pooling, normalization, prompts, head and maximum lengths
are read from its files. The folder holds vectors.npy [N, D], ids.txt and manifest.json. A stopped encoding continues
where it was. --pieces also stores the vectors of each document's passages and sentences, in pieces.npy [T, D] and
piece_starts.npy, for search --multi-vector.

--update copies the vectors of unchanged texts (with --pieces also those of their pieces) from an earlier folder, and
encodes only the other texts. Texts are compared by the digests in texts.npy. On a CPU the result is bit for bit that of
encoding everything (in bfloat16 only on CPUs without AMX), because each batch has texts of one length and no padding.
--device cuda:all encodes on every GPU. --part 2/8 encodes the second of eight parts, on any machine, and
`drtools gather` puts the parts together. --ray auto encodes on the workers of a Ray cluster.

With --update, --corpus is still the whole corpus. Documents of the earlier folder whose ids it lacks are dropped, and
their number is reported. If they are more than a tenth, as when only new documents are given, the update is refused
(--allow-dropped).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from typer import Option

from drtools import reporting, units
from drtools.cli.flags.common import AllowDropped, DryRun, Only, PartFlag, Role, TitleSeparator, given_flags
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags, PieceFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.encoding.specs import PiecesSpec, VectorsSpec
from drtools.errors import InputError
from drtools.formats.dropped import ALLOW_DROPPED
from drtools.formats.text_sources import texts_of
from drtools.outputs.opening import open_folder
from drtools.outputs.parts import Part


@dataclass(frozen=True)
class EncodeFlags:
    """What is encoded, and how it is stored."""

    documents: Annotated[
        str | None,
        Option("--corpus", "--documents", help="corpus to encode: JSONL or TSV, may be `.gz`; `-`: standard input"),
        Role.INPUT,
    ] = None
    queries: Annotated[
        str | None, Option(help="queries to encode: JSONL or TSV, may be `.gz`; `-`: standard input"), Role.INPUT
    ] = None
    only: Only = None
    dtype: Annotated[Literal["float16", "float32"], Option(help="data type of vectors.npy")] = "float16"
    batch_tokens: Annotated[
        int | None, Option(min=1, help="tokens in a batch; default: depends on the device", rich_help_panel="Computing")
    ] = None
    chunk: Annotated[
        int | None,
        Option(
            min=1,
            help="number of texts that are sorted by length and saved together; a stopped encoding loses at most this "
            "many; default: 2048 on a CPU, else 16384 for each device",
            rich_help_panel="Computing",
        ),
        Role.UNRECORDED,
    ] = None
    title_separator: TitleSeparator = " "
    update: Annotated[
        str | None,
        Option(
            help="earlier vectors folder, made with the same encoder and settings: reuse vectors of unchanged texts"
        ),
        Role.UPDATED,
    ] = None
    allow_dropped: AllowDropped = None
    part: PartFlag = None
    ray: Annotated[
        str | None,
        Option(
            metavar="auto|HOST:PORT",
            help="encode on the workers of a Ray cluster, from one of its nodes",
            rich_help_panel="Computing",
        ),
        Role.UNRECORDED,
    ] = None
    ray_gpus_per_task: Annotated[
        float | None,
        Option(
            min=0,
            help="with --ray: GPUs of each task; default: 1 if the cluster has GPUs, else 0",
            rich_help_panel="Computing",
        ),
        Role.UNRECORDED,
    ] = None
    pieces: Annotated[
        bool, Option("--pieces", help="also encode the passages and sentences of documents", rich_help_panel="Pieces")
    ] = False
    spans: Annotated[
        Literal["attention", "mean"] | None,
        Option(
            help="vector of a piece: weighted by the last layer's attention (FGD), or its mean; default: as the "
            "encoder was trained, else attention",
            rich_help_panel="Pieces",
        ),
    ] = None

    def check(self, sizes: PieceFlags) -> None:
        """Raise InputError for flags that do not go together."""
        if (self.documents is None) == (self.queries is None):
            raise InputError("pass either --corpus CORPUS or --queries QUERIES")
        if self.only and self.queries is None:
            raise InputError("--only is for --queries, not for --corpus", remedy="leave it out")
        if self.pieces and self.documents is None:
            raise InputError("--pieces is for --corpus, not for --queries", remedy="leave it out")
        if self.allow_dropped is not None and not self.update:
            raise InputError("--allow-dropped needs --update", remedy="pass --update too, or leave --allow-dropped out")
        if self.ray_gpus_per_task is not None and not self.ray:
            raise InputError("--ray-gpus-per-task needs --ray", remedy="pass --ray too, or leave it out")
        of_pieces = given_flags({"spans": self.spans}) + sizes.flags_given
        if of_pieces and not self.pieces:
            raise InputError(
                "this needs --pieces",
                where=" and ".join(of_pieces),
                remedy="pass it too, or leave this out",
            )

    def spec(self, sizes: PieceFlags) -> VectorsSpec:
        """Return how texts are encoded."""
        pieces = PiecesSpec(sizes, self.spans) if self.pieces else None
        allowed = ALLOW_DROPPED if self.allow_dropped is None else self.allow_dropped
        return VectorsSpec(
            self.dtype, self.batch_tokens, self.chunk, self.title_separator, self.update, pieces, allowed
        )


def main(
    folder: FolderOutput,
    encoder_flags: EncoderFlags,
    compute: ComputeFlags,
    flags: EncodeFlags,
    sizes: PieceFlags = PieceFlags(),
    dry_run: DryRun = False,
) -> None:
    """Encode texts into the output folder."""
    flags.check(sizes)
    from drtools.encoding.folder import encode_folder
    from drtools.encoding.on_ray import RaySpec
    from drtools.encoding.parts import part_of
    from drtools.encoding.plan import say_plan

    spec, place = flags.spec(sizes), None
    texts = texts_of(flags.documents, flags.queries, flags.only, flags.title_separator)
    if flags.part:
        texts, place, folder.request["arguments"]["part"] = part_of(texts, Part.parse(flags.part), compute, spec)
    if dry_run:
        if flags.ray:
            raise InputError("--dry-run measures this machine, not a cluster", remedy="leave --ray out")
        return say_plan(texts, encoder_flags, compute, spec)
    with open_folder(folder) as work:
        ray = RaySpec(flags.ray, flags.ray_gpus_per_task) if flags.ray else None
        made = replace(encode_folder(work, texts, encoder_flags, compute, spec, ray), part=place)
        work.finish(**made.record())
    old = made.counts["taken"] if made.counts else 0
    taken = f", {old:,} of them copied from {flags.update}, {len(texts) - old:,} encoded" if flags.update else ""
    reporting.say(f"{folder.output}: {units.counted(len(texts), 'vector')} of {made.dimension} dimensions{taken}")
