"""Families of language models that score pairs, whose files do not say how: their templates and their tokens.

A model is of a family if its architecture is one of the family's, and its name contains the family's. The templates are
those of the families' own programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from drtools.errors import InputError, param
from drtools.models.text_template import DOCUMENT, QUERY, check_segments

BOS = "{bos}"  # the tokenizer's first token, if it has one that is not its padding
INSTRUCTION = "{instruction}"
WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
CHAT = ("<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")


class Family(NamedTuple):
    """How models of a family read a pair, and the tokens that their score is read from.

    `segments` are those of a template. `instruction` is the usual one, and `put` is the text that it stands in.
    `tokens` are the relevant and the irrelevant token, or only the first; none for a classifier and for heads of
    layers. `longest` is the number of tokens of a pair that the family's program reads.
    """

    pattern: str
    architectures: tuple[str, ...]
    segments: tuple[str, ...]
    tokens: tuple[str, ...]
    longest: int | None
    instruction: str = ""
    put: str = INSTRUCTION
    special: bool = False


BGE = (
    BOS,
    f"A: {QUERY}",
    "\n",
    f"B: {DOCUMENT}",
    "\n",
    INSTRUCTION,
)
BGE_TASK = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
FAMILIES = {
    # Qwen's model card; the whole text is tokenized at once
    "qwen3-reranker": Family(
        r"qwen3.reranker",
        ("Qwen3ForCausalLM",),
        (
            f"{CHAT[0]}Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
            f'Note that the answer can only be "yes" or "no".{CHAT[1]}<Instruct>: {INSTRUCTION}\n<Query>: {QUERY}\n'
            f"<Document>: {DOCUMENT}{CHAT[2]}<think>\n\n</think>\n\n",
        ),
        ("yes", "no"),
        8192,
        WEB_SEARCH,
    ),
    # FlagEmbedding's BaseLLMReranker and LayerWiseLLMReranker
    "bge-reranker-v2-gemma": Family(r"bge.reranker.v2.gemma", ("GemmaForCausalLM",), BGE, ("Yes",), 1024, BGE_TASK),
    "bge-reranker-v2-minicpm-layerwise": Family(r"", ("LayerWiseMiniCPMForCausalLM",), BGE, (), 1024, BGE_TASK),
    # mxbai-rerank's MxbaiRerankV2
    "mxbai-rerank-v2": Family(
        r"mxbai.rerank.\w+.v2",
        ("Qwen2ForCausalLM",),
        (
            f"{CHAT[0]}You are Qwen, created by Alibaba Cloud. You are a helpful assistant.{CHAT[1]}",
            f"{INSTRUCTION}query: {QUERY}",
            "\n",
            f"document: {DOCUMENT}",
            "\n",
            "You are a search relevance expert who evaluates how well documents match search queries. For each "
            "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
            "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:",
            CHAT[2],
        ),
        ("1", "0"),
        8192,
        put=f"instruction: {INSTRUCTION}\n",
    ),
    # Nogueira et al., Document Ranking with a Pretrained Sequence-to-Sequence Model
    "monot5": Family(
        r"monot5|inranker",
        ("T5ForConditionalGeneration",),
        (f"Query: {QUERY} Document: {DOCUMENT} Relevant:",),
        ("▁true", "▁false"),
        512,
        special=True,
    ),
    # castorini/rankllama-v1-7b-lora-passage: each text has a first token of its own
    "rankllama": Family(
        r"rankllama",
        ("LlamaForSequenceClassification", "LlamaForCausalLM"),
        (BOS, f"query: {QUERY}", BOS, f"document: {DOCUMENT}"),
        (),
        None,
    ),
}


def family_of(names: Iterable[object], architectures: Sequence[str]) -> Family | None:
    """Return the family of a model by its names and its architectures, or None."""
    text = " ".join(map(str, names)).lower()
    return next(
        (
            family
            for family in FAMILIES.values()
            if {*family.architectures} & {*architectures} and re.search(family.pattern, text)
        ),
        None,
    )


def names_of(name: str) -> list[str]:
    """Return the names by which a model is known, on the hub or of its folder; folders around it do not count."""
    if not Path(name).is_dir():
        return [name]
    place = Path(name).resolve()
    return [place.name, *([place.parent.parent.name] if place.parent.name == "snapshots" else [])]


def named_family(template: str) -> Family | None:
    """Return the family that a pair template names, or None if it is a text."""
    if template in FAMILIES:
        return FAMILIES[template]
    if QUERY not in template or DOCUMENT not in template:
        raise InputError(
            where=f"{param('pair_template')} {template!r}",
            expected=f"{', '.join(FAMILIES)}, or a text with {QUERY} and {DOCUMENT}",
        )
    return None


def of_text(template: str) -> Family:
    """Return a family whose template is a text, tokenized at once without the tokenizer's special tokens."""
    check_segments([template], param("pair_template"))
    return Family("", (), (template,), (), None)


def segments_of(family: Family, instruction: str | None, bos: str | None) -> tuple[str, ...]:
    """Return the segments of a family's template with an instruction, or with the usual one.

    Raises InputError for an instruction that the template has no place for, and for a missing one.
    """
    said = family.instruction if instruction is None else instruction
    whole = "".join(family.segments)
    if instruction is not None and INSTRUCTION not in whole:
        raise InputError(
            "the template of this model has no place for an instruction",
            where=param("instruction"),
            remedy="leave it out",
        )
    if INSTRUCTION in whole and not said and family.put == INSTRUCTION:
        raise InputError(
            f"the template has a place for {INSTRUCTION}",
            where=param("pair_template"),
            remedy=f"pass {param('instruction')}",
        )
    put = family.put.replace(INSTRUCTION, said) if said else ""
    if QUERY in put or DOCUMENT in put:
        raise InputError(f"it has {QUERY} or {DOCUMENT} in it", where=param("instruction"), remedy="leave that out")
    segments = (segment.replace(BOS, bos or "").replace(INSTRUCTION, put) for segment in family.segments)
    return tuple(segment for segment in segments if segment)
