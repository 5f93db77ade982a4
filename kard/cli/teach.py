"""`kard teach`, `kard verify`, `kard ground` and `kard export`: rationales, second opinions, passages for them."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import click

from kard.acceptance import count_accepted, missing_verdicts
from kard.cli import choose, options, show
from kard.cli.load import next_command, print_verdicts
from kard.config import Accept
from kard.db import open_store
from kard.questions import QuestionSet


@click.command()
@click.argument("task")
@click.option("--model", required=True, help="Teacher, as PROVIDER/MODEL; its key is read from the environment.")
@options.api_base
@click.option("--name", help="Name of this teacher in the store. [default: the model]")
@click.option("--samples", type=click.IntRange(min=1), help="Rationales per question. [default: the task's]")
@click.option("--temperature", type=click.FloatRange(min=0), help="Sampling temperature. [default: the task's]")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Tokens of one rationale. [default: the task's]")
@click.option("--workers", type=click.IntRange(min=1), help="Requests at a time. [default: the task's]")
@click.option(
    "-k",
    type=click.IntRange(min=0),
    help="Passages that it reads, found with the question and its answer; 0: none. [default: the task's]",
)
@options.accept
@options.max_cost
@click.option("--retry-failed", is_flag=True, help="Ask again where a reply was cut, refused, empty or unreadable.")
@options.timeout
@options.whose
@options.limit
@options.dry_run
@options.store
@options.knowledge
@options.quiet
def teach(
    task: str,
    model: str,
    api_base: str | None,
    name: str | None,
    samples: int | None,
    temperature: float | None,
    max_tokens: int | None,
    workers: int | None,
    k: int | None,
    accept: Accept | None,
    max_cost: float | None,
    retry_failed: bool,
    timeout: float,
    split: str,
    limit: int | None,
    dry_run: bool,
    store: Path,
    knowledge: Path | None,
    quiet: bool,
) -> None:
    """Ask a teacher for the rationales that TASK lacks.

    The teacher is shown the right answer and explains it, by heart or, with -k, from passages. A rationale is
    accepted when its own conclusion is that answer, or by what readers say of it (--accept).
    Each is stored when it arrives, and a second run asks only for what is missing. Paper, section 3.1.
    """
    from kard import tasks
    from kard.teacher import teach as teacher
    from kard.teacher.calls import teacher_lm, with_passages

    loaded = tasks.load(task)
    chosen = {
        "samples": samples,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "workers": workers,
        "k": k,
        "accept": accept,
    }
    settings = replace(
        loaded.settings.teaching, **cast(Any, {key: to for key, to in chosen.items() if to is not None})
    )
    lm = teacher_lm(
        model,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        api_base=api_base,
        timeout=timeout,
    )
    db = open_store(store, create=False)
    loaded = with_passages(loaded, settings.k)
    questions = QuestionSet(loaded.name, split, limit)
    if split == "train":
        questions = questions.draw(db, settings.fraction, loaded.settings.student.seed)
    if dry_run:
        missing = len(teacher.missing_samples(db, loaded, questions, lm, settings, retry=retry_failed))
        price = teacher.expected_cost(db, loaded, lm, settings)
        cost = "" if price is None else f", about ${price * missing:.2f}"
        click.echo(f"{missing} requests to {model}{cost}")
        if error := teacher.unpriced(db, loaded, lm, settings, max_cost):
            click.echo(error, err=True)
        return
    find = teacher.by_heart
    if settings.k:
        from kard.knowledge.knowledge_base import KnowledgeBase

        find = teacher.reading(KnowledgeBase.open(options.knowledge_of(store, knowledge)), settings.k)
    summary = teacher.teach(
        db,
        loaded,
        questions,
        lm,
        settings,
        name=name or model,
        find=find,
        max_cost=max_cost,
        retry=retry_failed,
        progress=show.progress(quiet),
    )
    click.echo(
        f"{summary.added} rationales added, {summary.accepted} accepted; ${summary.cost:.4f}, "
        f"{summary.prompt_tokens} + {summary.completion_tokens} tokens"
    )
    counts = count_accepted(db, questions, settings.accept)
    if counts.unverified:
        click.echo(missing_verdicts(loaded.name, counts))
    if summary.skipped:
        newest = "select outcome from failed_replies order by id desc limit ?"
        outcomes = Counter(outcome for (outcome,) in db.execute(newest, [summary.skipped]))
        kinds = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.most_common())
        about = f"{kinds} kept apart and never trained on; ask again with --retry-failed, or read them with"
        options.propose(about, 'kard query "select * from failed_replies"')
    if summary.added > summary.accepted:
        print_verdicts(db, task, loaded.name)
    if counts.accepted:
        options.propose("Next", next_command(db, task, loaded.name))


@click.command()
@click.argument("task")
@click.option("--model", help="Verifier, as PROVIDER/MODEL; its key is read from the environment.")
@click.option("--base", help="Base model on this machine instead, or a size of the task. [default: the first size]")
@options.api_base
@click.option("--name", help="Name of this verifier in the store. [default: the model]")
@click.option("--teacher", metavar="NAME", help="Only this teacher's rationales.")
@click.option("--workers", type=click.IntRange(min=1), default=8, show_default=True, help="Requests at a time.")
@options.max_cost
@options.timeout
@options.whose
@options.limit
@options.dry_run
@options.store
@options.quiet
def verify(
    task: str,
    model: str | None,
    base: str | None,
    api_base: str | None,
    name: str | None,
    teacher: str | None,
    workers: int,
    max_cost: float | None,
    timeout: float,
    split: str,
    limit: int | None,
    dry_run: bool,
    store: Path,
    quiet: bool,
) -> None:
    """Let a model say which option each rationale leads to.

    It sees the question, its options, and the rationale without the sentences that say the answer. A model on this
    machine (--base) is not asked to write: the option with the highest mean log-probability per token counts. Each
    opinion is stored when it arrives, beside the rationale's own verdict; `kard rationales TASK --quality` counts
    them. Which verdict trains is for --accept to say. Paper, section 3.1.
    """
    if model is not None and base is not None:
        raise click.UsageError("--model asks a provider and --base a model on this machine; give one of them")
    from kard import tasks
    from kard.teacher import verify as verifier
    from kard.teacher.calls import teacher_lm

    loaded = tasks.load(task)
    questions = QuestionSet(loaded.name, split, limit)
    if model is None:
        from kard.pipeline.verify import verify_with_base

        db = open_store(store, create=False)
        summary = verify_with_base(
            db, loaded, questions, base, name=name, teacher=teacher, dry_run=dry_run, progress=show.progress(quiet)
        )
        click.echo(
            f"{summary} rationales to read; nothing was done"
            if isinstance(summary, int)
            else f"{summary.added} rationales read, {summary.agreed} lead to the gold answer"
        )
        return
    lm = teacher_lm(
        model,
        temperature=verifier.LIMITS["temperature"],
        max_tokens=int(verifier.LIMITS["max_tokens"]),
        api_base=api_base,
        timeout=timeout,
    )
    db = open_store(store, create=False)
    if dry_run:
        missing = verifier.unverified(db, questions, verifier.verifier_info(model, model), teacher)
        click.echo(f"{len(missing)} requests to {model}")
        if error := verifier.unpriced(db, lm, max_cost):
            click.echo(error, err=True)
        return
    summary = verifier.verify(
        db,
        questions,
        lm,
        name=name or model,
        teacher=teacher,
        workers=workers,
        max_cost=max_cost,
        progress=show.progress(quiet),
    )
    click.echo(
        f"{summary.added} rationales read, {summary.agreed} lead to the gold answer; ${summary.cost:.4f}, "
        f"{summary.prompt_tokens} + {summary.completion_tokens} tokens"
    )


@click.command()
@click.argument("task")
@options.knowledge
@options.store
@click.option(
    "--depth", type=click.IntRange(min=1), help="Passages by rationale and by question. [default: the task's]"
)
@click.option("--train-limit", type=click.IntRange(min=1), help="Only the first N training questions.")
@options.accept
@options.dry_run
@options.quiet
def ground(
    task: str,
    knowledge: Path | None,
    store: Path,
    depth: int | None,
    train_limit: int | None,
    accept: Accept | None,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Find passages for every rationale that lacks them.

    Students and the reranker are trained on these passages.
    """
    from kard import tasks
    from kard.knowledge.knowledge_base import KnowledgeBase
    from kard.retrieval import retrieve

    begin = time.monotonic()
    loaded = tasks.load(task)
    settings, rule = loaded.settings.retrieval, accept or loaded.settings.teaching.accept
    if depth is not None:
        settings = replace(settings, depth=depth)
    db = open_store(store, create=False)
    kb = KnowledgeBase.open(options.knowledge_of(store, knowledge))
    questions = QuestionSet(loaded.name, "train", train_limit)
    if dry_run:
        ungrounded = retrieve.ungrounded(db, kb.id, questions, settings, accept=rule)
        click.echo(f"{sum(len(q.rationales) for q in ungrounded):,} rationales lack passages; nothing was done")
        return
    evidence = retrieve.copy_evidence(db, kb, loaded.name)
    added = retrieve.ground(db, kb, questions, settings, accept=rule, progress=show.progress(quiet))
    click.echo(
        f"{added:,} rationales grounded, {evidence:,} evidence passages copied ({time.monotonic() - begin:.1f} s)"
    )


