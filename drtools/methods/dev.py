"""The dev measure that most methods share: nDCG and RR of the student over a pool of documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from drtools.evaluation.dev import dev_measure

if TYPE_CHECKING:
    from drtools.evaluation.specs import DevSpec
    from drtools.methods.spar.joint import JointModel
    from drtools.models.dev_measure import DevMeasure
    from drtools.models.tokens import VectorsBeside
    from drtools.training.encoder_task import EncoderTraining
    from drtools.training.sampling import ExampleSource


def measure_on(
    task: EncoderTraining,
    dev: DevSpec,
    sources: Sequence[ExampleSource],
    queries: str,
    joint: JointModel | None = None,
    beside: VectorsBeside | None = None,
) -> DevMeasure | None:
    """Return a function that evaluates the model on the dev judgements, if there are any; default: the first corpus.

    A `joint` model is measured in place of its encoder. Dev queries and positives that are also in the examples of a
    source are reported.
    """
    return dev_measure(
        dev,
        queries,
        sources[0].store,
        joint or task.model,  # type: ignore[arg-type]  # it returns rows of each side like an encoder
        task.computing,
        task.training.seed,
        sources[0].title_separator,
        beside,
        task.trained_on(sources) if dev.dev_qrels else None,
    )
