"""Distil a cross-encoder into an encoder over negatives and dark examples, the clearest queries most (ADAM).

KL divergence of the teacher's and the student's softmax over each query's negatives, reinforced negatives and noisy
positives, of the queries of which the teacher is surest, fewer from epoch to epoch; and a little cross-entropy of the
positive among its negatives. Examples come from make-dark-examples and teacher-score, and the listed negatives are
trained on as they are; with `--teacher` they are scored while training. `--baseline` is the same without dark examples.
The result is a folder that every tool here, Hugging Face and sentence-transformers load.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Annotated, Literal

from typer import Option

from drtools import flags, output
from drtools.errors import UserError
from drtools.retrieval.dev import DevFlags
from drtools.training.settings import ExampleFlags, StudentFlags, TrainingFlags

PAPER_WARMUP = 100  # Tao et al.
PAPER_NEGATIVES = 10
EPOCHS = 3  # [ours]
METHOD = "ADAM"


def main(
    folder: flags.FolderOutput,
    example_flags: ExampleFlags,
    student: StudentFlags,
    dev: DevFlags,
    compute: flags.ComputeFlags,
    teacher: Annotated[
        list[str] | None,
        Option(
            help="score with this cross-encoder while training, through the cache; several are averaged",
            rich_help_panel=METHOD,
        ),
        flags.Role.MODEL,
    ] = None,
    teacher_dropout: Annotated[
        float | None,
        Option(
            min=0,
            max=0.9,
            help="--teacher: score with this share of its activations dropped, anew at each step and past the cache "
            "(the paper: 0.1); default: none",
            rich_help_panel=METHOD,
        ),
    ] = None,
    accept_scores: Annotated[
        bool,
        Option("--accept-scores", help="learn from the examples' scores whoever gave them", rich_help_panel=METHOD),
    ] = False,
    baseline: Annotated[
        Literal["hard-kd", "rand-kd"] | None,
        Option(
            help="the positive and the listed negatives alone, or the positive and random documents (--teacher scores "
            "them)",
            rich_help_panel=METHOD,
        ),
    ] = None,
    without: Annotated[
        list[str] | None, Option(help="reinforced, noisy: leave this kind of dark example out", rich_help_panel=METHOD)
    ] = None,
    negatives: Annotated[
        int | None,
        Option(
            min=1, help="at most so many of the listed negatives; default: all (rand-kd: 10)", rich_help_panel=METHOD
        ),
    ] = None,
    with_positive: Annotated[
        bool,
        Option(
            "--with-positive",
            help="list the positive itself among what is distilled, as the paper's text has it and its Eq. 9 has not "
            "(the baselines always do); wanted on a small collection",
            rich_help_panel=METHOD,
        ),
    ] = False,
    pacing: Annotated[
        Literal["epochs", "steps", "none"] | None,
        Option(
            help="share of the queries distilled on, from 1 to 1/2: by epoch as in the paper (default), by step, or "
            "all (default of the baselines)",
            rich_help_panel=METHOD,
        ),
    ] = None,
    supervised_weight: Annotated[
        float,
        Option("--lambda", min=0, help="weight of the cross-entropy beside the divergence", rich_help_panel=METHOD),
    ] = 0.01,
    kl: Annotated[
        Literal["forward", "reverse"], Option(help="forward: KL(teacher || student)", rich_help_panel=METHOD)
    ] = "forward",
    reduction: Annotated[
        Literal["mean", "sum"],
        Option(help="of the divergences over the queries (the paper's Eq. 9 sums)", rich_help_panel=METHOD),
    ] = "mean",
    encoder_flags: flags.EncoderFlags = flags.EncoderFlags(max_query_tokens=32, max_document_tokens=128),
    training: TrainingFlags = TrainingFlags(learning_rate=5e-5, batch_queries=128),
) -> None:
    """Compose: scored examples into lists, ADAM's loss, the one loop, a model folder."""
    check(baseline, without, pacing, teacher, teacher_dropout, accept_scores)
    with output.folder(folder) as work:
        from drtools.batches.adam import AdamBatches, Form
        from drtools.batches.usable import Scores
        from drtools.formats.dark import KINDS
        from drtools.training.encoders import EncoderTraining, read_sources
        from drtools.training.pacing import share_of_step

        task = EncoderTraining(work, encoder_flags, student, training, compute)
        sources = read_sources(
            example_flags, Scores.UNREAD if teacher else Scores.ANY if accept_scores else Scores.TEACHER
        )
        is_random = baseline == "rand-kd"
        form = Form(
            () if baseline else tuple(kind for kind in KINDS if kind not in (without or ())),
            negatives or (PAPER_NEGATIVES if is_random else None),
            is_random,
        )
        check_examples(sources, form, example_flags.examples, scored=not teacher)
        queries = sum(round(source.weight * len(source.examples)) for source in sources)
        asked = open_teacher(teacher, teacher_dropout, task, form) if teacher else None
        batches = AdamBatches(
            sources,
            task.model,
            form,
            name=encoder_flags.start(),
            batch_queries=training.batch_queries,
            seed=training.seed,
            share_of=share_of_step(pacing or ("none" if baseline else "epochs"), training, queries, EPOCHS),
            teacher=asked and asked[1],
            shares=task.world.shares,
            rank=task.world.rank,
        )
        loss = adam_loss(
            task.scale,
            weight=supervised_weight,
            with_positive=with_positive or bool(baseline),
            reverse=kl == "reverse",
            reduction=reduction,
            gather=task.world.gather,
            note=lambda **numbers: task.run.meter.note(**numbers),
            teacher_at=asked and asked[2],
        )
        task.fit(
            batches,
            loss,
            batches.epoch_queries,
            task.measure_on(dev, sources[0], example_flags.queries[0]),
            default_epochs=EPOCHS,
            paper_warmup=PAPER_WARMUP,
        )
        if asked:
            from drtools.retrieval.scoring import note_cuts

            note_cuts(asked[0].counts)
        task.finish(
            queries=sum(len(source.examples) for source in sources),
            teacher=asked[0].name if asked else sources[0].examples.scored_by,
        )


