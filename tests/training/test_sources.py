"""Several sources in one training: their batches, how often they are visited, and whose negatives are whose."""

import json
import os
import shutil
import signal
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from drtools.errors import InputError
from drtools.formats.corpus_store import open_store
from drtools.methods.guard import Guard
from drtools.models.loader import load_encoder
from drtools.training.encoder_task import read_sources
from drtools.training.examples import RaggedArray, TrainingExamples, usable_examples
from drtools.training.pairs import PairBatches
from drtools.training.sampling import EpochSampler, ExampleSource
from drtools.training.specs import ExamplesSpec


@pytest.fixture
def other(toy):
    """Copy the corpus of the toy collection, so that it is another corpus, with the first six examples."""
    shutil.copy(toy.corpus, toy.folder / "other.jsonl")
    lines = (toy.folder / "examples.jsonl").read_text().splitlines()[:6]
    (toy.folder / "few.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return str(toy.folder / "other.jsonl"), str(toy.folder / "few.jsonl")


def spec_of(toy, other, **more):
    return ExamplesSpec([toy.examples, other[1]], [toy.corpus, other[0]], [toy.queries], **more)


def some(source, count, **more):
    kept = source.examples
    lists = [RaggedArray(part.flat, part.starts[: count + 1]) for part in (kept.positives, kept.negatives)]
    return replace(source, examples=TrainingExamples(kept.query_ids[:count], kept.queries[:count], *lists), **more)


@pytest.mark.parametrize("counts", [(20, 6, 3), (20, 20), (7, 1), (2, 3)])
@pytest.mark.parametrize("size", [4, 5])
def test_batches_of_one_source_visit_every_query_alike(toy, counts, size):
    store = open_store(toy.corpus)
    whole = ExampleSource(usable_examples(toy.examples, toy.queries, store), store)
    sources = [some(whole, count, alone=True) for count in counts]
    sampler, epochs = EpochSampler(sources, size, 3), 12
    steps = sum(epochs * count // size for count in counts)
    batches = [sampler(step) for step in range(steps)]
    assert all(len({id(visit.source) for visit in batch}) == 1 and len(batch) == size for batch in batches)
    for source, count in zip(sources, counts, strict=True):
        own = [visit for batch in batches for visit in batch if visit.source is source]
        assert len(own) == epochs * count // size * size
        found = Counter(visit.at for visit in own)
        assert {*found} == set(range(count)) and max(found.values()) - min(found.values()) <= 1
        assert len({visit.seed for visit in own}) == len(own), "every visit draws for itself"
    for step in range(steps):  # of any process, continued anywhere
        assert EpochSampler(sources, size, 3)(step) == batches[step]
    assert [batch[0].seed for batch in batches] != [EpochSampler(sources, size, 4)(at)[0].seed for at in range(steps)]


@pytest.mark.parametrize("batches", ["mixed", "one-source"])
def test_equal_visits(toy, other, batches):
    sources = read_sources(spec_of(toy, other, visits="equal", batches=batches))
    sampler = EpochSampler(sources, 4, 1)
    assert sampler.epoch_queries == 40
    counts = Counter(visit.source is sources[1] for step in range(10) for visit in sampler(step))
    assert counts == {False: 20, True: 20}
    proportional = EpochSampler(read_sources(spec_of(toy, other, batches=batches)), 2, 1)
    assert Counter(len(visit.source.examples) for step in range(13) for visit in proportional(step)) == {20: 20, 6: 6}


@pytest.mark.parametrize("mix", [False, True])
def test_negatives_of_another_corpus_are_no_negatives_unless_asked_for(toy, other, encoder_folder, mix):
    sources = read_sources(spec_of(toy, other, mix_negatives=mix))
    draws = PairBatches(sources, load_encoder(encoder_folder), batch_queries=10, negatives=2, seed=1)
    for step in range(4):
        batch, drawing = draws(step), draws.draw(step)
        for row, visit in enumerate(drawing.visits):
            for column, (source, document) in enumerate(drawing.documents):
                same = source.store is visit.source.store
                relevant = same and document in visit.source.examples.positives[visit.at]
                assert batch.relevant[row, column] == (relevant or not (same or mix))
                assert mix or batch.foreign is None or batch.foreign[row, column] == (not same)
        assert (batch.foreign is not None) == (
            not mix and len({id(source.store) for source, _ in drawing.documents}) > 1
        )


@pytest.mark.parametrize(
    "settings,reason",
    [
        ({"visits": "equal", "weight": [1.0, 2.0]}, "both say how often"),
        ({"mix_negatives": True, "batches": "one-source"}, "no batch has documents of several corpora"),
    ],
)
def test_what_does_not_go_together(toy, other, settings, reason):
    with pytest.raises(InputError, match=reason):
        spec_of(toy, other, **settings)
    with pytest.raises(InputError, match="there is only one"):
        ExamplesSpec([toy.examples], [toy.corpus], [toy.queries], batches="one-source")


def stopping_after(last):
    """Return a function for `Guard.after_step` that has the process told to stop after a step."""
    plain = Guard.after_step

    def after_step(self, step, seconds):
        plain(self, step, seconds)
        if step == last:
            os.kill(os.getpid(), signal.SIGTERM)

    return after_step


@pytest.mark.slow
def test_the_tools_train_on_them_and_continue_to_the_same_bytes(
    toy, other, encoder_folder, drtools, tmp_path, monkeypatch
):
    words = ["--examples", toy.examples, "--examples", other[1], "--corpus", toy.corpus, "--corpus", other[0]]
    words += ["--queries", toy.queries, "--model", encoder_folder, "--batch-queries", "5", "--precision", "fp32"]
    words += ["--learning-rate", "1e-3", "--steps", "8", "--matryoshka", "32,8", "--guide", encoder_folder]
    weights = {}
    for name, more in (
        ("apart", []),
        ("mixed", ["--mix-negatives"]),
        ("one", ["--batches", "one-source", "--visits", "equal"]),
        ("stopped", ["--batches", "one-source", "--visits", "equal"]),
    ):
        if name == "stopped":
            with monkeypatch.context() as patched:
                patched.setattr(Guard, "after_step", stopping_after(4))
                assert drtools("train-contrastive", *words, *more, "-o", tmp_path / name).status == 143
        done = drtools("train-contrastive", *words, *more, "-o", tmp_path / name)
        assert done.status == 0, done.err
        weights[name] = load_file(tmp_path / name / "model.safetensors")

    def same(one, other):
        return all(np.array_equal(weights[one][name], weights[other][name]) for name in weights[one])

    assert same("one", "stopped") and not same("apart", "mixed") and not same("one", "apart")
    counts = [
        json.loads((tmp_path / name / "manifest.json").read_text())["false_negatives"] for name in ("one", "stopped")
    ]
    assert counts[0] == counts[1] and counts[0]["masked"] > 0
    made = json.loads((tmp_path / "apart/manifest.json").read_text())
    assert made["request"]["changes"] == ["documents of another corpus are no negatives"]
    assert "changes" not in json.loads((tmp_path / "mixed/manifest.json").read_text())["request"]
