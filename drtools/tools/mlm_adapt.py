r"""Adapt an encoder to a corpus without labels, by masked language modelling.

    drtools mlm-adapt --model sentence-transformers/all-MiniLM-L6-v2 --corpus source.jsonl.gz \
        -o source-dam
    drtools mlm-adapt --model source-dam --corpus target.jsonl.gz --minutes 30 -o target-dam
    drtools mlm-adapt --model bert-base-uncased --pooling mean --corpus source.jsonl.gz \
        --learning-rate 5e-5 -o bert-dam

The result is DDR's DAM (domain-adapted module): an encoder with the pooling and settings of the start model, which all
tools here, Hugging Face and sentence-transformers can load. A relevance module (REM, from train-rem) that was trained
on one DAM works with every other one of the family.

Each visit to a document takes one random crop, or one of its windows, and masks new random tokens. The masked-language
head comes from the checkpoint or from an earlier adaptation. A body without one gets a new head, which is first trained
alone for --head-steps. The head is saved next to the encoder. A stopped adaptation continues where it was.

--objective ed-mlm adds a decoder that sees the encoder's first token and a more heavily masked text, so that this token
learns to represent the document (FGD's pre-training). An epoch visits every window of 384 tokens that begins at a
multiple of 64. Whole words are masked: 30% for the encoder and 50% for the decoder. The decoder's layers are
initialized from the encoder's last ones. The learning rate decays to 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from typer import Option

from drtools.cli.flags.common import Role, TitleSeparator
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import PANEL, Dropout, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.errors import InputError
from drtools.methods.ddr.settings import MaskingSettings
from drtools.methods.fgd.settings import EdMlmSettings
from drtools.outputs.opening import open_folder
from drtools.training.snapshots import parse_times

MASKED, SNAPSHOTS = "Masking", "Snapshots"
OF_DECODER = ("decoder_layers", "decoder_mask_share", "decoder_start", "decoder_head")


@dataclass(frozen=True)
class AdaptationFlags(TrainingFlags):
    """Length of the training and learning rate. The default is the paper's for a target: 2e-5 after the warm-up."""

    batch_queries: Annotated[
        int, Option("--batch-documents", min=1, help="documents per batch", rich_help_panel=PANEL)
    ] = 32
    learning_rate: Annotated[
        float | None, Option(help="peak learning rate; default: 2e-5, ed-mlm 1e-4", rich_help_panel=PANEL)
    ] = None  # type: ignore[assignment]  # a number as soon as main knows the objective
    epochs: Annotated[
        float | None,
        Option(
            help="number of passes over the documents, or over all windows; default, without --steps and --minutes: 1, "
            "ed-mlm 3",
            rich_help_panel=PANEL,
        ),
    ] = None
    schedule: Annotated[
        Literal["linear", "constant"] | None,
        Option(
            help="learning rate after the warm-up: linear decay to 0, or constant; default: constant, ed-mlm linear",
            rich_help_panel=PANEL,
        ),
    ] = None  # type: ignore[assignment]  # one of the two as soon as main knows the objective


