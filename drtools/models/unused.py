"""Which tensors of a checkpoint a model may leave unused.

`from_pretrained` drops what a model has no place for. A head of the pre-training may go; anything else would have
changed the vectors, so a model that holds it is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from drtools import reporting
from drtools.errors import UserError

SHOWN = 3  # names in a message

# They predict words, sentences or entities, and are not between a text and its vector. ModernBERT calls its own
# `head` and `decoder`.
PRE_TRAINING = re.compile(
    r"(cls\.(predictions|seq_relationship)|lm_head|lm_loss|predictions|sop_classifier|pred_layer"
    r"|vocab_(transform|layer_norm|projector)|generator_(predictions|lm_head)|discriminator_predictions"
    r"|entity_predictions|(lm|mask)_predictions|head\.(dense|norm))\.|decoder\.(weight|bias)$"
)
# Those of them that predict words, as a masked language model does.
WORDS = re.compile(
    r"(cls\.predictions|lm_head|lm_loss|predictions|pred_layer|vocab_(transform|layer_norm|projector)"
    r"|generator_(predictions|lm_head)|(lm|mask)_predictions)\.|decoder\.(weight|bias)$"
)
# A pooler, and what is computed from the configuration again: position ids, rotary frequencies, causal masks.
HARMLESS = re.compile(
    r"(^|\.)(pooler\.|(position_ids|token_type_ids|(original_)?inv_freq|(cos|sin)_cached|masked_bias)$)"
    r"|\.(attn|attention)\.bias$|embed_positions\.weights$"
)
CLASSIFIER = re.compile(
    r"(classifier|pre_classifier|classification_head|score|qa_outputs|qa_classifier|logits_proj|sequence_summary"
    r"|start_logits|end_logits|answer_class)\."
)
CLASSIFIER_DENSE = re.compile(r"dense\.")  # EuroBERT's, which only its class tells from a retriever's projection

# What is known of tensors that are refused: (a name among them, what they are, the next move).
KNOWN = (
    (
        re.compile(r"(^|\.)lora_"),
        "an adapter (LoRA) that is not merged into the weights",
        "merge it with peft (merge_and_unload) and save the merged model",
    ),
    (
        re.compile(r"(^|\.)embeddingHead\."),
        "the trained head of DRhard and ANCE, a linear layer and a LayerNorm",
        "save it as the modules Dense and LayerNorm of sentence-transformers; the section on encoders of "
        "docs/troubleshooting.md shows how",
    ),
    (
        re.compile(r"linear\.(weight|bias)$"),
        "the token head of a multi-vector model such as ColBERT, whose texts have a vector for each token",
        "use the program that it was made for, or an encoder with one vector for each text",
    ),
    (
        re.compile(r"(^|\.)encode_proj\."),
        "the projection of a DPR encoder",
        "save it as the module Dense of sentence-transformers",
    ),
)


def check_unused(
    names: Iterable[str], folder: Path, kind: str, classifier: bool = True, architectures: Collection[str] = ()
) -> None:
    """Refuse tensors of a checkpoint that a model of a `kind` (as in its configuration) would silently leave out.

    A pooler and the heads of a pre-training are allowed. A classifier is allowed, and reported, unless `classifier` is
    False: the model then is a classifier itself, and has no place for another.
    """
    left = sorted(name for name in names if not PRE_TRAINING.match(name) and not HARMLESS.search(name))
    classified = any(word.endswith("Classification") for word in architectures)
    heads = [
        name for name in left if CLASSIFIER.match(name) or (classified and CLASSIFIER_DENSE.match(name))
    ] * classifier
    refuse_unused([name for name in left if name not in heads], folder, f"a {kind} model")
    reporting.notice(len(heads), f"{folder}: its classifier ({listed(heads)}) is not used")


def refuse_unused(names: list[str], folder: Path, what: str) -> None:
    """Refuse tensors that have no place in `what`, if there are any, with what is known of them."""
    if not names:
        return
    meaning, move = next(
        (what for pattern, *what in KNOWN if any(pattern.search(name) for name in names)),
        ("a part that would be left out", "save the model without them, or with a class that uses them"),
    )
    raise UserError(
        f"{folder}: the weights hold {len(names)} tensors that {what} has no place for ({listed(names)}): {meaning}; "
        f"{move}"
    )


def listed(names: list[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def check_names(tensors: Collection[str], expected: Callable[[str], bool], folder: Path, what: str) -> None:
    """Refuse tensors of a file that holds one part of a model, such as a dense layer, with any other beside it."""
    refuse_unused(sorted(name for name in tensors if not expected(name)), folder, what)
