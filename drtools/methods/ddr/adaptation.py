"""The training of an encoder's body by masked language modelling on a corpus."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from drtools import reporting
from drtools.encoding.loop import encode_tokens
from drtools.errors import InputError, param
from drtools.formats.corpus_store import open_store
from drtools.formats.lines import local, shown
from drtools.formats.npy import read_archive
from drtools.losses import masked_language
from drtools.methods.ddr.masking import MaskedBatch, MaskedBatches, Masker, corpus_texts, hold_out
from drtools.methods.ddr.separation import separation_of
from drtools.methods.ddr.settings import MASKING_WARMUP_STEPS, MaskingSettings
from drtools.methods.ddr.token_file import TokenFile
from drtools.methods.ddr.windows import count_windows
from drtools.models.bodies import positions_of
from drtools.models.dev_measure import DevMeasure
from drtools.models.encoder import Encoder
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_named
from drtools.models.masked import MaskedHead, MaskedModel, load_head, new_head, save_head
from drtools.models.sides import side_folders
from drtools.models.specs import ComputeSpec, EncoderSpec
from drtools.outputs import manifest
from drtools.outputs.fingerprints import file_fingerprint
from drtools.outputs.state_file import START_AFRESH
from drtools.randomness import generator
from drtools.training.encoder_task import vectors_record
from drtools.training.snapshots import FACTS, Snapshots
from drtools.training.specs import TrainingSpec
from drtools.training.task import Card, TrainingTask, no_card
from drtools.units import counted

if TYPE_CHECKING:
    from drtools.outputs.work import Work
    from drtools.training.gradients import Loss, Metrics


def adapt(
    work: Work,
    settings: MaskingSettings,
    kind: type[MaskedTraining] | None = None,
    *,
    corpus: str,
    title_separator: str,
    start: EncoderSpec,
    training: TrainingSpec,
    compute: ComputeSpec,
    card: Card = no_card,
) -> None:
    """Adapt an encoder's body to a corpus by a kind of masked training, and write its folder and its snapshots."""
    task = (kind or MaskedTraining)(work, settings, start, training, compute)
    task.write_card = card
    task.on_corpus(corpus, title_separator)
    times = [*settings.snapshot_steps], [*settings.snapshot_minutes]
    snapshots = Snapshots(work, *times, task.write_snapshot) if task.world.is_first else None
    batches = task.batches()
    task.fit(
        batches,
        task.loss,
        batches.epoch_visits,
        task.measure(),
        default_epochs=settings.epochs,
        paper_warmup=MASKING_WARMUP_STEPS,
        opening=(task.head_steps, settings.head_learning_rate),
        after_step=snapshots,
        separate=partial(separation_of, vocabulary=len(task.model.head.bias)),
    )
    if snapshots:
        snapshots.report_missed(task.run.step, task.run.seconds())
    task.finish(snapshots=snapshots.facts if snapshots else [])


