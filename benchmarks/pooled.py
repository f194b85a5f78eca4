"""Join collections in BEIR form into one. Each id gets the name of its collection as a prefix.

    python benchmarks/pooled.py DATA/nfcorpus DATA/scifact ... -o build/pooled

Writes corpus.jsonl.gz, queries.jsonl.gz and qrels/{train,dev,test}.tsv, as far as collections have them.
"""

import argparse
import gzip
from pathlib import Path

import orjson

from drtools.formats.corpora import read_corpus, read_queries
from drtools.formats.trec import read_qrels


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    (arguments.output / "qrels").mkdir(parents=True, exist_ok=True)
    count = 0
    with (
        gzip.open(arguments.output / "corpus.jsonl.gz", "wb") as corpus,
        gzip.open(arguments.output / "queries.jsonl.gz", "wb") as queries,
    ):
        for folder in arguments.collections:
            for _, document in read_corpus(folder / "corpus.jsonl.gz"):
                corpus.write(
                    orjson.dumps(
                        {"_id": f"{folder.name}-{document.id}", "title": document.title, "text": document.text}
                    )
                    + b"\n"
                )
                count += 1
            for query_id, text in read_queries(str(folder / "queries.jsonl.gz")).items():
                queries.write(orjson.dumps({"_id": f"{folder.name}-{query_id}", "text": text}) + b"\n")
    for split in ("train", "dev", "test"):
        with open(arguments.output / "qrels" / f"{split}.tsv", "w") as stream:
            stream.write("query-id\tcorpus-id\tscore\n")
            for folder in arguments.collections:
                path = folder / "qrels" / f"{split}.tsv"
                for query_id, grades in read_qrels(str(path)).items() if path.exists() else ():
                    stream.writelines(
                        f"{folder.name}-{query_id}\t{folder.name}-{document}\t{grade}\n"
                        for document, grade in grades.items()
                    )
    print(f"{arguments.output}: {count:,} documents")


if __name__ == "__main__":
    main()
