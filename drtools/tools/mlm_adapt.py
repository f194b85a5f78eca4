r"""Adapt an encoder's body to a corpus by masked language modelling, without labels (a domain-adapted module, DAM).

Each visit to a document takes one random crop, or one of its windows, and masks tokens anew. The masked-language head
is the checkpoint's own, or the one that an earlier adaptation left; a body without one gets a new head, which first
learns alone for `--head-steps`. The result is an encoder with the start's pooling and settings, for every tool here,
Hugging Face and sentence-transformers; the head lies beside it. A stopped adaptation continues where it was.

--objective ed-mlm adds a decoder that sees the encoder's first token and a more heavily masked text, so that this token
comes to hold the document (FGD's pre-training). An epoch visits every window of 384 tokens that begins at a multiple of
64. Whole words are masked, 30% for the encoder and 50% for the decoder, whose layers start as copies of the encoder's
last ones; the learning rate falls to 0.

    drtools mlm-adapt --model bert-base-uncased --pooling mean --corpus source.jsonl.gz --learning-rate 5e-5 \
        -o source-dam
    drtools mlm-adapt --model source-dam --corpus target.jsonl.gz --minutes 30 -o target-dam
    drtools search --index index --body target-dam --rem rem "words typed here"
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

from typer import Option

from drtools.cli.flags.common import Role, TitleSeparator
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import PANEL, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.errors import InputError
from drtools.outputs import work as output
from drtools.training.snapshots import Snapshots, parse_times

PAPER_WARMUP = 1000  # Zhan et al., DDR
MASKED, SNAPSHOTS = "Masking", "Snapshots"


class Usual(NamedTuple):
    """What an objective trains with where the flags are silent."""

    mask_share: float
    learning_rate: float
    epochs: float
    schedule: Literal["linear", "constant"]
    crops: Literal["random", "windows"]
    mask_unit: Literal["token", "word"]


PLAIN = Usual(0.15, 2e-5, 1, "constant", "random", "token")  # Devlin et al. 2019; Zhan et al., DDR
# Zhou et al., FGD; the share is [code]'s; schedule and words as SimLM has them, which FGD follows
ENHANCED = Usual(0.3, 1e-4, 3, "linear", "windows", "word")
STRIDE = 64  # of windows; Zhou et al., FGD
DECODER_SHARE, DECODER_LAYERS = 0.5, 2  # [code]


@dataclass(frozen=True)
class AdaptationFlags(TrainingFlags):
    """How long and how fast; the paper's rate of 2e-5 for a target, constant after the warm-up."""

    batch_queries: Annotated[
        int, Option("--batch-documents", min=1, help="documents in a batch", rich_help_panel=PANEL)
    ] = 32
    learning_rate: Annotated[
        float | None, Option(help="peak learning rate; default: 2e-5, ed-mlm 1e-4", rich_help_panel=PANEL)
    ] = None  # type: ignore[assignment]  # a number as soon as main knows the objective
    epochs: Annotated[
        float | None,
        Option(
            help="passes over the documents, or all windows; default, without --steps and --minutes: 1, ed-mlm 3",
            rich_help_panel=PANEL,
        ),
    ] = None
    schedule: Annotated[
        Literal["linear", "constant"] | None,
        Option(
            help="after the warm-up the learning rate falls to 0, or stays; default: constant, ed-mlm linear",
            rich_help_panel=PANEL,
        ),
    ] = None  # type: ignore[assignment]  # one of the two as soon as main knows the objective


