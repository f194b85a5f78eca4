"""Short names of FAISS factories that store small vectors."""

from __future__ import annotations

# {dimension} is that of the vectors. The bits of RaBitQ are signs of centred vectors; RR is its random rotation
PRESETS = {
    "int8": "SQ8",
    "int4": "SQ4",
    "binary": "RaBitQ",
    "rabitq": "RR{dimension},RaBitQ",
}


def factory_of(name: str, dimension: int) -> str:
    """Return the factory string of a preset for vectors of a dimension; any other string is returned as it is."""
    return PRESETS[name].format(dimension=dimension) if name in PRESETS else name
