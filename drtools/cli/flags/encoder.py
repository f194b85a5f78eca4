"""Flags of an encoder, and of the pieces that documents are cut into."""

from dataclasses import asdict, dataclass
from typing import Annotated

from typer import Option

from drtools.cli.flags.common import Role, given_flags
from drtools.models.specs import EncoderSpec, PieceSizes


@dataclass(frozen=True)
class EncoderFlags(EncoderSpec):
    """An encoder and what may be set about it; what is not set is read from the model's files."""

    model: Annotated[
        str | None, Option(help="an encoder: a folder or a name on the hub", rich_help_panel="Encoder"), Role.MODEL
    ] = None
    document_model: Annotated[
        str | None,
        Option(
            help="the encoder of documents, where it is another than --model, which then encodes queries",
            rich_help_panel="Encoder",
        ),
        Role.MODEL,
    ] = None
    body: Annotated[
        str | None,
        Option(help="in place of --model: a body (mlm-adapt's, or any encoder), with --rem", rich_help_panel="Encoder"),
        Role.MODEL,
    ] = None
    rem: Annotated[
        str | None, Option(help="the relevance module for --body (train-rem's)", rich_help_panel="Encoder"), Role.INPUT
    ] = None
    pooling: Annotated[
        str | None,
        Option(
            help="cls, mean, max, last, weighted-mean: for a bare body; +normalize: vectors of length 1",
            rich_help_panel="Encoder",
        ),
    ] = None
    max_query_tokens: Annotated[int | None, Option(min=1, help="cut queries here", rich_help_panel="Encoder")] = None
    max_document_tokens: Annotated[int | None, Option(min=1, help="cut documents here", rich_help_panel="Encoder")] = (
        None
    )
    query_prompt: Annotated[str | None, Option(help="text before each query", rich_help_panel="Encoder")] = None
    document_prompt: Annotated[str | None, Option(help="text before each document", rich_help_panel="Encoder")] = None
    trust_remote_code: Annotated[
        bool, Option("--trust-remote-code", help="run code that comes with the model", rich_help_panel="Encoder")
    ] = False

    @property
    def said(self) -> list[str]:
        """The flags that were said."""
        return given_flags(asdict(self))


@dataclass(frozen=True)
class PieceFlags(PieceSizes):
    """How documents are cut into passages and sentences, in the encoder's own tokens (FGD).

    What is not said is as the encoder was trained, else usual.
    """

    passage_tokens: Annotated[
        int | None,
        Option(
            min=1, help="tokens of a passage; default: as the encoder was trained, else 128", rich_help_panel="Pieces"
        ),
    ] = None
    sentence_tokens: Annotated[
        int | None, Option(min=1, help="tokens of a sentence; default: as trained, else 64", rich_help_panel="Pieces")
    ] = None
    least_piece_tokens: Annotated[
        int | None,
        Option(
            min=1,
            help="a rest of fewer joins the piece before it; default: as trained, else 16",
            rich_help_panel="Pieces",
        ),
    ] = None

    @property
    def said(self) -> list[str]:
        """The flags that were said."""
        return given_flags(asdict(self))
