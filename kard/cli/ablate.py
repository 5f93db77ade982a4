"""`kard ablate reranker`: which settings of the reranker are worth what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show

if TYPE_CHECKING:
    from kard.pipeline.ablate import Sample
    from kard.pipeline.ablation import AblationRow, Variant
    from kard.pipeline.run import Run

FACTORS = "side,loss,scorer,candidates,lora,rationales"


@click.group()
def ablate() -> None:
    """Compare settings, one factor at a time from the default, on the same held-out questions."""


@ablate.command()
@click.argument("task")
@click.option(
    "--factors",
    callback=choose.listed,
    default=FACTORS,
    show_default=True,
    help="Factors to vary, comma-separated.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=2),
    default=400,
    show_default=True,
    help="Questions that each variant learns from.",
)
@click.option(
    "--test-limit", type=click.IntRange(min=1), default=200, show_default=True, help="Questions that are ranked."
)
@click.option("--split", help="Split of the ranked questions. [default: train, those that nothing learns from]")
@click.option(
    "--kappa", type=click.IntRange(min=10), default=32, show_default=True, help="Passages by BM25 that are ranked."
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every training.")
@click.option("--teacher", help="Whose rationales train, when the store has several teachers'.")
@click.option("--encoder", help="The reranker's base, by its name in the task. [default: the first]")
@options.forms("json", "markdown")
@options.dry_run
@options.store
@options.knowledge
@options.quiet
def reranker(
    task: str,
    factors: tuple[str, ...],
    limit: int,
    test_limit: int,
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
    """Train the reranker with each level of each factor, rank held-out questions, and print Hits@k of all.

    Each variant differs from the task's settings in one factor. All learn from the same questions and rank the same
    others, against gold evidence and against the silver passages that the questions' rationales find. What was
    trained and ranked is in the store: a killed run goes on where it was, and a second one only prints.
    """
    from kard.pipeline import ablate as stage
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
    compared = variants(run.options.settings.reranker, factors)
    sample = stage.sample_of(run, limit, test_limit)
    if dry_run:
        _print_plan(run, compared, sample, kappa)
        return
    _print(stage.ablate(run, compared, sample, kappa), sample, kappa, form)


def _print_plan(run: Run, compared: list[Variant], sample: Sample, kappa: int) -> None:
    default = compared[1].settings.values()
    rows: list[tuple[str, ...]] = []
    for variant in compared:
        changes = {k: v for k, v in variant.settings.values().items() if v != default[k]}
        rows.append((variant.factor, variant.level, ", ".join(f"{k}={v}" for k, v in changes.items())))
    show.table(f"{run.name}: {len(compared)} rerankers", ("factor", "setting", "differs in"), rows)
    click.echo(_about(sample, kappa))


def _about(sample: Sample, kappa: int) -> str:
    return (
        f"learned from {sample.trained} train questions; ranked: the first {kappa} passages by BM25 of "
        f"{sample.measured} other questions ({sample.split})"
    )


def _print(found: list[AblationRow], sample: Sample, kappa: int, form: str) -> None:
    from kard.evaluation.report import as_markdown
    from kard.pipeline.ablation import GOLDS, differences_table, shares_table

    if form == "json":
        show.as_json([line.record() for line in found])
        return
    for gold in GOLDS:
        some = [line for line in found if line.gold == gold]
        if not some:
            continue
        for title, (header, body) in (
            (f"Hits@k against {gold}, with 95% interval", shares_table(some)),
            ("The same minus the default's, paired", differences_table(some)),
        ):
            if form == "markdown":
                click.echo(f"{title}\n\n{as_markdown(header, body)}\n")
            else:
                show.table(title, header, body)
    click.echo(f"{_about(sample, kappa)}; intervals stand for one seed and are not corrected for their number")
