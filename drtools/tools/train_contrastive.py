"""Train an encoder by contrast: softmax over in-batch and hard negatives (DPR and the papers' baselines).

Cross-entropy of each query's positive among all positives and hard negatives of the batch; what else is relevant to a
query is masked. --loss margin-mse learns the margins of a teacher's scores between a positive and its own negatives
instead (DDR's distilled baselines). Examples come from mine-negatives, scores from teacher-score. The result is a
folder that every tool here, Hugging Face and sentence-transformers load. A stopped training continues where it was;
`torchrun -m drtools train-contrastive` trains on several devices. Beside another encoder's vectors (--beside-documents,
--beside-queries) scores are s1 + mu * s2: that encoder stays as it is, this one and mu learn (SPAR's joint training);
join both with concat-spar.
"""

from __future__ import annotations

from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import DevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import BesideFlags, ExampleFlags, ShapeFlags, StudentFlags, TrainingFlags, check_loss
from drtools.cli.model_card import write_card
from drtools.outputs import work as output

EPOCHS = {"contrast": 2, "margin-mse": 20}  # [ours]; Zhan et al., DDR, on MS MARCO
PAPER_WARMUP = 1000  # [ours] a tenth of the steps if that is less


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    encoder_flags: EncoderFlags,
    shape: ShapeFlags,
    student: StudentFlags,
    training: TrainingFlags,
    dev: DevFlags,
    compute: ComputeFlags,
    loss: Annotated[
        Literal["contrast", "margin-mse"] | None,
        Option(help="softmax over the batch, or a teacher's margins; default: contrast"),
    ] = None,
    hard_negatives: Annotated[int, Option(min=0, help="hard negatives drawn for each query at each visit")] = 1,
    accept_scores: Annotated[
        bool, Option("--accept-scores", help="margin-mse: learn from whatever scored the examples, a retriever too")
    ] = False,
    beside_flags: BesideFlags = BesideFlags(),
) -> None:
    """Compose: examples and texts into batches, the loss, the one loop, a model folder."""
    beside_flags.check()
    loss = loss or "contrast"
    check_loss(loss, hard_negatives)
    with output.folder(folder) as work:
        from drtools.methods.contrastive import LOSSES, read_sources_for
        from drtools.methods.dev import measure_on
        from drtools.methods.spar.joint import Beside, JointModel
        from drtools.training.encoder_task import EncoderTraining

        task = EncoderTraining(work, encoder_flags, student, training, compute, shape)
        task.write_card = write_card
        sources = read_sources_for(loss, example_flags, accept_scores)
        folders = beside_flags.beside_documents, beside_flags.beside_queries
        beside = Beside(*map(str, folders)) if all(folders) else None
        encoder, joint = task.model, None
        if beside:
            joint = JointModel(encoder, beside.dimension, beside_flags.mu or 1.0).to(task.computing.device)
            task.model = joint  # type: ignore[assignment]  # it is trained in the place of the encoder within it
        batches = task.pair_batches(sources, negatives=hard_negatives, beside=beside)
        task.fit(
            batches,
            LOSSES[loss](task.scale),
            batches.epoch_queries,
            measure_on(task, dev, sources, example_flags.queries[0], beside),
            default_epochs=EPOCHS[loss],
            paper_warmup=PAPER_WARMUP,
        )
        learnt = {} if joint is None else {"mu": joint.mu.item()}
        task.model = encoder
        task.finish(queries=sum(len(source.examples) for source in sources), **learnt)
