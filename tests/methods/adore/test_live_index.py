"""Rows of document vectors that lie near the query encoder, whole or in shares of several processes."""

import numpy as np
import pytest
import torch

from drtools.methods.adore.live_index import LiveIndex
from drtools.training.distributed import World

VECTORS = np.random.default_rng(1).random((100, 8), np.float32).astype(np.float16)
ROWS = np.array([0, 3, 49, 50, 66, 67, 99])


class Two(World):
    """One of several processes, which keeps what it would send."""

    def gather(self, own, counts):
        assert len(own) == counts[self.rank]
        self.sent, self.counts = own, counts
        return own


def live_of(world, near, array=VECTORS):
    live = LiveIndex.__new__(LiveIndex)
    live.array, live.near, live.world, live.device, live.ids = array, near, world, "cpu", range(len(VECTORS))
    return live


def test_rows_come_from_what_is_near_and_not_from_the_file():
    away = np.full_like(VECTORS, np.nan)
    live = live_of(World(), torch.from_numpy(VECTORS), away)
    for found in (live.tensor_of(ROWS, False).numpy(), live.vectors_of(ROWS, False)):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, VECTORS[ROWS].astype(np.float32))
    far = live_of(World(), None)
    np.testing.assert_array_equal(far.tensor_of(ROWS, False).numpy(), VECTORS[ROWS].astype(np.float32))


@pytest.mark.parametrize("rows", [ROWS, ROWS[:2], ROWS[:0]])
def test_each_process_sends_the_rows_of_its_share(rows):
    worlds = [Two(rank, 3) for rank in range(3)]
    for world in worlds:
        own = world.shares(len(VECTORS))[world.rank]
        live_of(world, torch.from_numpy(VECTORS[own])).tensor_of(rows, False)
    np.testing.assert_array_equal(torch.cat([world.sent for world in worlds]).numpy(), VECTORS[rows])
    assert all(world.counts == worlds[0].counts for world in worlds)
