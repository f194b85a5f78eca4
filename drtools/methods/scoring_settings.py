"""Settings of scoring by a teacher, or by the run of another ranker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drtools.errors import InputError, param, params_given

if TYPE_CHECKING:
    from drtools.models.specs import PieceSizes


@dataclass(frozen=True)
class ScoringSettings:
    """The teacher, the data that it scores, and its maximum lengths.

    The data are `examples` (or `given`, which means the same) or a `run`. `pieces` is the encoder that will be trained
    on the scores of their pieces; with `only_pieces` the documents themselves are not scored. Instead of a teacher,
    `scores` is a run with the scores of another ranker, which needs no texts. `part` I/N scores only part I of N of the
    examples, or of the run's queries.
    """

    teacher: list[str] | None = None
    scores: str | None = None
    corpus: str | None = None
    queries: str | None = None
    given: str | None = None
    examples: str | None = None
    run: str | None = None
    depth: int = 100
    max_query_tokens: int | None = None
    max_document_tokens: int | None = None
    trust_remote_code: bool = False
    batch_tokens: int | None = None
    window: int | None = None
    title_separator: str = " "
    tag: str = "drtools"
    pieces: str | None = None
    only_pieces: bool = False
    pieces_max_document_tokens: int | None = None
    pieces_document_prompt: str | None = None
    part: str | None = None

    def __post_init__(self) -> None:
        """Raise InputError unless examples or a run is given, and for pieces of a run."""
        if sum(source is not None for source in (self.given, self.examples, self.run)) != 1:
            raise InputError(f"pass either {param('examples')} EXAMPLES or {param('run')} RUN")
        if self.pieces and self.run:
            raise InputError(f"{param('pieces')} is for {param('examples')}, not for a run", remedy="leave it out")
        if self.only_pieces and not self.pieces:
            raise InputError(f"this needs {param('pieces')} MODEL", where=param("only_pieces"), remedy="pass it too")
        if bool(self.teacher) == (self.scores is not None):
            raise InputError(f"pass either {param('teacher')} MODEL or {param('scores')} RUN")
        others = [param(name) for name in ("run", "pieces", "part") if getattr(self, name) is not None]
        if self.scores is not None and others:
            raise InputError(
                "the scores of a run go into examples",
                where=f"{param('scores')} with {others[0]}",
                remedy="leave it out",
            )
        lacking = [param(name) for name in ("corpus", "queries") if getattr(self, name) is None]
        if self.scores is None and lacking:
            raise InputError(
                f"a teacher reads texts, and {' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not given",
                remedy="pass it too" if len(lacking) == 1 else "pass both",
            )

    def check_pieces(self, sizes: PieceSizes) -> None:
        """Raise InputError for sizes of pieces that are not scored."""
        said = {
            "pieces_max_document_tokens": self.pieces_max_document_tokens,
            "pieces_document_prompt": self.pieces_document_prompt,
            **vars(sizes),
        }
        given = params_given(said)
        if given and not self.pieces:
            raise InputError(
                f"this needs {param('pieces')} MODEL",
                where=given,
                remedy="pass it too, or leave this out",
            )
