"""Flags that several tools share: a dataclass for each group, expanded into a tool's signature by the command line."""

from dataclasses import asdict, dataclass, replace
from enum import Enum, auto
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from typer import Option

from drtools.errors import UserError
from drtools.formats.lines import is_standard_output, local, recorded_name
from drtools.outputs import manifest
from drtools.outputs.releases import current_version, pinned


class Role(Enum):
    """What a flag's value is, for the request that decides whether two commands are the same."""

    INPUT = auto()  # a file or folder: its content counts, not its name
    MODEL = auto()  # a folder, or a name on the hub
    UNRECORDED = auto()  # changes how the work is done or told, never its result


Documents = Annotated[str, Option(help="corpus: JSONL or TSV, `.gz` or `-`"), Role.INPUT]
Queries = Annotated[str, Option(help="queries: JSONL or TSV, `.gz` or `-`"), Role.INPUT]
Qrels = Annotated[str, Option(help="judgements: BEIR TSV or TREC"), Role.INPUT]
MinRel = Annotated[int, Option(min=0, help="lowest grade that counts as relevant")]
Only = Annotated[str | None, Option(help="qrels: keep the queries that they judge"), Role.INPUT]
IgnoreIdenticalIds = Annotated[
    bool,
    Option(
        "--ignore-identical-ids",
        help="leave the document with the query's own id out of each list, as BEIR does (ArguAna, Quora)",
    ),
]
Seed = Annotated[int, Option(help="seed of every random choice")]
Threads = Annotated[int, Option(min=0, help="processor threads; 0: all, or OMP_NUM_THREADS"), Role.UNRECORDED]
TitleSeparator = Annotated[str, Option(help="between a document's title and its text")]
DryRun = Annotated[bool, Option("--dry-run", help="say counts, memory and time, and do nothing"), Role.UNRECORDED]


@dataclass
class ConsoleFlags:
    """What every tool says and how strict it is."""

    quiet: Annotated[
        bool, Option("--quiet", help="say nothing but errors", rich_help_panel="Messages"), Role.UNRECORDED
    ] = False
    log_json: Annotated[
        bool, Option("--log-json", help="messages as JSON lines", rich_help_panel="Messages"), Role.UNRECORDED
    ] = False
    strict: Annotated[
        bool,
        Option("--strict", help="exit 2 where something odd is otherwise only counted", rich_help_panel="Messages"),
        Role.UNRECORDED,
    ] = False


@dataclass
class FolderOutput:
    """An output folder."""

    output: Annotated[str, Option("-o", "--output", help="folder to write"), Role.UNRECORDED]
    overwrite: Annotated[
        bool, Option("--overwrite", help="start afresh and replace what is there"), Role.UNRECORDED
    ] = False
    renew: Annotated[
        bool,
        Option("--renew", help="for Makefiles: replace what another request made, keep or continue this one's"),
        Role.UNRECORDED,
    ] = False
    request: ClassVar[dict] = {}


@dataclass
class FileOutput:
    """An output file, or standard output."""

    output: Annotated[str, Option("-o", "--output", help="file to write; `-`: standard output"), Role.UNRECORDED] = "-"
    overwrite: Annotated[
        bool, Option("--overwrite", help="start afresh and replace what is there"), Role.UNRECORDED
    ] = False
    renew: Annotated[
        bool,
        Option("--renew", help="for Makefiles: replace what another request made, keep or continue this one's"),
        Role.UNRECORDED,
    ] = False
    request: ClassVar[dict] = {}


@dataclass
class ComputeFlags:
    """Where and how exactly to compute."""

    device: Annotated[
        str,
        Option(
            help="auto, cpu, cuda, cuda:1, mps; in encode and teacher-score also several GPUs, cuda:0,cuda:1 or "
            "cuda:all",
            rich_help_panel="Computing",
        ),
        Role.UNRECORDED,
    ] = "auto"
    precision: Annotated[
        Literal["auto", "bf16", "fp32"],
        Option(help="auto: bf16 where the device multiplies it natively", rich_help_panel="Computing"),
    ] = "auto"
    threads: Annotated[
        int,
        Option(min=0, help="processor threads; 0: all, or OMP_NUM_THREADS", rich_help_panel="Computing"),
        Role.UNRECORDED,
    ] = 0


