"""`make examples`: every example, on a small collection, by commands that the tools take."""

import makefiles
from makefiles import parsed

FOLDERS = {path.parent.name for path in makefiles.EXAMPLES.glob("*/Makefile")}


def test_each_example_runs_small_by_commands_that_the_tools_take(beir):
    commands = makefiles.printed(
        "", f"DATA={beir}", "OUT=small", *(FOLDERS - {"retrain"}), folder=beir
    )  # retrain's second make reads what its first wrote
    values = [parsed(words) for words in commands]
    made = [value["output"] for value in values if value.get("output", "-") != "-"]
    assert {path.split("/")[1] for path in made} == FOLDERS - {"retrain", "star-adore"}, (
        "star-adore works in star's folder"
    )
    assert not [
        value
        for words, value in zip(commands, values, strict=True)
        if value.get("teacher") and list(value["teacher"]) != ["small/teacher/ranker"]
    ]
    assert max(value["steps"] or 0 for value in values if "steps" in value) <= 24, "minutes"


def test_all_of_them_are_there():
    listed = next(
        line for line in (makefiles.EXAMPLES / "Makefile").read_text().splitlines() if line.startswith("EXAMPLES := ")
    )
    assert set(listed.split()[2:]) == FOLDERS
