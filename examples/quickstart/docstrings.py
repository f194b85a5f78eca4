"""Make a retrieval collection out of the docstrings of the Python packages on this machine.

A query is the first sentence of a docstring, its document is the rest of that docstring: one relevant document a
query. Train, dev and test queries come from different packages, so a model is tested on packages that it was never
trained on; one corpus holds the documents of all. What is written depends on the installed packages, the arguments
and the seed alone.

    python docstrings.py --documents 8000 -o collection
"""

import argparse
import gc
import gzip
import re
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import orjson
from python_sources import digest, documented_objects, python_roots, source_files

QUERY_WORDS = range(4, 31)
LEAST_DOCUMENT_WORDS = 30

# Well known, large, and installed with drtools itself; every package that is not named here is for training.
SPLITS = {"scipy": "test", "networkx": "test", "pandas": "test", "matplotlib": "dev", "mpl_toolkits": "dev"}

ROLE = re.compile(r":[a-zA-Z][\w:+-]*:`([^`]*)`")
MARKUP = [
    (re.compile(r"`([^`<>]+?)\s*<[^`<>]*>`_*"), r"\1"),  # `text <target>`_
    (re.compile(r"\[([^\[\]]+)\]\([^()\s]+\)"), r"\1"),  # [text](target)
    (re.compile(r"\s*\[[\w#*]+\]_"), ""),  # footnote [1]_
    (re.compile(r"%\(\w+\)s"), ""),  # a template's placeholder
    (re.compile(r"^[ \t]*```.*$", re.MULTILINE), ""),  # fence of a block of code
    (re.compile(r"\[`+([^`\n]+)`+\]|`+[~!]?\.?([^`\n]*)`+_*"), r"\1\2"),
    (re.compile(r"(?<![\w*])(\*{1,2})(?=[^\s*])([^*\n]*[^\s*])\1(?![\w*])"), r"\2"),
    (re.compile(r"^[ \t]*\.\. (?:note|warning|tip|important|caution|seealso)::", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*\.\. (?:[\w:-]+::|_[^:\n]*:).*$", re.MULTILINE), ""),  # other directives, labels
    (re.compile(r"::[ \t]*$", re.MULTILINE), ":"),
]
UNDERLINE = re.compile(r"^[ \t]*[=\-~^*#+`'\" ]{3,}$\n?", re.MULTILINE)

SIGNATURE = re.compile(r"\s*[\w.]+\s?\((?:[^()]|\([^()]*\))*\)[ \t]*(?:(?:->|=)[^\n]*)?:?[ \t]*(?:\n|$)")
HEADING = re.compile(
    r"\s*(?!Parameters|Returns|Examples?|Notes?|Attributes)"
    r"(?:[=\-~^*#]{3,}[ \t]*\n)?[^\n]+\n[ \t]*[=\-~^*#]{3,}[ \t]*(?:\n|$)"
)
PARAGRAPH_END = re.compile(
    r"\n[ \t]*(?:\n|[-*+•] |\d+[.)] |:\w[^:\n]*:|@\w+|>>> |[=\-]{3,}|[A-Z][A-Za-z ]{2,20}:[ \t]*\n)|$"
)
SENTENCE_END = re.compile(r"[.!?][)\"']*(?=\s+[^\sa-z]|\s*$)")
ABBREVIATION = re.compile(
    r"\b(e\.g|i\.e|etc|vs|cf|al|figs?|eqs?|resp|approx|refs?|no|dr|prof|w\.r\.t|a\.k\.a|[A-Z])\.$", re.IGNORECASE
)
# Formulas, leftovers of markup, notes to oneself: nothing that a person would type.
NOT_WORDS = re.compile(r"[{}<>|\\$`^]|::|https?:|\bdeprecated\b|\b(TODO|XXX)\b")


class Pair(NamedTuple):
    """A docstring in two parts, under the object's qualified name."""

    name: str
    query: str
    text: str


def package_of(pair: Pair) -> str:
    return pair.name.partition(".")[0]


def cleaned(text: str) -> str:
    """Take away the inline markup of reStructuredText and Markdown: ":func:`~a.b`" becomes "b"."""
    text = ROLE.sub(lambda found: "`" + re.sub(r"^~[^<]*\.(?=\w+$)|^[~!]", "", found[1]) + "`", text)
    for pattern, replacement in MARKUP:
        text = pattern.sub(replacement, text)
    return text


def first_sentence(docstring: str) -> tuple[str, str]:
    """Split a docstring, clean of inline markup, into its first sentence and everything else.

    Signatures ("dot(a, b) -> array") and underlined titles that stand before the sentence go with the rest. A first
    paragraph without a full stop is a sentence.
    """
    start = 0
    while found := HEADING.match(docstring, start) or SIGNATURE.match(docstring, start):
        start = found.end()
    start = len(docstring) - len(docstring[start:].lstrip())
    paragraph = docstring[start : PARAGRAPH_END.search(docstring, start).start()]
    ends = [found.end() for found in SENTENCE_END.finditer(paragraph)]
    end = next((end for end in ends if not ABBREVIATION.search(paragraph[:end])), len(paragraph))
    return " ".join(paragraph[:end].split()), docstring[:start] + docstring[start + end :]


def as_words(text: str) -> str:
    """The form in which two texts are compared: lower case, letters and digits, single spaces."""
    return " ".join(re.findall(r"\w+", text.lower()))


def as_pair(name: str, docstring: str) -> Pair | None:
    """The pair of a docstring; None where it is too short, no prose, or gives its query away in its text."""
    if len(docstring.split()) < QUERY_WORDS.start + LEAST_DOCUMENT_WORDS:
        return None
    # Lone surrogates, which a string literal may hold, have no UTF-8.
    query, rest = first_sentence(cleaned(docstring.encode("utf-8", "ignore").decode()))
    query = re.sub(r"(?:,? (?:e\.g\.|i\.e\.))?:?$", "", query)
    text = re.sub(r"\s*\n\s*\n\s*", "\n\n", UNDERLINE.sub("", rest)).strip()
    if len(query.split()) not in QUERY_WORDS or len(text.split()) < LEAST_DOCUMENT_WORDS:
        return None
    if NOT_WORDS.search(query) or not query[0].isalnum() or as_words(query) in as_words(text):
        return None
    return Pair(name, query, text)


def without_duplicates(pairs: list[Pair]) -> list[Pair]:
    """The pairs in their order, without those whose query or text an earlier one has."""
    seen_queries: set[str] = set()
    seen_texts: set[str] = set()
    kept = []
    for pair in pairs:
        query, text = as_words(pair.query), as_words(pair.text)
        if query not in seen_queries and text not in seen_texts:
            kept.append(pair)
            seen_queries.add(query)
            seen_texts.add(text)
    return kept


def split_packages(packages: list[str]) -> dict[str, str]:
    """Package -> train, dev or test: the fixed list, or a draw by name where a split would have no package."""
    splits = {package: SPLITS.get(package, "train") for package in packages}
    if len(set(splits.values())) == 3:
        return splits
    dealt = ("test", "train", "dev", "train", "train")
    return {package: dealt[place % 5] for place, package in enumerate(sorted(packages, key=digest))}


def draw(
    pairs: list[Pair], documents: int, limits: dict[str, int], seed: int
) -> tuple[list[Pair], dict[str, list[Pair]]]:
    """A seeded sample: the pairs that give a document, and those of each split that give a query too; all by name.

    Limits that come to more than the documents are scaled down together.
    """
    splits = split_packages(sorted({package_of(pair) for pair in pairs}))
    order = sorted(pairs, key=lambda pair: digest(seed, pair.name))
    scale = min(1, documents / sum(limits.values()))
    judged = {
        split: sorted([pair for pair in order if splits[package_of(pair)] == split][: int(limit * scale)])
        for split, limit in limits.items()
    }
    asked = {pair for chosen in judged.values() for pair in chosen}
    others = [pair for pair in order if pair not in asked]
    return sorted([*asked, *others[: documents - len(asked)]]), judged


def write_gzip(path: Path, records: list[dict[str, str]]) -> None:
    with path.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
        file.writelines(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)


def write_collection(folder: Path, corpus: list[Pair], judged: dict[str, list[Pair]]) -> None:
    """Write a BEIR folder, whole or not at all: corpus and queries as JSON lines, qrels/{train,dev,test}.tsv."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "qrels").mkdir(parents=True)
    # No title: its name lifts all-MiniLM-L6-v2 from .676 to .748 nDCG@10 untrained, BM25 not at all; the id shows it.
    write_gzip(partial / "corpus.jsonl.gz", [{"_id": p.name, "title": "", "text": p.text} for p in corpus])
    # Some evaluators drop a hit whose id is the query's own, so a query never has its document's id.
    queries = sorted(pair for chosen in judged.values() for pair in chosen)
    write_gzip(partial / "queries.jsonl.gz", [{"_id": f"about:{p.name}", "text": p.query} for p in queries])
    for split, chosen in judged.items():
        lines = ["query-id\tcorpus-id\tscore", *(f"about:{pair.name}\t{pair.name}\t1" for pair in chosen)]
        (partial / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.rename(folder)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to make, in BEIR's form")
    parser.add_argument("--documents", type=positive, default=8000, help="size of the corpus (default %(default)s)")
    parser.add_argument("--train-queries", type=positive, default=5000, help="at most (default %(default)s)")
    parser.add_argument("--dev-queries", type=positive, default=300, help="at most (default %(default)s)")
    parser.add_argument("--test-queries", type=positive, default=1000, help="at most (default %(default)s)")
    parser.add_argument("--seed", type=int, default=13, help="of the sample (default %(default)s)")
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = arguments_parser()
    options = parser.parse_args(arguments)
    if options.output.exists():
        parser.exit(2, f"{options.output}: exists already, and a new folder was expected; remove it to make it again\n")

    started = time.perf_counter()
    packages = {name: files for root in python_roots() for name, files in source_files(root).items()}
    objects = {}
    for files in packages.values():
        objects |= documented_objects(files, options.seed)
    pairs = without_duplicates([pair for name in sorted(objects) if (pair := as_pair(name, objects[name]))])
    limits = {"test": options.test_queries, "dev": options.dev_queries, "train": options.train_queries}
    corpus, judged = draw(pairs, options.documents, limits, options.seed)
    if empty := [split for split, chosen in judged.items() if not chosen]:
        where = ", ".join(map(str, python_roots()))
        parser.exit(2, f"{where}: no docstrings for {', '.join(empty)}; expected three packages: install more\n")
    write_collection(options.output, corpus, judged)

    for split, chosen in judged.items():
        counts = Counter(map(package_of, chosen))
        largest = ", ".join(f"{package} {count}" for package, count in counts.most_common(6))
        print(f"{split}: {len(chosen)} queries from {len(counts)} packages ({largest})", file=sys.stderr)
    seconds = time.perf_counter() - started
    print(f"{options.output}: {len(corpus)} of {len(pairs)} documents, {seconds:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    gc.disable()  # a quarter of the parsing time: syntax trees are millions of objects and hold no cycles
    try:
        main()
    except OSError as error:
        sys.exit(str(error))
