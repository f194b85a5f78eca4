"""Pickled scores {query id: {document id: score}}, read as a stream into arrays.

`pickle.load` makes two objects and an entry of a dict for each pair, 110 bytes. Here the pairs of a query become an
array of ids and one of scores while they are read: with 200 pairs a query, 12 bytes a pair. Runs of pairs as pickle
writes them, an integer of 4 bytes and a float of 8, are taken from the bytes at once. Nothing that a pickle names is
run; only numbers, texts and dicts are accepted.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np

from drtools.formats.plain_pickles import plain_class

CHUNK = 1 << 20  # bytes that are read at once
LONGEST = 1 << 16  # bytes of a text or a number; the scores of a file are short
PAIR = np.dtype([("integer", "u1"), ("id", "<i4"), ("float", "u1"), ("score", ">f8")])
# BININT and BINFLOAT in turn; possessive, since a run that was found is never given back
NUMBER = re.compile(r"0|[1-9][0-9]{,17}")  # a number whose text is no other one
RUN = re.compile(rb"(?:J[\x00-\xff]{4}G[\x00-\xff]{8}){8,}+")


class Scores:
    """The scores of queries; ids are numbers or texts in the file, and texts here."""

    def __init__(self, queries: dict[str, _Dict]) -> None:
        self.queries = queries

    def of(self, query_id: str) -> dict[str, float]:
        """Return {document id: score} of a query, empty without scores. `7` and `007` are the same number."""
        found = self.queries.get(query_id)
        if found is None and query_id.isdecimal():
            found = self.queries.get(str(int(query_id)))
        return found.scores() if found else {}

    def __len__(self) -> int:
        return len(self.queries)


class _Run(NamedTuple):
    """Pairs of a dict in a row."""

    ids: np.ndarray  # [N] int32
    scores: np.ndarray  # [N] float64

    def flat(self) -> list[object]:
        return [each for pair in zip(self.ids.tolist(), self.scores.tolist(), strict=True) for each in pair]


class _Dict:
    """A dict of the pickle: of queries, or of the scores of one. There is one for each query, so it is kept small."""

    __slots__ = ("kinds", "packed", "pairs", "parts", "queries")

    def __init__(self) -> None:
        self.queries: dict[str, _Dict] | None = None
        self.parts: list[tuple[np.ndarray, np.ndarray]] | None = []  # while it is read: ids [N], scores [N]
        self.packed = (b"", b"")  # afterwards, with their types in `kinds`
        self.pairs = 0

    def add(self, items: list[Any]) -> None:
        """Add keys and values in turn, as they were on the stack."""
        if len(items) > 1 and isinstance(items[1], _Dict):
            self._add_queries(items)
            return
        keys, values = list[object](), list[object]()
        place = 0
        while place < len(items):
            if isinstance(items[place], _Run):
                self._keep(keys, values)
                keys, values = [], []
                self._append(*items[place])
                place += 1
                continue
            if isinstance(items[place + 1], _Run):
                items[place + 1 : place + 2] = items[place + 1].flat()  # a run that begins with a value
            keys.append(items[place])
            values.append(items[place + 1])
            place += 2
        self._keep(keys, values)

    def _add_queries(self, items: list[Any]) -> None:
        self.queries = {} if self.queries is None else self.queries
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(value, _Dict) or value is self:
                raise pickle.UnpicklingError(f"query {_short(key)} has a {_kind(value)}, not a dict of scores")
            value.close()
            self.queries[_texts([key])[0]] = value

    def _keep(self, keys: list[object], values: list[object]) -> None:
        """Keep pairs that were read one by one."""
        for key, value in zip(keys, values, strict=True):
            if not isinstance(value, int | float | np.number) or isinstance(value, bool):
                raise pickle.UnpicklingError(f"the score of {_short(key)} is a {_kind(value)}, not a number")
        if keys:
            self._append(_ids(keys), np.array(values, np.float64))

    def _append(self, ids: np.ndarray, scores: np.ndarray) -> None:
        if self.parts is None:
            raise pickle.UnpicklingError("it adds scores to a query that was finished")
        self.parts.append((ids, scores))
        self.pairs += len(ids)

    def close(self) -> None:
        """Join what was read; the scores are kept as float32 where that changes none of them."""
        if self.queries is not None:
            raise pickle.UnpicklingError("it holds dicts of dicts of dicts")
        if not self.parts:  # empty, or the same dict for another query
            return
        ids = [ids for ids, _ in self.parts]
        if len({each.dtype.kind for each in ids}) > 1:  # numbers and texts
            ids = [np.array([text.encode() for text in _texts(each.tolist())]) for each in ids]
        joined, scores = np.concatenate(ids), np.concatenate([scores for _, scores in self.parts])
        with np.errstate(all="ignore"):
            short = scores.astype(np.float32)
        scores = short if np.array_equal(short, scores) else scores
        kinds = (joined.dtype, scores.dtype)
        self.kinds = _KINDS.setdefault(kinds, kinds)
        self.packed, self.parts = (joined.tobytes(), scores.tobytes()), None

    def scores(self) -> dict[str, float]:
        """Return {document id: score}; the last score of an id that occurs twice, as in a dict."""
        if not self.pairs:
            return {}
        ids, scores = (np.frombuffer(data, kind) for data, kind in zip(self.packed, self.kinds, strict=True))
        return dict(zip(_texts(ids.tolist()), scores.tolist(), strict=True))


_KINDS: dict[tuple[np.dtype, np.dtype], tuple[np.dtype, np.dtype]] = {}  # one tuple for all dicts of the same types


def _ids(keys: Sequence[object]) -> np.ndarray:
    """Return ids as integers if all are whole numbers or texts of such, else as bytes."""
    texts = _texts(keys)
    if all(NUMBER.fullmatch(text) for text in texts):
        numbers = np.array([int(text) for text in texts], np.int64)
        return numbers.astype(np.int32) if numbers.max() < 1 << 31 else numbers
    return np.array([text.encode() for text in texts])


def _texts(keys: Iterable[object]) -> list[str]:
    texts = []
    for key in keys:
        if isinstance(key, bytes):
            texts.append(key.decode())
        elif isinstance(key, str) or (isinstance(key, int | np.integer) and not isinstance(key, bool)):
            texts.append(str(key))
        else:
            raise pickle.UnpicklingError(f"found {_short(key)} as an id, which is neither a whole number nor a text")
    return texts


def _kind(value: object) -> str:
    return "dict" if isinstance(value, _Dict) else type(value).__name__


def _short(value: object) -> str:
    return "a dict" if isinstance(value, _Dict) else repr(value)[:80]


class _Source:
    """A stream of bytes, in whose buffer runs of pairs are found."""

    def __init__(self, stream: IO[bytes] | io.BufferedIOBase) -> None:
        self.stream, self.data, self.at = stream, b"", 0

    def _fill(self) -> None:
        chunk = self.stream.read(CHUNK)
        if not chunk:
            raise EOFError("it ends in the middle")
        self.data, self.at = self.data[self.at :] + chunk, 0

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LONGEST:
            raise pickle.UnpicklingError(f"it holds a text or a number of {size:,} bytes")
        while len(self.data) - self.at < size:
            self._fill()
        self.at += size
        return self.data[self.at - size : self.at]

    def readline(self) -> bytes:
        while (end := self.data.find(b"\n", self.at)) < 0:
            if len(self.data) - self.at > LONGEST:
                raise pickle.UnpicklingError("it holds a line that is too long")
            self._fill()
        start, self.at = self.at, end + 1
        return self.data[start : self.at]

    def run(self) -> _Run | None:
        """Take a run of pairs whose first byte was read just now; None if there is none in the buffer."""
        found = RUN.match(self.data, self.at - 1) if self.at else None
        if found is None:
            return None
        self.at = found.end()
        pairs = np.frombuffer(found[0], PAIR)
        return _Run(pairs["id"].astype(np.int32), pairs["score"].astype(np.float64))


_Unpickler: Any = vars(pickle)["_Unpickler"]  # the standard library's own, which is written in Python


class _ScoreUnpickler(_Unpickler):  # type: ignore[misc]
    """An unpickler whose dicts are collected into arrays."""

    stack: list[Any]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_Unpickler.dispatch)

    def __init__(self, source: _Source) -> None:
        super().__init__(source)
        self.source = source

    def find_class(self, module: str, name: str) -> object:
        """Return what numpy's numbers need; refuse any other name."""
        return plain_class(module, name)

    def load_frame(self) -> None:
        """Skip the length of a frame: the opcodes in it are read from the stream as all others."""
        self.read(8)

    def load_binint(self) -> None:
        """Push a run of pairs, or one integer."""
        run = self.source.run()
        self.append(int.from_bytes(self.read(4), "little", signed=True) if run is None else run)

    def load_empty_dictionary(self) -> None:
        """Push a new dict."""
        self.append(_Dict())

    def load_dict(self) -> None:
        """Push a dict of what is above the mark, as protocol 0 writes it."""
        items = self.pop_mark()
        self.append(_Dict())
        self._top().add(items)

    def load_setitem(self) -> None:
        """Add one pair to the dict below it."""
        value, key = self.stack.pop(), self.stack.pop()
        self._top().add([key, value])

    def load_setitems(self) -> None:
        """Add the pairs above the mark to the dict below it."""
        items = self.pop_mark()
        self._top().add(items)

    def _top(self) -> _Dict:
        if not isinstance(self.stack[-1], _Dict):
            raise pickle.UnpicklingError(f"it adds pairs to a {_kind(self.stack[-1])}")
        return self.stack[-1]

    def refuse(self) -> None:
        """Refuse an object, which could run code, or bytes that are made before they are read."""
        raise pickle.UnpicklingError("it holds an object, which is not a plain value")

    for _code in (
        *(pickle.PERSID, pickle.BINPERSID, pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    ):
        dispatch[_code[0]] = refuse
    for _code, _load in (
        (pickle.FRAME, load_frame),
        (pickle.BININT, load_binint),
        (pickle.EMPTY_DICT, load_empty_dictionary),
        (pickle.DICT, load_dict),
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
    ):
        dispatch[_code[0]] = _load


def load_scores(stream: IO[bytes] | io.BufferedIOBase) -> Scores | object:
    """Read the scores of a pickle; return what else the pickle is, if it is no dict of dicts.

    Raises UnpicklingError for anything but numbers, texts and dicts, and EOFError, ValueError, IndexError, KeyError or
    TypeError for a damaged pickle.
    """
    found: object = _ScoreUnpickler(_Source(stream)).load()
    if not isinstance(found, _Dict):
        return found
    if found.queries and not found.parts:
        return Scores(found.queries)
    return dict.fromkeys(range(found.pairs))  # a dict of so many, for the message
