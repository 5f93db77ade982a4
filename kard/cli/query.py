"""`kard query`: SQL on the store, read-only."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from difflib import get_close_matches
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import TypeVar

import click

from kard.cli import options
from kard.cli.rows import print_rows
from kard.db import about, parameters, query_names, read_store, required, sql
from kard.errors import BadInput
from kard.reading import value_of

STEP = 10_000  # virtual machine instructions between two looks at the clock
GRACE = 1.0  # seconds that one operation may take after the time is over
Value = TypeVar("Value")


@click.command()
@click.argument("query", required=False)
@click.option(
    "-p",
    "--param",
    "params",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="A named parameter of the query; repeatable.",
)
@options.forms("json", "nl", "csv")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    help="Seconds to run at most.",
)
@options.store
def query(query: str | None, params: tuple[tuple[str, str], ...], form: str, timeout: float, store: Path) -> None:
    """Run SQL or a canned query on the store.

    QUERY is a statement or the name of a canned query; it can only read. Without QUERY, the canned queries are
    listed with their parameters; those in brackets may be left out.
    """
    if query is None:
        _print_queries(form)
        return
    values: dict[str, str | None] = dict(params)
    canned = query in query_names()
    if canned:
        values = _parameter_values(query, values)
        query = sql(query)
    elif len(query.split()) < 2:
        near = "".join(f"; did you mean {name!r}?" for name in get_close_matches(query, query_names(), n=1))
        remedy = near or "; list them with: kard query (SQL is one quoted argument)"
        raise BadInput(f"no canned query {query!r}{remedy}")
    header, rows = _fetch(store, query, values, timeout)
    if canned and not rows:
        _check_place(
            _fetch(store, "select distinct task, split from questions order by 1, 2", {}, timeout)[1], values
        )
    print_rows(form, header, rows)


def _check_place(held: Sequence[Sequence[object]], values: Mapping[str, str | None]) -> None:
    """Raise BadInput if a query without rows asked for a task and split that are not among the `held` pairs."""
    asked = [values.get("task"), values.get("split")]
    if not any(all(not name or name == there for name, there in zip(asked, pair, strict=True)) for pair in held):
        known = ", ".join(f"{task}/{split}" for task, split in held)
        raise BadInput(f"no questions of {'/'.join(filter(None, asked))} in the store; it has {known or 'none'}")


def _fetch(
    store: Path, statement: str, params: dict[str, str | None], timeout: float
) -> tuple[list[str], list[tuple[object, ...]]]:
    """Return header and rows of a read-only statement. Raises BadInput for SQL that fails or takes too long."""
    connection = read_store(store, threads=True)
    values = {name: None if value is None else value_of(value) for name, value in params.items()}
    end = monotonic() + timeout
    connection.set_progress_handler(lambda: monotonic() > end, STEP)

    def fetch() -> tuple[list[str], list[tuple[object, ...]]]:
        with closing(connection):
            cursor = connection.execute(statement, values)
            return [column[0] for column in cursor.description or ()], [tuple(row) for row in cursor]

    too_long = BadInput(f"the query took more than {timeout:g} s; give it longer with --timeout")
    try:
        return _in_time(fetch, timeout + GRACE)
    except TimeoutError as error:
        raise too_long from error
    except sqlite3.OperationalError as error:
        if str(error) == "interrupted":
            raise too_long from error
        raise BadInput(f"SQL: {error}; `sqlite3 {store} .schema` shows tables and columns") from error
    except sqlite3.DatabaseError as error:
        if "not authorized" in str(error) or "prohibited" in str(error):
            raise BadInput(f"SQL: {error}; this command only reads the tables of {store}") from error
        raise BadInput(f"SQL: {error}") from error
    except sqlite3.Error as error:
        raise BadInput(f"SQL: {error}; name a missing parameter with -p NAME VALUE") from error


def _in_time(function: Callable[[], Value], seconds: float) -> Value:
    """Return what the function returns. Raises what it raises, or TimeoutError.

    It runs in a thread that ends with the program: one operation of SQLite heeds neither the clock nor Ctrl-C.
    """
    future: Future[Value] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result(seconds)


def _parameter_values(name: str, params: dict[str, str | None]) -> dict[str, str | None]:
    """Return a value for each parameter of a canned query, None for those left out. Raises BadInput."""
    allowed = parameters(name)
    for wrong in sorted(set(params) - set(allowed)):
        raise BadInput(f"{name} has no parameter {wrong!r}; it has {', '.join(allowed) or 'none'}")
    if missing := [p for p in required(name) if p not in params]:
        words = " ".join(f"-p {p} VALUE" for p in missing)
        raise BadInput(f"{name} needs {', '.join(missing)}; give it with: kard query {name} {words}")
    return {**dict.fromkeys(allowed), **params}


def _print_queries(form: str) -> None:
    """Print the canned queries; in a table, those that need no value stand before those that do."""
    rows = [(name, _parameter_names(name), about(name)) for name in query_names()]
    if form != "table":
        print_rows(form, ["query", "parameters", "about"], rows)
        return
    header = ("query", "parameters", "what it shows")
    print_rows(form, header, [row for row in rows if not required(row[0])])
    print_rows(
        form,
        header,
        [row for row in rows if required(row[0])],
        title="These need a value for some parameters (-p NAME VALUE)",
    )


def _parameter_names(name: str) -> str:
    needed = required(name)
    return " ".join([*needed, *(f"[{p}]" for p in parameters(name) if p not in needed)])
