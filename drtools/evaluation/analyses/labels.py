"""Short names of the files that analyses compare."""

from pathlib import Path

from drtools.errors import InputError


def labels_of(paths: list[str]) -> dict[str, str]:
    """Return {label: path}: names without suffixes, preceded by as many folders as are needed to make them unique.

    A training.jsonl is named after its folder. Raises InputError for a path that was named twice.
    """
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise InputError("was named twice", where=twice, remedy="name it once")
    parts = [_parts_of(Path(path)) for path in paths]
    for count in range(1, max(map(len, parts), default=0) + 1):
        labels = ["/".join(names[-count:]) for names in parts]
        if len(set(labels)) == len(labels):
            return dict(zip(labels, paths, strict=True))
    return {path: path for path in paths}


def label_of(path: str) -> str:
    """Return the name of a file without its suffix; a training.jsonl is named after its folder."""
    return _parts_of(Path(path))[-1]


def _parts_of(path: Path) -> tuple[str, ...]:
    """Return the names of a path's folders and file, without the file's ending."""
    folders = path.absolute().parent.parts
    if path.name == "training.jsonl":
        return folders
    name = path.name.removesuffix(".gz")
    for ending in (".run", ".trec", ".txt", ".jsonl"):
        name = name.removesuffix(ending)
    return (*folders, name or path.name)
