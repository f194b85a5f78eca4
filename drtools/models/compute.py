"""How to compute: device, precision, threads, tokens in a batch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import torch

from drtools import reporting
from drtools.errors import InputError, param
from drtools.models.cpu.attention import use_sliced_attention
from drtools.models.cpu.int8 import has_vnni, use_int8
from drtools.models.cpu.rows import make_rows_independent
from drtools.models.cross_encoder_model import CrossEncoder
from drtools.models.device import choose_devices, device_kind, native_precision, set_threads
from drtools.models.encoder import Encoder
from drtools.models.loading import dtype_of
from drtools.models.pair import EncoderPair, halves
from drtools.models.replicas import Copies
from drtools.models.specs import ComputeSpec, Precision

if TYPE_CHECKING:
    from torch import nn


# cuda: an H200 trains all-MiniLM-L6-v2 on texts of mixed lengths at 1.17 million tokens/s with batches of 65,536, and
# at 1.05 with batches twice as large, which have more padding
BATCH_TOKENS = {"cpu": 4096, "cuda": 65536, "mps": 16384}


CHUNK = {
    "cpu": 2048,
    "cuda": 16384,
    "mps": 16384,
}  # texts: one or two minutes on a slow processor, seconds on a GPU


# oneDNN keeps compiled products of 1,024 shapes, up to 300 MB here; sorted texts need only a few lengths at a time.
# What it keeps also lies between the activations of a training, so that their memory cannot be used again: a training
# with texts of many lengths took 2.9 GB after 30 steps, and 1.6 GB with 64 shapes. With 16, two cores' chunks did not
# find their products again in the next layer, and a step of 6 layers took a fifth more time
KEPT_SHAPES = "64"


class Compute(NamedTuple):
    """The device, precision and batch size with which texts are encoded."""

    device: str
    precision: Precision
    batch_tokens: int
    autocast: bool = False  # for training float32 weights
    copies: Copies = Copies(())  # on further devices

    @property
    def kind(self) -> str:
        """The device without its number: cpu, cuda or mps."""
        return device_kind(self.device)

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices."""
        return self.device, *self.copies.devices

    @property
    def in_training(self) -> Compute:
        """The same for a model in training."""
        return self._replace(autocast=self.precision != "fp32")

    @property
    def autocast_type(self) -> torch.dtype:
        """The type in which a model of float32 weights multiplies."""
        return torch.float16 if self.precision == "fp16" else torch.bfloat16


def settle(
    flags: ComputeSpec, batch_tokens: int | None = None, several: bool = False, training: bool = False
) -> Compute:
    """Choose the device, the precision, the processor threads and the tokens in a batch.

    A GPU without bfloat16 computes in float16 instead; with `auto`, only in training, where the loss is scaled. Raises
    InputError for several devices unless `several` is true, and for float16 and int8 where they are not computed in.
    """
    set_threads(flags.threads)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KEPT_SHAPES)  # which oneDNN reads at its first product
    device, *others = choose_devices(flags.device)
    if others and not several:
        raise InputError(
            "only encode, teacher-score and FAISS indexes use several GPUs; for training, use torchrun",
            where=f"{param('device')} {flags.device}",
            remedy="pass one device",
        )
    slow = next((each for each in (device, *others) if native_precision(each) != "bf16"), None)
    precision: Precision = flags.precision if flags.precision != "auto" else "fp32" if slow else "bf16"
    if precision == "fp16" and device_kind(device) != "cuda":
        raise InputError("only GPUs compute in float16", where=f"{param('precision')} fp16", remedy="use auto")
    if precision == "int8":
        check_int8(device, training)
    if training and flags.precision == "auto" and slow and device_kind(device) == "cuda":
        precision = "fp16"
    if precision == "bf16" and slow and device_kind(device) == "cuda":
        precision = "fp16"
        reporting.say(f"note: {param('precision')} bf16: {slow} has no bfloat16, so it computes in float16")
    if precision == "bf16" and slow:
        reporting.say(
            f"note: {param('precision')} bf16: this device ({slow}) does not multiply bfloat16 natively, and may take "
            f"hundreds of times as long; {param('precision')} auto chooses fp32 here"
        )
    return Compute(device, precision, batch_tokens or BATCH_TOKENS[device_kind(device)], copies=Copies(others))


def check_int8(device: str, training: bool) -> None:
    """Raise InputError unless a device computes in int8. Note a processor that is slow at it."""
    if training or device != "cpu":
        raise InputError(
            "only processors compute in int8, and not in training",
            where=f"{param('precision')} int8",
            remedy="use auto" if training else f"use {param('device')} cpu, or auto",
        )
    if not has_vnni():
        reporting.say(
            f"note: {param('precision')} int8: this processor has no VNNI, so weights have 7 bits, and it may take "
            f"longer than with {param('precision')} auto"
        )
    elif torch.cpu.get_capabilities().get("amx_bf16"):
        reporting.say(f"note: {param('precision')} int8: this processor has AMX, with which bf16 takes less time")


def place(encoder: Encoder | EncoderPair[Encoder] | CrossEncoder, computing: Compute) -> None:
    """Move an encoder to its device and its body to the requested precision. Pooling and head stay float32.

    With int8, all of the body but its linear layers is in the native floating-point precision.
    """
    encoder.to(computing.device)
    dtype = dtype_of(computing.precision)
    for half in [encoder] if isinstance(encoder, CrossEncoder) else halves(encoder):
        parts = half.below_heads if isinstance(half, CrossEncoder) else [half.body]
        if computing.precision == "int8":  # before the cast, from the weights as they were loaded
            if not sum(use_int8(part) for part in parts):
                raise InputError(
                    "this body has no linear layers that int8 replaces",
                    where=half.folder,
                    remedy=f"use {param('precision')} auto",
                )
            half.int8 = True
        for part in parts:
            cast_weights(part, dtype)
        if computing.device == "cpu" and dtype == torch.bfloat16:
            use_sliced_attention(half.body)
    if computing.device == "cpu":
        make_rows_independent(encoder)


def cast_weights(body: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights of a body. The frequencies of rotary positions stay float32, as transformers loads them.

    In bfloat16 their rounding would turn far positions by whole circles.
    """
    kept = {name: buffer for name, buffer in body.named_buffers() if name.rpartition(".")[2].endswith("inv_freq")}
    body.to(dtype)
    for name, buffer in kept.items():
        place, _, last = name.rpartition(".")
        setattr(body.get_submodule(place), last, buffer)


def promises_bits(computing: Compute) -> bool:
    """Return whether the bits of a vector from `encode_tokens` with `one_length` do not depend on other texts."""
    return computing.device == "cpu" and (
        computing.precision == "fp32" or not torch.cpu.get_capabilities().get("amx_bf16")
    )
