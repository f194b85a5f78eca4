"""The tools in groups, in the order of a pipeline, as `drtools` and the documentation list them."""

GROUPS: dict[str, tuple[str, ...]] = {
    "Collections": ("collection", "merge-deliveries", "split-queries", "sample-queries", "generate-queries", "convert"),
    "Index and search": ("import-model", "encode", "gather", "index", "suggest-index", "search"),
    "Train": (
        "mine-negatives",
        "train-star",
        "train-adore",
        "train-contrastive",
        "mlm-adapt",
        "train-rem",
        "make-lexical",
        "train-lexical",
    ),
    "Teachers": ("train-ranker", "make-dark-examples", "teacher-score"),
    "Distil": ("distill-adam", "distill-fgd"),
    "Combine": ("fuse", "concat-spar", "merge"),
    "Measure and look": ("eval", "show", "analyze"),
    "Operate": ("doctor", "publish", "push", "cache", "completion"),
}
# the commands to begin with, and what each is for
BEGIN = {
    "drtools doctor": "see what this machine has, and which models",
    "drtools index --corpus corpus.jsonl.gz -o bm25": "index your documents",
    'drtools search --index bm25 "how do vaccines work"': "search them",
}


def grouped(names: list[str]) -> dict[str, list[str]]:
    """Return the tools under the headings of their groups; those that no group names come last."""
    named = {name for tools in GROUPS.values() for name in tools}
    groups = {title: [name for name in tools if name in names] for title, tools in GROUPS.items()}
    return {**groups, "Other": [name for name in names if name not in named]}