@click.command()
@click.argument("task")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--teacher", metavar="NAME", help="Only this teacher's rationales.")
@click.option(
    "--answers",
    "table",
    flag_value="answers",
    help="Write graded answers instead, one row per answer.",
)
@click.option(
    "--hits",
    "table",
    flag_value="hits",
    help="Write the rank of the first needed passage instead, one row per question and retriever.",
)
@click.option("--split", help="Split of the answers or hits. [default: test, else dev, validation or valid]")
@options.store
def export(task: str, file: Path, teacher: str | None, table: str | None, split: str | None, store: Path) -> None:
    """Write rationales, answers or hits of TASK to FILE.

    FILE is .jsonl or .jsonl.gz. `kard load --rationales` reads rationales back. The tables of `kard report` are
    computed from what --answers and --hits write.
    """
    if table is not None:
        from kard.evaluation.export import export_rows

        run = choose.run_of(task, store=store, knowledge=None, quiet=True, split=split)
        count = export_rows(run.db, run.name, run.split, table, file)
        click.echo(f"{count} rows written to {file}")
        return
    from kard import tasks
    from kard.teacher.records import export_rationales

    count = export_rationales(open_store(store, create=False), tasks.load(task).name, file, teacher)
    click.echo(f"{count} rationales written to {file}")