def check(baseline, without, pacing, teacher, teacher_dropout, accept_scores) -> None:
    """Raise UserError for what cannot be meant together."""
    unknown = set(without or ()) - {"reinforced", "noisy"}
    if unknown:
        raise UserError(f"--without {min(unknown)}: expected reinforced or noisy; say it once for each")
    if baseline and without:
        raise UserError(
            f"--baseline {baseline} with --without {without[0]}: a baseline has no dark examples; leave one of the two "
            "out"
        )
    if baseline == "rand-kd" and not teacher:
        raise UserError(
            "--baseline rand-kd draws documents that the examples have no scores of; say --teacher, or mine the "
            "examples by --random, score them and say --baseline hard-kd"
        )
    if teacher_dropout and not teacher:
        raise UserError(
            f"--teacher-dropout {teacher_dropout:g}: the examples' scores stand as they are; say --teacher to score "
            "while training, or leave it out"
        )
    if teacher and accept_scores:
        raise UserError(
            "--teacher with --accept-scores: the teacher's scores or the examples'; leave one of the two out"
        )


def check_examples(sources, form, paths, scored: bool) -> None:
    """Raise UserError if the examples lack the dark items that are asked for, or scores; count examples without any."""
    from drtools import console
    from drtools.batches.adam import count_unscored

    for source, path in zip(sources, paths, strict=True):
        if form.kinds and source.examples.dark is None:
            raise UserError(
                f"{path}: no example has dark items; run make-dark-examples and teacher-score on it, or say --baseline "
                "hard-kd"
            )
        if form.kinds:
            of_kind: Counter[str] = Counter()
            for at in range(len(source.examples)):
                found = {item.kind for item in source.examples.dark[at]}.intersection(form.kinds)
                of_kind.update(found or ["none"])
            for kind in form.kinds:
                if not of_kind[kind]:
                    raise UserError(
                        f"{path}: no example has a {kind} item; make them by make-dark-examples and run teacher-score, "
                        f"or say --without {kind}"
                    )
            console.notice(
                of_kind["none"],
                f"{path}: {of_kind['none']:,} of {len(source.examples):,} examples have no dark item of those asked "
                "for",
            )
        unscored, items = count_unscored([source], form) if scored else (0, 0)
        if unscored:
            raise UserError(
                f"{path}: {unscored:,} of {items:,} items to distil have no score; run teacher-score on the file, or "
                "say --teacher to score while training"
            )


def open_teacher(names: list[str], dropout: float | None, task, form):
    """Return the teacher, what it writes dark items with beside a query, and who scores at a step.

    The teacher reads texts as long as it does in teacher-score.
    """
    from drtools.retrieval.dropping import Dropping, keep_dropout
    from drtools.retrieval.scoring import load_teacher

    teacher = load_teacher(
        names, task.computing, trust_remote_code=task.encoder_flags.trust_remote_code, dropout=dropout or None
    )
    special_beside = partial(teacher.special, form.kinds)
    if not dropout:
        return teacher, special_beside, lambda step: teacher
    keep_dropout(teacher)
    return (
        teacher,
        special_beside,
        lambda step: Dropping(teacher, (task.training.seed, "teacher", step, task.world.rank)),
    )


def adam_loss(
    scale: float, *, weight: float, with_positive: bool, reverse: bool, reduction: str, gather, note, teacher_at=None
):
    """Return ADAM's loss of a batch; `gather` brings the processes' scores together, `note` takes numbers for the log.

    The teacher of a step, `teacher_at`, is asked here and not in the thread that prepares batches: two that set torch's
    threads at once would not repeat each other.
    """
    import torch

    from drtools.batches.adam import ask
    from drtools.losses import adam, confidence, contrastive_of_lists, kl_of_lists, most_confident, scores

    def loss(query_vectors, document_vectors, *rest):
        reinforced_vectors, batch = rest[:-1], rest[-1]
        device = query_vectors.device
        columns, own, dark = (
            torch.from_numpy(part).to(device) for part in (batch.columns, batch.is_own, batch.is_dark)
        )
        scored = ask(teacher_at(batch.step), batch) if teacher_at else batch.teacher
        told = gather(torch.from_numpy(scored).to(device), batch.counts["query"])
        student = scores(query_vectors, torch.cat([document_vectors, *reinforced_vectors]), scale).gather(1, columns)
        listed = own | dark
        listed[:, 0] = with_positive
        kept = most_confident(confidence(told, own), batch.share)
        divergence = kl_of_lists(told, student, listed, reverse)
        supervised = contrastive_of_lists(student, own)
        note(
            divergence=float(divergence.detach()[kept].mean()),
            cross_entropy=float(supervised.detach().mean()),
            kept_share=float(kept.float().mean()),
        )
        return adam(supervised, divergence, kept, weight, reduction)

    return loss