@dataclass(frozen=True)
class MaskingFlags:
    """How documents are cropped and masked. Values that are not given depend on the objective."""

    objective: Annotated[
        Literal["mlm", "ed-mlm"],
        Option(help="masked language modelling, or the same with a decoder (FGD)", rich_help_panel=MASKED),
    ] = "mlm"
    crop_tokens: Annotated[
        int | None,
        Option(
            min=3,
            help="tokens in a crop, with special tokens; default: 128, ed-mlm 384, or fewer if the body has fewer "
            "positions",
            rich_help_panel=MASKED,
        ),
    ] = None
    mask_share: Annotated[
        float | None,
        Option(
            min=0.001,
            max=0.9,
            help="share of tokens to mask and predict; default: .15, ed-mlm .3",
            rich_help_panel=MASKED,
        ),
    ] = None
    crops: Annotated[
        Literal["random", "windows"] | None,
        Option(
            help="crops in an epoch: random: one of each document; windows: all, at steps of --stride; default: "
            "random, ed-mlm windows",
            rich_help_panel=MASKED,
        ),
    ] = None
    stride: Annotated[
        int | None,
        Option(
            min=1,
            help="crops begin at multiples of this number of tokens; default: 1, with windows or ed-mlm 64",
            rich_help_panel=MASKED,
        ),
    ] = None
    mask_unit: Annotated[
        Literal["token", "word"] | None,
        Option(help="mask single tokens or whole words; default: token, ed-mlm word", rich_help_panel=MASKED),
    ] = None
    decoder_mask_share: Annotated[
        float | None,
        Option(
            min=0.001,
            max=0.9,
            help="ed-mlm: share of tokens to mask for the decoder, at least the encoder's; default: .5",
            rich_help_panel=MASKED,
        ),
    ] = None
    decoder_layers: Annotated[
        int | None, Option(min=1, help="ed-mlm: number of decoder layers; default: 2", rich_help_panel=MASKED)
    ] = None
    decoder_start: Annotated[
        Literal["encoder", "random"] | None,
        Option(
            help="ed-mlm: initialize the decoder from the encoder's last layers, or at random; default: encoder",
            rich_help_panel=MASKED,
        ),
    ] = None
    decoder_head: Annotated[
        Literal["shared", "own"] | None,
        Option(
            help="ed-mlm: share one masked-language head, or give the decoder a copy; default: shared",
            rich_help_panel=MASKED,
        ),
    ] = None
    head_steps: Annotated[
        int,
        Option(
            min=0,
            help="steps that first train a new head alone; a checkpoint's own head needs none",
            rich_help_panel=MASKED,
        ),
    ] = 300
    head_learning_rate: Annotated[float, Option(help="learning rate in --head-steps", rich_help_panel=MASKED)] = 1e-3
    dropout: Dropout = None
    dev_documents: Annotated[
        int | None,
        Option(
            min=0,
            help="number of documents to hold out; their perplexity selects the best checkpoint; default: 1%, at most "
            "1,000; 0: none",
            rich_help_panel="Dev evaluation",
        ),
    ] = None
    snapshot_steps: Annotated[
        str | None,
        Option(
            help="write OUT/snapshots/STEP after these steps, including --head-steps; for instance 100,200",
            rich_help_panel=SNAPSHOTS,
        ),
    ] = None
    snapshot_minutes: Annotated[
        str | None,
        Option(help="the same after these minutes of training; for instance 5,10,20", rich_help_panel=SNAPSHOTS),
    ] = None

    def settings(self) -> MaskingSettings:
        """Return the settings of the objective, updated by the values that were given."""
        given: dict[str, Any] = {name: value for name, value in asdict(self).items() if value is not None}
        enhanced = given.pop("objective") == "ed-mlm"
        if not enhanced and any(name in given for name in OF_DECODER):
            raise InputError(
                "--decoder-layers, --decoder-mask-share, --decoder-start and --decoder-head need --objective ed-mlm",
                remedy="use --objective ed-mlm, or leave them out",
            )
        given["snapshot_steps"] = tuple(parse_times("--snapshot-steps", self.snapshot_steps, whole=True))
        given["snapshot_minutes"] = tuple(parse_times("--snapshot-minutes", self.snapshot_minutes))
        return EdMlmSettings(**given) if enhanced else MaskingSettings(**given)


def main(
    folder: FolderOutput,
    corpus: Annotated[
        str, Option(help="corpus file to adapt to: JSONL or TSV, may be `.gz`; `-`: standard input"), Role.INPUT
    ],
    encoder_flags: EncoderFlags,
    training: AdaptationFlags,
    compute: ComputeFlags,
    title_separator: TitleSeparator = " ",
    masking: MaskingFlags = MaskingFlags(),
) -> None:
    """Adapt a body into the output folder."""
    settings = masking.settings()
    if training.learning_rate is None:
        training = replace(training, learning_rate=settings.learning_rate)
    training = replace(training, schedule=training.schedule or settings.schedule)
    # another version's defaults make another request
    folder.request["arguments"]["schedule"] = training.schedule
    if isinstance(settings, EdMlmSettings):
        folder.request["arguments"] |= {
            name: getattr(settings, name) for name in ("crops", "mask_unit", "decoder_start")
        }
    with open_folder(folder, training.dry_run) as work:
        from drtools.methods.ddr.adaptation import MaskedTraining, adapt
        from drtools.methods.fgd.ed_mlm import EnhancedTraining

        adapt(
            work,
            settings,
            EnhancedTraining if isinstance(settings, EdMlmSettings) else MaskedTraining,
            corpus=corpus,
            title_separator=title_separator,
            start=encoder_flags,
            training=training,
            compute=compute,
            card=write_card,
        )
