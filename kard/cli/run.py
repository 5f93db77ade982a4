"""`kard run`, `kard status`, `kard rebuild`, `kard train` and `kard evaluate`: steps of the pipeline."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from kard.cli import choose, options, show
from kard.cli.load import count

if TYPE_CHECKING:
    from kard.pipeline.options import Teacher
    from kard.pipeline.run import Run
    from kard.pipeline.step import Kind


@click.command()
@click.argument("task")
@choose.run_options
@choose.working_options
@click.option("--model", help="Teacher to ask for missing rationales, as PROVIDER/MODEL.")
@options.api_base
@click.option("--max-cost", type=click.FloatRange(min=0), help="Stop the teacher before this many US dollars.")
@options.timeout
@options.dry_run
def run(
    task: str,
    model: str | None,
    api_base: str | None,
    max_cost: float | None,
    timeout: float,
    dry_run: bool,
    **chosen: Any,
) -> None:
    """Do every missing step of TASK and print the report.

    TASK is a name of `kard tasks` or the path of your own .py file. First load questions with `kard load` and make
    the knowledge base with `kard index`. Without --model nobody is asked and nothing is paid: the rationales in the
    store are used.
    """
    from kard.cli.report import print_report
    from kard.pipeline.steps import run_steps

    chosen["teacher"] = _teacher(task, model, api_base, max_cost, timeout, chosen["teacher"])
    this = choose.run_of(task, **chosen)
    if dry_run:
        _print_states(this)
        return
    added = run_steps(this)
    for note in this.notes:
        click.echo(note, err=True)
    done = ", ".join(f"{name} +{count}" for name, count in added.items() if count)
    click.echo(done or "nothing was missing")
    of_split = f" --split {this.split}" if this.options.split else ""
    print_report(this.db, this.name, this.split)
    options.propose("Why answers are wrong", f"kard failures {task}{of_split}")
    options.propose("Look at everything", "kard ui")
    choices = " --option TEXT --option TEXT" if "options" in this.task.answer.input_fields else ""
    options.propose("Ask a question of your own", f"kard ask QUESTION{choices}")


def _teacher(
    task: str, model: str | None, api_base: str | None, max_cost: float | None, timeout: float, name: str | None
) -> Teacher | str | None:
    if model is None:
        return name
    from kard import tasks
    from kard.pipeline.options import Teacher
    from kard.teacher.calls import teacher_lm

    teaching = tasks.load(task).settings.teaching
    return Teacher(
        name or model,
        lambda: teacher_lm(
            model,
            api_base=api_base,
            temperature=teaching.temperature,
            max_tokens=teaching.max_tokens,
            timeout=timeout,
        ),
        max_cost,
    )


@click.command()
@click.argument("task")
@choose.run_options
@options.as_json
def status(task: str, as_json: bool, **chosen: Any) -> None:
    """Show what each step of TASK has done and lacks.

    `outdated` counts results of other settings, rationales or documents. Nothing is written.
    """
    from kard.pipeline.steps import states

    this = choose.run_of(task, **chosen)
    if as_json:
        rows = [
            {"step": step.name, **(asdict(state) if state else {"note": reason})}
            for step, state, reason in states(this)
        ]
        show.as_json(rows)
        return
    _print_states(this)


def _print_states(this: Run, *kinds: Kind) -> None:
    from kard.pipeline.steps import states

    rows: list[tuple[object, ...]] = [
        (step.name, state.unit, state.done, state.missing, state.outdated, state.note)
        if state
        else (step.name, "", "", "", "", reason)
        for step, state, reason in states(this, *kinds)
    ]
    show.table("", ("step", "unit", "done", "missing", "outdated", ""), rows)


@click.command()
@click.argument("step")
@click.argument("task")
@choose.run_options
@click.option("--including-paid", is_flag=True, help="Drop rationales too, which may have cost money.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def rebuild(step: str, task: str, including_paid: bool, yes: bool, **chosen: Any) -> None:
    """Drop what STEP made for TASK and all that came from it.

    `kard run` then makes it again. Rationales, which may have cost money, are kept unless --including-paid.
    """
    from kard.pipeline import steps

    if step not in steps.NAMES:
        raise click.UsageError(f"no step {step!r}; the steps are {', '.join(steps.NAMES)}")
    this = choose.run_of(task, **chosen)
    names = [s.name for s in steps.resting_on(this, step) if including_paid or not s.paid]
    if not yes:
        click.confirm(f"Drop {', '.join(names)} of {this.name} in {this.store}?", abort=True)
    dropped = steps.rebuild(this, step, including_paid=including_paid)
    click.echo(f"dropped {', '.join(dropped) or 'nothing'}; make it again with: kard run {task}")


@click.command()
@click.argument("task")
@choose.screening_options
def screen(task: str, **chosen: Any) -> None:
    """Look for the evaluated questions of TASK in its training questions and in passages.

    The passages are those that were ever found. `kard query contamination` shows which stand there. `kard run`
    does this last.
    """
    from kard.pipeline.contamination import SCREEN
    from kard.pipeline.steps import run_step

    this = choose.run_of(task, **chosen)
    about = f"questions of {this.name}/{this.split}"
    if added := run_step(this, SCREEN):
        click.echo(f"{added:,} {about} looked for; {SCREEN.state(this).note or '0 overlap'}")
    else:
        state = SCREEN.state(this)
        found = state.note or "0 overlap"
        click.echo(f"the {state.done:,} {about} were looked for before, in the same texts; {found}")
    for note in this.notes:
        click.echo(note, err=True)


class _Train(click.Group):
    """A group that takes a task's name for what it is."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed; for a task, say what can be trained."""
        from kard import tasks

        if args[0] in tasks.names() and not ctx.resilient_parsing:
            ctx.fail(f"train what? kard train student {args[0]}, or kard train reranker {args[0]}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Train)
def train() -> None:
    """Train a reranker or students on the store's rationales."""


@train.command()
@click.argument("task")
@choose.run_options
def reranker(task: str, **chosen: Any) -> None:
    """Train a reranker on the rationales of TASK.

    It learns to rank by the question as BM25 ranks by the teacher's rationale (paper, section 3.3). Training again
    with the same data and settings returns the same reranker.
    """
    from kard.pipeline.rerank import train_reranker

    this = choose.run_of(task, **chosen)
    reranker_id = train_reranker(this)
    for note in this.notes:
        click.echo(note, err=True)
    click.echo(f"reranker {reranker_id}; rank with it: kard evaluate {task} --rank-only --retriever reranker")


@train.command()
@click.argument("task")
@choose.run_options
@choose.working_options
def student(task: str, **chosen: Any) -> None:
    """Train a student of each --size and --method for TASK.

    Methods are ft, ka-ft, rd and kard (paper, section 3.2). Training again with the same data and settings returns
    the same student.
    """
    from kard.pipeline.jobs import run_step_on
    from kard.pipeline.retrieve import GROUND
    from kard.pipeline.steps import EXTRAS, run_step
    from kard.pipeline.students import STUDENT, train_student

    this = choose.run_of(task, **chosen)
    if EXTRAS.needed(this):
        run_step(this, EXTRAS)
    if this.workers:
        run_step_on(this.workers, [this], STUDENT)
    for size, method in this.students():
        click.echo(f"student {train_student(this, size, method)}: {method}, {size}")
    if GROUND.needed(this) and (missing := GROUND.state(this).missing):
        options.say(
            f"{missing:,} rationales have no passages yet and taught nothing here; first: kard ground {task}"
        )
    for note in this.notes:
        click.echo(note, err=True)
    click.echo(f"let them answer: kard evaluate {task}")


@click.command()
@click.argument("task")
@click.option(
    "--student",
    "names",
    callback=choose.listed,
    default="all",
    show_default=True,
    help="Comma-separated: `all` trained ones, `prompted` bases, ids, or names: 135m/kard, rd, few-shot, named.",
)
@click.option("--reranker", help="Id of the reranker to read by. [default: of the student's seed, else the newest]")
@click.option("--rank-only", is_flag=True, help="Make each retriever's order of passages; let nobody answer.")
@choose.evaluation_options
@choose.working_options
@options.dry_run
def evaluate(
    task: str, names: tuple[str, ...], reranker: str | None, rank_only: bool, dry_run: bool, **chosen: Any
) -> None:
    """Let stored students answer under several retrievers.

    All seeds and sizes take part, whatever settings they were trained with; each base model is loaded once and its
    adapters are changed in place. `prompted` are the base models themselves: zero-shot, few-shot and few-shot-cot,
    with passages and, under the retriever `none`, without. `named` is no model: it answers with the option that the
    passages name most often, a rule that a student who reads should beat. Every answer is stored as it is made: a
    run that was stopped goes on where it was. Paper, sections 3.4 and 4.1.
    """
    from kard.cli.report import print_report
    from kard.pipeline import evaluate as evaluation
    from kard.pipeline.steps import announce, run_steps
    from kard.retrieval.live import by_bm25

    named, sizes, seed = chosen["retrievers"], chosen["sizes"], chosen.pop("seed")
    # A student is evaluated whatever its seed; alone, an order is that of the chosen seed's reranker.
    this = choose.run_of(task, reranker=reranker, any_reranker=True, seed=seed if rank_only else None, **chosen)
    if rank_only and dry_run:
        _print_states(this, "find")
        return
    if rank_only:
        announce(this, "find")
        added = run_steps(this, "find")
        done = ", ".join(f"{name} {count:,}" for name, count in added.items() if count) or "nothing was missing"
        for note in this.notes:
            click.echo(note, err=True)
        click.echo(f"{done}; compare the orders: kard hits {task} --summary")
        return
    students = evaluation.choose(this, names, sizes=sizes, seed=seed)
    retrievers = this.options.retrievers
    if named is None and this.resolved.reranker is None:
        retrievers = ("bm25",)
        nobody = f"no reranker of {this.name} is trained: those who read passages read BM25's"
        click.echo(by_bm25(this.db, this.name) or nobody, err=True)
    planned = evaluation.plan(this, students, retrievers, reranker)
    if any(retriever != "none" for retriever in retrievers):
        for line in evaluation.unlike_taught(this, students):
            click.echo(line, err=True)
    if dry_run:
        header = ("size", "method", "seed", "student", "retriever", "k", "missing")
        rows = [
            (s.size, s.method, s.seed, c.student_id, c.retriever, c.row("")["k"], count)
            for s, c, count in planned.missing()
        ]
        show.table("", header, rows)
        return
    click.echo(f"{count(planned.answer(), 'new answer')} under {count(len(planned.pairs), 'condition')}")
    print_report(this.db, this.name, this.split)
