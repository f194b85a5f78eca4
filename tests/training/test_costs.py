"""What a training costs is said beforehand: steps, texts, memory, time; evaluations on dev stay within their share."""

import json
import re

import pytest

from drtools.training import costs
from drtools.training.costs import Epochs, steps_in_words
from drtools.training.plan import plan
from drtools.training.specs import TrainingSpec


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "training: 20 steps of 10 queries, 2 epochs of 100 (the default, 2)"),
        ({"epochs": 1.0}, "training: 10 steps of 10 queries, 1 epochs of 100"),
        ({"steps": 1, "minutes": 3.0}, "training: 1 step of 10 queries, 0.1 epochs of 100, at most 3 minutes"),
        ({"minutes": 3.0}, "training for 3 minutes in steps of 10 queries; an epoch has 100"),
    ],
)
def test_the_length_of_a_training_in_words(given, words):
    flags = TrainingSpec(batch_queries=10, **given)
    assert steps_in_words(plan(flags, 100, 2.0, 1000), flags, Epochs(100, 2.0), "queries") == words


def star(toy, model, out, *more):
    return [
        "train-star",
        "--model",
        model,
        *toy.training,
        *("--batch-queries", "4", "--precision", "fp32", "--max-document-tokens", "6", "-o", out),
        *more,
    ]


def test_a_dry_run_prints_the_costs_and_writes_nothing(toy, encoder_folder, drtools, tmp_path):
    out = tmp_path / "star"
    dry = drtools(*star(toy, encoder_folder, out, "--dev-qrels", toy.qrels, "--steps", "6", "--dry-run"))
    assert dry.status == 0 and not list(tmp_path.glob("star*")), dry.err
    assert re.search(r"training: 6 steps of 4 queries, 1\.2 epochs of 20\n", dry.err), dry.err
    cut = re.search(r"from 3 batches: 12 texts of (\d+) tokens a step, (\d+)% of them cut\n", dry.err)
    assert cut and 3 <= int(cut[1]) <= 6 and int(cut[2]) > 20, dry.err
    assert re.search(r"about [\d.]+ [MG]B of memory; [\d.]+ kB on the disk", dry.err), dry.err
    assert re.search(r"about \d+ s: 6 steps of about [\d.e-]+ s, 4 evaluations on dev of about [\d.e-]+ s\n", dry.err)
    real = drtools(*star(toy, encoder_folder, out, "--dev-qrels", toy.qrels, "--steps", "6"))
    assert real.status == 0, real.err

    def told(text):
        return [re.sub(r"[\d.]+ ([MG]B|s)\b", "N", line) for line in text.splitlines() if line.startswith(WORDS)]

    assert told(real.err) == told(dry.err) and len(told(dry.err)) == 4
    assert "over the whole corpus of 60 documents" in real.err
    quiet = drtools(*star(toy, encoder_folder, out, "--steps", "6", "--dry-run", "--quiet"))
    assert quiet.status == 0 and quiet.err == ""


WORDS = ("training", "from 3 batches", "about")


def test_what_makes_the_first_step_slow_counts_once(monkeypatch):
    said = []
    monkeypatch.setattr(costs, "say_costs", said.append)
    spec = TrainingSpec(batch_queries=10, steps=12)
    training = costs.TrainingCosts.__new__(costs.TrainingCosts)
    training.plan, training.begin, training.of_head, training.dev = plan(spec, 100, 2.0, 1000), 0, None, None
    training.operations, training.seconds = 10.0, [(30.0, 10.0), (1.5, 10.0), (2.5, 10.0)]
    training.say_time()
    assert said[0].seconds == pytest.approx(30 + 11 * 2) and said[0].time == "12 steps of about 2 s"


def test_dev_takes_at_most_a_fifth_of_the_operations(toy, encoder_folder, drtools, tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "SHORT_EVALUATION", 0.0)
    found = {}
    measured = costs.TrainingCosts.limit_dev

    def watched(self):
        dev = measured(self)
        found["share"] = self._operations(dev.tokens, learning=False) / self.operations
        found["texts"] = {side: len(tokens.lengths) for side, tokens in dev.tokens.items()}
        return dev

    monkeypatch.setattr(costs.TrainingCosts, "limit_dev", watched)
    command = star(toy, encoder_folder, tmp_path / "star", "--dev-qrels", toy.qrels, "--steps", "8")
    done = drtools(*command)
    assert done.status == 0, done.err
    manifest = json.loads((tmp_path / "star/manifest.json").read_text())
    assert [each["step"] for each in manifest["evaluations"]] == [0, 8]
    assert 0 < 2 * found["share"] <= 0.25 * 8 * 1.2 and found["texts"]["document"] < 60, found
    assert re.search(r"dev is evaluated every 8 steps over a pool of \d+ of 60 documents, for \d+ of 20 ", done.err)
    assert re.search(r"best dev nDCG@10 [\d.]+ at step \d+ \(over a pool of \d+ of 60 documents", done.err), done.err
    asked = drtools(*command, "--evaluate-every-steps", "2", "--overwrite")
    assert asked.status == 0 and "dev is evaluated every" not in asked.err
    manifest = json.loads((tmp_path / "star/manifest.json").read_text())
    assert [each["step"] for each in manifest["evaluations"]] == [0, 2, 4, 6, 8], "what is asked for is done"


def test_a_new_head_is_a_phase_of_its_own(toy, encoder_folder, drtools, tmp_path):
    toy.repeat_words()
    command = ["mlm-adapt", "--model", encoder_folder, "--corpus", toy.corpus, "--batch-documents", "8"]
    command += ["--crop-tokens", "16", "--head-steps", "3", "--steps", "2", "--precision", "fp32"]
    done = drtools(*command, "-o", tmp_path / "dam")
    assert done.status == 0, done.err
    assert "first 3 steps that fit a new masked head, then training: 2 steps of 8 texts" in done.err, done.err
    assert "trained for 2 steps, after 3 steps that fitted a new masked head" in done.err, done.err
    planned = drtools(*command, "--dry-run", "-o", tmp_path / "dry")
    assert planned.status == 0 and "for the new head, 2 steps of about" in planned.err, planned.err
    assert not (tmp_path / "dry").exists()
