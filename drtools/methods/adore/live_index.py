"""Frozen document vectors, and their index, searched during the training of a query encoder.

In exact search, each process searches its share of the rows in the memory map. With a FAISS index, each process
searches its share of the queries. Memory is needed for the index and for ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from drtools.errors import InputError, param
from drtools.formats.vectors import named_fingerprints, open_document_vectors
from drtools.outputs import manifest
from drtools.search import exact, faiss_gpu, faiss_index, staging
from drtools.search.index_manifest import read_index
from drtools.search.query_vectors import refuse_another_encoder
from drtools.search.rescoring import refuse_other_vectors

if TYPE_CHECKING:
    import faiss

    from drtools.formats.joined_vectors import JoinedArray
    from drtools.training.distributed import World


GPU_SHARE = 0.5  # share of the free memory for vectors


class LiveIndex:
    """The index that a query encoder is trained against.

    It searches `vectors` exactly, or the FAISS index `index` of the same documents.
    """

    def __init__(
        self,
        vectors: str | None,
        index: str | None,
        device: str,
        world: World,
        nprobe: int | None = None,
        ef_search: int | None = None,
    ) -> None:
        source = index or vectors
        if not source:
            raise InputError(f"use {param('vectors')} VECTORS (exact search), {param('index')} INDEX, or both")
        self.device, self.world, self.parameters = device, world, {"nprobe": nprobe, "ef_search": ef_search}
        self.array: np.ndarray | JoinedArray | None = None
        self.index: faiss.Index | None = None
        self.on_gpus: faiss_gpu.OnGpus | None = None
        self.path = Path(source)
        self.record = manifest.read(self.path)
        if "joined" in self.record:
            raise InputError(
                "joined from the vectors of two encoders",
                where=self.path,
                remedy="train a query encoder against the vectors of its own encoder, then join its vectors",
            )
        if vectors:
            opened = open_document_vectors(vectors)
            self.array, self.ids = opened.array, opened.ids
        if index:
            if self.record.get("kind") != "faiss":
                raise InputError(
                    f"found {self.record.get('kind') or 'something else'}",
                    where=index,
                    expected=f"a FAISS index (drtools index {param('vectors')})",
                )
            self.record = read_index(index)
            self.index, ids = faiss_index.load_folder(self.path, self.record)
            if vectors:
                refuse_other_vectors(opened, Path(index), ids, self.record)
            self.ids = ids
            self.on_gpus = faiss_gpu.put_on_gpus(self.index, device)

        own = None if self.array is None else self._kept_near(self.array[self._own_rows()])
        self.searched = own if self.index is None else None
        far, _ = world.agree(not isinstance(own, torch.Tensor), 0.0)  # in any process
        self.near = None if far or not isinstance(own, torch.Tensor) else own  # this process's share, on its GPU

    def _own_rows(self) -> slice:
        """Return the rows that this process searches."""
        return self.world.shares(len(self))[self.world.rank]

    def _kept_near(self, vectors: np.ndarray) -> np.ndarray | torch.Tensor:
        """Copy vectors to a GPU with enough memory, since reading them at each step takes longer than the search."""
        if not self.device.startswith("cuda") or vectors.nbytes > GPU_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            return vectors
        return torch.from_numpy(np.asarray(vectors)).to(self.device)

    def check(self, prints: dict[str, str], dimension: int, name: str) -> None:
        """Raise InputError for a start encoder that does not match the vectors; `prints` are its fingerprints."""
        refuse_another_encoder(
            self.record,
            self.path,
            named_fingerprints(prints),
            dimension,
            name,
            "start from the encoder that made them",
            "start from the encoder that made them, or encode the documents with this one; if the two were trained "
            f"together, pass the other one as {param('document_model')}",
        )

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores float32 and rows int64 [Q, k] of the best rows, best first; -1 if the index found no more.

        Each process must call it with the same queries, and all get the same result.
        """
        if self.world.size == 1:
            return self.search_alone(queries, depth)
        if self.index is not None:
            shares = self.world.shares(len(queries))
            counts = [part.stop - part.start for part in shares]
            scores, rows = self.search_alone(queries[shares[self.world.rank]], depth)
            return self._gather(scores, counts), self._gather(rows, counts)
        scores, rows = self._search_own(queries, depth)
        scores, rows = self._filled(scores, depth, -np.inf), self._filled(rows, depth, -1)
        counts = [len(queries)] * self.world.size
        both = [
            self._gather(part, counts)
            .reshape(self.world.size, len(queries), depth)
            .transpose(1, 0, 2)
            .reshape(len(queries), -1)
            for part in (scores, rows)
        ]
        order = np.lexsort((both[1], -both[0]), axis=1)[:, : min(depth, len(self))]
        return np.take_along_axis(both[0], order, 1), np.take_along_axis(both[1], order, 1)

    def search_alone(self, queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Search like `search_index`, in one process only."""
        if self.index is not None:
            return faiss_index.search_index(self.index, queries, depth, **self.parameters, on_gpus=self.on_gpus)
        vectors = self.searched if self.world.size == 1 else self.array
        assert vectors is not None, "without an index there are vectors"
        return exact.search(vectors, queries, depth, self.device)

    def _search_own(self, queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        assert self.searched is not None, "without an index there are vectors"
        if not len(self.searched):
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        scores, rows = exact.search(self.searched, queries, depth, self.device)
        return scores, rows + self._own_rows().start

    def _gather(self, part: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        return self.world.gather(torch.from_numpy(np.ascontiguousarray(part)).to(self.device), counts).cpu().numpy()

    @staticmethod
    def _filled(part: np.ndarray, depth: int, value: float) -> np.ndarray:
        return np.pad(part, ((0, 0), (0, depth - part.shape[1])), constant_values=value)

    def vectors_of(self, rows: np.ndarray, decoded: bool) -> np.ndarray:  # [N] -> float32 [N, D]
        """Return the exact vectors of rows, or those decoded from the index."""
        if decoded:
            assert self.index is not None, "decoding needs an index"
            return faiss_index.reconstruct(self.index, rows)
        assert self.array is not None, "exact vectors are in the folder"
        if self.near is not None and self.world.size == 1:
            return self.tensor_of(rows, decoded).cpu().numpy()
        return np.asarray(self.array[rows], np.float32)

    def tensor_of(self, rows: np.ndarray, decoded: bool) -> torch.Tensor:
        """Return what `vectors_of` returns, on the device.

        `rows` are in ascending order. Each process must call it with the same rows.
        """
        if decoded:
            return torch.from_numpy(self.vectors_of(rows, decoded)).to(self.device)
        assert self.array is not None, "exact vectors are in the folder"
        if self.near is not None:
            shares = self.world.shares(len(self))
            own = shares[self.world.rank]
            here = rows[(own.start <= rows) & (rows < own.stop)] - own.start
            counts = [int(((part.start <= rows) & (rows < part.stop)).sum()) for part in shares]
            return self.world.gather(self.near[torch.from_numpy(here).to(self.near.device)].float(), counts)
        if self.device.startswith("cuda"):
            return staging.gathered(self.array, rows, self.device)
        return torch.from_numpy(self.vectors_of(rows, decoded)).to(self.device)
