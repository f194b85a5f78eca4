"""Lineage of an artefact: the inputs in its manifest, their inputs, and so on back to files not made by drtools."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from drtools import units
from drtools.cli.flag_names import recorded_flag
from drtools.formats.lines import shown
from drtools.outputs import manifest
from drtools.outputs.places import places_of
from drtools.outputs.versions import own_texts

CORPUS_FLAGS, QUERIES_FLAGS = ("corpus", "lucene", "documents"), ("queries",)
# lead from a run, an index or vectors to their documents; the corpus of a model or of an update is another one
SEARCHED_FLAGS = ("index", "vectors", "run", "runs", "rerank", "first")


class Ancestor(NamedTuple):
    """An input of an artefact (`depth` 1), or of one of its inputs.

    `place` is None if the input is no longer there.
    """

    depth: int
    flag: str
    path: str
    place: Path | None
    state: str
    fingerprint: str | None = None


def manifest_of(path: Path) -> dict[str, Any] | None:
    """Return an artefact's manifest, or None if it was not made by drtools."""
    beside = manifest.beside(path)
    return manifest.read_manifest(beside) if beside.exists() else None


def ancestors(artefact: Path, among: tuple[str, ...] | None = None) -> Iterator[Ancestor]:
    """Yield all direct and indirect inputs of an artefact, each after what was made from it. `among` limits the flags.

    The inputs of an artefact that was already listed are not repeated.
    """
    yield from _ancestors(artefact, 1, {artefact.resolve()}, among)


def _ancestors(artefact: Path, depth: int, met: set[Path], among: tuple[str, ...] | None) -> Iterator[Ancestor]:
    record = manifest_of(artefact)
    for flag, value in (record or {}).get("request", {}).get("arguments", {}).items():
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, dict) or "path" not in item or (among is not None and flag not in among):
                continue
            ancestor = _found(depth, flag, item, artefact)._replace(fingerprint=item.get("fingerprint"))
            if ancestor.place and ancestor.place.resolve() in met and manifest_of(ancestor.place):
                yield ancestor._replace(state=", ".join(filter(None, [ancestor.state, "see above"])))
                continue
            yield ancestor
            if ancestor.place:
                met.add(ancestor.place.resolve())
                yield from _ancestors(ancestor.place, depth + 1, met, among)


def _found(depth: int, flag: str, item: dict[str, Any], artefact: Path) -> Ancestor:
    """Look for an input by its name from here, from the artefact and each folder above it, and at its earlier paths.

    Manifests keep names as they were typed. Manifests of models keep no absolute paths, which are in this machine's
    cache.
    """
    path, fingerprint = item["path"], item.get("fingerprint")
    if shown(path) == "standard input":
        return Ancestor(depth, flag, "standard input", None, "")
    places = [
        place
        for place in (Path(path), *(folder / path for folder in (artefact.absolute(), *artefact.absolute().parents)))
        if place.is_file() or place.is_dir()  # pipes, which can be read only once, are not opened
    ]
    if fingerprint is None:
        return Ancestor(depth, flag, path, None, "a name on the hub")
    for place in places:
        if manifest.fingerprint(place) == fingerprint:
            return Ancestor(depth, flag, path, place, "")
    remembered = [place for place in places_of(fingerprint) if place.name == Path(path).name and place.exists()]
    for place in remembered:
        if manifest.fingerprint(place) == fingerprint:
            return Ancestor(depth, flag, str(place), place, "")
    places += remembered
    return Ancestor(
        depth, flag, path, places[0] if places else None, "has changed since" if places else "no longer there"
    )


def source(artefact: Path, flags: tuple[str, ...], through: tuple[str, ...] | None = None) -> str | None:
    """Return the nearest unchanged input of one of these flags, such as an artefact's corpus or queries.

    `through` limits the flags to follow. The texts in a published version are the corpus of its folders.
    """
    of_documents = flags == CORPUS_FLAGS
    own = own_texts(artefact) if of_documents else None
    if own:
        return str(own)
    among = None if through is None else (*flags, *through)
    for ancestor in sorted(ancestors(artefact, among), key=lambda ancestor: ancestor.depth):
        if ancestor.place is None or "changed" in ancestor.state:
            continue
        if of_documents and ancestor.flag in SEARCHED_FLAGS and (own := own_texts(ancestor.place)):
            return str(own)
        if ancestor.flag in flags:
            return str(ancestor.place)
    return None


def recorded_corpus(artefact: Path, name: str | None) -> list[Ancestor]:
    """Return the inputs that lead from an index or vectors to the corpus `name`, which comes last.

    If the manifests do not lead to the corpus, the list ends at the last input that was found.
    """
    way: list[Ancestor] = []
    for ancestor in ancestors(artefact, (*CORPUS_FLAGS, *SEARCHED_FLAGS)):  # a model has its own corpus
        way = [*(above for above in way if above.depth < ancestor.depth), ancestor]
        if ancestor.flag in CORPUS_FLAGS and ancestor.path == name:
            break
    return way


def corpus_behind(artefact: Path, name: str | None) -> str | None:
    """Return the path of the texts of an index or of vectors, None if they have changed or are missing.

    They are in its published version, or else in the corpus `name` from which it was made.
    """
    own = own_texts(artefact)
    if own:
        return str(own)
    found = next(reversed(recorded_corpus(artefact, name)), None)
    is_corpus = found and found.flag in CORPUS_FLAGS and found.path == name and not found.state
    return str(found.place) if found and is_corpus and found.place else None


def made_by(record: dict[str, Any]) -> str:
    """Describe briefly how an artefact was made: `train-star, 2026-11-20 16:25, 5.6 s`."""
    words = [str(record.get("tool", "another program")), str(record.get("created", ""))[:16].replace("T", " ")]
    words = [word for word in words if word]
    return ", ".join([*words, units.seconds_as_words(record["seconds"])] if "seconds" in record else words)


def lineage_lines(artefact: Path) -> Iterator[str]:
    """Yield the inputs of an artefact as a tree, one on each line."""
    for ancestor in ancestors(artefact):
        record = manifest_of(ancestor.place) if ancestor.place else None
        if record:
            what = f"{record.get('kind', 'made')} by {made_by(record)}"
        elif ancestor.place and ancestor.place.is_file():
            what = f"a file of {units.bytes_as_words(ancestor.place.stat().st_size)}"
        else:
            what = "a folder" if ancestor.place else ""
        said = "; ".join(filter(None, [what, ancestor.state]))
        yield f"{'  ' * ancestor.depth}{recorded_flag(ancestor.flag)} {ancestor.path}{': ' + said if said else ''}"
