"""A lexical encoder (Lambda) without attention.

The vector of a text is the sum of the rows of its terms, weighted with BM25.

The rows of a projection are random signs, drawn from a hash of (seed, term). Inner products are BM25 scores with noise,
which decreases with the square root of the dimension (Johnson and Lindenstrauss; signs by Achlioptas 2003). A static
encoder has rows that were fitted to a corpus (`drtools.methods.spar.static_rows`), and random rows for terms that are
not in the corpus.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file
from torch import Tensor, nn

from drtools.errors import InputError
from drtools.models.bm25 import document_weights, inverse_document_frequency
from drtools.models.settings import OURS, SIDES, EncoderSettings, is_lexical, weights_fingerprint
from drtools.models.terms import TermLists, WeightedTerms, count_by_part
from drtools.models.unused import check_names
from drtools.models.weights import read_tensors
from drtools.outputs.disk import read_json
from drtools.outputs.fingerprints import digest
from drtools.outputs.records import COUNT, NUMBER, TEXT, WHOLE, Kind, one_of

FILE = "lexical.safetensors"
NO_LIMIT = 2**31 - 1  # terms; no text is cut
# [ours] for terms without a fitted row: a match counts fully, and between two texts that share none, the noise is a
# tenth of a term's weight; the document's row is the larger one, since a document has few such terms
UNSEEN_NOISE = 0.1


@dataclass
class LexicalSettings:
    """Settings of a lexical encoder.

    These are the language of the analyzer, the constants of BM25, statistics of the corpus, and the random rows.
    """

    encoder: str  # projection or static
    language: str
    dimension: int
    k1: float
    b: float
    documents: int
    mean_length: float
    seed: int
    title_separator: str  # in the texts that were counted


LEXICAL: dict[str, Kind] = {
    "encoder": one_of("projection", "static"),
    **dict.fromkeys(("language", "title_separator"), TEXT),
    **dict.fromkeys(("k1", "b", "mean_length"), NUMBER),
    **dict.fromkeys(("documents", "seed"), WHOLE),
    "dimension": COUNT,
}


def random_signs(keys: np.ndarray, dimension: int, seed: int) -> np.ndarray:  # int64 [U] -> float32 [U, D]
    """Return a row of length 1 for each key, with signs that depend only on (seed, key).

    Each hash (SplitMix64) of a counter gives 64 signs.
    """
    with np.errstate(over="ignore"):
        state = keys.astype(np.uint64)[:, None] + np.uint64(seed * 0xD1342543DE82EF95 % 2**64)
        words = state + np.arange(1, -(-dimension // 64) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words ^= words >> np.uint64(31)
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, count=dimension)
    length = np.float32(dimension**-0.5)
    return np.where(bits, length, -length)


class LexicalEncoder(nn.Module):
    """One side (`query` or `document`) of a lexical encoder.

    `tokenizer` is its analyzer, `known` has the keys of terms that were seen.

    `statistics` holds sorted `keys` int64 [T] with `frequencies` [T]. For a static encoder, it also holds sorted
    `row_keys` [R] with the rows of this side [R, D].
    """

    row_keys: Tensor
    rows: Tensor

    def __init__(
        self,
        side: str,
        settings: LexicalSettings,
        statistics: dict[str, Tensor],
        tokenizer: TermLists,
        known: dict[str, int],
        folder: Path,
    ) -> None:
        super().__init__()
        self.side, self.terms, self.tokenizer, self.known, self.folder = side, settings, tokenizer, known, folder
        self.settings = EncoderSettings(pooling=(), max_query_tokens=NO_LIMIT, max_document_tokens=NO_LIMIT)
        self.dimension = settings.dimension
        self.keys, self.frequencies = (statistics[name].numpy() for name in ("keys", "frequencies"))
        self.register_buffer("row_keys", statistics.get("row_keys", torch.empty(0, dtype=torch.int64)))
        self.register_buffer(
            "rows", statistics.get(f"{side}_rows", torch.empty(0, self.dimension, dtype=torch.float16))
        )

    def of(self, side: str) -> LexicalEncoder:
        """Return self, for its own side."""
        assert side == self.side
        return self

    def tokenize(self, texts: Sequence[str], side: str) -> WeightedTerms:
        """Analyze texts of the encoder's side and weight their terms. A text without a term counts as empty."""
        encoder = self.of(side)
        terms = count_by_part(encoder.tokenizer, texts, encoder.known)
        return WeightedTerms(
            terms.keys,
            encoder.weights(terms.keys, terms.counts, np.repeat(terms.lengths, np.diff(terms.starts))),
            terms.starts,
            terms.lengths == 0,
        )

    truncated: int | None = None  # its vectors are never cut

    def side_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each side."""
        return lexical_fingerprints(self.folder)

    def weights(
        self, keys: np.ndarray, counts: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:  # [P] thrice -> float32 [P]
        """Return the BM25 weights of terms with `counts` occurrences in texts of given `lengths`.

        Each side has the square root of idf.
        """
        shared = np.sqrt(inverse_document_frequency(self._frequencies_of(keys), self.terms.documents))
        if self.side == "query":
            own = counts.astype(np.float32)
        else:
            own = document_weights(counts, lengths, self.terms.mean_length, self.terms.k1, self.terms.b)
        weights: np.ndarray = shared * own
        return weights

    def _frequencies_of(self, keys: np.ndarray) -> np.ndarray:
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, self.frequencies[places], 0)

    def forward(self, keys: Tensor, weights: Tensor) -> Tensor:  # int64 [B, T], float32 [B, T] -> [B, D]
        """Return the weighted sums of the rows of terms, in float32."""
        terms, places = keys.unique(return_inverse=True)
        return nn.functional.embedding_bag(places, self._rows_of(terms), per_sample_weights=weights, mode="sum")

    def _rows_of(self, keys: Tensor) -> Tensor:  # [U] -> float32 [U, D]
        if not len(self.row_keys):
            return self._random_rows(keys)
        places = torch.searchsorted(self.row_keys, keys).clamp(max=len(self.row_keys) - 1)
        rows = self.rows[places].float()
        without = self.row_keys[places] != keys
        if without.any():
            noise = UNSEEN_NOISE * self.dimension**0.5
            rows[without] = self._random_rows(keys[without]) * (noise if self.side == "query" else 1 / noise)
        return rows

    def _random_rows(self, keys: Tensor) -> Tensor:
        return torch.from_numpy(random_signs(keys.cpu().numpy(), self.dimension, self.terms.seed)).to(keys.device)


def load_lexical(
    folder: Path, side: str, analyzer: Callable[[str], TermLists], known: dict[str, int]
) -> LexicalEncoder:
    """Load one side of a lexical encoder. `analyzer(language)` returns a function from texts to lists of terms."""
    settings = read_lexical_settings(folder)
    try:
        statistics = read_tensors(folder / FILE, lambda name: not name.endswith("_rows") or name.startswith(side))
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"could not be read ({error})",
            where=folder / FILE,
            remedy="make the encoder again with drtools make-lexical",
        ) from None
    expected = {"keys", "frequencies"} | ({"row_keys", f"{side}_rows"} if settings.encoder == "static" else set())
    check_names(statistics, expected.__contains__, folder, f"a lexical encoder of kind {settings.encoder}")
    if statistics.keys() != expected:
        raise InputError(
            f"{', '.join(sorted(expected - statistics.keys()))} is missing",
            where=folder / FILE,
            remedy="make the encoder again with drtools make-lexical",
        )
    return LexicalEncoder(side, settings, statistics, analyzer(settings.language), known, folder).eval()


def read_lexical_settings(folder: Path) -> LexicalSettings:
    """Read the drtools.json of a lexical encoder. Raises InputError if it is of another model."""
    assert is_lexical(folder)
    kept = read_json(folder / OURS, LEXICAL)
    names = {field.name for field in dataclasses.fields(LexicalSettings)}
    if kept.keys() - {"kind"} != names:
        raise InputError(
            f"found {', '.join(sorted(kept))}",
            where=folder / OURS,
            expected=f"kind, {', '.join(sorted(names))}",
            remedy="make the encoder again",
        )
    return LexicalSettings(**{name: kept[name] for name in names})


def save_lexical(folder: Path, settings: LexicalSettings, statistics: dict[str, np.ndarray]) -> dict[str, str]:
    """Write the folder of a lexical encoder. Returns the fingerprints of its sides."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in statistics.items()}, folder / FILE)
    (folder / OURS).write_text(
        json.dumps({"kind": "lexical", **dataclasses.asdict(settings)}, indent=2) + "\n", encoding="utf-8"
    )
    return lexical_fingerprints(folder)


def lexical_fingerprints(folder: Path) -> dict[str, str]:
    """Return {"query": ..., "document": ...}, fingerprints of the statistics, the rows, all settings and the side."""
    common = [weights_fingerprint(folder), read_json(folder / OURS)]
    return {side: digest([*common, side]) for side in SIDES}
