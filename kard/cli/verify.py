"""`kard verify`: a second opinion on rationales."""

from __future__ import annotations

from pathlib import Path

import click

from kard.cli import options, show
from kard.db import open_store
from kard.questions import QuestionSet


@click.command()
@click.argument("task")
@click.option(
    "--model", required=True, help="The verifier, as PROVIDER/MODEL; its key is read from the environment."
)
@options.api_base
@click.option("--name", help="What the store calls this verifier. [default: the model]")
@click.option("--teacher", metavar="NAME", help="Only this teacher's rationales.")
@click.option("--workers", type=click.IntRange(min=1), default=8, show_default=True, help="Requests at a time.")
@options.max_cost
@options.whose
@options.limit
@options.dry_run
@options.store
@options.quiet
def verify(
    task: str,
    model: str,
    api_base: str | None,
    name: str | None,
    teacher: str | None,
    workers: int,
    max_cost: float | None,
    split: str,
    limit: int | None,
    dry_run: bool,
    store: Path,
    quiet: bool,
) -> None:
    """Let a model read TASK's rationales and say which option each leads to.

    It sees the question, its options and the rationale without the closing that says the answer. Each opinion is
    kept as it arrives, beside the rationale's own verdict; `kard rationales TASK --quality` counts them. Training
    goes by the rationales' own conclusions. Paper, section 3.1.
    """
    from kard import tasks
    from kard.teacher import verify as step
    from kard.teacher.calls import teacher_lm

    questions = QuestionSet(tasks.load(task).name, split, limit)
    lm = teacher_lm(
        model,
        temperature=step.LIMITS["temperature"],
        max_tokens=int(step.LIMITS["max_tokens"]),
        api_base=api_base,
    )
    db = open_store(store, create=False)
    if dry_run:
        missing = step.unverified(db, questions, model, teacher)
        click.echo(f"{len(missing)} requests to {model}")
        return
    done = step.verify(
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
        f"{done.added} rationales read, {done.agreed} lead to the gold answer; ${done.cost:.4f}, "
        f"{done.prompt_tokens} + {done.completion_tokens} tokens"
    )
