"""Make the collections of the experiments, each in BEIR form.

    python benchmarks/proof/make_collection.py sample DATA/wikipedia --queries 1500 --seed 1 -o build/sample
    python benchmarks/proof/make_collection.py renamed DATA/wikipedia --words 2000 --seed 1 -o build/renamed
    python benchmarks/proof/make_collection.py lengthened DATA/wikipedia --tokens 256 -o build/lengthened-256
    python benchmarks/proof/make_collection.py unseen DATA/scifact -o build/unseen
    python benchmarks/proof/make_collection.py names DATA/docstrings --documents 20000 --queries 1000 -o build/names

`sample` splits the training queries: qrels/train.tsv keeps a random sample, qrels/rest.tsv has the others; there is no
dev split. `renamed` replaces the most frequent content words by each other, by one fixed permutation for documents and
queries: a change of domain whose cost is known, since the collection itself is the ceiling. `lengthened` makes
documents of one chosen length around short paragraphs that answer questions, from their neighbours in the article: the
same questions and the same number of documents at each length, and no paragraph is in two of them. `unseen` adds
qrels/unseen.tsv, with the test queries that have a word which no document has. `names` asks for documents by a
name that no other document has.
"""

import argparse
import gzip
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from drtools.formats.corpora import read_corpus, read_queries
from drtools.formats.trec import Qrels, read_qrels, write_qrels

WORD = re.compile(r"[^\W\d_]+")
SHORTEST_CONTENT_WORD = 4
"""Words with fewer letters are mostly function words, which the domains of one language share."""


