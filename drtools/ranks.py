"""The place of this process among those that torchrun started, from the environment. One process alone is rank 0."""

import os


def rank() -> int:
    """Return the number of this process among all of them, on every machine."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return how many processes there are, on every machine."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int | None:
    """Return the number of this process on its machine, None if torchrun did not start it."""
    return int(os.environ["LOCAL_RANK"]) if "LOCAL_RANK" in os.environ else None


def local_world_size() -> int:
    """Return how many processes there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
