"""`kard demo`: every step on an invented world and an embedded model, without a key and without a model hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic

import click

from kard.cli import choose, options

RETRIEVERS = ("shuffled", "bm25", "reranker", "fused", "silver")


@click.command()
@click.option("--quick", is_flag=True, help="Run every step with too little training to claim accuracy.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of world and training.",
)
@click.option("--train", type=click.IntRange(min=1), help="Training questions. [default: 300; 24 with --quick]")
@click.option("--test", type=click.IntRange(min=1), help="Test questions. [default: 100; 24 with --quick]")
@click.option(
    "--passages", type=click.IntRange(min=1), help="Pages of the encyclopedia. [default: 5200; 1000 with --quick]"
)
@click.option(
    "--store",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("kard-demo.db"),
    show_default=True,
    help="SQLite file to make; a second run adds what is missing.",
)
@options.quiet
def demo(
    quick: bool, seed: int, train: int | None, test: int | None, passages: int | None, store: Path, quiet: bool
) -> None:
    """Train small students on an invented world and test them.

    One student learns to look things up in an encyclopedia of the world, and two learn without it. Everything is
    made here: documents, questions, a teacher that knows the facts, a reranker trained on its rationales, three
    students, their answers, and one table.
    """
    from kard import tasks
    from kard.cli.report import print_report
    from kard.pipeline import demo as pipeline
    from kard.pipeline.options import Teacher

    begin = monotonic()
    counts = {"passages": passages, "train": train, "test": test}
    default = pipeline.QUICK if quick else pipeline.Size()
    size = replace(default, seed=seed, **{name: n for name, n in counts.items() if n is not None})
    name = tasks.demo()
    world = pipeline.world_of(tasks.load(name), size)

    def oracle() -> object:
        import dspy

        return dspy.LM(f"{name}-{pipeline.TEACHER}", engine=world.teacher, cache=False, num_retries=0)

    run = choose.run_of(
        name,
        store=store,
        knowledge=None,
        quiet=quiet,
        retrievers=RETRIEVERS,
        seed=seed,
        teacher=Teacher(pipeline.TEACHER, oracle),
        create=True,
    )
    if quick:
        pipeline.quickened(run)
    click.echo(
        f"{size.passages} passages about things that exist nowhere, {size.train} questions to learn from,"
        f" {size.test} about other things to be tested on"
    )
    pipeline.run_demo(run, world)
    print_report(run.db, name, run.split)
    if quick:
        click.echo("A smoke run: its students saw too little to be judged. Without --quick they learn to read.")
    click.echo(
        f"{monotonic() - begin:.0f} s. Everything is in {store}. Look at it:\n"
        f"  kard query --store {store} accuracy\n"
        f'  kard query --store {store} "select text, conclusion, accepted from rationales limit 5"\n'
        f'  kard search --knowledge {options.knowledge_of(store, None)} "a river that flows through a town"'
    )
