"""Flags of where and how to compute."""

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.common import Role
from drtools.models.specs import ComputeSpec


@dataclass(frozen=True)
class ComputeFlags(ComputeSpec):
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