def main() -> None:
    """Write the collection that the command line names; an existing folder is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("sample", "renamed", "lengthened", "unseen", "names"):
        command = commands.add_parser(name)
        command.add_argument("data", type=Path)
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("-o", "--output", type=Path, required=True)
        if name in ("sample", "names"):
            command.add_argument("--queries", type=int, required=True)
        if name == "names":
            command.add_argument("--documents", type=int, required=True)
        if name == "renamed":
            command.add_argument("--words", type=int, default=2000)
        if name == "lengthened":
            command.add_argument("--tokens", type=int, required=True)
            command.add_argument("--longest", type=int, default=512, help="tokens of the longest variant")
    arguments = parser.parse_args()
    if arguments.output.exists():
        return
    unfinished = arguments.output.with_name(arguments.output.name + ".new")
    (unfinished / "qrels").mkdir(parents=True, exist_ok=True)
    make = {"sample": sample, "renamed": renamed, "lengthened": lengthened, "unseen": unseen, "names": names}
    make[arguments.command](arguments, unfinished)
    unfinished.rename(arguments.output)


def sample(arguments: argparse.Namespace, folder: Path) -> None:
    """Split the training queries of a collection into a sample and the rest."""
    for name in ("corpus.jsonl.gz", "queries.jsonl.gz"):
        (folder / name).symlink_to((arguments.data / name).resolve())
    train = read_qrels(arguments.data / "qrels" / "train.tsv")
    chosen = set(random.Random(arguments.seed).sample(sorted(train), arguments.queries))
    write_split(folder, "train", {query: grades for query, grades in train.items() if query in chosen})
    write_split(folder, "rest", {query: grades for query, grades in train.items() if query not in chosen})
    (folder / "qrels" / "test.tsv").symlink_to((arguments.data / "qrels" / "test.tsv").resolve())


def renamed(arguments: argparse.Namespace, folder: Path) -> None:
    """Replace the most frequent content words of a collection by each other."""
    documents = [document for _, document in read_corpus(arguments.data / "corpus.jsonl.gz")]
    queries = read_queries(str(arguments.data / "queries.jsonl.gz"))
    counts = Counter(
        word
        for document in documents
        for word in WORD.findall(f"{document.title} {document.text}".lower())
        if len(word) >= SHORTEST_CONTENT_WORD
    )
    words = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: arguments.words]]
    shuffled = list(words)
    random.Random(arguments.seed).shuffle(shuffled)
    other = dict(zip(words, shuffled, strict=True))
    share = sum(counts[word] for word in words) / sum(counts.values())

    def rename(text: str) -> str:
        return WORD.sub(lambda match: other.get(match[0].lower(), match[0]), text)

    write_texts(
        folder,
        ((document.id, rename(document.title), rename(document.text)) for document in documents),
        {query: rename(text) for query, text in queries.items()},
    )
    for split in (arguments.data / "qrels").glob("*.tsv"):
        (folder / "qrels" / split.name).symlink_to(split.resolve())
    print(f"{arguments.output}: {len(words):,} words are renamed, {share:.0%} of the content words in the documents")


WORDS_PER_TOKEN = 0.75
SHORTEST_ANSWER, LONGEST_ANSWER = 30, 95
"""Words of a paragraph that answers: its whole text fits into the shortest documents."""


def lengthened(arguments: argparse.Namespace, folder: Path) -> None:
    """Write documents of one length, each around a paragraph that answers questions."""
    articles: dict[str, list[tuple[str, list[str]]]] = {}
    for _, document in read_corpus(arguments.data / "corpus.jsonl.gz"):
        articles.setdefault(document.title, []).append((document.id, document.text.split()))
    splits = {path.stem: read_qrels(path) for path in (arguments.data / "qrels").glob("*.tsv")}
    asked = {document for qrels in splits.values() for grades in qrels.values() for document in grades}
    words = int(arguments.tokens * WORDS_PER_TOKEN)
    longest = int(arguments.longest * WORDS_PER_TOKEN)
    texts, kept = [], set()
    for title, paragraphs in articles.items():
        begin = 0
        for at, (identity, answer) in enumerate(paragraphs):
            if at < begin or identity not in asked or not SHORTEST_ANSWER <= len(answer) <= LONGEST_ANSWER:
                continue
            around = window(paragraphs, begin, at, longest)
            if around is None:
                continue
            before, after, begin = around
            rest = words - len(answer)
            left = min(len(before), max(rest // 2, rest - len(after)))
            taken = before[len(before) - left :] + answer + after[: rest - left]
            texts.append((identity, title, " ".join(taken)))
            kept.add(identity)
    queries = read_queries(str(arguments.data / "queries.jsonl.gz"))
    write_texts(folder, iter(texts), queries)
    for split, qrels in splits.items():
        write_split(folder, split, {query: grades for query, grades in qrels.items() if set(grades) <= kept})
    print(f"{arguments.output}: {len(texts):,} documents of {words} words")


def window(
    paragraphs: list[tuple[str, list[str]]], begin: int, at: int, longest: int
) -> tuple[list[str], list[str], int] | None:
    """Return the words before and after paragraph `at` that fill `longest` words, and the first paragraph left over.

    Only paragraphs from `begin` on are used; None if they do not suffice.
    """
    rest = longest - len(paragraphs[at][1])
    before: list[str] = []
    first = at
    while first > begin and len(before) < rest // 2:
        first -= 1
        before = paragraphs[first][1] + before
    before = before[-(rest // 2) :]
    after: list[str] = []
    end = at + 1
    while end < len(paragraphs) and len(after) < rest - len(before):
        after += paragraphs[end][1]
        end += 1
    return (before, after, end) if len(before) + len(after) >= rest else None


def unseen(arguments: argparse.Namespace, folder: Path) -> None:
    """Add the judgements of test queries with a word of letters that no document has."""
    for name in ("corpus.jsonl.gz", "queries.jsonl.gz"):
        (folder / name).symlink_to((arguments.data / name).resolve())
    for split in (arguments.data / "qrels").glob("*.tsv"):
        (folder / "qrels" / split.name).symlink_to(split.resolve())
    known = {
        word
        for _, document in read_corpus(arguments.data / "corpus.jsonl.gz")
        for word in WORD.findall(f"{document.title} {document.text}".lower())
    }
    queries = read_queries(str(arguments.data / "queries.jsonl.gz"))
    test = read_qrels(arguments.data / "qrels" / "test.tsv")
    chosen = {query: test[query] for query in test if not known.issuperset(WORD.findall(queries[query].lower()))}
    write_split(folder, "unseen", chosen)
    print(f"{arguments.output}: {len(chosen):,} of {len(test):,} test queries have a word that no document has")


QUESTIONS = ("what is {}", "what does {} mean", "where is {} used", "tell me about {}")
NAME = re.compile(r"\b[A-Za-z]\w{3,}\b")


def names(arguments: argparse.Namespace, folder: Path) -> None:
    """Ask for documents by a name that only they have, one name for a document."""
    documents = [document for _, document in read_corpus(arguments.data / "corpus.jsonl.gz")]
    generator = random.Random(arguments.seed)
    documents = sorted(generator.sample(documents, arguments.documents), key=lambda document: document.id)
    found = {document.id: set(NAME.findall(document.text)) for document in documents}
    counts = Counter(word.lower() for words in found.values() for word in {word.lower() for word in words})
    own = {identity: sorted(word for word in words if counts[word.lower()] == 1) for identity, words in found.items()}
    asked = generator.sample(sorted(identity for identity in own if own[identity]), 2 * arguments.queries)
    write_texts(
        folder,
        ((document.id, document.title, document.text) for document in documents),
        {f"q{each}": generator.choice(QUESTIONS).format(generator.choice(own[each])) for each in asked},
    )
    for split, chosen in (("train", asked[: arguments.queries]), ("test", asked[arguments.queries :])):
        write_split(folder, split, {f"q{identity}": {identity: 1} for identity in chosen})
    print(f"{arguments.output}: {len(documents):,} documents, {len(asked):,} questions by names")


def write_texts(folder: Path, documents: Iterator[tuple[str, str, str]], queries: dict[str, str]) -> None:
    """Write corpus.jsonl.gz and queries.jsonl.gz; the same texts give the same bytes."""
    lines: dict[str, Callable[[], Iterator[dict[str, str]]]] = {
        "corpus": lambda: ({"_id": identity, "title": title, "text": text} for identity, title, text in documents),
        "queries": lambda: ({"_id": identity, "text": text} for identity, text in queries.items()),
    }
    for name, rows in lines.items():
        with (
            open(folder / f"{name}.jsonl.gz", "wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as stream,
        ):
            for row in rows():
                stream.write(orjson.dumps(row) + b"\n")


def write_split(folder: Path, split: str, qrels: Qrels) -> None:
    """Write one split of judgements."""
    with open(folder / "qrels" / f"{split}.tsv", "wb") as stream:
        write_qrels(stream, qrels)


if __name__ == "__main__":
    main()
