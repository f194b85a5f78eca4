"""Encoders whose vectors are cut to their first dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from drtools import reporting
from drtools.errors import InputError, param
from drtools.models.heads import Normalize, Truncate

if TYPE_CHECKING:
    from drtools.models.encoder import Encoder


def truncate(encoder: Encoder, dimension: int) -> None:
    """Cut the vectors of an encoder to their first dimensions, and normalize them again if they had length 1.

    Its own dimension changes nothing. Raises InputError for a larger one.
    """
    if dimension > encoder.dimension:
        raise InputError(
            f"the encoder's vectors have {encoder.dimension} dimensions",
            where=f"{param('truncate_dimension')} {dimension}",
            remedy=f"use {encoder.dimension} or less",
        )
    if dimension == encoder.dimension:
        return
    settings = encoder.settings
    trained = settings.matryoshka
    reporting.notice(
        bool(trained) and dimension not in trained,
        f"the encoder was trained for {', '.join(map(str, trained))} dimensions, not for {dimension}",
    )
    encoder.whole_head = settings.head
    again = settings.normalized
    settings.head = [*settings.head, {"kind": "truncate", "out": dimension}]
    layers: list[nn.Module] = [*encoder.head, Truncate(dimension)]
    if again:
        settings.head = [*settings.head, {"kind": "normalize"}]
        layers.append(Normalize())
    encoder.head = nn.Sequential(*layers).train(encoder.training)
    settings.matryoshka = [each for each in trained if each <= dimension]
