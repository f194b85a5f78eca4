"""Write MS MARCO's documents as a corpus in JSONL, with the text that STAR's authors encode.

    python documents.py msmarco-docs.tsv.gz | gzip > corpus.jsonl.gz

The text is url, title and body with `<sep>` between, cut after 10,000 characters: what ANCE's and STAR's programs give
to their tokenizer. `<sep>` is three ordinary tokens of RoBERTa.
"""

import gzip
import json
import sys
from collections.abc import Iterable, Iterator

SEPARATOR = "<sep>"
MOST_CHARACTERS = 10_000


def records(lines: Iterable[str], name: str) -> Iterator[dict[str, str]]:
    """Yield {"_id", "title", "text"} for each line `id<TAB>url<TAB>title<TAB>body`.

    Exits with name:line for another.
    """
    for number, line in enumerate(lines, start=1):
        columns = line.rstrip("\n").split("\t")
        if len(columns) != 4:
            sys.exit(
                f"{name}:{number}: {len(columns)} columns, expected `id url title body` with tabs between; is this "
                "msmarco-docs.tsv?"
            )
        text = SEPARATOR.join(column.rstrip() for column in columns[1:])
        yield {"_id": columns[0], "title": "", "text": text[:MOST_CHARACTERS]}


def main(path: str) -> None:
    """Read the documents, through gzip if the name ends in `.gz`, and write them to standard output."""
    reader = gzip.open if path.endswith(".gz") else open
    with reader(path, "rt", encoding="utf-8", newline="\n") as lines:
        for record in records(lines, path):
            sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python documents.py msmarco-docs.tsv[.gz] > corpus.jsonl")
    sys.stdout.reconfigure(encoding="utf-8")
    main(sys.argv[1])
