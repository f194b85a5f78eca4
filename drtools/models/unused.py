"""The tensors of a checkpoint that a model may leave unused.

`from_pretrained` drops tensors for which a model has no parameter. Heads of the pre-training may be dropped. Any other
tensor would change the vectors, so its checkpoint is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from drtools import reporting, units
from drtools.errors import InputError
from drtools.models.json_files import shards_of

SHOWN = 3  # names in a message
ADAPTER = "adapter_model.safetensors"  # refused because of its adapter_config.json
Known = Sequence[tuple[re.Pattern[str], str, str]]

# Heads of the pre-training predict words, sentences or entities, and do not affect vectors. These names are such heads
# in every family ...
PRE_TRAINING = re.compile(r"(cls\.(predictions|seq_relationship)|lm_head)\.")
# ... and these only in their own family, by model type. ModernBERT's names are `head` and `decoder`.
OF_FAMILY = {
    ("modernbert",): re.compile(r"head\.(dense|norm)\.(weight|bias)$|decoder\.(weight|bias)$"),
    ("modernbert-decoder",): re.compile(r"decoder\.(weight|bias)$"),
    ("albert",): re.compile(r"(predictions|sop_classifier)\.|(albert\.)?pooler\.(weight|bias)$"),
    ("big_bird",): re.compile(r"(bert\.)?pooler\.(weight|bias)$"),
    ("xlnet",): re.compile(r"lm_loss\."),
    ("xlm", "flaubert"): re.compile(r"pred_layer\."),
    ("distilbert",): re.compile(r"vocab_(transform|layer_norm|projector)\."),
    ("electra", "convbert"): re.compile(r"(generator_(predictions|lm_head)|discriminator_predictions)\."),
    ("luke", "mluke"): re.compile(r"entity_predictions\."),
    ("deberta", "deberta-v2"): re.compile(r"(lm|mask)_predictions\."),
    # causal masks, which are buffers
    ("gpt2", "gptj", "gpt_bigcode", "codegen", "openai-gpt"): re.compile(r"(\w+\.)?h\.\d+\.attn\.(masked_)?bias$"),
    ("gpt_neo",): re.compile(r"(\w+\.)?h\.\d+\.attn\.attention\.(masked_)?bias$"),
    ("gpt_neox", "gpt_neox_japanese"): re.compile(r"(\w+\.)?layers\.\d+\.attention\.(masked_)?bias$"),
}
# The heads that predict words, as in a masked language model.
WORDS = re.compile(
    r"(cls\.predictions|lm_head|lm_loss|predictions|pred_layer|vocab_(transform|layer_norm|projector)"
    r"|generator_(predictions|lm_head)|(lm|mask)_predictions)\.|decoder\.(weight|bias)$"
)
# A pooler of the usual form, which these families have.
POOLER = re.compile(r"(\w+\.)?pooler\.dense\.(weight|bias)$")
POOLED = frozenset(
    """bert bros camembert canine data2vec-text deberta deberta-v2 ernie esm fnet gte ibert jina_embeddings_v3 layoutlm
    layoutlmv2 lilt longformer luke markuplm megatron-bert mluke mobilebert mpnet nomic_bert rembert roberta
    roberta-prelayernorm roc_bert squeezebert tapas visual_bert xlm-roberta xlm-roberta-xl xmod""".split()
)
# Tensors that are computed from the configuration: position ids, rotary frequencies, sinusoidal positions.
BUFFERS = re.compile(
    r"(.+\.)?(position_ids|token_type_ids|(original_)?inv_freq|(cos|sin)_cached|embed_positions\.weights)$"
)
CLASSIFIER = re.compile(
    r"(classifier|pre_classifier|classification_head|score|qa_outputs|qa_classifier|logits_proj|sequence_summary"
    r"|start_logits|end_logits|answer_class)\."
)
CLASSIFIER_DENSE = re.compile(
    r"dense\."
)  # EuroBERT's; only its class distinguishes it from the projection of a retriever

# Known tensors that are refused: (pattern of a name, what they are, remedy).
KNOWN: Known = (
    (
        re.compile(r"(.+\.)?lora_"),
        "an adapter (LoRA) that is not merged into the weights",
        "merge it with peft (merge_and_unload) and save the merged model, or import its folder with its "
        "adapter_config.json by `drtools import-model`",
    ),
    (
        re.compile(r"(.+\.)?embeddingHead\."),
        "the trained head of DRhard and ANCE, a linear layer and a LayerNorm",
        "convert the checkpoint with `drtools import-model`, which keeps the head",
    ),
    (
        re.compile(r"(linear|colbert_linear)\.(weight|bias)$"),
        "the token head of a multi-vector model such as ColBERT, whose texts have a vector for each token",
        "use the program that it was made for, or an encoder with one vector for each text",
    ),
    (
        re.compile(r"sparse_linear\.(weight|bias)$"),
        "the head that weighs each token, of a model with sparse vectors such as BGE-M3",
        "save the model without it for its dense vectors alone",
    ),
    (
        re.compile(r"(.+\.)?encode_proj\."),
        "the projection of a DPR encoder",
        "convert the checkpoint with `drtools import-model`, which keeps the projection",
    ),
)


def check_unused(
    names: Iterable[str], folder: Path, kind: str, classifier: bool = True, architectures: Collection[str] = ()
) -> None:
    """Raise InputError for tensors of a checkpoint that a model of type `kind` would silently drop.

    A pooler and heads of the pre-training are allowed if the family has them. A classifier is allowed and reported,
    unless `classifier` is False, which means that the model itself is a classifier.
    """
    left = sorted(name for name in names if not may_go(name, kind))
    classified = any(word.endswith("Classification") for word in architectures)
    heads = [
        name for name in left if CLASSIFIER.match(name) or (classified and CLASSIFIER_DENSE.match(name))
    ] * classifier
    refuse_unused([name for name in left if name not in heads], folder, f"a {kind} model", KNOWN)
    reporting.notice(len(heads), f"{folder}: its classifier ({listed(heads)}) is not used")


def may_go(name: str, kind: str) -> bool:
    """Return whether a model of a type may leave a tensor unused without a notice."""
    from transformers import CONFIG_MAPPING

    if PRE_TRAINING.match(name) or BUFFERS.match(name):
        return True
    if POOLER.match(name):  # for families with remote code, only the name is known
        return kind in POOLED or kind not in CONFIG_MAPPING
    return any(kind in kinds and pattern.match(name) for kinds, pattern in OF_FAMILY.items())


def refuse_unused(names: list[str], folder: Path, what: str, known: Known = ()) -> None:
    """Raise InputError if there are tensors that `what` does not use, with what is `known` about them."""
    if not names:
        return
    meaning, move = next(
        (what for pattern, *what in known if any(pattern.match(name) for name in names)),
        ("a part that would be left out", "save the weights without that part, or with a class that uses it"),
    )
    raise InputError(
        (
            f"the weights hold {units.counted(len(names), 'tensor')} that {what} does not use ({listed(names)}): "
            f"{meaning}"
        ),
        where=folder,
        remedy=move,
    )


def check_files(folder: Path) -> None:
    """Raise InputError for files of weights that transformers would not read.

    It reads model.safetensors, or the shards in the index. Mistral's repositories have the same weights again in
    consolidated.safetensors.
    """
    own = {"model.safetensors", ADAPTER}
    index = folder / "model.safetensors.index.json"
    if index.exists() and not (folder / "model.safetensors").exists():
        own |= shards_of(index)
    others = sorted(
        file.name
        for file in folder.glob("*.safetensors")
        if file.name not in own and not file.name.startswith("consolidated")
    )
    if others:
        raise InputError(
            (
                f"found {listed(others)} next to the weights of the model, expected model.safetensors or the shards "
                f"in {index.name}; such weights would not be used: move them elsewhere if the vectors do not "
                "need them, or save a layer after the pooling as a module of sentence-transformers"
            ),
            where=folder,
        )


def listed(names: list[str]) -> str:
    """Return the first few names, and the number of the others."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def check_names(tensors: Collection[str], expected: Callable[[str], bool], folder: Path, what: str) -> None:
    """Raise InputError for unexpected tensors in a file with one part of a model, such as a dense layer."""
    refuse_unused(sorted(name for name in tensors if not expected(name)), folder, what)
