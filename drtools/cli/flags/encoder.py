"""Flags for an encoder, and for the passages and sentences that documents are cut into."""

from dataclasses import asdict, dataclass
from typing import Annotated

from typer import Option

from drtools.cli.flags.common import Role, given_flags
from drtools.models.specs import EncoderSpec, PieceSizes


@dataclass(frozen=True)
class EncoderFlags(EncoderSpec):
    """An encoder and its settings. Settings that are not given are read from the model's files."""

    model: Annotated[
        str | None, Option(help="encoder: a folder or a name on the hub", rich_help_panel="Encoder"), Role.MODEL
    ] = None
    document_model: Annotated[
        str | None,
        Option(
            help="separate encoder for documents; --model then encodes queries only",
            rich_help_panel="Encoder",
        ),
        Role.MODEL,
    ] = None
    body: Annotated[
        str | None,
        Option(
            help="instead of --model: a body (from mlm-adapt, or any encoder), with --rem", rich_help_panel="Encoder"
        ),
        Role.MODEL,
    ] = None
    rem: Annotated[
        str | None, Option(help="relevance module for --body, from train-rem", rich_help_panel="Encoder"), Role.INPUT
    ] = None
    pooling: Annotated[
        str | None,
        Option(
            help="pooling of a model without one of its own: cls, mean, max, last or weighted-mean; add +normalize for "
            "vectors of length 1",
            rich_help_panel="Encoder",
        ),
    ] = None
    max_query_tokens: Annotated[
        int | None, Option(min=1, help="truncate queries to this length", rich_help_panel="Encoder")
    ] = None
    max_document_tokens: Annotated[
        int | None, Option(min=1, help="truncate documents to this length", rich_help_panel="Encoder")
    ] = None
    query_prompt: Annotated[str | None, Option(help="text put before each query", rich_help_panel="Encoder")] = None
    document_prompt: Annotated[str | None, Option(help="text put before each document", rich_help_panel="Encoder")] = (
        None
    )
    query_instruction: Annotated[
        str | None,
        Option(
            help="what a query asks for, put into the model's prompt: `Instruct: TEXT`, then `Query: `",
            rich_help_panel="Encoder",
        ),
    ] = None
    trust_remote_code: Annotated[
        bool, Option("--trust-remote-code", help="run code that comes with the model", rich_help_panel="Encoder")
    ] = False
    truncate_dimension: Annotated[
        int | None,
        Option(
            min=1,
            help="keep only this many first dimensions of vectors, and normalize them again if the encoder does",
            rich_help_panel="Encoder",
        ),
    ] = None

    @property
    def flags_given(self) -> list[str]:
        """The flags that were given."""
        return given_flags(asdict(self))


@dataclass(frozen=True)
class PieceFlags(PieceSizes):
    """How documents are cut into passages and sentences, in the encoder's own tokens (FGD).

    A size that is not given is the one the encoder was trained with, or else the usual one.
    """

    passage_tokens: Annotated[
        int | None,
        Option(
            min=1, help="tokens in a passage; default: as the encoder was trained, else 128", rich_help_panel="Pieces"
        ),
    ] = None
    sentence_tokens: Annotated[
        int | None,
        Option(
            min=1, help="tokens in a sentence; default: as the encoder was trained, else 64", rich_help_panel="Pieces"
        ),
    ] = None
    least_piece_tokens: Annotated[
        int | None,
        Option(
            min=1,
            help="a last piece with fewer tokens is joined to the one before it; default: as the encoder was trained, "
            "else 16",
            rich_help_panel="Pieces",
        ),
    ] = None

    @property
    def flags_given(self) -> list[str]:
        """The flags that were given."""
        return given_flags(asdict(self))
