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
@options.store
def report(task: str, split: str | None, form: str, store: Path) -> None:
    """Accuracy of every condition with its 95% interval, beside chance and majority; Hits@k of every retriever."""
    work = choose.work(task, store=store, knowledge=None, quiet=True, split=split)
    print_report(work.db, work.task.name, work.split, form)


def print_report(db: Database, task: str, split: str, form: str = "table") -> None:
    """The accuracy table and the retrievers' table of a split."""
    from kard.db import rows
    from kard.errors import Missing
    from kard.evaluation.export import hits_table
    from kard.evaluation.report import Graded, accuracy_lines, as_markdown, as_table

    graded = [Graded.of(row) for row in rows(db, "graded", task=task, split=split)]
    if not graded:
        raise Missing(f"no answers for {task}/{split}; make them with: kard run {task}")
    header, body = as_table(accuracy_lines(graded))
    found = hits_table(rows(db, "first_hits", task=task, split=split))
    if form == "json":
        show.as_json(
            {
                "accuracy": [dict(zip(header, row, strict=True)) for row in body],
                "hits_at_k": [dict(zip(found[0], row, strict=True)) for row in found[1]],
            }
        )
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([header, *body])
    elif form == "markdown":
        click.echo(as_markdown(header, body))
        click.echo()
        click.echo(as_markdown(*found))
    else:
        show.table(f"{task}, {split}: accuracy with 95% interval", header, body)
        if found[1]:
            show.table(f"{task}, {split}: share of questions with a needed passage in the first k", *found)
