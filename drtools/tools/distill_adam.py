"""Distil a cross-encoder into an encoder over negatives and dark examples, the clearest queries most (ADAM).

KL divergence of the teacher's and the student's softmax over each query's positive, negatives, reinforced negatives and
noisy positives, of the queries of which the teacher is surest, fewer from epoch to epoch; and a little cross-entropy of
the positive among its negatives. Examples come from make-dark-examples and teacher-score. At each visit of a query
--negatives of those that it lists are drawn, with their dark items; with --teacher they are scored while training.
--baseline is the same without dark examples. The result is a folder that every tool here, Hugging Face and
sentence-transformers load.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from typer import Option

from drtools.cli.flags.common import Role
from drtools.cli.flags.compute import ComputeFlags
from drtools.cli.flags.dev import DevFlags
from drtools.cli.flags.encoder import EncoderFlags
from drtools.cli.flags.outputs import FolderOutput
from drtools.cli.flags.training import ExampleFlags, StudentFlags, TrainingFlags
from drtools.cli.model_card import write_card
from drtools.errors import InputError
from drtools.outputs import work as output
from drtools.outputs.request import add_change

PAPER_WARMUP = 100  # Tao et al.
PAPER_NEGATIVES = 10
EPOCHS = 3  # [ours]
METHOD = "ADAM"
# what 0.1.0 computed otherwise for the same arguments
CHANGE = (
    "negatives are drawn anew at each visit, --reduction sum sums the cross-entropies too, and --teacher reads texts "
    "as long as the student does"
)


def main(
    folder: FolderOutput,
    example_flags: ExampleFlags,
    student: StudentFlags,
    dev: DevFlags,
    compute: ComputeFlags,
    teacher: Annotated[
        list[str] | None,
        Option(
            help="score with this cross-encoder while training, through the cache; several are averaged",
            rich_help_panel=METHOD,
        ),
        Role.MODEL,
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
        int,
        Option(min=0, help="negatives drawn at each visit of a query; 0: all that are listed", rich_help_panel=METHOD),
    ] = PAPER_NEGATIVES,
    with_positive: Annotated[
        bool,
        Option(
            "--with-positive/--without-positive",
            help="distil on the positive too, as section 3.1 of the paper has it; without is its Eq. 9 as printed",
            rich_help_panel=METHOD,
        ),
    ] = True,
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
        Option(
            help="of the divergences and of the cross-entropies over the queries (the paper's Eq. 9 sums)",
            rich_help_panel=METHOD,
        ),
    ] = "mean",
    encoder_flags: EncoderFlags = EncoderFlags(max_query_tokens=32, max_document_tokens=128),
    training: TrainingFlags = TrainingFlags(learning_rate=5e-5, batch_queries=128),
) -> None:
    """Compose: scored examples into lists, ADAM's loss, the one loop, a model folder."""
    check(baseline, without, pacing, teacher, teacher_dropout, accept_scores, negatives, with_positive)
    add_change(folder.request, CHANGE)
    with output.folder(folder) as work:
        from drtools.formats.dark_items import KINDS
        from drtools.methods.adam.batches import AdamBatches, Form
        from drtools.methods.adam.pacing import share_of_step
        from drtools.methods.dev import measure_on
        from drtools.training.encoder_task import EncoderTraining, read_sources
        from drtools.training.examples import Scores

        task = EncoderTraining(work, encoder_flags, student, training, compute)
        task.write_card = write_card
        is_random = baseline == "rand-kd"
        scores = Scores.UNREAD if teacher else Scores.ANY if accept_scores else Scores.TEACHER
        sources = read_sources(example_flags, scores, avoiding=is_random)
        form = Form(
            () if baseline else tuple(kind for kind in KINDS if kind not in (without or ())),
            negatives or None,
            is_random,
        )
        check_examples(sources, form, example_flags.examples, scored=not teacher)
        if not teacher:
            note_other_lengths(example_flags.examples, own_lengths(task.model))
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
            with_positive=with_positive,
            reverse=kl == "reverse",
            reduction=reduction,
            gather=task.world.gather,
            teacher_at=asked and asked[2],
        )
        task.fit(
            batches,
            loss,
            batches.epoch_queries,
            measure_on(task, dev, sources, example_flags.queries[0]),
            default_epochs=EPOCHS,
            paper_warmup=PAPER_WARMUP,
        )
        if asked:
            from drtools.teachers.scoring import note_cuts

            note_cuts(asked[0].counts)
        task.finish(
            queries=sum(len(source.examples) for source in sources),
            teacher=asked[0].name if asked else sources[0].examples.scored_by,
        )


def check(baseline, without, pacing, teacher, teacher_dropout, accept_scores, negatives, with_positive) -> None:
    """Raise InputError for what cannot be meant together."""
    unknown = set(without or ()) - {"reinforced", "noisy"}
    if unknown:
        raise InputError(f"--without {min(unknown)}: expected reinforced or noisy; say it once for each")
    if baseline and without:
        raise InputError(
            f"--baseline {baseline} with --without {without[0]}: a baseline has no dark examples; leave one of the two "
            "out"
        )
    if baseline and not with_positive:
        raise InputError(
            f"--baseline {baseline} with --without-positive: a baseline distils the positive and negatives; leave one "
            "of the two out"
        )
    if baseline == "rand-kd" and not negatives:
        raise InputError(
            "--negatives 0 with --baseline rand-kd: expected how many random documents to draw at each visit, for "
            f"instance {PAPER_NEGATIVES}"
        )
    if baseline == "rand-kd" and not teacher:
        raise InputError(
            "--baseline rand-kd draws documents that the examples have no scores of; say --teacher, or mine the "
            "examples by --random, score them and say --baseline hard-kd"
        )
    if teacher_dropout and not teacher:
        raise InputError(
            f"--teacher-dropout {teacher_dropout:g}: the examples' scores stand as they are; say --teacher to score "
            "while training, or leave it out"
        )
    if teacher and accept_scores:
        raise InputError(
            "--teacher with --accept-scores: the teacher's scores or the examples'; leave one of the two out"
        )


