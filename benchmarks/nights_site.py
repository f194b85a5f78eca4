"""Where nights are played: a site with arrivals, a night as cron starts it, kills, and a reader who searches."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NIGHTLY = ROOT / "examples/retrain/nightly"
NEW, CHANGED, DELETED = 20, 3, 2  # documents a night
WORDS = ("read a file of numbers", "test whether two arrays are equal", "draw a line")
DAY = 86_400
SMALL = {  # so that a night takes a minute and not hours; what it learns means nothing
    "ADAPTING": "--steps 4 --head-steps 2 --batch-documents 8 --crop-tokens 64 --dev-documents 0 --threads 2",
    "TRAINING": "--steps 6 --batch-queries 8 --learning-rate 1e-4 --max-document-tokens 64 --threads 2",
    "ENCODING": "--precision fp32 --max-document-tokens 64",
    "GATE": "nDCG@10>=-1",
    "FACTORY": "Flat",
    "PUBLISHING": "--allow-fall 1 --allow-fall-since-first 1",
}


def make_model(folder: Path, texts: list[str]) -> None:
    """Write a small random encoder whose words are the collection's."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    from drtools.models.encoder import Encoder
    from drtools.models.encoder_files import save_encoder
    from drtools.models.heads import Normalize
    from drtools.models.settings import EncoderSettings

    folder.mkdir(parents=True)
    counts = Counter(word for text in texts for word in text.lower().split() if word.isalpha())
    letters = [chr(number) for number in range(33, 127) if not chr(number).isupper()]
    words = [word for word, _ in counts.most_common(2000) if len(word) > 1]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *letters, *(f"##{letter}" for letter in letters), *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=128)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    body = BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=128, **sizes))
    settings = EncoderSettings(
        pooling=("mean",), head=[{"kind": "normalize"}], max_query_tokens=64, max_document_tokens=64
    )
    save_encoder(Encoder(body, tokenizer, settings, torch.nn.Sequential(Normalize())), folder)


