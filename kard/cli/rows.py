"""Rows in the form that a person chose: a table or Markdown to read, CSV or JSON for other programs."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

import click

from kard.cli import show
from kard.outgoing import undoored

MACHINE_FORMS = ("json", "nl", "csv")  # for programs: full precision, texts whole


def print_rows(form: str, header: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """Print rows under a header in a form of `options.FORMS` or as a 'table'; CSV and JSON have no title."""
    if form == "table":
        show.table(title, header, rows)
    elif form == "markdown":
        from kard.evaluation.report import as_markdown

        text = as_markdown(header, rows)
        click.echo(f"{title}\n\n{text}\n" if title else text)
    elif form == "csv":
        writer = csv.writer(_csv_stream(), lineterminator="\n")
        writer.writerows([header, *rows])
    else:
        print_records(form, [dict(zip(header, row, strict=True)) for row in rows])


def print_records(form: str, records: Sequence[Mapping[str, object]]) -> None:
    """Print records with the same keys in one of `MACHINE_FORMS`: a JSON list, a JSON object a line, or CSV."""
    if form == "json":
        show.as_json(records)
    elif form == "nl":
        for record in records:
            show.as_json(record, indent=None)
    elif records:
        writer = csv.DictWriter(_csv_stream(), list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def _csv_stream() -> TextIO:
    """Return where CSV goes. It has no escapes: a file or pipe gets texts as they are, a terminal clean ones."""
    return sys.stdout if sys.stdout.isatty() else undoored(sys.stdout)
