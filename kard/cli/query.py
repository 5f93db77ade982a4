"""`kard query`: SQL on the store, read-only."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from kard.cli import options, show
from kard.db import about, parameters, query_names, read_store, required, sql
from kard.errors import BadInput

STEP = 10_000  # virtual machine instructions between two looks at the clock


@click.command()
@click.argument("query", required=False)
@click.option(
    "-p",
    "--param",
    "params",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="A named parameter of the query.",
)
@click.option("--json", "form", flag_value="json", help="Print a JSON list.")
@click.option("--nl", "form", flag_value="nl", help="Print one JSON object a line.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--table", "form", flag_value="table", default="table", help="Print a table.  [default]")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Seconds.")
@options.store
def query(query: str | None, params: tuple[tuple[str, str], ...], form: str, timeout: float, store: Path) -> None:
    """Run QUERY, a statement of SQL or the name of a canned one, on the store; nothing can be changed.

    Without QUERY, list the canned queries with their parameters; those in brackets may be left out.
    """
    if query is None:
        _list(form)
        return
    values: dict[str, str | None] = dict(params)
    if query in query_names():
        values = _given(query, values)
        query = sql(query)
    elif len(query.split()) < 2:
        raise BadInput(f"no canned query {query!r}; list them with: kard query (SQL is one quoted argument)")
    header, rows = fetch(store, query, values, timeout)
    write_rows(form, header, rows)


def write_rows(form: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as a `table`, as `csv`, as one JSON object a line (`nl`), or as a JSON list (`json`)."""
    if form == "table":
        show.table("", header, rows)
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    elif form == "nl":
        for row in rows:
            click.echo(json.dumps(dict(zip(header, row, strict=True)), ensure_ascii=False))
    else:
        show.as_json([dict(zip(header, row, strict=True)) for row in rows])


def fetch(
    store: Path, statement: str, params: dict[str, str | None], timeout: float
) -> tuple[list[str], list[tuple[object, ...]]]:
    """Header and rows of one read-only statement. Raises BadInput for SQL that fails or takes too long."""
    from time import monotonic

    connection = read_store(store)
    try:
        end = monotonic() + timeout
        connection.set_progress_handler(lambda: monotonic() > end, STEP)
        values = {name: None if value is None else _number(value) for name, value in params.items()}
        cursor = connection.execute(statement, values)
        return [c[0] for c in cursor.description or ()], [tuple(row) for row in cursor.fetchall()]
    except sqlite3.OperationalError as error:
        if str(error) == "interrupted":
            raise BadInput(f"the query took more than {timeout:g} s; give it longer with --timeout") from error
        raise BadInput(f"SQL: {error}; `sqlite3 {store} .schema` shows tables and columns") from error
    except sqlite3.Error as error:
        raise BadInput(f"SQL: {error}; name a missing parameter with -p NAME VALUE") from error
    finally:
        connection.close()


def _given(name: str, params: dict[str, str | None]) -> dict[str, str | None]:
    """A value for every parameter of a canned query, None for what may be left out. Raises BadInput."""
    known, needed = parameters(name), required(name)
    for wrong in sorted(set(params) - set(known)):
        raise BadInput(f"{name} has no parameter {wrong!r}; it has {', '.join(known) or 'none'}")
    if lacking := [p for p in needed if p not in params]:
        words = " ".join(f"-p {p} VALUE" for p in lacking)
        raise BadInput(f"{name} needs {', '.join(lacking)}; give it with: kard query {name} {words}")
    return {**dict.fromkeys(known), **params}


def _list(form: str) -> None:
    """The canned queries: first those that run as they are, then those that need a value."""
    rows = [(name, _parameters(name), about(name)) for name in query_names()]
    if form == "table":
        ready = [row for row in rows if not required(row[0])]
        show.table("", ("query", "parameters", "what it shows"), ready)
        asking = [row for row in rows if required(row[0])]
        show.table(
            "These need a value for some parameters (-p NAME VALUE)",
            ("query", "parameters", "what it shows"),
            asking,
        )
        return
    write_rows(form, ["query", "parameters", "about"], rows)


def _parameters(name: str) -> str:
    needed = required(name)
    rest = [f"[{p}]" for p in parameters(name) if p not in needed]
    return " ".join([*needed, *rest])


def _number(value: str) -> int | float | str:
    """The value as SQL compares it: a number when it looks like one."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
