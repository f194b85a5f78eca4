"""Devices and their native precision."""

import os

from drtools.errors import InputError, WorldError, param
from drtools.process_ranks import local_rank, local_world_size


def choose_device(name: str) -> str:
    """Return `cuda`, `mps` or `cpu` for `auto`, otherwise the named device.

    Each process of torchrun takes its own GPU. Raises InputError for a device that does not exist.
    """
    import torch

    if name in ("auto", "cuda") and torch.cuda.is_available():
        own = local_rank()
        if own is not None and own >= torch.cuda.device_count():
            raise InputError(
                f"torchrun started process {own + 1} of this machine, which has {torch.cuda.device_count()} GPUs",
                remedy=f"lower --nproc-per-node, or use {param('device')} cpu",
            )
        return "cuda" if own is None else f"cuda:{own}"
    if name == "auto":
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = device_kind(name)
    if kind not in ("cpu", "cuda", "mps"):
        raise InputError(
            where=f"{param('device')} {name}",
            expected="auto, cpu, cuda, cuda:N or mps, or where several GPUs are used cuda:all or cuda:0,cuda:1",
        )
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise WorldError(
            f"{param('device')} {name}: this machine has no such device; {param('device')} auto uses what there is"
        )
    number = name.removeprefix("cuda:") if name.startswith("cuda:") else "0"
    if kind == "cuda" and (not number.isdecimal() or int(number) >= torch.cuda.device_count()):
        raise InputError(
            f"this machine's GPUs are cuda:0 to cuda:{torch.cuda.device_count() - 1}",
            where=f"{param('device')} {name}",
            remedy="use one of them",
        )
    return name


def choose_devices(name: str) -> list[str]:
    """Return the devices in a comma-separated list; `cuda:all` means every GPU.

    Raises InputError unless several devices are different GPUs.
    """
    import torch

    if name == "cuda:all":
        if not torch.cuda.is_available():
            raise WorldError(
                f"{param('device')} cuda:all: this machine has no GPU that torch sees; {param('device')} auto uses "
                "what there is"
            )
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    names = [part.strip() for part in name.split(",")]
    if len(names) > 1 and (len(set(names)) < len(names) or not all(part.startswith("cuda:") for part in names)):
        raise InputError(
            "several devices must be different GPUs with numbers, such as cuda:0,cuda:1; cuda:all means all GPUs",
            where=f"{param('device')} {name}",
        )
    return [choose_device(part) for part in names]


def device_kind(device: str) -> str:
    """Return a device without its number: cpu, cuda or mps."""
    return device.split(":")[0]


def native_precision(device: str) -> str:
    """Return `bf16` if the device multiplies it natively, otherwise `fp32`."""
    import torch

    if device.startswith("cuda"):
        with torch.cuda.device(device if ":" in device else -1):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device != "cpu":
        return "fp32"
    abilities = torch.cpu.get_capabilities()
    return "bf16" if abilities.get("avx512_bf16") or abilities.get("amx_bf16") else "fp32"


def all_threads() -> int:
    """Return the number of processor threads that this process may use: its cores, or OMP_NUM_THREADS if that is less.

    Processes of torchrun share them.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if local_world_size() > 1:  # OMP_NUM_THREADS=1 was then set by torchrun, not by the user
        return max(1, count // local_world_size())
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(count, int(said)) if said.isdigit() and int(said) else count


def set_threads(count: int) -> None:
    """Use `count` processor threads, or with 0 all that this process may use."""
    import torch

    torch.set_num_threads(count or all_threads())