class MaskedTraining(TrainingTask):
    """The adaptation of an encoder's body to a corpus. The encoder's pooling, head and settings do not change."""

    model: MaskedModel
    decoder_share: float | None = None
    decoder: dict[str, object] | None = None  # the settings of a decoder that is trained with the encoder

    def __init__(
        self,
        work: Work,
        settings: MaskingSettings,
        encoder_flags: EncoderSpec,
        training: TrainingSpec,
        compute: ComputeSpec,
    ) -> None:
        """Join the other processes, and load the encoder and its masked-language head, or draw a new head."""
        super().__init__(work, training, compute)
        self.encoder_flags = encoder_flags
        name = encoder_flags.start()
        if encoder_flags.rem:
            raise InputError(
                "a body is adapted without its REM",
                where=f"{param('body')} with {param('rem')}",
                remedy=f"use {param('model')} BODY",
            )
        if encoder_flags.document_model:
            raise InputError(
                "only one body can be adapted at a time", where=param("document_model"), remedy="leave it out"
            )
        folders = side_folders(name)
        if folders["query"] != folders["document"]:
            raise InputError("a pair of encoders", where=name, remedy="adapt one of its subfolders, query or document")
        encoder = load_named(encoder_flags, dropout=settings.dropout, folders=folders)
        assert isinstance(encoder, Encoder), "a pair was refused before"
        self.encoder = encoder
        self.settings = settings
        head = load_head(self.encoder)
        self.has_own_head, self.head_steps = head is not None, 0 if head else settings.head_steps
        self.adopt(self.learner(head or new_head(self.encoder, training.seed)), [self.encoder.body])

    def learner(self, head: MaskedHead) -> MaskedModel:
        """Return the model to train: the encoder with a head."""
        return MaskedModel(self.encoder, head)

    def masker_of(self, crop_tokens: int) -> Masker:
        """Return the masker that crops and masks documents."""
        settings = self.settings
        return Masker(
            self.encoder, crop_tokens, settings.mask_share, settings.stride_tokens, settings.mask_unit == "word"
        )

    @property
    def loss(self) -> Loss:
        """The loss of a batch."""
        return masked_loss

    def on_corpus(self, corpus: str, title_separator: str) -> None:
        """Open the corpus and hold out its dev documents."""
        self.store, self.title_separator = open_store(corpus), title_separator
        self.corpus_fingerprint = file_fingerprint(
            Path(local(self.store.corpus))
        )  # of the corpus that is read, even if the file changes during training
        usual = self.settings.usual_crop_tokens
        longest = positions_of(self.encoder.body) or usual
        self.masker = self.masker_of(self.settings.crop_tokens or min(usual, longest))
        self.held_out = hold_out(self.store, self.settings.dev_documents, self.training.seed)
        if self.store.empty == len(self.store):
            raise InputError(f"all {counted(len(self.store), 'document is', 'documents are')} empty", where=corpus)
        reporting.notice(
            self.store.empty, f"{counted(self.store.empty, 'document is', 'documents are')} empty and not used"
        )
        if not self.has_own_head:
            shares = self.masker.token_shares(self.store, title_separator)
            for head in self.model.heads:
                head.begin_with(shares)
        self.windows = self._count_windows() if self.settings.crops == "windows" else None
        self.tokens = TokenFile.open(self.work.working / TOKENS) if self.settings.crops == "windows" else None

    def _count_windows(self) -> np.ndarray:  # -> int32 [N]
        """Return the number of windows of each document, counted once by rank 0 and saved for continuing."""
        path = self.work.working / "windows.npz"  # an archive, for its checksum
        if self.world.is_first and _read_windows(path) is None:
            written = path.with_suffix(".new.npz")
            counts = count_windows(self.store, self.masker, self.title_separator, self.work.working / TOKENS)
            np.savez(written, allow_pickle=False, windows=counts)
            written.replace(path)
        self.world.wait()
        windows = _read_windows(path)
        if windows is None:
            raise InputError("cannot be read", where=path, remedy=START_AFRESH)
        return windows

    def batches(self) -> MaskedBatches:
        """Return batches of the documents that are not held out."""
        return MaskedBatches(
            self.store,
            self.masker,
            batch_documents=self.training.batch_queries,
            seed=self.training.seed,
            held_out=self.held_out,
            head_steps=self.head_steps,
            title_separator=self.title_separator,
            shares=self.world.shares,
            rank=self.world.rank,
            windows=self.windows,
            tokens=self.tokens,
        )

    def measure(self) -> DevMeasure | None:
        """Return a function that evaluates the model on the held-out documents, cropped and masked once, or None."""
        if not len(self.held_out):
            return None
        rows = self.held_out.tolist()
        tokens = self.masker(
            corpus_texts(self.store, rows, self.title_separator),
            [generator(self.training.seed, "dev", row) for row in rows],
        )
        if not (tokens.labels >= 0).any():
            raise InputError(
                "no token of these documents is masked",
                where=f"{param('dev_documents')} {len(rows)}",
                remedy="hold out more, or 0 to measure nothing",
            )

        def measured() -> dict[str, float]:
            found = np.empty((len(rows), self.model.dimension), np.float32)
            with reporting.progress("evaluating on dev", len(rows), "documents") as progress:
                encode_tokens(
                    self.model,
                    tokens,
                    self.computing.in_training,
                    found,
                    lambda rows, _: progress.advance(len(rows)),
                )
            losses, counts = (
                found.sum(axis=0, dtype=np.float64).reshape(-1, 2).T
            )  # of the encoder and, if there is one, of the decoder
            perplexities = [math.exp(min(loss / count, 700.0)) for loss, count in zip(losses, counts, strict=True)]
            named = dict(zip(("perplexity", "decoder perplexity"), perplexities, strict=False))
            return {
                "log-likelihood": -float(losses[0] / counts[0]),
                **named,
            }  # the loop uses the first value; higher is better

        return DevMeasure(measured, {"text": tokens}, f"of {counted(len(rows), 'document')} held out")

    def write(self, folder: Path) -> dict[str, str]:
        """Write the current encoder and its head. Returns the fingerprints of both sides."""
        fingerprints = save_encoder(self.encoder, folder)
        save_head(self.model.head, folder)
        return fingerprints

    def write_snapshot(self, folder: Path) -> dict[str, object]:
        """Write the same after a step. Returns the training record for the snapshot."""
        self.write(folder)
        return {"adapted_on": self._adapted_on(self.run.step)}

    def _adapted_on(self, kept_step: int) -> list[dict[str, Any]]:
        """Return the adaptations that made these weights, with this one last.

        Each has its corpus, the numbers of steps of the body and of a new head, and the step of the body whose weights
        were kept.
        """
        start = Path(self.encoder_flags.start())
        known = next((path for path in (start / manifest.NAME, start / FACTS) if path.exists()), None)
        before = manifest.read_manifest(known).get("adapted_on", []) if known else []
        head_steps = min(self.run.step, self.head_steps)
        return [
            *before,
            {
                "corpus": shown(self.store.corpus),
                "corpus_fingerprint": self.corpus_fingerprint,
                "documents": len(self.store),
                "steps": self.run.step - head_steps,
                "head_steps": head_steps,
                "kept_step": self.run.plan.count(kept_step),
            },
        ]

    def finish(self, **facts: object) -> None:
        """Write the folder with its card and manifest, and report the result."""
        self.close(lambda: self._write(facts))

    def _write(self, facts: dict[str, object]) -> None:
        fingerprints = self.write(self.work.path)
        run, masker = self.run, self.masker
        reporting.notice(
            0 < self.head_steps >= run.step,
            f"training ended after {counted(run.step, 'step')}, but the first {self.head_steps:,} train only the new "
            f"head: the body has not changed; train longer, or with fewer {param('head_steps')}",
        )
        record = {
            "base": self.encoder_flags.start(),
            "head": "the start's own" if self.has_own_head else "new",
            "head_steps": self.head_steps,
            **self.record(),
            "adapted_on": self._adapted_on(run.best["step"] if run.best else run.step),
            "learning_rate": self.training.learning_rate,
            "mask_share": masker.share,
            "decoder_mask_share": self.decoder_share,
            "stride": masker.stride,
            "windows": None if self.windows is None else int(self.windows.sum(dtype=np.int64)),
            "mask_unit": "word" if masker.whole_words else "token",
            "decoder": self.decoder,
            "crop_tokens": masker.crop_tokens,
            "documents": len(self.store),
            "held_out": len(self.held_out),
            **facts,
        }
        self.write_card(
            self.work.path,
            {**record, **self.card_record(), **vectors_record(self.encoder), "measured_on": "the documents held out"},
        )
        self.work.finish(
            kind="encoder", **record, **{f"{side}_fingerprint": value for side, value in fingerprints.items()}
        )


TOKENS = "tokens"  # a folder of the unfinished work


def _read_windows(path: Path) -> np.ndarray | None:
    """Return the counts that `_count_windows` wrote, or None if the file is missing or damaged."""
    try:
        return read_archive(path, "").get("windows")
    except (FileNotFoundError, InputError):
        return None


def masked_loss(rows: Tensor, batch: MaskedBatch) -> tuple[Tensor, Metrics]:  # [N, 2] -> []
    """Return the mean loss over the masked tokens of the global batch."""
    return masked_language(rows[:, 0], rows[:, 1].detach()), {}
