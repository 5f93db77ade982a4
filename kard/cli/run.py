"""`kard run`, `kard status` and `kard rebuild`: the steps as a whole."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from kard.cli import choose, show

if TYPE_CHECKING:
    from kard.pipeline.run import Run, Teacher


@click.command()
@click.argument("task")
@choose.choices
@click.option("--model", help="Teacher to ask for missing rationales, as PROVIDER/MODEL.")
@click.option("--api-base", help="Address of an OpenAI-compatible server for --model.")
@click.option("--max-cost", type=click.FloatRange(min=0), help="Stop the teacher before this many US dollars.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def run(
    task: str, model: str | None, api_base: str | None, max_cost: float | None, dry_run: bool, **chosen: Any
) -> None:
    """Do every step of TASK that is missing, in order, and print the report.

    TASK is a name of `kard tasks` or the path of your own .py file. Questions are loaded before with
    `kard load`, the knowledge base is made with `kard index`. Without --model nobody is asked and nothing
    is paid: the rationales in the store are used.
    """
    from kard.cli.report import print_report
    from kard.pipeline import steps

    chosen["teacher"] = _teacher(task, model, api_base, max_cost, chosen["teacher"])
    work = choose.work(task, **chosen)
    if dry_run:
        _print_states(work)
        return
    added = steps.run(work)
    for note in work.notes:
        click.echo(note, err=True)
    done = ", ".join(f"{name} +{count}" for name, count in added.items() if count)
    click.echo(done or "nothing was missing")
    print_report(work.db, work.task.name, work.split)


def _teacher(
    task: str, model: str | None, api_base: str | None, max_cost: float | None, name: str | None
) -> Teacher | str | None:
    if model is None:
        return name
    from kard import tasks
    from kard.pipeline.run import Teacher
    from kard.teacher.lm import teacher_lm

    teaching = tasks.load(task).settings.teaching
    return Teacher(
        name or model,
        lambda: teacher_lm(
            model, api_base=api_base, temperature=teaching.temperature, max_tokens=teaching.max_tokens
        ),
        max_cost,
    )


@click.command()
@click.argument("task")
@choose.choices
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(task: str, as_json: bool, **chosen: Any) -> None:
    """Show what each step of TASK has done, lacks, and has from an older form."""
    from kard.pipeline import steps

    work = choose.work(task, **chosen)
    if as_json:
        show.as_json(
            [
                {"step": step.name, **(asdict(state) if state else {"note": why})}
                for step, state, why in steps.states(work)
            ]
        )
        return
    _print_states(work)


def _print_states(work: Run) -> None:
    from kard.pipeline import steps

    rows: list[tuple[object, ...]] = []
    for step, state, why in steps.states(work):
        if state is None:
            rows.append((step.name, "", "", "", "", why))
        else:
            rows.append((step.name, state.unit, state.done, state.missing, state.outdated, state.note))
    show.table("", ("step", "unit", "done", "missing", "outdated", ""), rows)


@click.command()
@click.argument("step")
@click.argument("task")
@choose.choices
@click.option("--including-paid", is_flag=True, help="Drop rationales too, which may have cost money.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def rebuild(step: str, task: str, including_paid: bool, yes: bool, **chosen: Any) -> None:
    """Drop what STEP made for TASK and everything that came from it, so that `kard run` makes it again.

    What was paid for is kept unless --including-paid.
    """
    from kard.pipeline import steps

    if step not in steps.NAMES:
        raise click.UsageError(f"no step {step!r}; the steps are {', '.join(steps.NAMES)}")
    work = choose.work(task, **chosen)
    names = [s.name for s in steps.resting_on(step) if including_paid or not s.paid]
    if not yes:
        click.confirm(f"Drop {', '.join(names)} of {work.task.name} in {work.store}?", abort=True)
    dropped = steps.rebuild(work, step, including_paid=including_paid)
    click.echo(f"dropped {', '.join(dropped) or 'nothing'}; make it again with: kard run {task}")
