"""Flags that the training tools share."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from typer import Option
from typer.models import OptionInfo

from drtools.cli.flags.common import DryRun, Role
from drtools.methods.guard import GuardSpec
from drtools.methods.ranker.settings import RankerSpec
from drtools.methods.spar.settings import BesideSpec
from drtools.outputs.request import add_change
from drtools.outputs.specs import Request
from drtools.training.specs import ExamplesSpec, ShapeSpec, StudentSpec, TrainingSpec

APART_CHANGE = "documents of another corpus are no negatives"
PANEL, BESIDE, GUARDS = "Training", "Beside another encoder", "False negatives"


def epochs_option(default: float, others: str = "") -> OptionInfo:
    """Return the flag of epochs of a tool that trains for `default` epochs if it has no limit, with others in words."""
    also = f", {others}" if others else ""
    found: OptionInfo = Option(
        help=f"number of passes over the queries; default, without --steps and --minutes: {default:g}{also}",
        rich_help_panel=PANEL,
    )
    return found


@dataclass(frozen=True)
class TrainingFlags(TrainingSpec):
    """Length of the training, batches and learning rate. The first limit of steps, epochs and minutes ends it."""

    several_processes: ClassVar = True  # a tool with these flags may run under torchrun

    steps: Annotated[int | None, Option(min=1, help="number of optimizer steps", rich_help_panel=PANEL)] = None
    epochs: Annotated[float | None, Option(help="number of passes over the queries", rich_help_panel=PANEL)] = None
    minutes: Annotated[
        float | None, Option(help="time limit in minutes; a linear schedule ends by then", rich_help_panel=PANEL)
    ] = None
    batch_queries: Annotated[int, Option(min=1, help="queries per batch", rich_help_panel=PANEL)] = 32
    learning_rate: Annotated[float, Option(help="peak learning rate", rich_help_panel=PANEL)] = 2e-5
    warmup_steps: Annotated[
        int | None,
        Option(
            min=0,
            help="steps of learning rate warm-up; default: the paper's number, at most 10% of the steps",
            rich_help_panel=PANEL,
        ),
    ] = None
    optimizer: Annotated[
        Literal["adamw", "lamb"], Option(help="optimizer; LAMB is for large batches", rich_help_panel=PANEL)
    ] = "adamw"
    schedule: Annotated[
        Literal["linear", "constant"],
        Option(help="learning rate after the warm-up: linear decay to 0, or constant", rich_help_panel=PANEL),
    ] = "linear"
    schedule_steps: Annotated[
        int | None,
        Option(
            min=1,
            help="step at which a linear schedule reaches 0; default: the end of the training",
            rich_help_panel=PANEL,
        ),
    ] = None
    weight_decay: Annotated[
        float, Option(min=0, help="weight decay; not applied to biases and norms", rich_help_panel=PANEL)
    ] = 0.01
    clip: Annotated[float, Option(min=0, help="maximum gradient norm; 0: no limit", rich_help_panel=PANEL)] = 1.0
    seed: Annotated[int, Option(help="random seed", rich_help_panel=PANEL)] = 42
    evaluate_every_steps: Annotated[
        int | None,
        Option(min=1, help="steps between dev evaluations; default: a fifth of all steps", rich_help_panel=PANEL),
    ] = None
    patience: Annotated[
        int,
        Option(min=0, help="stop after this many dev evaluations without a new best; 0: never", rich_help_panel=PANEL),
    ] = 0
    save_every_minutes: Annotated[
        float,
        Option(
            min=0, help="minutes between checkpoints, from which a stopped training continues", rich_help_panel=PANEL
        ),
        Role.UNRECORDED,
    ] = 10.0
    gradient_caching: Annotated[
        bool,
        Option(
            "--gradient-caching",
            help="train on batches of any size in the memory of one chunk, at the cost of a second forward pass",
            rich_help_panel=PANEL,
        ),
    ] = False
    step_memory: Annotated[
        float | None,
        Option(
            min=0.001,
            help="gigabytes for the activations of a step; a larger batch is divided, with the same gradient; default: "
            "4.3 and 4 for each 100 million parameters, on CUDA half of the device's memory",
            rich_help_panel=PANEL,
        ),
    ] = None
    batch_tokens: Annotated[
        int | None,
        Option(min=1, help="tokens encoded at once; default: depends on the device", rich_help_panel=PANEL),
    ] = None
    activation_checkpointing: Annotated[
        bool,
        Option(
            "--activation-checkpointing", help="use less memory for long texts, but more time", rich_help_panel=PANEL
        ),
    ] = False
    tensorboard: Annotated[
        str | None, Option(help="folder for TensorBoard logs", rich_help_panel=PANEL), Role.UNRECORDED
    ] = None
    dry_run: DryRun = False


Dropout = Annotated[
    float | None,
    Option(min=0, max=0.9, help="dropout rate; default: the model's own", rich_help_panel="Encoder"),
]
Scale = Annotated[
    float | None,
    Option(
        help="factor applied to scores in the loss; default: 20 for normalized encoders, else 1",
        rich_help_panel="Encoder",
    ),
]

Matryoshka = Annotated[
    str | None,
    Option(
        help="sum the loss over prefixes of the vectors of these dimensions, such as 768,256,64, so that encode "
        "--truncate-dimension can cut the vectors; the first is the encoder's own",
        rich_help_panel="Encoder",
    ),
]


@dataclass(frozen=True)
class StudentFlags(StudentSpec):
    """How the encoder is trained."""

    lora_rank: Annotated[
        int,
        Option(
            min=0,
            help="train LoRA of this rank in every linear layer, and merge it at the end; 0: train all weights",
            rich_help_panel="Encoder",
        ),
    ] = 0
    lora_alpha: Annotated[
        float | None, Option(help="LoRA alpha; the scale is alpha / rank; default: the rank", rich_help_panel="Encoder")
    ] = None
    train: Annotated[
        Literal["rem", "all"],
        Option(
            help="with --rem: train the REM only, or all weights; the output has the REM folded in, and its folder rem "
            "holds the REM for other bodies",
            rich_help_panel="Encoder",
        ),
    ] = "rem"
    dropout: Dropout = None
    scale: Scale = None
    matryoshka: Matryoshka = None


Head = Annotated[
    Literal["keep", "projection", "none"],
    Option(
        help="projection: add a linear layer and a LayerNorm to a model without a head; none: remove layers and "
        "normalization after the pooling",
        rich_help_panel="Encoder",
    ),
]


def loss_option(default: str = "") -> OptionInfo:
    """Return the flag of the loss of trainings on examples, with a default that the signature does not show."""
    found: OptionInfo = Option(
        help="contrast: softmax over the batch; kl: a teacher's softmax over the query's own documents; margin-mse: "
        f"its score margins{default}"
    )
    return found


AcceptScores = Annotated[
    bool,
    Option("--accept-scores", help="kl and margin-mse: accept scores from any source, for instance a retriever"),
]
TeacherTemperature = Annotated[
    float | None, Option(help="kl: divide the teacher's scores by this before the softmax; default: 1")
]


@dataclass(frozen=True)
class GuardFlags(GuardSpec):
    """Guards against false negatives in the batch."""

    guide: Annotated[
        str | None,
        Option(
            help="encoder that guards: documents that it scores above the positive are no negatives (GISTEmbed)",
            rich_help_panel=GUARDS,
        ),
        Role.MODEL,
    ] = None
    self_guide: Annotated[
        bool,
        Option("--self-guide", help="the same by the scores of the encoder that is trained", rich_help_panel=GUARDS),
    ] = False
    guide_margin: Annotated[
        float | None,
        Option(
            help="how far above the positive's a score must be, in scores that are not scaled; may be negative; "
            "default of --guide: 0",
            rich_help_panel=GUARDS,
        ),
    ] = None


@dataclass(frozen=True)
class ShapeFlags(ShapeSpec):
    """Changes to the encoder before it is trained."""

    untied: Annotated[
        bool,
        Option("--untied", help="train separate encoders for queries and for documents", rich_help_panel="Encoder"),
    ] = False
    head: Head = "keep"


@dataclass(frozen=True)
class RankerFlags(RankerSpec):
    """The cross-encoder to train: its initial model, and how much of a pair it reads."""

    model: Annotated[
        str,
        Option(
            help="initial model: a body, an encoder or a cross-encoder; a folder or a name on the hub",
            rich_help_panel="Ranker",
        ),
        Role.MODEL,
    ]
    max_query_tokens: Annotated[
        int | None,
        Option(
            min=1,
            help="truncate queries to this length, without special tokens; default: half of a pair",
            rich_help_panel="Ranker",
        ),
    ] = None
    max_document_tokens: Annotated[
        int | None,
        Option(
            min=1,
            help="truncate documents to this length, without special tokens; default: what the query leaves",
            rich_help_panel="Ranker",
        ),
    ] = None
    dropout: Annotated[
        float | None,
        Option(min=0, max=0.9, help="dropout rate; default: the model's own", rich_help_panel="Ranker"),
    ] = None
    trust_remote_code: Annotated[
        bool, Option("--trust-remote-code", help="run code that comes with the model", rich_help_panel="Ranker")
    ] = False


@dataclass(frozen=True)
class ExampleFlags(ExamplesSpec):
    """The training data. Each of several `--examples` may have its own corpus, queries, title separator and weight."""

    examples: Annotated[
        list[str],
        Option(help="training examples: JSONL, may be `.gz`; `-`: standard input; repeat for several files"),
        Role.INPUT,
    ]
    corpus: Annotated[
        list[str],
        Option(help="corpus of the examples: JSONL or TSV; one for all, or one for each --examples"),
        Role.INPUT,
    ]
    queries: Annotated[
        list[str],
        Option(help="queries of the examples: JSONL or TSV; one for all, or one for each --examples"),
        Role.INPUT,
    ]
    weight: Annotated[
        list[float] | None,
        Option(help="how often each query is visited in an epoch; one for each --examples"),
    ] = None
    title_separator: Annotated[
        list[str] | None,
        Option(
            help="text put between a document's title and its text; one for all, or one for each --examples; "
            "default: a space"
        ),
    ] = None
    batches: Annotated[
        Literal["mixed", "one-source"] | None,
        Option(help="with several --examples: batches with queries of all files (the default), or of one file each"),
    ] = None
    visits: Annotated[
        Literal["proportional", "equal"] | None,
        Option(help="with several --examples: visit each query as often (the default), or each file"),
    ] = None
    mix_negatives: Annotated[
        bool, Option("--mix-negatives", help="use documents of other corpora in the batch as negatives too")
    ] = False

    def note_changes(self, request: Request) -> None:
        """Record what 0.1.0 computed otherwise for the same arguments."""
        if self.keeps_apart:
            add_change(request, APART_CHANGE)


@dataclass(frozen=True)
class BesideFlags(BesideSpec):
    """Fixed vectors of another encoder, and the trained weight of its scores (SPAR's joint training)."""

    beside_documents: Annotated[
        str | None,
        Option(help="vectors folder of the documents, made by another encoder", rich_help_panel=BESIDE),
        Role.INPUT,
    ] = None
    beside_queries: Annotated[
        str | None,
        Option(
            help="vectors folder of the queries (dev queries too), made by the same encoder", rich_help_panel=BESIDE
        ),
        Role.INPUT,
    ] = None
    mu: Annotated[
        float | None,
        Option(help="initial weight of the other encoder's scores, above 0; default: 1", rich_help_panel=BESIDE),
    ] = None
