"""Upload a model, vectors, an index or examples to the Hugging Face hub.

    drtools push star hf://me/star --dry-run
    drtools push vectors hf://me/star-vectors --private --dry-run

Without --dry-run the files are uploaded in one commit. Models become models, everything else a data set. The repository
is made if it is not there. The token is that of `hf auth login`, or HF_TOKEN; HF_ENDPOINT names another hub.

A model's card is its README.md. An output without one gets a card with its kind, its counts and the tool that made it.
Paths of this machine are not uploaded: the manifest has the last part of each.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from drtools import reporting
from drtools.cli.flags.common import DryRun, Role
from drtools.errors import InputError
from drtools.outputs import manifest
from drtools.outputs.records import Record
from drtools.outputs.uploading import MODELS, push, upload_of
from drtools.units import counted, readable

NAME = re.compile(r"hf://([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)")


def main(
    finished: Annotated[str, Argument(metavar="OUT", help="finished output: a folder or a file"), Role.INPUT],
    target: Annotated[str, Argument(metavar="hf://OWNER/NAME", help="repository on the hub"), Role.UNRECORDED],
    private: Annotated[bool, Option("--private", help="make a new repository private")] = False,
    message: Annotated[str | None, Option(help="message of the commit; default: what was uploaded")] = None,
    dry_run: DryRun = False,
) -> None:
    """Upload an output with its card."""
    found = NAME.fullmatch(target)
    if not found:
        raise InputError(where=target, expected="hf://OWNER/NAME")
    record = manifest.read(finished)
    upload = upload_of(finished, None if record.get("kind") in MODELS else card_of(record, found[1]))
    what = f"{counted(len(upload.files), 'file')}, {upload.size:,} bytes"
    if dry_run:
        for name in upload.files:
            print(readable(name))
        reporting.say(f"{what}, would become a {upload.repo_type} {found[1]}")
        return
    address = push(upload, found[1], private, message or f"{Path(finished).name}: {record.get('kind', 'output')}")
    reporting.say(f"{what}: {address}")


def card_of(record: Record, name: str) -> str:
    """Return the card of vectors, an index, or a data set."""
    kind = str(record.get("kind", "output"))
    lines = ["---", "tags:", "- drtools", f"- {kind}", "---", "", f"# {name.partition('/')[2]}", ""]
    lines.append(f"Made by `drtools {record.get('tool', '')}` {record.get('version', '')}: {kind}.")
    counts = record.get("counts")
    facts = {"fingerprint": record.get("fingerprint"), **(counts if isinstance(counts, dict) else {})}
    lines += ["", "| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items() if value is not None)]
    return "\n".join(lines) + "\n"
