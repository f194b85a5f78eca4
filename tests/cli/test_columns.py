"""Text for a terminal's columns: beside textwrap and rich, and no number ever cut."""

import random
import textwrap

from rich.cells import cell_len

from drtools.cli.terminal import aligned, progress_line, wrapped


def test_folding_is_textwraps_for_words():
    generator = random.Random(3)
    for _ in range(300):
        text = " ".join("x" * generator.randint(1, 30) for _ in range(generator.randint(1, 20)))
        width = generator.randint(10, 80)
        assert wrapped("  " + text, width, later="    ") == textwrap.fill(
            text, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        ), (text, width)


def test_chinese_folds_by_columns_and_no_line_begins_with_what_closes_one():
    text = "高血压病人可以口服党参的。党参有降血脂，降血压的作用，可以彻底消除血液中的垃圾"
    for width in range(4, 60):
        lines = wrapped(text, width).split("\n")
        assert "".join(lines) == text and max(map(cell_len, lines)) <= width
        assert not any(line[0] in "。，" for line in lines)


def test_an_address_stays_whole_and_a_file_gets_lines_as_they_are():
    address = "https://example.org/" + "a-long-path/" * 10
    assert address in wrapped(f"a title of some words  [{address}]", 30).split("\n")[-1]
    assert wrapped("word " * 100, None) == "word " * 100


TABLE = [
    ["", "nDCG@10 ", "RR@10 ", "R@100 ", "Success@5 "],
    ["bm25.run", "0.8819 ", "0.8659 ", "0.9697 ", "0.9091 "],
    ["runs/of/a/long/experiment/with-many-settings.run", "0.1234*", "0.2345*", "0.3456*", "0.4567*"],
    ["  p against the first", "0.0062 ", "0.0072 ", "0.0096 ", "1.0000 "],
]


def test_a_table_that_fits_and_one_in_a_file():
    whole = "\n".join(
        [
            "                                                  nDCG@10    RR@10    R@100   Success@5",
            "bm25.run                                           0.8819   0.8659   0.9697      0.9091",
            "runs/of/a/long/experiment/with-many-settings.run   0.1234*  0.2345*  0.3456*     0.4567*",
            "  p against the first                              0.0062   0.0072   0.0096      1.0000",
        ]
    )
    assert aligned(TABLE) == aligned(TABLE, 88) == whole


def test_a_narrow_table():
    assert aligned(TABLE, 46) == "\n".join(
        [
            "                       nDCG@10    RR@10",
            "bm25.run                0.8819   0.8659",
            "runs/of/a/long/experiment/with-many-settings.run",
            "                        0.1234*  0.2345*",
            "  p against the first   0.0062   0.0072",
            "",
            "                        R@100   Success@5",
            "bm25.run               0.9697      0.9091",
            "runs/of/a/long/experiment/with-many-settings.run",
            "                       0.3456*     0.4567*",
            "  p against the first  0.0096      1.0000",
        ]
    )


def test_no_number_is_ever_cut():
    numbers = sorted(cell.strip() for row in TABLE[1:] for cell in row[1:])
    for width in range(1, 120):
        lines = aligned(TABLE, width).split("\n")
        assert sorted(word for line in lines for word in line.split() if word[0] in "01") == numbers
        assert all(
            len(line) <= max(width, 13) for line in lines if "experiment" not in line and "against" not in line
        ), width


def test_columns_of_chinese_names_are_straight():
    lines = aligned([["名字", "1"], ["党参有降血脂", "22"], ["ascii", "3"]]).split("\n")
    assert {cell_len(line) for line in lines} == {16}


def test_a_progress_line_never_exceeds_its_width_and_cuts_no_number():
    details = ["3 min 10 s left", "0.123 steps/s", "loss 0.02538", "learning rate 9.091e-06", "gradient norm 1.54"]
    for width in range(1, 140):
        for share in (None, 0.0, 0.5, 1.0):
            line = progress_line(width, "refreshing negatives", "1,234/10,000", share, details)
            assert "1,234/10,000" in line and cell_len(line) <= max(width, 12)
            for detail in details:
                assert detail in line or detail.split()[-1] not in line.split()
    assert (
        progress_line(80, "training", "5/10", 0.5, details[:3])
        == f"training {'━' * 10}{'─' * 10} 5/10  3 min 10 s left  0.123 steps/s  loss 0.02538"
    )
    assert progress_line(30, "encoding", "5/10", 0.5, [], ascii_only=True) == "encoding #####----- 5/10"
    assert progress_line(24, "reading a/very/long/path.jsonl", "5,000", None, []) == "reading a/very/... 5,000"
