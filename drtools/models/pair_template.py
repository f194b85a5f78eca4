"""How a tokenizer joins a query and a document into one input."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Template(NamedTuple):
    """The special tokens before a query, between query and document, and after the document.

    It also has the token types of these parts and of both texts.
    """

    before: list[int]
    between: list[int]
    after: list[int]
    types: tuple[list[int], int, list[int], int, list[int]]

    @property
    def special(self) -> int:
        """The number of special tokens in a pair."""
        return len(self.before) + len(self.between) + len(self.after)


def template_of(tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the template with which a tokenizer joins pairs."""
    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b"))
    both = tokenizer("a", "b", return_token_type_ids=True)
    ids, types = both["input_ids"], both["token_type_ids"]
    starts = [at for at in range(len(ids)) if ids[at : at + len(first)] == first]
    ends = [at for at in range(len(ids)) if ids[at : at + len(second)] == second]
    assert starts and ends, "a pair contains both texts"
    first_end, second_start = starts[0] + len(first), ends[-1]
    second_end = second_start + len(second)
    return Template(
        ids[: starts[0]],
        ids[first_end:second_start],
        ids[second_end:],
        (types[: starts[0]], types[starts[0]], types[first_end:second_start], types[second_start], types[second_end:]),
    )
