"""`kard demo`: the main job on an embedded default, without a key and without a model hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic

import click

from kard.cli import choose, options

RETRIEVERS = ("shuffled", "bm25", "reranker", "fused", "silver")


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run: every step, too little training to claim accuracy.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of world and training.")
@click.option("--train", type=click.IntRange(min=1), help="Questions to learn from. [default: 300]")
@click.option("--test", type=click.IntRange(min=1), help="Questions to be tested on. [default: 100]")
@click.option("--passages", type=click.IntRange(min=1), help="Pages of the encyclopedia. [default: 5200]")
@click.option(
    "--store",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("kard-demo.db"),
    show_default=True,
    help="The SQLite file to make; running again adds what is missing.",
)
@options.quiet
def demo(
    quick: bool, seed: int, train: int | None, test: int | None, passages: int | None, store: Path, quiet: bool
) -> None:
    """Teach small students to look things up in an invented encyclopedia, and compare them with ones that cannot.

    Everything is made here: documents, questions, a teacher that knows the facts, a reranker trained from its
    rationales, three students, their answers, one table.
    """
    from kard import tasks
    from kard.cli.report import print_report
    from kard.pipeline import demo as made
    from kard.pipeline.run import Teacher

    begin = monotonic()
    asked = {"passages": passages, "train": train, "test": test}
    size = replace(
        made.QUICK if quick else made.Size(), seed=seed, **{n: v for n, v in asked.items() if v is not None}
    )
    name = tasks.demo()
    world = made.world_of(tasks.load(name), size)

    def oracle() -> object:
        import dspy

        return dspy.LM(f"{name}-{made.TEACHER}", engine=world.teacher, cache=False, num_retries=0)

    run = choose.run_of(
        name,
        store=store,
        knowledge=None,
        quiet=quiet,
        retrievers=RETRIEVERS,
        seed=seed,
        teacher=Teacher(made.TEACHER, oracle),
        create=True,
    )
    if quick:
        made.quickened(run)
    click.echo(
        f"{size.passages} passages about things that exist nowhere, {size.train} questions to learn from,"
        f" {size.test} about other things to be tested on"
    )
    made.run_demo(run, world)
    print_report(run.db, name, run.split)
    if quick:
        click.echo("A smoke run: its students saw too little to be judged. Without --quick they learn to read.")
    click.echo(
        f"{monotonic() - begin:.0f} s. Everything is in {store}. Look at it:\n"
        f"  kard query --store {store} accuracy\n"
        f'  kard query --store {store} "select text, conclusion, accepted from rationales limit 5"\n'
        f'  kard search --knowledge {options.knowledge_of(store, None)} "a river that flows through a town"'
    )
