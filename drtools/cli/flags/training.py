"""Flags of every training tool, and the plan of steps and learning rates that they make."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from typer import Option

from drtools.cli.flags.common import Role
from drtools.methods.ranker.settings import RankerSpec
from drtools.methods.spar.settings import BesideSpec
from drtools.training.specs import ExamplesSpec, ShapeSpec, StudentSpec, TrainingSpec

PANEL, BESIDE = "Training", "Beside another encoder"


@dataclass(frozen=True)
class TrainingFlags(TrainingSpec):
    """How long, in what steps and how fast to train. The first of steps, epochs and minutes to be reached ends it."""

    several_processes: ClassVar = True  # a tool with these flags may run under torchrun

    steps: Annotated[int | None, Option(min=1, help="optimizer steps", rich_help_panel=PANEL)] = None
    epochs: Annotated[float | None, Option(help="passes over the queries", rich_help_panel=PANEL)] = None
    minutes: Annotated[
        float | None, Option(help="wall-clock minutes; a linear schedule ends by then", rich_help_panel=PANEL)
    ] = None
    batch_queries: Annotated[int, Option(min=1, help="queries in a batch", rich_help_panel=PANEL)] = 32
    learning_rate: Annotated[float, Option(help="peak learning rate", rich_help_panel=PANEL)] = 2e-5
    warmup_steps: Annotated[
        int | None,
        Option(min=0, help="default: the paper's, or 10% of the steps if that is less", rich_help_panel=PANEL),
    ] = None
    optimizer: Annotated[Literal["adamw", "lamb"], Option(help="LAMB for large batches", rich_help_panel=PANEL)] = (
        "adamw"
    )
    schedule: Annotated[
        Literal["linear", "constant"],
        Option(help="after the warm-up the learning rate falls to 0, or stays", rich_help_panel=PANEL),
    ] = "linear"
    schedule_steps: Annotated[
        int | None,
        Option(min=1, help="the learning rate falls to 0 by then; default: by the end", rich_help_panel=PANEL),
    ] = None
    weight_decay: Annotated[float, Option(min=0, help="on all but biases and norms", rich_help_panel=PANEL)] = 0.01
    clip: Annotated[float, Option(min=0, help="largest gradient norm; 0: no limit", rich_help_panel=PANEL)] = 1.0
    seed: Annotated[int, Option(help="seed of every random choice", rich_help_panel=PANEL)] = 42
    evaluate_every_steps: Annotated[
        int | None, Option(min=1, help="dev evaluation; default: a fifth of the steps", rich_help_panel=PANEL)
    ] = None
    patience: Annotated[
        int, Option(min=0, help="stop after so many evaluations without a new best; 0: never", rich_help_panel=PANEL)
    ] = 0
    save_every_minutes: Annotated[
        float, Option(min=0, help="checkpoint for continuing", rich_help_panel=PANEL), Role.UNRECORDED
    ] = 10.0
    gradient_caching: Annotated[
        bool,
        Option(
            "--gradient-caching",
            help="any batch in the memory of one chunk, for a second forward pass",
            rich_help_panel=PANEL,
        ),
    ] = False
    batch_tokens: Annotated[
        int | None, Option(min=1, help="tokens encoded together; default by device", rich_help_panel=PANEL)
    ] = None
    activation_checkpointing: Annotated[
        bool, Option("--activation-checkpointing", help="less memory for longer texts, slower", rich_help_panel=PANEL)
    ] = False
    tensorboard: Annotated[
        str | None, Option(help="folder to write TensorBoard's logs to as well", rich_help_panel=PANEL), Role.UNRECORDED
    ] = None


Dropout = Annotated[
    float | None,
    Option(min=0, max=0.9, help="share of activations dropped; default: the body's own", rich_help_panel="Encoder"),
]
Scale = Annotated[
    float | None,
    Option(help="factor on scores in the loss; default: 20 for normalized encoders, else 1", rich_help_panel="Encoder"),
]


@dataclass(frozen=True)
class StudentFlags(StudentSpec):
    """How the encoder that `--model` names is trained."""

    lora_rank: Annotated[
        int,
        Option(
            min=0,
            help="train LoRA of this rank in every linear layer, merged at the end; 0: all weights",
            rich_help_panel="Encoder",
        ),
    ] = 0
    lora_alpha: Annotated[
        float | None, Option(help="LoRA's scale is alpha / rank; default: the rank", rich_help_panel="Encoder")
    ] = None
    train: Annotated[
        Literal["rem", "all"],
        Option(
            help="with --rem: the REM alone, which -o has folded in and, for other bodies, in its folder rem; or all "
            "weights",
            rich_help_panel="Encoder",
        ),
    ] = "rem"
    dropout: Dropout = None
    scale: Scale = None


Head = Annotated[
    Literal["keep", "projection", "none"],
    Option(
        help="projection: a linear layer and LayerNorm, for a model without a head; none: no layer nor normalization "
        "behind the pooling",
        rich_help_panel="Encoder",
    ),
]


@dataclass(frozen=True)
class ShapeFlags(ShapeSpec):
    """What the encoder that `--model` names becomes before it is trained."""

    untied: Annotated[
        bool, Option("--untied", help="an encoder for queries and another for documents", rich_help_panel="Encoder")
    ] = False
    head: Head = "keep"


@dataclass(frozen=True)
class RankerFlags(RankerSpec):
    """The cross-encoder that is trained: what it starts from, and how much of a pair it reads."""

    model: Annotated[
        str,
        Option(
            help="what to start from: a body, an encoder or a cross-encoder; a folder or a name on the hub",
            rich_help_panel="Ranker",
        ),
        Role.MODEL,
    ]
    max_query_tokens: Annotated[
        int | None,
        Option(
            min=1,
            help="cut queries here, special tokens not counted; default: half of a pair",
            rich_help_panel="Ranker",
        ),
    ] = None
    max_document_tokens: Annotated[
        int | None,
        Option(
            min=1,
            help="cut documents here, special tokens not counted; default: what the query leaves",
            rich_help_panel="Ranker",
        ),
    ] = None
    dropout: Annotated[
        float | None,
        Option(min=0, max=0.9, help="share of activations dropped; default: the body's own", rich_help_panel="Ranker"),
    ] = None
    trust_remote_code: Annotated[
        bool, Option("--trust-remote-code", help="run code that comes with the model", rich_help_panel="Ranker")
    ] = False


@dataclass(frozen=True)
class ExampleFlags(ExamplesSpec):
    """What is trained on. Several `--examples` may each have their own corpus, queries, title separator and weight."""

    examples: Annotated[
        list[str], Option(help="training examples: JSONL, `.gz` or `-`; several times for several files"), Role.INPUT
    ]
    corpus: Annotated[
        list[str], Option(help="their corpus: JSONL or TSV; one for all, or one for each --examples"), Role.INPUT
    ]
    queries: Annotated[
        list[str], Option(help="their queries: JSONL or TSV; one for all, or one for each --examples"), Role.INPUT
    ]
    weight: Annotated[list[float] | None, Option(help="visits of a query in an epoch; one for each --examples")] = None
    title_separator: Annotated[
        list[str] | None,
        Option(help="between a document's title and its text; one for all, or one for each; default: a space"),
    ] = None


@dataclass(frozen=True)
class BesideFlags(BesideSpec):
    """Another encoder's vectors, which stay, and the weight of its scores, which learns (SPAR's joint training)."""

    beside_documents: Annotated[
        str | None,
        Option(help="vectors folder of the documents by another encoder", rich_help_panel=BESIDE),
        Role.INPUT,
    ] = None
    beside_queries: Annotated[
        str | None,
        Option(help="vectors folder of the queries, dev queries too, by that encoder", rich_help_panel=BESIDE),
        Role.INPUT,
    ] = None
    mu: Annotated[
        float | None,
        Option(help="what its scores are weighed by at the start, above 0; default 1", rich_help_panel=BESIDE),
    ] = None