def main(
    folder: FolderOutput,
    corpus: Annotated[str, Option(help="corpus to adapt to: JSONL or TSV, `.gz` or `-`"), Role.INPUT],
    encoder_flags: EncoderFlags,
    training: AdaptationFlags,
    compute: ComputeFlags,
    title_separator: TitleSeparator = " ",
    objective: Annotated[
        Literal["mlm", "ed-mlm"], Option(help="masked language modelling, or with a decoder", rich_help_panel=MASKED)
    ] = "mlm",
    crop_tokens: Annotated[
        int | None,
        Option(
            min=3,
            help="tokens of a crop, special ones included; default: 128, ed-mlm 384, or the body's positions if fewer",
            rich_help_panel=MASKED,
        ),
    ] = None,
    mask_share: Annotated[
        float | None,
        Option(
            min=0.001,
            max=0.9,
            help="of the tokens that are to be predicted; default: .15, ed-mlm .3",
            rich_help_panel=MASKED,
        ),
    ] = None,
    crops: Annotated[
        Literal["random", "windows"] | None,
        Option(
            help="random: an epoch takes one crop of each document; windows: all, a --stride apart; default: random, "
            "ed-mlm windows",
            rich_help_panel=MASKED,
        ),
    ] = None,
    stride: Annotated[
        int | None,
        Option(
            min=1,
            help="crops begin at multiples of so many tokens; default: 1, with windows or ed-mlm 64",
            rich_help_panel=MASKED,
        ),
    ] = None,
    mask_unit: Annotated[
        Literal["token", "word"] | None,
        Option(help="what is masked or not as a whole; default: token, ed-mlm word", rich_help_panel=MASKED),
    ] = None,
    decoder_mask_share: Annotated[
        float | None,
        Option(
            min=0.001,
            max=0.9,
            help="ed-mlm: of the decoder's tokens, the encoder's or more; default: .5",
            rich_help_panel=MASKED,
        ),
    ] = None,
    decoder_layers: Annotated[
        int | None, Option(min=1, help="ed-mlm: layers of the decoder; default: 2", rich_help_panel=MASKED)
    ] = None,
    decoder_start: Annotated[
        Literal["encoder", "random"] | None,
        Option(
            help="ed-mlm: the decoder's layers start as the encoder's last ones, or at random; default: encoder",
            rich_help_panel=MASKED,
        ),
    ] = None,
    decoder_head: Annotated[
        Literal["shared", "own"] | None,
        Option(
            help="ed-mlm: one masked-language head for both, or a copy for the decoder; default: shared",
            rich_help_panel=MASKED,
        ),
    ] = None,
    head_steps: Annotated[
        int,
        Option(
            min=0,
            help="steps for a new head alone, before all others; none for a checkpoint's own",
            rich_help_panel=MASKED,
        ),
    ] = 300,
    head_learning_rate: Annotated[float, Option(help="learning rate of those steps", rich_help_panel=MASKED)] = 1e-3,
    dropout: Annotated[
        float | None,
        Option(min=0, max=0.9, help="share of activations dropped; default: the body's own", rich_help_panel="Encoder"),
    ] = None,
    dev_documents: Annotated[
        int | None,
        Option(
            min=0,
            help="documents held out, whose perplexity decides what is best; default: 1%, 1,000 at most; 0: none",
            rich_help_panel="Dev evaluation",
        ),
    ] = None,
    snapshot_steps: Annotated[
        str | None,
        Option(
            help="write OUT/snapshots/STEP after these steps, --head-steps counted, for instance 100,200",
            rich_help_panel=SNAPSHOTS,
        ),
    ] = None,
    snapshot_minutes: Annotated[
        str | None,
        Option(help="the same after these minutes of training, for instance 5,10,20", rich_help_panel=SNAPSHOTS),
    ] = None,
) -> None:
    """Compose: random crops with masked tokens, the loss over them, the one loop, an encoder folder."""
    enhanced = objective == "ed-mlm"
    usual = ENHANCED if enhanced else PLAIN
    share = mask_share or usual.mask_share
    if training.learning_rate is None:
        training = replace(training, learning_rate=usual.learning_rate)
    if not enhanced and (decoder_layers or decoder_mask_share or decoder_start or decoder_head):
        raise InputError(
            "--decoder-layers, --decoder-mask-share, --decoder-start or --decoder-head with --objective mlm: there is "
            "no decoder; say --objective ed-mlm, or leave them out"
        )
    training = replace(training, schedule=training.schedule or usual.schedule)
    crops, mask_unit = crops or usual.crops, mask_unit or usual.mask_unit
    # another version's defaults make another request
    folder.request["arguments"]["schedule"] = training.schedule
    if enhanced:
        decoder_start = decoder_start or "encoder"
        folder.request["arguments"] |= {"crops": crops, "mask_unit": mask_unit, "decoder_start": decoder_start}
    decoder_share = decoder_mask_share or DECODER_SHARE
    if enhanced and decoder_share < share:
        raise InputError(
            f"--decoder-mask-share {decoder_share:g}: the encoder's --mask-share is {share:g}, and the decoder must "
            f"see less of the text; say {share:g} or more"
        )
    times = (
        parse_times("--snapshot-steps", snapshot_steps, whole=True),
        parse_times("--snapshot-minutes", snapshot_minutes),
    )
    with output.folder(folder) as work:
        from drtools.methods.ddr.adaptation import MaskedTraining, masked_loss
        from drtools.methods.fgd.ed_mlm import Decoder

        decoder = Decoder(decoder_layers or DECODER_LAYERS, decoder_start or "encoder", decoder_head or "shared")
        task = MaskedTraining(
            work, encoder_flags, training, compute, dropout, head_steps, decoder if enhanced else None
        )
        task.write_card = write_card
        task.on_corpus(
            corpus,
            title_separator,
            crop_tokens,
            share,
            dev_documents,
            stride=stride or (STRIDE if enhanced or crops == "windows" else 1),
            decoder_share=decoder_share if enhanced else None,
            by_window=crops == "windows",
            whole_words=mask_unit == "word",
        )
        snapshots = Snapshots(work, *times, task.write_snapshot) if task.world.is_first else None
        batches = task.batches()
        task.fit(
            batches,
            task.enhanced_loss if enhanced else masked_loss,
            batches.epoch_visits,
            task.measure(),
            default_epochs=usual.epochs,
            paper_warmup=PAPER_WARMUP,
            opening=(task.head_steps, head_learning_rate),
            after_step=snapshots,
        )
        if snapshots:
            snapshots.say_missed(task.run.step, task.run.seconds())
        task.finish(snapshots=snapshots.facts if snapshots else [])
