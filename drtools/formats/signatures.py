"""Detection of files that are not UTF-8 text by their first bytes; errors name the command that converts them."""

import re
import shlex

from drtools.errors import InputError, param

BINARY = rb"[\x00-\x08\x0e-\x1f\x80-\xff]"  # what follows a signature that is a word, and never follows a word of text
PANDAS = "python -c \"import pandas; pandas.%s('IN').{}\""
# how pandas writes what a table is wanted as
JSON_LINES = "to_json('OUT.jsonl', orient='records', lines=True)"
RUN_COLUMNS = "to_csv('OUT.run', sep=' ', header=False, index=False)"
NAMED_COLUMNS = "to_csv('OUT.tsv', sep='\\t', index=False)"
ADOPT = (
    f"vectors of another program become a folder with `drtools convert {param('vectors')} {{}} {param('ids')} IDS "
    f"{param('model')} MODEL -o OUT`"
)
# (first bytes, what they are, the command that makes text of the file, `{}`)
FORMATS = [
    (rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff", "text in UTF-32", "iconv -f utf-32 -t utf-8 {} > OUT"),
    (rb"\xff\xfe|\xfe\xff", "text in UTF-16", "iconv -f utf-16 -t utf-8 {} > OUT"),
    (rb"(?:[\t\n\r -~]\x00){2}", "text in UTF-16", "iconv -f utf-16le -t utf-8 {} > OUT"),
    (rb"(?:\x00[\t\n\r -~]){2}", "text in UTF-16", "iconv -f utf-16be -t utf-8 {} > OUT"),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", "bzip2", "bzip2 -dc {} > OUT"),
    (rb"\x28\xb5\x2f\xfd", "zstd", "zstd -dc {} > OUT"),
    (rb"\xfd7zXZ\x00", "xz", "xz -dc {} > OUT"),
    (rb"\x04\x22\x4d\x18", "lz4", "lz4 -dc {} > OUT"),
    (rb"PK\x03\x04.{26}[^/]*\.npy", "an archive of numpy arrays (.npz)", None),
    (rb"PK\x03\x04", "a zip archive", "unzip -p {} > OUT"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x -so {} > OUT"),
    (rb".{257}ustar", "a tar archive", "tar -xOf {} > OUT"),
    (rb"PAR1" + BINARY, "a Parquet file", PANDAS % "read_parquet"),
    (rb"ARROW1" + BINARY, "an Arrow file", PANDAS % "read_feather"),
    (rb"ORC" + BINARY, "an ORC file", PANDAS % "read_orc"),
    (rb"\x93NUMPY", "a numpy array", None),
    (rb"\x89HDF\r\n", "an HDF5 file", None),
    (rb"SQLite format 3\x00", "an SQLite database", None),
    (rb"%PDF-\d", "a PDF", None),
    (rb"\x80[\x02-\x05]", "a pickle", None),
]
PATTERNS = [(re.compile(first, re.DOTALL), what, command) for first, what, command in FORMATS]


def refuse_other_formats(line: bytes, name: str, written: str = JSON_LINES) -> None:
    """Raise InputError if the first line of the file `name` shows a known format that is not UTF-8 text.

    `written` is how pandas writes a table so that it is what was expected.
    """
    if line.startswith(b"\x1f\x8b"):
        is_named = name.lower().endswith(".gz")
        raise InputError(
            "found gzip in " + ("gzip" if is_named else "a file whose name does not end in .gz"),
            where=f"{name}:1",
            remedy="unpack it once" if is_named else "add .gz to the name",
        )
    for first, what, command in PATTERNS:
        if first.match(line):
            file = "FILE" if name == "standard input" else shlex.quote(name)
            if "numpy" in what:
                one = "write one of them by numpy.save; " if "archive" in what else ""
                advice = one + ADOPT.format("X.npy" if one else file)
            elif command is None:
                advice = "convert it, for instance to JSON lines"
            else:
                is_table = command.startswith("python")
                advice = f"convert it, for instance with `{command.format(written if is_table else file)}`"
            raise InputError(
                f"found {what}", where=f"{name}:1", expected="lines of UTF-8 text, plain or gzip", remedy=advice
            )
