"""`kard compare`: conditions against each other on the same questions."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show

if TYPE_CHECKING:
    from kard.evaluation.compare import Compared


@click.command()
@click.argument("task")
@click.argument("conditions", nargs=-1, metavar="[CONDITION]...")
@click.option("--to", "base", metavar="BASE", help="Compare every other condition to this one.")
@click.option("--by", type=click.Choice(["kind"]), help="Compare within each kind of question too.")
@click.option("--split", help="Split whose answers are compared. [default: test, else dev, else validation]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--table", "form", flag_value="table", default="table", help="Print a table.  [default]")
@options.store
def compare(
    task: str,
    conditions: tuple[str, ...],
    base: str | None,
    by: str | None,
    split: str | None,
    seed: int,
    form: str,
    store: Path,
) -> None:
    """Say whether one condition of TASK is better than another, on the questions that both answered.

    Conditions are names such as kard/reranker, 135m/kard/bm25 or rd, or their beginnings. Of two, the first is
    compared to the second; of more, or without any of all, every pair is compared, and p is corrected for the
    number of pairs (Holm): name those that a question was asked about before it was answered. The interval of a
    difference is a paired bootstrap's, p is McNemar's exact one; with several seeds both are over questions, each
    with the mean of its seeds.
    """
    from kard.errors import Missing
    from kard.evaluation import compare as step
    from kard.evaluation.labels import graded_rows
    from kard.evaluation.name_matching import one_of
    from kard.evaluation.report import Graded, as_markdown

    if len(conditions) == 1:
        raise click.UsageError("name two conditions or more, or none, or one with --to")
    if len(conditions) == 2 and base is not None:
        raise click.UsageError("two conditions are compared to each other; leave out --to, or name more")
    run = choose.run_of(task, store=store, knowledge=None, quiet=True, split=split)
    graded = [Graded.of(row) for row in graded_rows(run.db, run.name, run.split)]
    if not graded:
        raise Missing(f"no answers for {run.name}/{run.split}; make them with: kard run {task}")
    parts = step.conditions_of(graded)
    named = {one_of(name, parts, "condition"): name for name in conditions}
    if len(named) < len(conditions):
        same = " and ".join(conditions) if len(conditions) == 2 else "two of these"
        raise click.UsageError(f"{same} are the same condition")
    if len(named) == 2:
        first, second = named
        pairs = [(first, second)]
    else:
        keys = [key for key in parts if key in named or not named]
        pairs = step.all_pairs(keys, one_of(base, parts, "condition") if base else None)
    if not pairs:
        raise Missing(f"{run.name}/{run.split} has one condition; answer others with: kard evaluate {task}")
    found = step.compare(graded, pairs, by_kind=by == "kind", seed=seed)
    if form == "json":
        show.as_json([record(c) for c in found])
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, list(record(found[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(record(c) for c in found)
    elif form == "markdown":
        click.echo(as_markdown(*step.pairs_table(found)))
    elif len(found) == 1:
        click.echo(show.clean(one(found[0])))
    else:
        counts = {c.questions for c in found if c.kind == "all"}
        same = f"{counts.pop()} questions" if len(counts) == 1 else "the questions that both answered"
        names = f"{found[0].a} (A) against {found[0].b} (B)" if len(pairs) == 1 else "A against B"
        show.table(f"{run.name}, {run.split}: {names} on {same}", *step.pairs_table(found, narrow=True))
        click.echo(
            "95% intervals by paired bootstrap; p by exact McNemar tests, corrected for their number by Holm"
        )


def record(found: Compared) -> dict[str, object]:
    """A comparison as flat values."""
    values = asdict(found)
    for name in ("a", "b"):
        share = values.pop(f"share_{name}")
        values[f"accuracy_{name}"] = share["right"] / share["of"]
        values[f"low_{name}"], values[f"high_{name}"] = share["low"], share["high"]
    values["seeds_a"], values["seeds_b"] = values.pop("seeds")
    corrected = values.pop("adjusted")
    return {
        **values,
        "questions": found.questions,
        "p_holm": corrected,
        "better": found.better,
        "verdict": found.verdict,
    }


def one(c: Compared) -> str:
    """A single comparison in sentences."""
    from kard.metrics.significance import p_text

    several = max(c.seeds) > 1
    width = max(len(c.a), len(c.b))
    lines = [
        f"{name:<{width}}  {share}{f'  mean of {seeds} seeds' if seeds > 1 else ''}"
        for name, share, seeds in ((c.a, c.share_a, c.seeds[0]), (c.b, c.share_b, c.seeds[1]))
    ]
    test = "exact randomisation test over questions" if several else "exact McNemar test"
    count = "more often right by" if several else "right only by"
    verdict = c.verdict if c.better else f"{c.verdict} at 5%"
    lines += [
        f"{c.questions} questions: {c.wins} {count} {c.a}, {c.losses} by {c.b}",
        f"difference {c.difference:+.3f}, 95% interval [{c.low:+.3f}, {c.high:+.3f}] by paired bootstrap",
        f"p = {p_text(c.p)} by the {test}".replace("= <", "< "),
        verdict,
    ]
    return "\n".join(lines)
