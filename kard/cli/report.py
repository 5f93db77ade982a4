"""`kard report`: how good the answers are, as a table or as a page."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kard.cli import choose, options, show

if TYPE_CHECKING:
    from sqlite_utils import Database


@click.command()
@click.argument("task")
@click.option("--split", help="Split to report. [default: test, else dev, else validation]")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option("--table", "form", flag_value="table", default="table", help="Print a table.  [default]")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with figures and sampled questions to this file. [extra: plots]",
)
@click.option(
    "--questions", type=click.IntRange(min=0), default=20, show_default=True, help="Sampled questions on the page."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the sampling of questions."
)
@options.store
def report(
    task: str, split: str | None, form: str, page: Path | None, questions: int, seed: int, store: Path
) -> None:
    """Accuracy of every condition with its 95% interval, beside chance and majority; Hits@k of every retriever.

    With --html it becomes one page that needs no network: the tables, figures of accuracy by size, by cost and
    of retrieval, why answers were wrong, and sampled questions with everything that stands behind their answers.
    """
    run = choose.run_of(task, store=store, knowledge=None, quiet=True, split=split)
    if page is None:
        print_report(run.db, run.name, run.split, form)
        return
    from kard.evaluation.page.write import write_page

    size = write_page(run.db, run.task, run.split, page, questions=questions, seed=seed)
    click.echo(f"{page}: {size / 1000:.0f} kB, open it in a browser")


def print_report(db: Database, task: str, split: str, form: str = "table") -> None:
    """The accuracy table, beside what an answer costs, and the retrievers' table of a split."""
    from kard.config import Prompting
    from kard.db import rows
    from kard.errors import Missing
    from kard.evaluation import summary
    from kard.evaluation.export import hits_table
    from kard.evaluation.labels import graded_rows
    from kard.evaluation.report import Graded, accuracy_lines, as_markdown, as_table

    graded = [Graded.of(row) for row in graded_rows(db, task, split)]
    if not graded:
        raise Missing(f"no answers for {task}/{split}; make them with: kard run {task}")
    lines = accuracy_lines(graded)
    lessons = summary.TeacherCosts.of(rows(db, "internal/teacher_costs", task=task), split, Prompting().shots)
    hits = rows(db, "first_hits", task=task, split=split)
    found = hits_table(hits)
    if form == "json":
        show.as_json(
            {
                "accuracy": summary.as_records(lines, lessons),
                "hits_at_k": [dict(zip(found[0], row, strict=True)) for row in found[1]],
            }
        )
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        header, body = as_table(lines)
        writer.writerows([header, *body])
    elif form == "markdown":
        for table in (as_table(lines), summary.costs(lines, lessons), found):
            click.echo(as_markdown(*table))
            click.echo()
    else:
        table = summary.summary(lines, lessons)
        show.table(f"{task}, {split}: accuracy with 95% interval, and what a question takes", *table)
        if kinds := summary.by_kind(lines):
            show.table(f"{task}, {split}: accuracy by kind of question", *kinds)
        if found[1]:
            narrow = hits_table(hits, narrow=True)
            show.table(f"{task}, {split}: share of questions with a needed passage in the first k", *narrow)
