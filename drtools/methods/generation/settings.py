"""What is generated from which documents, and which generated queries are kept."""

from __future__ import annotations

from dataclasses import dataclass

from drtools.errors import InputError, param

DOCUMENT = "{document}"  # in a prompt: where the document stands


@dataclass(frozen=True)
class GenerationSettings:
    """A generator, its documents, how it samples, and the filters of what it writes.

    Temperature 1, 25 tokens and a share of 0.95 are those of GPL (Wang et al., NAACL 2022), which takes three queries
    for each passage and cuts passages at 350 tokens. The limits of the filters are ours.
    """

    model: str
    corpus: str
    prompt: str | None = None
    chat_template: bool = False
    per_document: int = 3
    sample: int | None = None
    temperature: float = 1.0
    top_k: int = 25
    top_p: float = 0.95
    max_query_tokens: int = 64
    max_document_tokens: int = 350
    round_trip: str | None = None
    round_trip_model: str | None = None
    round_trip_depth: int = 20
    teacher: list[str] | None = None
    least_score: float | None = None
    title_separator: str = " "
    seed: int = 42
    batch_documents: int | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for settings that do not go together."""
        if self.temperature == 0 and self.per_document > 1:
            raise InputError(
                "the likeliest query of a document is one query",
                where=f"{param('temperature')} 0",
                remedy=f"use {param('per_document')} 1, or a higher temperature",
            )
        if (self.teacher is None) != (self.least_score is None):
            raise InputError(
                f"{param('teacher')} and {param('least_score')} go together", remedy="use both, or neither"
            )
        if self.round_trip_model and not self.round_trip:
            raise InputError(f"{param('round_trip_model')} needs {param('round_trip')}", remedy="use both, or neither")
