"""`kard ablate reranker`: how much each setting of the reranker matters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show
from kard.cli.rows import print_rows

if TYPE_CHECKING:
    from kard.pipeline.ablate import Sample
    from kard.pipeline.ablation import AblationRow, Variant
    from kard.pipeline.run import Run

FACTORS = "side,loss,scorer,candidates,lora,rationales"


@click.group()
def ablate() -> None:
    """Compare settings on the same held-out questions."""


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

    Each variant differs from the task's settings in one factor. All are trained on the same questions and rank the
    passages of the same other questions. Needed are gold evidence and, in a second table, the silver passages that
    the questions' rationales find. What is trained and ranked is stored: a stopped run goes on where it was, and a
    second run only prints.
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
        _print_rows(form, pipeline.ablate(run, varied, sample, kappa), sample, kappa)


def _print_plan(run: Run, varied: list[Variant], sample: Sample, kappa: int) -> None:
    default = varied[1].settings.values()
    rows: list[tuple[str, ...]] = []
    for variant in varied:
        changes = {k: v for k, v in variant.settings.values().items() if v != default[k]}
        rows.append((variant.factor, variant.level, ", ".join(f"{k}={v}" for k, v in changes.items())))
    show.table(f"{run.name}: {len(varied)} rerankers", ("factor", "setting", "differs in"), rows)
    click.echo(_sample_text(sample, kappa))


def _sample_text(sample: Sample, kappa: int) -> str:
    return (
        f"learned from {sample.trained} train questions; ranked: the first {kappa} passages by BM25 of "
        f"{sample.measured} other questions ({sample.split})"
    )


def _print_rows(form: str, rows: list[AblationRow], sample: Sample, kappa: int) -> None:
    from kard.pipeline.ablation import GOLDS, differences_table, shares_table

    if form == "json":
        show.as_json([row.record() for row in rows])
        return
    for gold in GOLDS:
        of_gold = [row for row in rows if row.gold == gold]
        if of_gold:
            print_rows(form, *shares_table(of_gold), title=f"Hits@k against {gold}, with 95% interval")
            print_rows(form, *differences_table(of_gold), title="The same minus the default's, paired")
    click.echo(
        f"{_sample_text(sample, kappa)}; intervals stand for one seed and are not corrected for their number"
    )
