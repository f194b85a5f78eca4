"""Names of flags that users know from other programs, and which flag a tool has in their place."""

from __future__ import annotations

from collections.abc import Collection

LISTS = (
    ("--depth", ""),
    ("--ranks", "such as --ranks 1-100"),
    ("--round-trip-depth", ""),
    ("--measures", "where the cutoff is a part of the name, as in nDCG@10"),
)
LENGTHS = (("--max-document-tokens", "and --max-query-tokens for queries"),)
EPOCHS, OUTPUT = (("--epochs", ""),), (("--output", "or -o"),)
# a habitual name: the flags that a tool may have in its place, the first that it has counts, and what to add
HABITS: dict[str, tuple[tuple[str, str], ...]] = {
    **dict.fromkeys(("-k", "--k", "--top-k", "--topk", "--hits", "--num-hits"), LISTS),
    "--topics": (("--queries", ""),),
    "--batch-size": (
        ("--batch-queries", "the queries of a step"),
        ("--batch-documents", "the documents of a step"),
        ("--batch-tokens", "which counts tokens"),
    ),
    "--temperature": (("--scale", "which is 1 / temperature"),),
    **dict.fromkeys(("--lr", "--learning_rate"), (("--learning-rate", ""),)),
    **dict.fromkeys(("--num-epochs", "--num-train-epochs", "--num_train_epochs"), EPOCHS),
    **dict.fromkeys(("--max-length", "--max-seq-length", "--max_length", "--max_seq_length"), LENGTHS),
    **dict.fromkeys(("--output-dir", "--output_dir", "--output-folder", "--out"), OUTPUT),
    **dict.fromkeys(
        ("--model-name", "--model-name-or-path", "--model_name_or_path"), (("--model", ""), ("--teacher", ""))
    ),
}


def habit_hint(name: str, flags: Collection[str]) -> str | None:
    """Return what to use in place of a flag that a tool does not have, None if nothing is known."""
    for flag, words in HABITS.get(name, ()):
        if flag in flags:
            return f"no such flag {name} here; use {flag}" + (f", {words}" if words else "")
    return None
