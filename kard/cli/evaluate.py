"""`kard evaluate`: any stored students under many retrievers."""

from __future__ import annotations

from pathlib import Path

import click

from kard.cli import choose, options, show
from kard.pipeline.run import DEFAULT_RETRIEVERS


@click.command()
@click.argument("task")
@click.option(
    "--students",
    "names",
    callback=choose.listed,
    default="all",
    show_default=True,
    help="Comma-separated: `all` trained ones, `prompted` bases, ids, or names like 135m/kard, rd, few-shot.",
)
@click.option(
    "--retrievers",
    callback=choose.listed,
    default=",".join(DEFAULT_RETRIEVERS),
    show_default=True,
    help="What those read that can, comma-separated; `none` reads nothing.",
)
@click.option("--reranker", help="Id of the reranker to read by. [default: of the student's seed, else the newest]")
@click.option("--size", "sizes", callback=choose.listed, help="Sizes of prompted bases. [default: the students']")
@click.option("-k", type=click.IntRange(min=1), help="Passages that a student reads. [default: the task's]")
@click.option("-n", "--samples", type=click.IntRange(min=1), help="Answers to vote on; 1 is greedy.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the examples that prompted bases are shown.")
@click.option("--split", help="Split to answer. [default: test, else dev, else validation]")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first questions, the same for all.")
@click.option("--teacher", help="Whose rationales prompted bases are shown, when the store has several teachers'.")
@choose.base_of_size
@choose.setting
@options.dry_run
@options.store
@options.knowledge
@options.quiet
def evaluate(
    task: str,
    names: tuple[str, ...],
    retrievers: tuple[str, ...],
    reranker: str | None,
    sizes: tuple[str, ...] | None,
    k: int | None,
    samples: int | None,
    seed: int | None,
    split: str | None,
    limit: int | None,
    teacher: str | None,
    bases: tuple[str, ...],
    overrides: tuple[str, ...],
    dry_run: bool,
    store: Path,
    knowledge: Path | None,
    quiet: bool,
) -> None:
    """Let stored students answer the same questions under several retrievers, and print the report.

    All seeds and sizes take part, whatever settings they were trained with; each base model is loaded once and
    its adapters are changed in place. `prompted` are the base models themselves: zero-shot, few-shot and
    few-shot-cot, with passages and, under the retriever `none`, without. Every answer is kept as it is made: a run
    that was stopped goes on where it was. Paper, sections 3.4 and 4.1.
    """
    from kard.cli.report import print_report
    from kard.pipeline import evaluate as evaluating

    work = choose.work(
        task,
        store=store,
        knowledge=knowledge,
        quiet=quiet,
        sizes=sizes,
        test_limit=limit,
        split=split,
        teacher=teacher,
        k=k,
        samples=samples,
        bases=bases,
        overrides=overrides,
    )
    students = evaluating.choose(work, names, sizes=sizes, seed=seed)
    planned = evaluating.plan(work, students, retrievers, reranker)
    if dry_run:
        header = ("size", "method", "seed", "student", "retriever", "k", "missing")
        rows = [
            (s.size, s.method, s.seed, c.student_id, c.retriever, c.row("")["k"], count)
            for s, c, count in planned.missing()
        ]
        show.table("", header, rows)
        return
    click.echo(f"{planned.run()} new answers under {len(planned.pairs)} conditions")
    print_report(work.db, work.task.name, work.split)
