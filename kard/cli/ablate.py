"""`kard ablate`: what each part of the method is worth, and each setting of the reranker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kard.cli import choose, options, show, sweep
from kard.cli.load import count
from kard.cli.rows import print_rows

if TYPE_CHECKING:
    from kard.pipeline.ablate import Sample
    from kard.pipeline.ablation import AblationRow, Variant
    from kard.pipeline.run import Run

FACTORS = "side,loss,scorer,candidates,lora,rationales"


class _Ablate(click.Group):
    """A group whose first command need not be named: `kard ablate TASK`."""

    default = "method"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the command before what names none."""
        named = not args or args[0] in (*self.commands, *ctx.help_option_names)
        return super().parse_args(ctx, args if named else [self.default, *args])


@click.group(cls=_Ablate)
def ablate() -> None:
    """Say what each part is worth, against the whole.

    `kard ablate TASK` is short for `kard ablate method TASK`.
    """


@ablate.command()
@click.argument("task")
@click.option("--parts", callback=choose.listed, help="Only these rows, comma-separated, beside the whole.")
@sweep.seeds
@sweep.figure("Draw each row's accuracy into this .svg or .png file. [extra: plots]")
@options.dry_run
@options.forms("json", "csv", "markdown")
@choose.run_options
@choose.working_options
def method(
    task: str,
    parts: tuple[str, ...] | None,
    seeds: tuple[int, ...],
    plot: Path | None,
    dry_run: bool,
    form: str,
    seed: int | None,
    **chosen: Any,
) -> None:
    """Take one part after the other out of the method, and compare each student with the whole.

    The whole is a `kard` student that reads from `fused`, unless options say otherwise. Each row is trained and
    answers like a cell of `kard sweep`: on the same questions and seeds, once, and a stopped run goes on.
    """
    from kard.pipeline import sweep as pipeline
    from kard.pipeline.parts import WHOLE, parts_of

    if seed is not None:
        raise click.UsageError("an ablation takes --seeds")
    for name, default in (("methods", "kard"), ("retrievers", "fused")):
        chosen[name] = chosen[name] or (default,)
        if len(chosen[name]) > 1:
            raise click.UsageError(
                f"the whole has one of --{name.removesuffix('s')}, not {', '.join(chosen[name])}"
            )
    rows = parts_of(sweep.run_with(task, {}, seeds[0], chosen).options.settings)
    if unknown := [name for name in parts or () if name not in rows]:
        raise click.UsageError(f"the rows are {'; '.join(rows)}; there is no {unknown[0]!r}")
    cells = [
        pipeline.Cell({"": name}, [sweep.run_with(task, values, one, chosen) for one in seeds], {"": name})
        for name, values in rows.items()
        if parts is None or name in (WHOLE, *parts)
    ]
    if dry_run:
        title = f"{task}: {len(cells)} rows, {count(len(seeds), 'seed')}"
        sweep.print_plan(form, {task: pipeline.plan(cells, cell="part")}, title)
        return
    found = sweep.print_sweep(
        form, {task: pipeline.sweep(cells)}, f"{task}: what each part is worth", cell="part", first=WHOLE, alike=1
    )
    if plot is not None:
        from kard.evaluation.page.figures import Point, save_by_row

        chance = next(row.shares["all"].value for row in found if row.method == "chance")
        students = [row for row in found if not row.baseline]
        several = len({row.size for row in students}) > 1
        points = [Point(row.size, row.method, row.retriever, row.variant, row.shares["all"]) for row in students]
        save_by_row([(f"{p.size} {p.variant}" if several else p.variant, p) for p in points], chance, plot)
        click.echo(f"{plot}: accuracy of each row", err=True)


@ablate.command()
@click.argument("task")
@click.option(
    "--factors",
    callback=choose.listed,
    default=FACTORS,
    show_default=True,
    help="Factors to vary, one at a time, comma-separated.",
)
@click.option(
    "--train-limit",
    type=click.IntRange(min=2),
    default=400,
    show_default=True,
    help="Training questions of each variant.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Evaluated questions, whose passages are ranked.",
)
@click.option("--split", help="Split of the evaluated questions. [default: train, without the training questions]")
@click.option(
    "--kappa", type=click.IntRange(min=10), default=32, show_default=True, help="BM25's first passages to rank."
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every training. [default: the task's]")
@click.option("--teacher", help="Name of the teacher, where the store has rationales of several.")
@click.option("--encoder", help="The reranker's base, by its name in the task. [default: the first]")
@options.forms("json", "markdown")
@options.dry_run
@options.store
@options.knowledge
@options.quiet
def reranker(
    task: str,
    factors: tuple[str, ...],
    train_limit: int,
    limit: int,
    split: str | None,
    kappa: int,
    seed: int | None,
    teacher: str | None,
    encoder: str | None,
    form: str,
    dry_run: bool,
    store: Path,
    knowledge: Path | None,
    quiet: bool,
) -> None:
    """Train variants of the reranker and compare their Hits@k.

    Each variant differs from the task's settings in one factor, with the settings that it needs. All are trained on
    the same questions and rank the passages of the same other questions. Needed are gold evidence and, in a second
    table, the silver passages that the questions' rationales find. What is trained and ranked is stored: a stopped
    run goes on where it was, and a second run only prints.
    """
    from kard.pipeline import ablate as pipeline
    from kard.pipeline.ablation import variants

    run = choose.run_of(
        task,
        store=store,
        knowledge=knowledge,
        quiet=quiet,
        split=split,
        seed=seed,
        teacher=teacher,
        encoder=encoder,
    )
    varied = variants(run.options.settings.reranker, factors)
    sample = pipeline.sample_of(run, train_limit, limit)
    if dry_run:
        _print_plan(run, varied, sample, kappa)
    else:
        found, learned = pipeline.ablate(run, varied, sample, kappa)
        _print_rows(form, found, _sample_text(sample, kappa, str(learned)))


def _print_plan(run: Run, varied: list[Variant], sample: Sample, kappa: int) -> None:
    default = varied[1].settings.values()
    rows: list[tuple[str, ...]] = []
    for variant in varied:
        changes = {k: v for k, v in variant.settings.values().items() if v != default[k]}
        rows.append((variant.factor, variant.level, ", ".join(f"{k}={v}" for k, v in changes.items())))
    show.table(f"{run.name}: {len(varied)} rerankers", ("factor", "setting", "differs in"), rows)
    click.echo(_sample_text(sample, kappa, f"at most {sample.trained}"))


def _sample_text(sample: Sample, kappa: int, learned: str) -> str:
    return (
        f"learned from {learned} train questions; ranked: the first {kappa} passages by BM25 of "
        f"{sample.measured} other questions ({sample.split})"
    )


def _print_rows(form: str, rows: list[AblationRow], sample: str) -> None:
    from kard.pipeline.ablation import GOLDS, differences_table, shares_table

    if form == "json":
        show.as_json([row.record() for row in rows])
        return
    for gold in GOLDS:
        of_gold = [row for row in rows if row.gold == gold]
        if of_gold:
            print_rows(form, *shares_table(of_gold), title=f"Hits@k against {gold}, with 95% interval")
            print_rows(form, *differences_table(of_gold), title="The same minus the default's, paired")
    click.echo(f"{sample}; intervals stand for one seed and are not corrected for their number")
