"""Control characters never reach a terminal, whatever they stand in and wherever it is shown."""

import json
import re
import unicodedata

import pytest
from conftest import write_jsonl

from drtools import reporting
from drtools.cli import console
from drtools.cli.show.hits import show_hits
from drtools.cli.terminal import aligned, wrapped
from drtools.errors import InputError, param
from drtools.escapes import escaped, escaped_json, escaped_line
from drtools.reporting import Progress

CLIPBOARD, CLEAR, TITLE = "\x1b]52;c;cm0gLXJmIC8=\x07", "\x9b2J", "\x1b]0;pwned\x07"


def unsafe(text: str) -> list[str]:
    return [sign for sign in text if unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\n\t"]


def test_every_control_character_is_escaped_and_nothing_else():
    for number in range(0x3000):
        sign = chr(number)
        shown = escaped(f"a{sign}b")
        if unsafe(sign) or "\u202a" <= sign <= "\u202e":
            assert shown == (f"a\\x{number:02x}b" if number < 256 else f"a\\u{number:04x}b")
            assert json.loads(escaped_json(json.dumps(sign, ensure_ascii=False))) == sign
        else:
            assert shown == f"a{sign}b"
    assert (
        escaped("caf\udce9.run") == "caf\\udce9.run" and escaped("狐 \u05d0 é 👩\u200d🚀") == "狐 \u05d0 é 👩\u200d🚀"
    )
    assert escaped_line("a\tb\nc\rd") == r"a\tb\nc\x0dd"


def test_tables_and_lines_for_a_person_are_escaped():
    for width in (None, 20):
        assert not unsafe(wrapped(f"fox {CLIPBOARD} hill {CLEAR} river", width))
        assert not unsafe(aligned([[CLEAR, "1"], ["fox", CLIPBOARD]], width))
    assert wrapped(f"fox{CLEAR}", None) == r"fox\x9b2J"
    assert aligned([[CLEAR, "1"], ["a", "2"]]) == "\\x9b2J  1\na       2"


def test_what_the_library_reports_is_escaped(capsys):
    console.configure("test", flags={"corpus": "--corpus"})
    reporting.say(f"{param('corpus')} {CLIPBOARD}")
    console.error(f"{TITLE}: no such file")
    reporting.notice(1, f"odd {CLEAR}")
    console.say_notices()
    err = capsys.readouterr().err
    assert not unsafe(err) and err.count("\n") == 3
    assert err.startswith(r"--corpus \x1b]52;c;cm0gLXJmIC8=\x07")
    assert reporting.notices() == [f"odd {CLEAR}"], "manifests keep it as it is"
    assert not unsafe(console.live_line(Progress(f"reading {TITLE}", 10, "documents"), 60, False))
    console.configure("test", log_json=True)
    reporting.say(f"{CLIPBOARD}{CLEAR}")
    line = capsys.readouterr().err
    assert not unsafe(line) and json.loads(line)["text"] == f"{CLIPBOARD}{CLEAR}"
    reporting.install(reporting.Reporter())
    reporting.say(CLEAR)
    assert capsys.readouterr().err == "\\x9b2J\n"


def test_shown_texts_hits_and_tables_are_escaped_and_data_are_not(tmp_path, drtools, capsysbinary, toy):
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"_id": "d1", "title": f"{TITLE}Otters", "text": f"eat {CLIPBOARD}"}])
    shown = drtools("show", corpus)
    assert shown.status == 0 and not unsafe(shown.out) and r"\x1b]0;pwned\x07Otters" in shown.out, shown.err
    show_hits("otters", {"d1": 1.0, f"d{CLEAR}2": 0.5}, corpus)
    hits = capsysbinary.readouterr().out.decode()
    assert not unsafe(hits) and r"\x1b]52;c;" in hits and r"d\x9b2J2" in hits
    run = tmp_path / f"a{TITLE}.run"
    run.write_text("".join(f"q{n} Q0 d{n} 1 1.0 t\n" for n in range(20)))
    measured = drtools("eval", "--qrels", toy.qrels, run, run)
    assert measured.status == 0 and not unsafe(measured.out + measured.err) and r"\x1b]0;pwned" in measured.out
    lines = drtools("eval", "--qrels", toy.qrels, run, "--per-query")
    assert lines.out.startswith(str(run)), "data stay as they are"
    missing = drtools("eval", "--qrels", toy.qrels, f"{run}.gone")
    assert missing.status != 0 and not unsafe(missing.err) and r"\x1b]0;pwned" in missing.err
    unknown = drtools("show", "--no-such" + CLEAR, corpus)
    assert unknown.status == 2 and not unsafe(unknown.err)


def test_a_refusal_that_quotes_a_text_is_escaped(tmp_path, drtools):
    (tmp_path / "c.jsonl").write_text('{"_id": "d1", "te\\u009bxt": "a"}\n')
    with pytest.raises(InputError):
        from drtools.formats.corpora import read_corpus

        list(read_corpus(tmp_path / "c.jsonl"))
    refused = drtools("sample-queries", "--corpus", tmp_path / "c.jsonl")
    assert refused.status == 2 and re.search(r"te\\x9bxt", refused.err) and not unsafe(refused.err)