@dataclass
class EncoderFlags:
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

    def __post_init__(self) -> None:
        if self.document_model and not self.model:
            raise UserError(
                "--document-model alone: it names the encoder of documents beside --model, that of queries; pass both"
            )

    @property
    def said(self) -> list[str]:
        """The flags that were said."""
        return names_of(asdict(self))

    @property
    def names(self) -> str:
        """The name of the encoder, or of both of a pair, for messages."""
        return f"{self.start()} with {self.document_model}" if self.document_model else self.start()

    def start(self) -> str:
        """Return the name of the encoder, or of the body that `rem` is put on.

        UserError if none is named, or too many.
        """
        if self.model and (self.body or self.rem):
            raise UserError(
                "--model beside --body or --rem: an encoder is either of the two; say --model ENCODER, or --body BODY "
                "--rem REM"
            )
        if bool(self.body) != bool(self.rem):
            raise UserError(
                f"--{'body' if self.body else 'rem'} alone: a body and a REM belong together; say --body BODY --rem "
                "REM, or --model for an encoder by itself"
            )
        start = self.model or self.body
        if not start:
            raise UserError("no encoder was named; say --model FOLDER or a hub name, or --body BODY --rem REM")
        return start


@dataclass
class PieceFlags:
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
    usual: ClassVar[dict[str, int]] = {"passage_tokens": 128, "sentence_tokens": 64, "least_piece_tokens": 16}

    @property
    def said(self) -> list[str]:
        """The flags that were said."""
        return names_of(asdict(self))

    def settled(self, trained: dict[str, Any]) -> "PieceFlags":
        """Return them without gaps.

        As said, else as an encoder was `trained` (its settings' `pieces`), else as usual.
        """
        return replace(
            self,
            **{name: trained.get(name, usual) for name, usual in self.usual.items() if getattr(self, name) is None},
        )


def names_of(values: dict[str, object]) -> list[str]:
    """Return the flags of parameters that were said, those whose value is neither None nor False."""
    return [f"--{name.replace('_', '-')}" for name, value in values.items() if value is not None and value is not False]


def _recorded(name: str, value: object, role: Role | None) -> object:
    """Return what a request keeps of a flag's value; UserError for an input that is not there."""
    if isinstance(value, list | tuple):
        return [_recorded(name, item, role) for item in value]
    if role is Role.INPUT and isinstance(value, str):
        path = Path(local(value))
        if not path.exists():
            raise UserError(f"{value}: no such file or folder (--{name.replace('_', '-')})")
        return {"path": recorded_name(value), "fingerprint": manifest.fingerprint(path)}
    if role is Role.MODEL and isinstance(value, str):
        return {"path": value, "fingerprint": manifest.fingerprint(value)} if Path(value).is_dir() else {"path": value}
    return value


def _role(parameter: Parameter) -> Role | None:
    roles = [item for item in get_args(parameter.annotation)[1:] if isinstance(item, Role)]
    return roles[0] if roles else None


def _check_target(target: Path) -> None:
    """Raise UserError for a place that no output can take."""
    if target.name in ("", ".."):
        raise UserError(f"-o {target}: names a folder that is there already; name the output itself, as in -o out")
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise UserError(
            f"{target}: a device or a pipe was found where an output is to be written; use -o - and redirect it"
        )


def pinned_values(parameters: list[Parameter], values: dict[str, object]) -> dict[str, object]:
    """Return the flags' values with each input behind a published link named by the version that the link names now.

    Raises UserError for an output that is such a link: versions never change.
    """
    output = str(values.get("output", "-"))
    if not is_standard_output(output):
        _check_target(Path(output))
    if current_version(Path(output)):
        raise UserError(f"{values['output']}: a published link; write to another -o, then publish that")
    seen: dict[Path, Path] = {}

    def pin(value: object) -> object:
        if isinstance(value, list | tuple):
            return type(value)(pin(item) for item in value)
        return pinned(value, seen) if isinstance(value, str) else value

    inputs = {parameter.name for parameter in parameters if _role(parameter) in (Role.INPUT, Role.MODEL)}
    return {name: pin(value) if name in inputs else value for name, value in values.items()}


def checked_request(tool: str, parameters: list[Parameter], values: dict[str, object]) -> dict:
    """Return what identifies a command.

    The tool, every flag that can change its result, and its inputs' fingerprints.
    """
    arguments = {}
    for parameter in parameters:
        role = _role(parameter)
        if role is not Role.UNRECORDED:
            arguments[parameter.name] = _recorded(parameter.name, values[parameter.name], role)
    return {"tool": tool, "arguments": arguments}
