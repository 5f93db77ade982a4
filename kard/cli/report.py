"""`kard report` and `kard compare`: how good the answers are, and whether one condition is better than another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show
from kard.cli.rows import MACHINE_FORMS, print_records, print_rows
from kard.config import LEAST_SEEDS

if TYPE_CHECKING:
    from sqlite_utils import Database

    from kard.evaluation.compare import Comparison


_over_seeds = click.option(
    "--over-seeds", is_flag=True, help=f"Let intervals resample seeds too, where there are {LEAST_SEEDS} or more."
)


@click.command()
@click.argument("task")
@click.option("--split", help="Split to report. [default: test, else dev, validation or valid]")
@options.forms("json", "csv", "markdown")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with figures and sampled questions to this file instead. [extra: plots]",
)
@_over_seeds
@click.option(
    "--questions", type=click.IntRange(min=0), default=20, show_default=True, help="Sampled questions on the page."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of what is drawn: questions, bootstrap.",
)
@options.store
def report(
    task: str,
    split: str | None,
    form: str,
    page: Path | None,
    over_seeds: bool,
    questions: int,
    seed: int,
    store: Path,
) -> None:
    """Print accuracy of conditions and Hits@k of retrievers.

    Accuracies have 95% intervals and stand beside chance and majority, and beside the share of answers that were
    forced; where all questions have equally many options, beside that of the commonest answer (bias). Intervals are
    of questions, with the trainings as they are, unless --over-seeds. With --html the report is one page that needs
    no network: the tables, figures of accuracy by size, of accuracy by cost and of retrieval, why answers were
    wrong, and sampled questions with what their answers rest on.
    """
    if page is not None and over_seeds:
        raise click.UsageError("the page has intervals over questions alone; leave out --html or --over-seeds")
    run = choose.run_of(task, store=store, knowledge=None, quiet=True, split=split)
    if page is None:
        print_report(run.db, run.name, run.split, form, over_seeds=over_seeds, seed=seed)
        return
    from kard.evaluation.page.write import write_page

    size = write_page(run.db, run.task, run.split, page, questions=questions, seed=seed)
    click.echo(f"{page}: {size / 1000:.0f} kB, open it in a browser")


def print_report(
    db: Database, task: str, split: str, form: str = "table", *, over_seeds: bool = False, seed: int = 0
) -> None:
    """Print accuracy with what an answer costs, and Hits@k of the retrievers. Raises Missing without answers."""
    from kard.config import Prompting
    from kard.db import rows
    from kard.errors import Missing
    from kard.evaluation.graded import read_graded
    from kard.evaluation.over_seeds import interval_note
    from kard.evaluation.report import (
        TeacherCosts,
        accuracy_table,
        column_notes,
        cost_table,
        kind_table,
        report_records,
        report_rows,
        summary_table,
        text_notes,
    )
    from kard.evaluation.retriever_metrics import hits_table

    graded = read_graded(db, task, split)
    if not graded:
        known = db.execute("select count(answer) from questions where task = ? and split = ?", [task, split])
        if not known.fetchone()[0]:
            raise Missing(f"no right answer of {task}/{split} is known, so that there is nothing to report")
        raise Missing(f"no answers for {task}/{split}; make them with: kard run {task} --split {split}")
    lines = report_rows(graded, over_seeds=over_seeds, seed=seed)
    note = interval_note(over_seeds=over_seeds)
    costs = TeacherCosts.of(rows(db, "internal/teacher_costs", task=task), split, Prompting().shots)
    first_hits = rows(db, "first_hits", task=task, split=split)
    header, hits = hits_table(first_hits)
    if form == "json":
        records = [dict(zip(header, row, strict=True)) for row in hits]
        intervals = "seeds and questions" if over_seeds else "questions"
        show.as_json({"accuracy": report_records(lines, costs), "intervals": intervals, "hits_at_k": records})
    elif form == "csv":
        print_rows(form, *accuracy_table(lines))
    elif form == "markdown":
        for table in (accuracy_table(lines), cost_table(lines, costs), (header, hits)):
            print_rows(form, *table)
            click.echo()
        click.echo(note)
    else:
        title = f"{task}, {split}: accuracy with 95% interval, and what a question takes"
        print_rows(form, *summary_table(lines, costs), title=title)
        click.echo(note)
        click.echo("\n".join(column_notes(lines)))
        if kinds := kind_table(lines):
            print_rows(form, *kinds, title=f"{task}, {split}: accuracy by kind of question")
        if hits:
            title = f"{task}, {split}: share of questions with a needed passage in the first k"
            print_rows(form, *hits_table(first_hits, narrow=True), title=title)
        for note in text_notes(rows(db, "texts", task=task, split=split)):
            options.say(note)


@click.command()
@click.argument("task")
@click.argument("conditions", nargs=-1, metavar="[CONDITION]...")
@click.option("--against", metavar="CONDITION", help="Compare every other condition with this one.")
@click.option("--by", type=click.Choice(["kind"]), help="Compare within each kind of question too.")
@_over_seeds
@click.option("--split", help="Split whose answers are compared. [default: test, else dev, validation or valid]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the bootstrap.")
@options.forms("json", "csv", "markdown")
@options.store
def compare(
    task: str,
    conditions: tuple[str, ...],
    against: str | None,
    by: str | None,
    over_seeds: bool,
    split: str | None,
    seed: int,
    form: str,
    store: Path,
) -> None:
    """Say whether one condition is better than another.

    Conditions are compared on the questions that both answered. They have names like kard/reranker, 135m/kard/bm25
    or rd, or the beginnings of these. If two are named, the first is compared with the second. If more or none are
    named, every pair is compared, and p is corrected for the number of pairs (Holm); so name those that you planned
    to compare before you saw the answers. Intervals of differences are by paired bootstrap, p is McNemar's exact
    one. With several seeds, both are over questions, each with the mean of its seeds; --over-seeds lets intervals
    resample the seeds as well, and a condition is better only if such an interval leaves 0 out too.
    """
    from kard.errors import Missing
    from kard.evaluation.compare import all_pairs, conditions_of, pairs_table
    from kard.evaluation.compare import compare as compare_pairs
    from kard.evaluation.condition_names import match_one
    from kard.evaluation.graded import read_graded

    if len(conditions) == 1:
        raise click.UsageError("name two conditions or more, or none, or one with --against")
    if len(conditions) == 2 and against is not None:
        raise click.UsageError("two conditions are compared with each other; leave out --against, or name more")
    run = choose.run_of(task, store=store, knowledge=None, quiet=True, split=split)
    graded = read_graded(run.db, run.name, run.split)
    if not graded:
        raise Missing(f"no answers for {run.name}/{run.split}; make them with: kard run {task}")
    names = conditions_of(graded)
    chosen = list(dict.fromkeys(match_one(name, names, "condition") for name in conditions))
    if len(chosen) < len(conditions):
        which = " and ".join(conditions) if len(conditions) == 2 else "two of these"
        raise click.UsageError(f"{which} are the same condition")
    if len(chosen) == 2:
        pairs = [(chosen[0], chosen[1])]
    else:
        keys = [key for key in names if key in chosen or not chosen]
        pairs = all_pairs(keys, match_one(against, names, "condition") if against else None)
    if not pairs:
        raise Missing(f"{run.name}/{run.split} has one condition; answer others with: kard evaluate {task}")
    comparisons = compare_pairs(graded, pairs, by_kind=by == "kind", over_seeds=over_seeds, seed=seed)
    if form in MACHINE_FORMS:
        print_records(form, [comparison.record() for comparison in comparisons])
    elif form == "markdown":
        print_rows(form, *pairs_table(comparisons))
    elif len(comparisons) == 1:
        click.echo(_sentences(comparisons[0]))
    else:
        counts = {c.questions for c in comparisons if c.kind == "all"}
        questions = f"{counts.pop()} questions" if len(counts) == 1 else "the questions that both answered"
        first = comparisons[0]
        pair = f"{first.a} (A) against {first.b} (B)" if len(pairs) == 1 else "A against B"
        title = f"{run.name}, {run.split}: {pair} on {questions}"
        print_rows(form, *pairs_table(comparisons, narrow=True), title=title)
        click.echo(f"95% intervals {_interval_words(first)}")
        click.echo("p by exact McNemar tests, corrected for their number by Holm")


def _interval_words(c: Comparison) -> str:
    if c.over_seeds:
        return "over seeds and questions by hierarchical bootstrap"
    return "over questions by paired bootstrap, with the trainings as they are"


def _sentences(c: Comparison) -> str:
    """Return a single comparison in sentences."""
    from kard.metrics.significance import p_text

    width = max(len(c.a), len(c.b))
    seeds_a, seeds_b = (f"  mean of {seeds} seeds" if seeds > 1 else "" for seeds in c.seeds)
    several = max(c.seeds) > 1
    test = "exact randomisation test over questions" if several else "exact McNemar test"
    wins = "more often right by" if several else "right only by"
    low, high = f"{c.difference.low:+.3f}", f"{c.difference.high:+.3f}"
    return "\n".join(
        [
            f"{c.a:<{width}}  {c.share_a}{seeds_a}",
            f"{c.b:<{width}}  {c.share_b}{seeds_b}",
            f"{c.questions} questions: {c.wins} {wins} {c.a}, {c.losses} by {c.b}",
            f"difference {c.difference.mean:+.3f}, 95% interval [{low}, {high}] {_interval_words(c)}",
            f"p = {p_text(c.p)} by the {test}".replace("= <", "< "),
            c.verdict if c.better else f"{c.verdict} at 5%",
        ]
    )
