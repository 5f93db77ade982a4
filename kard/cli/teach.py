"""`kard teach` and `kard export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from kard.cli import choose, options, show
from kard.config import Teaching
from kard.db import open_store
from kard.questions import QuestionSet


@click.command()
@click.argument("task")
@click.option(
    "--model", required=True, help="The teacher, as PROVIDER/MODEL; its key is read from the environment."
)
@options.api_base
@click.option("--name", help="What the store calls this teacher. [default: the model]")
@click.option("--samples", type=click.IntRange(min=1), help="Rationales a question. [default: the task's]")
@click.option("--temperature", type=click.FloatRange(min=0), help="[default: the task's]")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Of one rationale. [default: the task's]")
@click.option("--workers", type=click.IntRange(min=1), help="Requests at a time. [default: the task's]")
@options.max_cost
@options.whose
@options.limit
@options.dry_run
@options.store
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
    max_cost: float | None,
    split: str,
    limit: int | None,
    dry_run: bool,
    store: Path,
    quiet: bool,
) -> None:
    """Ask a teacher for the rationales that TASK still lacks.

    The teacher is shown the right answer and explains it; a rationale is accepted when its own conclusion is
    that answer. Each is kept as it arrives, and a second run asks only for what is missing. Paper, section 3.1.
    """
    from kard import tasks
    from kard.teacher import teach as step
    from kard.teacher.calls import teacher_lm

    loaded = tasks.load(task)
    settings = _settings(loaded.settings.teaching, samples, temperature, max_tokens, workers)
    lm = teacher_lm(model, temperature=settings.temperature, max_tokens=settings.max_tokens, api_base=api_base)
    db = open_store(store, create=False)
    questions = QuestionSet(loaded.name, split, limit)
    if dry_run:
        missing = len(step.missing_samples(db, loaded, questions, lm, settings))
        mean = step.expected_cost(db, loaded, lm, settings)
        cost = "" if mean is None else f", about ${mean * missing:.2f}"
        click.echo(f"{missing} requests to {model}{cost}")
        return
    taught = step.teach(
        db,
        loaded,
        questions,
        lm,
        settings,
        name=name or model,
        max_cost=max_cost,
        progress=show.progress(quiet),
    )
    click.echo(
        f"{taught.added} rationales added, {taught.accepted} accepted; ${taught.cost:.4f}, "
        f"{taught.prompt_tokens} + {taught.completion_tokens} tokens"
    )
    if taught.skipped:
        click.echo(
            f"{taught.skipped} samples could not be read and were left out; run again to ask for them", err=True
        )


def _settings(
    chosen: Teaching, samples: int | None, temperature: float | None, max_tokens: int | None, workers: int | None
) -> Teaching:
    """The task's settings, with what the command line says instead."""
    return replace(
        chosen,
        samples=chosen.samples if samples is None else samples,
        temperature=chosen.temperature if temperature is None else temperature,
        max_tokens=chosen.max_tokens if max_tokens is None else max_tokens,
        workers=chosen.workers if workers is None else workers,
    )


@click.command()
@click.argument("task")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--teacher", metavar="NAME", help="Only this teacher's rationales.")
@click.option("--answers", "what", flag_value="answers", help="Graded answers instead: a row each, as reported.")
@click.option(
    "--hits", "what", flag_value="hits", help="First needed ranks instead: a row a question and retriever."
)
@click.option("--split", help="Split of the answers or hits. [default: test, else dev, else validation]")
@options.store
def export(task: str, file: Path, teacher: str | None, what: str | None, split: str | None, store: Path) -> None:
    """Write TASK's rationales to FILE (.jsonl or .jsonl.gz), as `kard load --rationales` reads them.

    With --answers or --hits, write what the report's tables are computed from.
    """
    if what is not None:
        from kard.evaluation.export import export_rows

        run = choose.run_of(task, store=store, knowledge=None, quiet=True, split=split)
        count = export_rows(run.db, run.name, run.split, what, file)
        click.echo(f"{count} rows written to {file}")
        return
    from kard import tasks
    from kard.teacher.records import export_rationales

    count = export_rationales(open_store(store, create=False), tasks.load(task).name, file, teacher)
    click.echo(f"{count} rationales written to {file}")
