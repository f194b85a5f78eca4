"""Flags of every training tool, and the plan of steps and learning rates that they make."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Self

from typer import Option

from drtools.cli.flags.common import Role
from drtools.errors import UserError

PANEL, BESIDE = "Training", "Beside another encoder"
WARMUP_SHARE = 0.1  # [ours] of the planned training, if the paper's warm-up is longer
UNKNOWN_STEPS = 10**9


@dataclass
class TrainingFlags:
    """How long, in what steps and how fast to train. The first of steps, epochs and minutes to be reached ends it."""

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


@dataclass
class StudentFlags:
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
    dropout: Annotated[
        float | None,
        Option(min=0, max=0.9, help="share of activations dropped; default: the body's own", rich_help_panel="Encoder"),
    ] = None
    scale: Annotated[
        float | None,
        Option(
            help="factor on scores in the loss; default: 20 for normalized encoders, else 1", rich_help_panel="Encoder"
        ),
    ] = None


Head = Annotated[
    Literal["keep", "projection", "none"],
    Option(
        help="projection: a linear layer and LayerNorm, for a model without a head; none: no layer nor normalization "
        "behind the pooling",
        rich_help_panel="Encoder",
    ),
]


@dataclass
class ShapeFlags:
    """What the encoder that `--model` names becomes before it is trained."""

    untied: Annotated[
        bool, Option("--untied", help="an encoder for queries and another for documents", rich_help_panel="Encoder")
    ] = False
    head: Head = "keep"


@dataclass
class RankerFlags:
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


@dataclass
class ExampleFlags:
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


@dataclass
class BesideFlags:
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

    def check(self) -> None:
        """Refuse one half of a pair of vectors, and a mu without them."""
        alone = bool(self.beside_documents) != bool(self.beside_queries)
        if alone or (self.mu is not None and not (self.beside_documents and 0 < self.mu < math.inf)):
            raise UserError(
                "beside another encoder: expected --beside-documents VECTORS and --beside-queries VECTORS, and a --mu "
                "above 0 with them alone"
            )


def check_loss(loss: str, hard_negatives: int) -> None:
    """Refuse Margin-MSE without negatives."""
    if loss == "margin-mse" and not hard_negatives:
        raise UserError(
            "--loss margin-mse with --hard-negatives 0: margins are between a positive and its negatives; say 1 or more"
        )


class Metric(NamedTuple):
    """What pairs are weighed by: `rr`, `mrr`, `ndcg` at a cut, or `none`."""

    name: str
    cut: int

    @classmethod
    def parse(cls, word: str) -> Self:
        """Read `rr@200`, `mrr@10`, `ndcg@10` or `none`."""
        name, at, cut = word.lower().partition("@")
        if word.lower() == "none":
            return cls("none", 0)
        if name not in ("rr", "mrr", "ndcg") or not at or not cut.isdecimal() or int(cut) < 1:
            raise UserError(f"--metric {word}: expected rr@K, mrr@K, ndcg@K or none, for instance rr@200")
        return cls(name, int(cut))


@dataclass
class Plan:
    """Steps to take and the learning rate at each.

    Linear warm-up to the peak, then linear to 0 by steps or by minutes, or constant.

    An opening of `opening_steps` more goes before, at a rate of its own; minutes run from its start.
    """

    steps: int
    minutes: float | None
    warmup_steps: (
        int | None
    )  # None: a tenth of the training, however many steps that will be, or the paper's if that is less
    learning_rate: float
    evaluate_every_steps: int
    schedule_steps: int | None = None  # None: the same as steps
    constant: bool = False
    opening_steps: int = 0
    opening_rate: float = 0.0
    paper_warmup: int = UNKNOWN_STEPS  # the most steps of a warm-up that is a tenth of the training

    def rate(self, step: int, seconds: float) -> float:
        """Return the learning rate of a step (from 0), after so many seconds of training."""
        if step < self.opening_steps:
            return self.opening_rate
        step -= self.opening_steps
        done = step / (self.schedule_steps or self.steps)
        if self.minutes:
            done = max(done, seconds / (60 * self.minutes))
        if self.warmup_steps is None:
            warmed = max(done / WARMUP_SHARE, (step + 1) / max(1, self.paper_warmup))
            share = WARMUP_SHARE if self.paper_warmup else 0.0
        else:
            warmed, share = (
                (step + 1) / max(1, self.warmup_steps),
                self.warmup_steps / (self.schedule_steps or self.steps),
            )
        left = 1.0 if self.constant else max(0.0, 1.0 - done) / max(1e-9, 1.0 - share)
        return self.learning_rate * min(1.0, warmed, left)

    def is_over(self, step: int, seconds: float) -> bool:
        """Return whether training ends before this step."""
        return step >= self.steps + self.opening_steps or bool(self.minutes and seconds >= 60 * self.minutes)


def plan(flags: TrainingFlags, queries: int, default_epochs: float, paper_warmup: int) -> Plan:
    """Settle the steps.

    What is not said is `default_epochs` over `queries`, or as many as fit if only minutes are said.
    """
    limits = [flags.steps] if flags.steps else []
    epochs = (
        flags.epochs
        if flags.epochs is not None
        else (default_epochs if not flags.steps and not flags.minutes else None)
    )
    if epochs is not None:
        if epochs <= 0:
            raise UserError(f"--epochs {epochs}: expected more than 0")
        limits.append(max(1, math.ceil(epochs * queries / flags.batch_queries)))
    if flags.minutes is not None and flags.minutes <= 0:
        raise UserError(f"--minutes {flags.minutes}: expected more than 0")
    if flags.schedule_steps and flags.minutes:
        raise UserError(
            "--schedule-steps with --minutes: the rate falls to 0 by the minutes already; leave one of the two out"
        )
    if flags.schedule_steps and flags.schedule == "constant":
        raise UserError("--schedule-steps with --schedule constant: the rate never falls; leave one of the two out")
    if flags.learning_rate <= 0:
        raise UserError(f"--learning-rate {flags.learning_rate}: expected more than 0")
    steps = min(limits) if limits else UNKNOWN_STEPS
    warmup = flags.warmup_steps
    if warmup is None and not flags.minutes:  # under --minutes nobody knows how many steps there will be
        warmup = min(paper_warmup, round(WARMUP_SHARE * steps))
    evaluate_every = flags.evaluate_every_steps or (max(1, math.ceil(steps / 5)) if limits else 200)
    return Plan(
        steps,
        flags.minutes,
        warmup,
        flags.learning_rate,
        evaluate_every,
        flags.schedule_steps,
        flags.schedule == "constant",
        paper_warmup=paper_warmup,
    )
