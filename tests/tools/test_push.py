"""push to a small hub on the loopback interface: the output arrives with its card, and without paths."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's API that an upload of small files uses."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        self.server.asked.append((path, self.headers.get("Authorization")))
        if self.server.status != 200:
            return self.answer({"error": "no"}, self.server.status)
        if path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            kind = "datasets/" if json.loads(body).get("type") == "dataset" else ""
            self.answer({"url": f"{self.server.address}/{kind}me/thing", "name": "me/thing", "id": "1"})
        elif path.endswith("/preupload/main"):
            files = [{**each, "uploadMode": "regular", "shouldIgnore": False} for each in json.loads(body)["files"]]
            self.answer({"files": files})
        elif path.endswith("/commit/main"):
            lines = [json.loads(line) for line in body.splitlines()]
            self.server.message = lines[0]["value"]["summary"]
            for line in lines[1:]:
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(
                {
                    "commitUrl": f"{self.server.address}/me/thing/commit/{'0' * 40}",
                    "commitOid": "0" * 40,
                    "success": True,
                }
            )
        else:
            self.answer({"errors": [], "warnings": []})

    def do_GET(self):
        self.server.asked.append((self.path, None))
        self.answer({"id": "me/thing", "sha": "0" * 40, "siblings": []})

    def answer(self, record, status=200):
        data = json.dumps(record).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.asked, server.created, server.files, server.message, server.status = [], [], {}, "", 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    from huggingface_hub import constants, hf_api

    for module in (constants, hf_api):
        if hasattr(module, "ENDPOINT"):
            monkeypatch.setattr(module, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_test")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def queries(toy, drtools, tmp_path):
    words = ["sample-queries", "--corpus", toy.corpus, "--count", 5, "-o", tmp_path / "sentences.jsonl"]
    assert drtools(*words).status == 0
    return tmp_path / "sentences.jsonl"


def test_a_file_arrives_with_its_card_and_without_paths(queries, hub, drtools, tmp_path):
    outcome = drtools("push", queries, "hf://me/thing", "--private", "--message", "five sentences")
    assert outcome.status == 0 and "/me/thing/commit/000" in outcome.err, outcome.err
    assert hub.files["sentences.jsonl"] == queries.read_bytes() and hub.message == "five sentences"
    assert hub.created[0]["type"] == "dataset" and hub.created[0]["name"] == "thing"
    assert all(token == "Bearer hf_of_this_test" for path, token in hub.asked if path == "/api/repos/create")
    card = hub.files["README.md"].decode()
    assert card.startswith("---\ntags:\n- drtools\n") and "sample-queries" in card and "| queries | 5 |" in card
    sent = json.loads(hub.files["sentences.jsonl.manifest.json"])
    assert sent["request"]["arguments"]["corpus"]["path"] == "corpus.jsonl"
    assert not any(str(tmp_path).encode() in data for data in hub.files.values())


def test_vectors_are_a_data_set_and_a_trained_model_a_model_with_its_card(toy, encoder_folder, hub, drtools, tmp_path):
    encode = ["encode", "--model", encoder_folder, "--corpus", toy.corpus, "-o", tmp_path / "vectors"]
    assert drtools(*encode).status == 0
    assert drtools("push", tmp_path / "vectors", "hf://me/thing").status == 0
    assert hub.files["vectors.npy"] == (tmp_path / "vectors" / "vectors.npy").read_bytes()
    assert {"ids.txt", "README.md", "manifest.json"} <= hub.files.keys() or "README.md" in hub.files
    assert not any(str(tmp_path).encode() in data for data in hub.files.values())
    hub.files.clear()
    train = ["train-star", "--model", encoder_folder, *toy.training, "--steps", 1, "--batch-queries", 2]
    assert drtools(*train, "-o", tmp_path / "model").status == 0
    assert drtools("push", tmp_path / "model", "hf://me/thing").status == 0
    assert hub.created[-1].get("type") in (None, "model")
    for path in (tmp_path / "model").rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            assert hub.files[path.relative_to(tmp_path / "model").as_posix()] == path.read_bytes()
    assert not any(str(tmp_path).encode() in data for data in hub.files.values())


def test_a_dry_run_lists_the_files_and_asks_nobody(queries, hub, drtools):
    outcome = drtools("push", queries, "hf://me/thing", "--dry-run")
    assert outcome.status == 0 and hub.asked == []
    assert outcome.out.split() == ["sentences.jsonl", "sentences.jsonl.manifest.json", "README.md"]
    assert "would become a dataset me/thing" in outcome.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sentences.jsonl", "me/thing"], "expected hf://OWNER/NAME"),
        (["sentences.jsonl", "hf://thing"], "expected hf://OWNER/NAME"),
        (["sentences.jsonl", "hf://me/../x"], "expected hf://OWNER/NAME"),
        (["corpus.jsonl", "hf://me/thing"], "corpus.jsonl"),
        (["absent", "hf://me/thing"], "absent"),
    ],
)
def test_what_cannot_be_pushed_is_refused(queries, hub, drtools, monkeypatch, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    outcome = drtools("push", *words)
    assert outcome.status == 2 and said in outcome.err and len(outcome.err.splitlines()) == 1, outcome.err
    assert hub.files == {}


def test_damaged_files_are_not_uploaded(queries, hub, drtools):
    queries.write_bytes(queries.read_bytes()[:-5])
    outcome = drtools("push", queries, "hf://me/thing")
    assert outcome.status == 2 and hub.asked == [], outcome.err


@pytest.mark.parametrize(("status", "exit_status"), [(401, 2), (403, 2), (400, 1)])
def test_a_hub_that_refuses_is_reported_in_a_line(queries, hub, drtools, status, exit_status):
    hub.status = status
    outcome = drtools("push", queries, "hf://me/thing")
    assert outcome.status == exit_status and "me/thing" in outcome.err, outcome.err
    assert len(outcome.err.splitlines()) == 1 and "internal" not in outcome.err