def check_examples(sources, form, paths, scored: bool) -> None:
    """Raise InputError if the examples lack the dark items that are asked for, or scores; count what some lack."""
    from drtools import reporting
    from drtools.methods.adam.batches import count_supply

    for source, path in zip(sources, paths, strict=True):
        if form.kinds and source.examples.dark is None:
            raise InputError(
                f"{path}: no example has dark items; run make-dark-examples and teacher-score on it, or say --baseline "
                "hard-kd"
            )
        supply = count_supply(source.examples, form)
        for kind in form.kinds:
            if not supply.of_kind[kind]:
                raise InputError(
                    f"{path}: no example has a {kind} item; make them by make-dark-examples and run teacher-score, "
                    f"or say --without {kind}"
                )
        if form.kinds:
            reporting.notice(
                supply.without,
                f"{path}: {supply.without:,} of {len(source.examples):,} examples have no dark item of those asked for",
            )
        if "reinforced" in form.kinds:
            reporting.notice(
                supply.unpaired,
                f"{path}: {supply.unpaired:,} of {supply.negatives:,} negatives have no reinforced item; "
                "make-dark-examples makes one for each",
            )
        if scored and supply.unscored:
            raise InputError(
                f"{path}: {supply.unscored:,} of {supply.items:,} items to distil have no score; run teacher-score on "
                "the file, or say --teacher to score while training"
            )


def own_lengths(model) -> tuple[int, int]:
    """Return how many tokens of a query and of a document the student reads, special tokens and prompts aside."""
    from drtools.methods.adam.dark import own_tokens

    return own_tokens(model.of("query"), "query"), own_tokens(model.of("document"), "document")


def note_other_lengths(paths: list[str], own: tuple[int, int]) -> None:
    """Count examples whose teacher read longer or shorter texts than the student, by their manifests."""
    from pathlib import Path

    from drtools import reporting
    from drtools.outputs import manifest
    from drtools.outputs.disk import read_json

    for path in paths:
        beside = manifest.beside(Path(path))
        record = read_json(beside) if beside.exists() else {}
        read = {
            name: (record[key], mine)
            for name, key, mine in (
                ("a query", "max_query_tokens", own[0]),
                ("a document", "max_document_tokens", own[1]),
            )
            if record.get("tool") == "teacher-score" and record.get(key)
        }
        theirs = " and ".join(f"{length} tokens of {name}" for name, (length, _) in read.items())
        students = " and ".join(str(mine) for _, mine in read.values())
        reporting.notice(
            any(length != mine for length, mine in read.values()),
            f"{path}: its teacher reads {theirs}, the student {students} (special tokens not counted); for the same "
            f"text run teacher-score with --max-query-tokens {own[0]} --max-document-tokens {own[1]}",
        )


def open_teacher(names: list[str], dropout: float | None, task, form):
    """Return the teacher, what it writes dark items with beside a query, and who scores at a step.

    The teacher reads texts as long as the student does.
    """
    from drtools import reporting
    from drtools.methods.adam.dark import special_of_teacher
    from drtools.methods.adam.teacher import Dropping, keep_dropout
    from drtools.teachers.scoring import load_teacher

    own = own_lengths(task.model)
    teacher = load_teacher(
        names,
        task.computing,
        trust_remote_code=task.encoder_flags.trust_remote_code,
        dropout=dropout or None,
        student_tokens=own,
    )
    read = teacher.max_query_tokens, teacher.max_document_tokens
    reporting.notice(
        int(read != own),
        f"the teacher has room for {read[0]} tokens of a query and {read[1]} of a document beside it; the student "
        f"reads {own[0]} and {own[1]}",
    )
    special_beside = partial(special_of_teacher, teacher, form.kinds)
    if not dropout:
        return teacher, special_beside, lambda step: teacher
    keep_dropout(teacher)
    return (
        teacher,
        special_beside,
        lambda step: Dropping(teacher, (task.training.seed, "teacher", step, task.world.rank)),
    )


def adam_loss(
    scale: float, *, weight: float, with_positive: bool, reverse: bool, reduction: str, gather, teacher_at=None
):
    """Return ADAM's loss of a batch; `gather` brings the processes' scores together.

    The teacher of a step, `teacher_at`, is asked here and not in the thread that prepares batches: two that set torch's
    threads at once would not repeat each other.
    """
    import torch

    from drtools.losses import adam, confidence, contrastive_of_lists, kl_of_lists, most_confident, scores
    from drtools.methods.adam.batches import ask

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
        return adam(supervised, divergence, kept, weight, reduction), {
            "divergence": float(divergence.detach()[kept].mean()),
            "cross_entropy": float(supervised.detach().mean()),
            "kept_share": float(kept.float().mean()),
        }

    return loss
