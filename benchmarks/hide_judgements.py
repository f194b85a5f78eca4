"""Hide a share of the judgements of each query, as if nobody had judged these documents. A query keeps at least one.

python benchmarks/hide_judgements.py DATA/nfcorpus/qrels/train.tsv --share 0.3 > hidden.tsv
"""

import argparse
import sys

from drtools.formats.trec import read_qrels, write_qrels
from drtools.randomness import generator


def hidden(grades: dict[str, int], share: float, *seed: object) -> dict[str, int]:
    """Return the judgements of a query without a random share of them, rounded; one relevant document stays."""
    documents = [*grades]
    order = [documents[at] for at in generator(*seed).permutation(len(documents))]
    gone = set(order[: round(share * len(order))])
    if not any(grade > 0 and document not in gone for document, grade in grades.items()):
        gone -= {next((document for document in order if grades[document] > 0), order[0])}
    return {document: grade for document, grade in grades.items() if document not in gone}


def main() -> None:
    """Write the judgements that are left to standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("qrels")
    parser.add_argument("--share", type=float, required=True)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    judged = read_qrels(arguments.qrels)
    left = {query: hidden(grades, arguments.share, arguments.seed, query) for query, grades in judged.items()}
    write_qrels(sys.stdout.buffer, left)


if __name__ == "__main__":
    main()