class Site:
    """Where the nights are played: a collection that grows, arrivals, the published link, and what must be true."""

    def __init__(self, folder: Path, collection: Path, drtools: str, share: float) -> None:
        self.folder, self.drtools, self.generator = folder, drtools, random.Random(30)
        self.data, self.arrivals, self.work = folder / "data", folder / "arrivals", folder / "work"
        self.live, self.archive = self.work / "live", folder / "archive"
        for place in (self.data, self.arrivals, self.archive, folder / "elsewhere"):
            place.mkdir(parents=True)
        with gzip.open(collection / "corpus.jsonl.gz", "rb") as stream:
            lines = list(stream)
        first = int(len(lines) * share)
        self.to_come = lines[first:]
        (self.data / "corpus.jsonl").write_bytes(b"".join(lines[:first]))
        shutil.copyfile(collection / "queries.jsonl.gz", self.data / "queries.jsonl.gz")
        shutil.copytree(collection / "qrels", self.data / "qrels", ignore=shutil.ignore_patterns("dev.tsv"))
        self.truth = {json.loads(line)["_id"]: line for line in lines[:first]}  # what was delivered, in order
        self.settings = SMALL | {"MODEL": str(folder / "model"), "DRTOOLS": drtools}
        make_model(folder / "model", [line.decode() for line in lines])
        self.night, self.seconds = 0, 30.0  # of the last whole night
        self.refusals: Counter[str] = Counter()

    def start(self, *, trains: bool = False, largest: int = 0, **settings: str) -> subprocess.Popen:
        """Begin a night as cron does."""
        import resource

        chosen = {"DATA": str(self.data), "ARRIVALS": str(self.arrivals), "WORK": str(self.work), **self.settings}
        chosen |= ({} if trains else {"TRAINING": ""}) | settings

        def limit() -> None:
            if largest:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

        return subprocess.Popen(
            [str(NIGHTLY), *(f"{name}={value}" for name, value in chosen.items())],
            cwd=self.folder / "elsewhere",
            env={"HOME": str(self.folder), "LOGNAME": "cron", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=limit,
        )

    def run(self, **keywords) -> tuple[int, str]:
        """Play a night to its end; return its status and its mail."""
        started = time.monotonic()
        night = self.start(**keywords)
        mail = night.communicate(timeout=1800)[0]
        self.seconds = time.monotonic() - started
        self.note(night.returncode, mail)
        return night.returncode, mail

    def note(self, status: int, mail: str) -> None:
        """Count a refusal, and keep a copy of the version for the reader's judge."""
        lines = mail.splitlines()
        for line in lines:
            if line.startswith("retrain: refused "):
                self.refusals[line.split(": ", 2)[-1].split(" (now ")[0]] += 1
        if status and lines:
            self.refusals[f"status {status}: " + lines[-1].split(": ", 2)[-1].split("; ")[0][:160]] += 1
        if self.live.exists() and not (copy := self.archive / self.version()).exists():
            subprocess.run(["cp", "-al", os.path.realpath(self.live), copy], check=True)

    def version(self) -> str:
        """Return the version that is served, "" if there is none."""
        return os.path.basename(os.readlink(self.live)) if self.live.is_symlink() else ""

    def deliver(self, new: int = NEW, changed: int = CHANGED, deleted: int = DELETED) -> None:
        """Drop a delivery of new, changed and deleted documents, and note what must be served then."""
        ids, lines = list(self.truth), []
        lines += [self.to_come.pop(0) for _ in range(min(new, len(self.to_come)))]
        some = self.generator.sample(ids, changed + deleted)
        for document in some[:changed]:
            record = json.loads(self.truth[document])
            lines.append(
                json.dumps(record | {"text": f"{record['text']} Changed in night {self.night}."}).encode() + b"\n"
            )
        for line in lines:
            self.truth[json.loads(line)["_id"]] = line
        for document in some[changed:]:
            del self.truth[document]
            lines.append(json.dumps({"_id": document, "deleted": True}).encode() + b"\n")
        self.put("", gzip.compress(b"".join(lines)), ".jsonl.gz")

    def put(self, name: str, content: bytes, ending: str = ".jsonl") -> None:
        """Drop a file among the arrivals, whole."""
        (self.folder / "incoming").write_bytes(content)
        os.replace(self.folder / "incoming", self.arrivals / f"{self.night:03d}{name}{ending}")

    def set_clock(self, days: float) -> None:
        """Date all files as if the clock had stood so many days ahead."""
        for path in (path for top in (self.work, self.data, self.arrivals) for path in [top, *top.rglob("*")]):
            if not path.is_symlink() and "versions" not in str(path):
                os.utime(path, (time.time() + days * DAY,) * 2)

    def is_as_delivered(self) -> bool:
        """Return whether the served version has the ids and texts that were delivered, in their order."""
        if not self.live.exists():
            return False
        ids = (self.live / "vectors/ids.txt").read_text().split()
        return ids == list(self.truth) and (self.work / "begun/corpus.jsonl").read_bytes() == b"".join(
            self.truth.values()
        )


def processes_of(night: subprocess.Popen, words: str = "") -> list[int]:
    """Return the processes of a night, or its tools whose command has these words."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            session = int((place / "stat").read_text().rpartition(")")[2].split()[3])
            command = (place / "cmdline").read_text().replace("\0", " ")
            if session == night.pid and words in command and not (words and command.startswith(("bash ", "make "))):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def kill_all_of(night: subprocess.Popen) -> None:
    """Kill a night as a machine that goes down does."""
    for number in processes_of(night):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    night.communicate()


def wait_for(night: subprocess.Popen, words: str) -> int:
    """Wait until a tool runs; return its process, or 0 if the night has ended before."""
    while night.poll() is None:
        if found := processes_of(night, words):
            return found[0]
        time.sleep(0.01)
    return 0


class Reader(threading.Thread):
    """Searches by words in a loop from another folder, and keeps what it was told."""

    def __init__(self, site: Site, pause: float) -> None:
        super().__init__(daemon=True)
        self.site, self.pause, self.stop, self.seen = site, pause, threading.Event(), []

    def search(self, index: Path, words: str) -> tuple[int, str]:
        """Search as a person does; return the status and what was printed."""
        folder = self.site.folder
        environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "DRTOOLS_CACHE": str(folder / "reader")}
        done = subprocess.run(
            [self.site.drtools, "search", "--index", index, words],
            cwd=folder / "elsewhere", env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode, done.stdout if not done.returncode else done.stderr

    def run(self) -> None:
        """Search until told to stop."""
        number = 0
        while not self.stop.wait(self.pause):
            if self.site.live.exists():
                words, number = WORDS[number % len(WORDS)], number + 1
                first = self.site.version()
                status, out = self.search(self.site.live / "index", words)
                self.seen.append((first, self.site.version(), words, status, out))

    def judged(self) -> tuple[int, int, list[str]]:
        """Count searches that failed, and those whose hits are not those of one version that was served meanwhile."""
        versions, told = sorted(path.name for path in self.site.archive.iterdir()), {}
        failures = mixtures = 0
        examples = []
        for first, last, words, status, out in self.seen:
            if status:
                failures += 1
                examples.append(out.strip())
                continue
            served = versions[min(map(versions.index, (first, last))) : max(map(versions.index, (first, last))) + 1]
            for version in served:
                if (version, words) not in told:
                    told[version, words] = self.search(self.site.archive / version / "index", words)[1]
            if not out.strip() or out not in [told[version, words] for version in served]:
                mixtures += 1
                examples.append(f"{words} of {first}:\n{out}")
        return failures, mixtures, examples
