"""Language models that write texts: loaded by name, and sampled from so that a text depends on its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from drtools import reporting
from drtools.errors import InputError, param
from drtools.models.bodies import positions_of
from drtools.models.compute import Compute, cast_weights
from drtools.models.loading import DTYPES, load_weights, refuse_missing
from drtools.models.resolving import resolve
from drtools.models.settings import weights_fingerprint
from drtools.units import counted

if TYPE_CHECKING:
    import numpy as np
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


class SeededSampling:
    """Draws each row's next token with the row's own generator, whatever rows are beside it.

    It is called as a logits processor of transformers.

    The token is found by one uniform number in the cumulative distribution, in float64. It gets logit 0 and all others
    get minus infinity, so that a greedy search takes it.
    """

    def __init__(self, generators: Sequence[np.random.Generator], temperature: float, top_k: int, top_p: float) -> None:
        from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        self.generators = generators
        self.warpers: list[Any] = [TemperatureLogitsWarper(temperature)]
        if top_k:
            self.warpers.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            self.warpers.append(TopPLogitsWarper(top_p))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # [B, T], [B, V] -> [B, V]
        """Return the scores of the tokens that were drawn."""
        scores = scores.double()
        for warp in self.warpers:
            scores = warp(input_ids, scores)
        cumulative = scores.softmax(dim=-1).cumsum(dim=-1)
        draws = torch.tensor([[draw.random()] for draw in self.generators], dtype=torch.float64, device=scores.device)
        tokens = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True)
        tokens = tokens.clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens, 0.0).float()


class _EndsLine:
    """Ends a row at a line break, after which a prompted model would write the next example.

    It is called as a stopping criterion of transformers.
    """

    def __init__(self, breaks: Tensor) -> None:
        self.breaks = breaks  # bool [V]

    def __call__(self, input_ids: Tensor, scores: object, **more: object) -> Tensor:
        """Return which rows end."""
        return self.breaks.to(input_ids.device)[input_ids[:, -1]]


class Generator:
    """A sequence-to-sequence or causal model that writes one line for a text."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        self.model, self.tokenizer, self.folder = model, tokenizer, folder
        self.is_seq2seq = bool(model.config.is_encoder_decoder)
        self.device = "cpu"
        self._breaks: Tensor | None = None

    def fingerprint(self) -> str:
        """Return the fingerprint of the weights as they were loaded."""
        return weights_fingerprint(self.folder)

    def place(self, computing: Compute) -> None:
        """Move the model to its device and precision."""
        if computing.precision == "int8":
            raise InputError(
                "only encoders and cross-encoders compute in int8",
                where=f"{param('precision')} int8",
                remedy="use auto",
            )
        self.device = computing.device
        model: torch.nn.Module = self.model  # the type of transformers' `to` does not accept a device alone
        model.to(device=computing.device)
        cast_weights(model, DTYPES[computing.precision])

    def cut(self, text: str, tokens: int) -> tuple[str, bool]:
        """Return the part of a text that its first tokens make, and whether it was cut."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = found["offset_mapping"]
        return (text, False) if len(offsets) <= tokens else (text[: offsets[tokens - 1][1]], True)

    def in_chat(self, prompt: str) -> str:
        """Return a prompt in the tokenizer's chat template, as the user's turn."""
        if self.tokenizer.chat_template is None:
            raise InputError(
                "its tokenizer has no chat template", where=self.folder, remedy=f"leave {param('chat_template')} out"
            )
        turns = [{"role": "user", "content": prompt}]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def check_room(self, prompt_tokens: int, new_tokens: int) -> None:
        """Raise InputError if a causal model's positions do not hold a prompt and what is written after it."""
        room = None if self.is_seq2seq else positions_of(self.model)
        if room is not None and prompt_tokens + new_tokens > room:
            raise InputError(
                f"reads {room} tokens, fewer than the prompt with its document ({prompt_tokens}) and a query "
                f"({new_tokens})",
                where=self.folder,
                remedy=f"use a smaller {param('max_document_tokens')}, or a shorter {param('prompt')}",
            )

    def count(self, text: str, special: bool) -> int:
        """Return the number of tokens of a text."""
        return len(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    @torch.inference_mode()
    def write(
        self, prompts: Sequence[str], sampling: SeededSampling | None, copies: int, new_tokens: int, special: bool
    ) -> list[list[str]]:
        """Return `copies` lines for each prompt; without `sampling` the likeliest one, token by token.

        `sampling` has a generator for each line, those of a prompt together. `special` adds the tokenizer's special
        tokens, which a chat template has already.
        """
        from transformers import LogitsProcessorList, StoppingCriteriaList

        side = "right" if self.is_seq2seq else "left"
        given = self.tokenizer(
            list(prompts), padding=True, padding_side=side, add_special_tokens=special, return_tensors="pt"
        )
        ids, mask = (
            given[name].repeat_interleave(copies, dim=0).to(self.device) for name in ("input_ids", "attention_mask")
        )
        stops: list[Any] = [] if self.is_seq2seq else [_EndsLine(self._line_breaks())]
        processors: list[Any] = [sampling] if sampling else []
        own: Any = self.model
        written = own.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=self._config(new_tokens),
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList(stops),
        )
        new = written if self.is_seq2seq else written[:, ids.shape[1] :]
        lines = [str(self.tokenizer.decode(row, skip_special_tokens=True)) for row in new]
        lines = [" ".join(line.split()) if self.is_seq2seq else " ".join(line.split("\n")[0].split()) for line in lines]
        return [lines[start : start + copies] for start in range(0, len(lines), copies)]

    def _config(self, new_tokens: int) -> GenerationConfig:
        """Return a configuration with the model's special tokens, and nothing else of its own."""
        from transformers import GenerationConfig

        theirs = self.model.generation_config
        ends = theirs.eos_token_id if theirs and theirs.eos_token_id is not None else self.tokenizer.eos_token_id
        config = GenerationConfig(
            max_new_tokens=new_tokens,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            eos_token_id=ends,
            pad_token_id=self.tokenizer.pad_token_id,
            bos_token_id=theirs.bos_token_id if theirs else None,
            decoder_start_token_id=(theirs.decoder_start_token_id if theirs else None)
            or getattr(self.model.config, "decoder_start_token_id", None),
        )
        self.model.generation_config = config  # transformers takes what a configuration lacks from the model's own
        return config

    def _line_breaks(self) -> Tensor:  # -> bool [V]
        if self._breaks is None:
            size = int(self.model.get_output_embeddings().weight.shape[0])
            known = len(self.tokenizer)
            texts = self.tokenizer.batch_decode([[token] for token in range(min(size, known))])
            found = ["\n" in text for text in texts]
            self._breaks = torch.tensor(found + [False] * (size - len(found)))
        return self._breaks


def load_generator(name: str, trust_remote_code: bool = False) -> Generator:
    """Load a generator in float32 and eval mode, from a folder or a hub name."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    folder = resolve(name)
    model, tokenizer, loading = load_weights(
        folder,
        lambda config, _: AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM,
        trust_remote_code,
    )
    refuse_missing(loading.missing, model, folder)
    reporting.notice(
        bool(loading.unexpected),
        f"{folder}: {counted(len(loading.unexpected), 'tensor is', 'tensors are')} not used (first: "
        f"{min(loading.unexpected, default='')})",
    )
    if not tokenizer.is_fast:
        raise InputError("its tokenizer is not a fast one", where=folder, expected="a tokenizer.json")
    return Generator(model.eval(), tokenizer, folder)
