"""`kard memory`: facts learned by heart against facts looked up."""

from __future__ import annotations

import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from kard.cli import choose, options
from kard.cli.rows import MACHINE_FORMS, print_rows
from kard.cli.sweep import figure, seeds


def _facts(_ctx: click.Context, _param: click.Parameter, text: str) -> tuple[int, ...]:
    """Return the numbers of facts, small ones first. Raises BadParameter."""
    try:
        numbers = tuple(sorted({int(part.replace("_", "")) for part in choose.split(text)}))
    except ValueError:
        raise click.BadParameter(f"facts are whole numbers, comma-separated, not {text!r}") from None
    if not numbers or numbers[0] < 1:
        raise click.BadParameter(f"there must be a fact or more, not {text}")
    return numbers


@click.command()
@click.option(
    "--facts",
    callback=_facts,
    default="100,1000,10000",
    show_default=True,
    help="Numbers of facts, comma-separated.",
)
@click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="SIZE=BASE",
    default=("0.2m=64x2", "0.5m=128x2"),
    show_default=True,
    help="A size of students and its base, or width and layers of one with random weights; repeatable.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=100),
    default=1_500_000,
    show_default=True,
    help="Tokens that each student is trained on, half documents and half questions.",
)
@click.option(
    "--others",
    type=click.IntRange(min=1),
    default=5_000,
    show_default=True,
    help="Facts that are never asked about, to learn to look up with.",
)
@click.option(
    "--questions", type=click.IntRange(min=1), default=200, show_default=True, help="Asked of each student."
)
@click.option(
    "--retriever",
    "retrievers",
    callback=choose.listed,
    default="bm25",
    show_default=True,
    help="What students read that look up, comma-separated: bm25, none, shuffled.",
)
@seeds
@figure("Draw accuracy over the number of facts into this .svg or .png file. [extra: plots]")
@options.dry_run
@options.forms("json", "csv", "markdown")
@choose.counting_options
@options.new_store("kard-memory.db")
@options.quiet
def memory(
    facts: tuple[int, ...],
    bases: tuple[str, ...],
    tokens: int,
    others: int,
    questions: int,
    seeds: tuple[int, ...],
    plot: Path | None,
    dry_run: bool,
    form: str,
    store: Path,
    overrides: tuple[str, ...],
    **chosen: Any,
) -> None:
    """Compare students that know facts by heart with students that look them up.

    Everything is made here, as in `kard demo`. `ft` and `rd` are told the documents of so many facts in ever other
    words and trained on questions about every fact; `kard` is trained on as many tokens about other things, and
    reads what BM25 finds. All are asked about the facts in wordings that no training used. The table has the bits
    that the facts hold, and those that a student must store by the theory.
    """
    from kard import tasks
    from kard.cli.overrides import based
    from kard.evaluation.compare import pairs_table
    from kard.pipeline import memory as pipeline

    title = f"{', '.join(map(str, facts))} facts by heart and looked up, {tokens:,} tokens a student"

    def compared(place: Path) -> pipeline.Memory:
        run = choose.run_of(
            tasks.demo(),
            store=place,
            knowledge=None,
            create=True,
            sizes=tuple(based({}, bases)),
            bases=bases,
            overrides=(*pipeline.SETTINGS, *overrides),
            **chosen,
        )
        return pipeline.Memory(run, facts, others, questions, tokens, seeds)

    if dry_run:
        with TemporaryDirectory() as folder:  # a store that is not there stays away
            plan = compared(store if store.exists() else Path(folder) / store.name).plan()
        print_rows(form, *plan, title=title)
        return
    graded, trials = compared(store).measure()
    found = pipeline.memory_rows(graded, trials)
    print_rows(form, *pipeline.memory_table(found, seeds=len(seeds) > 1), title=title)
    if form not in MACHINE_FORMS:
        if pairs := pipeline.memory_pairs(graded):
            print_rows(form, *pairs_table(pairs), title="A against B on the same questions; p by exact tests")
        click.echo("95% intervals over questions; bits that the facts hold, and those to store by the theory")
        click.echo(f"Everything is in {store}. Try: kard query accuracy --store {shlex.quote(str(store))}")
    if plot is not None:
        from kard.evaluation.page.figures import save_by_value

        chance = next(row.shares["all"].value for row, trial in found if trial is None)
        save_by_value(pipeline.points_over_facts(found), "facts", list(map(str, facts)), chance, plot)
        click.echo(f"{plot}: accuracy over the number of facts", err=True)
