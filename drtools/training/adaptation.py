"""The training of a body by masked language modelling: an encoder's body with a head, batches of a corpus, the dev measure, the folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from drtools import console, manifest
from drtools.batches.masked import MaskedBatch, MaskedBatches, Masker, hold_out, texts_of
from drtools.errors import UserError
from drtools.formats.store import open_store
from drtools.losses import masked_language
from drtools.models.encoder import load_encoder, save_encoder
from drtools.models.masked import MaskedModel, load_head, new_head, save_head
from drtools.models.pair import EncoderPair
from drtools.models.settings import SIDES, check_side, positions
from drtools.randomness import generator
from drtools.retrieval.encoding import apply_flags, encode_tokens
from drtools.training.card import write_card
from drtools.training.encoders import vectors_record
from drtools.training.task import Task

if TYPE_CHECKING:
    from drtools.flags import ComputeFlags, EncoderFlags
    from drtools.output import Work
    from drtools.training.settings import TrainingFlags

CROP_TOKENS = 128  # [ours]


class MaskedTraining(Task):
    """The adaptation of an encoder's body to a corpus. The encoder's pooling, head and settings stay as they are."""

    def __init__(self, work: Work, encoder_flags: EncoderFlags, training: TrainingFlags, compute: ComputeFlags, dropout: float | None, head_steps: int) -> None:
        """Meet the other processes, load the encoder and its masked-language head; `head_steps` are for a new one."""
        super().__init__(work, training, compute)
        self.encoder_flags = encoder_flags
        name = encoder_flags.start()
        if encoder_flags.rem:
            raise UserError("--body with --rem: a body is adapted without its REM; say --model BODY")
        self.encoder = load_encoder(name, encoder_flags.pooling, encoder_flags.trust_remote_code, dropout)
        if isinstance(self.encoder, EncoderPair):
            raise UserError(f"{name}: a pair of encoders; adapt one of its subfolders, query or document")
        for side in SIDES:
            check_side(self.encoder.settings, side, name)
        apply_flags(self.encoder, encoder_flags)
        head = load_head(self.encoder)
        self.has_own_head, self.head_steps = head is not None, 0 if head else head_steps
        self.adopt(MaskedModel(self.encoder, head or new_head(self.encoder, training.seed)), [self.encoder.body])

    def on_corpus(self, corpus: str, title_separator: str, crop_tokens: int | None, share: float, dev_documents: int | None) -> None:
        """Open the corpus and hold out its dev documents."""
        self.store, self.title_separator = open_store(corpus), title_separator
        longest = positions(self.encoder.body.config.to_dict()) or CROP_TOKENS
        self.masker = Masker(self.encoder, crop_tokens or min(CROP_TOKENS, longest), share)
        self.held_out = hold_out(self.store, dev_documents, self.training.seed)
        console.notice(self.store.empty, f"{self.store.empty:,} documents are empty; nothing is learnt from them")

    def batches(self) -> MaskedBatches:
        """Return batches of the documents that are not held out."""
        return MaskedBatches(self.store, self.masker, batch_documents=self.training.batch_queries, seed=self.training.seed, held_out=self.held_out,
                             head_steps=self.head_steps, title_separator=self.title_separator, shares=self.world.shares, rank=self.world.rank)

    def measure(self) -> Callable[[], dict[str, float]] | None:
        """Return what measures the model on the held-out documents, each cropped and masked once and for all, or None without any."""
        if not len(self.held_out):
            return None
        rows = self.held_out.tolist()
        tokens = self.masker(texts_of(self.store, rows, self.title_separator), [generator(self.training.seed, "dev", row) for row in rows])
        if not (tokens.labels >= 0).any():
            raise UserError(f"--dev-documents {len(rows)}: no token of theirs is masked; hold out more, or 0 to measure nothing")

        def measured() -> dict[str, float]:
            found = np.empty((len(rows), self.model.dimension), np.float32)
            encode_tokens(self.model, tokens, self.computing.in_training, found)
            likelihood = -float(found[:, 0].sum(dtype=np.float64) / found[:, 1].sum(dtype=np.float64))
            return {"log-likelihood": likelihood, "perplexity": math.exp(min(-likelihood, 700.0))}  # the first is the loop's: more is better

        return measured

    def write(self, folder: Path) -> dict[str, str]:
        """Write the encoder as it stands, and beside it the head; return the fingerprints of both sides."""
        fingerprints = save_encoder(self.encoder, folder)
        save_head(self.model.head, folder)
        return fingerprints

    def finish(self, **facts: object) -> None:
        """Write the folder, its card and manifest, and say how it went."""
        self.close(lambda: self._write(facts))

    def _write(self, facts: dict[str, object]) -> None:
        fingerprints = self.write(self.work.path)
        start = self.encoder_flags.start()
        before = manifest.read(start).get("adapted_on", []) if (Path(start) / manifest.NAME).exists() else []
        record = {"base": start, "head": "the start's own" if self.has_own_head else "new", "head_steps": self.head_steps, **self.record(),
                  "adapted_on": [*before, {"corpus": self.store.corpus, "documents": len(self.store), "steps": self.run.step}],
                  "documents": len(self.store), "held_out": len(self.held_out), **facts}
        write_card(self.work.path, {**record, **self.card_record(), **vectors_record(self.encoder), "measured_on": "the documents held out"})
        self.work.finish(kind="encoder", **record, **{f"{side}_fingerprint": value for side, value in fingerprints.items()})


def masked_loss(rows: Tensor, batch: MaskedBatch) -> Tensor:  # [N, 2] -> []
    """Return the mean loss over the masked tokens of the global batch."""
    return masked_language(rows[:, 0], rows[:, 1].detach())
