"""Flags for the device and the precision."""

from dataclasses import dataclass
from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.common import Role
from drtools.models.specs import ComputeSpec


@dataclass(frozen=True)
class ComputeFlags(ComputeSpec):
    """The device, the precision and the number of threads."""

    device: Annotated[
        str,
        Option(
            help="auto, cpu, cuda, cuda:1 or mps; encode, teacher-score and FAISS indexes also take several GPUs: "
            "cuda:0,cuda:1 or cuda:all",
            rich_help_panel="Computing",
        ),
        Role.UNRECORDED,
    ] = "auto"
    precision: Annotated[
        Literal["auto", "bf16", "fp16", "fp32", "int8"],
        Option(
            help="auto: bf16 if the device supports it natively, else fp32; a GPU without it trains in fp16, and takes "
            "fp16 for bf16; int8: linear layers in int8, on a processor and not in training",
            rich_help_panel="Computing",
        ),
    ] = "auto"
    threads: Annotated[
        int,
        Option(min=0, help="CPU threads; 0: OMP_NUM_THREADS if it is set, else all", rich_help_panel="Computing"),
        Role.UNRECORDED,
    ] = 0
