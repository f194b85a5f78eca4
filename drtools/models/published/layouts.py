"""The layouts of published checkpoints: by which names their programs save tensors, and what vectors these make.

To add a layout, add a row to LAYOUTS and a test that builds a checkpoint by its program's own names.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

from drtools.errors import param

QUERY, DOCUMENT, BOTH = "query", "document", "both"
WRAPPER = "module."  # what DistributedDataParallel puts before every name


class HeadPart(NamedTuple):
    """A layer after the pooling: the names of its tensors in the checkpoint, and its kind.

    A rotation is a matrix without a name behind its own.
    """

    name: str
    kind: Literal["dense", "layer-norm", "rotation"]
    optional: bool = False

    def tensors(self) -> dict[str, str]:
        """Return the names of its tensors in the checkpoint, and in a folder of drtools."""
        if self.kind == "rotation":
            return {self.name: "linear.weight"}
        ours = "linear" if self.kind == "dense" else "norm"
        return {f"{self.name}.{each}": f"{ours}.{each}" for each in ("weight", "bias")}


class Side(NamedTuple):
    """An encoder in a checkpoint: the texts that it encodes, the prefix of the names of its body, and its head."""

    texts: str
    prefix: str
    head: tuple[HeadPart, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How one program names its tensors.

    `marks` are names that a checkpoint must have, as expressions, to be of this layout. `aside` are expressions for
    tensors that are not part of an encoder, with descriptions. `pooling` is that of the program, or None if the files
    or the user must give it. With `prefix_space` it reads the first word of a text as one behind a space, with
    `lower_case` in lower case. `note` is what else a user must know to get the same vectors.
    """

    name: str
    sides: tuple[Side, ...]
    marks: tuple[str, ...]
    aside: tuple[tuple[str, str], ...] = ()
    pooling: str | None = None
    prefix_space: bool = False
    lower_case: bool = False
    note: str = ""


CODEBOOK = (r"centroids$", "the codebook of its quantizer, which makes no vectors; drtools index trains its own")
ROTATION = HeadPart("rotation", "rotation", optional=True)
TITLE = (
    f"its documents were title and text with [SEP] between them; encode with {param('title_separator')} ' [SEP] ' for "
    "the same"
)


def _dot_head(prefix: str = "") -> tuple[HeadPart, ...]:
    return HeadPart(f"{prefix}embeddingHead", "dense"), HeadPart(f"{prefix}norm", "layer-norm"), ROTATION


def _dpr_side(texts: str, name: str, body: str = "") -> Side:
    return Side(texts, f"{name}.{body}", (HeadPart(f"{name}.encode_proj", "dense", optional=True),))


def _scale_side(texts: str, name: str) -> Side:
    projection = (
        HeadPart(f"{name}.project.0", "dense", optional=True),
        HeadPart(f"{name}.project.1", "layer-norm", optional=True),
    )
    return Side(texts, f"{name}.transformer.", projection)


LAYOUTS = (
    Layout(
        "RobertaDot (DRhard, ANCE, JPQ)",
        (Side(BOTH, "roberta.", _dot_head()),),
        marks=(r"roberta\.embeddings\.", r"(embeddingHead|norm)\.(weight|bias)$"),
        aside=((r"classifier\.", "a classifier that its program makes and never uses"), CODEBOOK),
        pooling="cls",
        # DRhard's and JPQ's star_tokenizer.py, and the transformers 2 of ANCE, do both
        prefix_space=True,
        lower_case=True,
    ),
    Layout(
        "RepCONC with RobertaDot",
        (Side(BOTH, "dense_encoder.roberta.", _dot_head("dense_encoder.")),),
        marks=(r"dense_encoder\.roberta\.", r"dense_encoder\.(embeddingHead|norm)\."),
        aside=(CODEBOOK,),
        pooling="cls",
        lower_case=True,  # examples/ance of RepCONC; its tokenizer is the usual one, without the space
    ),
    *[
        Layout(
            "RepCONC",
            (Side(BOTH, f"dense_encoder.{family}.", (ROTATION,)),),
            marks=(rf"dense_encoder\.{family}\.", r"centroids$"),
            aside=(CODEBOOK,),
        )
        for family in ("bert", "roberta", "distilbert")
    ],
    Layout(
        "DPR of transformers",
        (_dpr_side(QUERY, "question_encoder", "bert_model."), _dpr_side(DOCUMENT, "ctx_encoder", "bert_model.")),
        marks=(r"(question|ctx)_encoder\.bert_model\.",),
        pooling="cls",
        note=TITLE,
    ),
    Layout(
        "DPR",
        (_dpr_side(QUERY, "question_model"), _dpr_side(DOCUMENT, "ctx_model")),
        marks=(r"question_model\.", r"ctx_model\."),
        pooling="cls",
        note=TITLE,
    ),
    Layout(
        "dpr-scale (SPAR, DRAGON)",
        (_scale_side(QUERY, "query_encoder"), _scale_side(DOCUMENT, "context_encoder")),
        marks=(r"query_encoder\.transformer\.", r"context_encoder\.transformer\."),
        pooling="cls",
    ),
    Layout(
        "Contriever's training (MoCo)",
        (Side(BOTH, "encoder_q."),),
        marks=(r"encoder_q\.embeddings\.", r"encoder_k\.embeddings\."),
        aside=((r"encoder_k\.", "the slow copy of the encoder"), (r"queue(_ptr)?$", "the queue of negatives")),
    ),
    Layout(
        "Contriever's training (in-batch)",
        (Side(BOTH, "encoder."),),
        marks=(r"encoder\.embeddings\.", r"encoder\.encoder\."),
    ),
)
# Bodies by their own names: coCondenser, DRAGON, SPAR and Contriever of transformers, DDR's DAMs
PLAIN = Layout("a body", (Side(BOTH, ""),), marks=())
# Pooling and similarity in config.json: DDR, RepCONC and Contriever write these keys
POOLING_KEY, SIMILARITY_KEY = "pooling", "similarity_metric"
POOLINGS = {"average": "mean", "mean": "mean", "cls": "cls"}
NORMALIZED = {"ip": False, "METRIC_IP": False, "cos": True, "METRIC_COS": True}
# The pooling of classes that write no such key
CLASSES = {"Contriever": "mean"}


def recognise(names: Collection[str]) -> Layout:
    """Return the layout whose marks the names of tensors all have, else that of a body by its own names."""
    for layout in LAYOUTS:
        if all(any(re.match(mark, name) for name in names) for mark in layout.marks):
            return layout
    return PLAIN
