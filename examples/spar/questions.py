"""Write DPR's questions as queries.

    python questions.py nq-test.qa.csv > queries.jsonl

The id of a question is its line's number, from 0: what `drtools eval --answers nq-test.qa.csv` calls it too.
"""

import json
import sys
from collections.abc import Iterable, Iterator


def records(lines: Iterable[str], name: str) -> Iterator[dict[str, str]]:
    """Yield {"_id", "text"} for each line `question<TAB>answers`; exits with name:line for another."""
    for number, line in enumerate(lines):
        columns = line.rstrip("\r\n").split("\t")
        if len(columns) != 2 or not columns[0].strip():
            sys.exit(
                f"{name}:{number + 1}: {len(columns)} columns, expected `question answers` with a tab between; is this "
                "one of DPR's qa files?"
            )
        yield {"_id": str(number), "text": columns[0]}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python questions.py nq-test.qa.csv > queries.jsonl")
    sys.stdout.reconfigure(encoding="utf-8")
    with open(sys.argv[1], encoding="utf-8", newline="\n") as stream:
        for record in records(stream, sys.argv[1]):
            sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
