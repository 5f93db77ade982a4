"""The store as datasette's database: read-only, with titles, meanings, units, facets and canned queries."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

import sqlite_utils
from datasette.app import Datasette
from datasette.database import Database, QueryInterrupted, Results
from datasette.utils import sqlite_timelimit

from kard.db import read_store, rows
from kard.reading import value_of
from kard.schema import Query, Relation

Value = TypeVar("Value")
Metadata = dict[str, Any]

RESULT = 100_000_000  # bytes that the rows of one page may take in memory

FACETS: Mapping[str, tuple[str, ...]] = {
    "questions": ("task", "split", "kind"),
    "rationales": ("teacher_id", "accepted"),
    "retrievals": ("query",),
    "predictions": ("evaluation_id", "correct"),
    "samples": ("answer", "forced"),
    "students": ("task", "method", "size"),
    "evaluations": ("task", "split", "retriever"),
    "steps_log": ("task", "step"),
}
LABELS: Mapping[str, str] = {  # table to the column that stands for a row where another table names it
    "questions": "text",
    "passages": "title",
    "teachers": "name",
    "students": "method",
    "rerankers": "base",
    "indexes": "path",
    "evaluations": "retriever",
}
UNITS: Mapping[str, str] = {"milliseconds": "ms", "seconds": "s"}
EXAMPLES: Mapping[str, str] = {
    "k": "3",
    "silver": "3",
    "samples": "5",
    "limit": "100",
    "share": "0.5",
    "kappa": "100",
}
NEWEST: Mapping[str, str] = {  # parameter that takes a row's id, to the table whose newest row is the example
    "index": "indexes",
    "reranker": "rerankers",
    "retriever": "retrievers",
    "student": "students",
    "evaluation": "evaluations",
}


class Store(Database):
    """A store that a running step may write meanwhile, but never this connection."""

    def __init__(self, application: Datasette, path: Path, queries: tuple[Query, ...], *, is_mutable: bool) -> None:
        self.file = path.resolve()
        super().__init__(application, path=str(self.file), is_mutable=is_mutable)
        self.typed = str(path)  # for commands that a page names
        self.opening: Any = None  # the state of the store and what the first page made of it
        self.queries = {q.name: q for q in queries}
        self._by_sql = {q.sql: q for q in queries}

    @property
    def state(self) -> tuple[int, ...]:
        """The times of the store's files, which differ after a step has written."""
        files = (self.file, self.file.with_name(f"{self.file.name}-wal"))
        return tuple(file.stat().st_mtime_ns for file in files if file.exists())

    def connect(self, write: bool = False) -> sqlite3.Connection:
        """Return a connection that cannot write, even if `write` is true."""
        connection = read_store(self.file, threads=True)
        connection.result = RESULT
        self._all_file_connections.append(connection)
        return connection

    async def execute(self, sql: str, params: Any = None, *args: Any, **settings: Any) -> Any:
        """Execute like datasette, but read the parameters of a canned query as `kard query -p` does.

        A canned query whose required parameters have no value returns no rows: its page is a form then.
        """
        query = self._by_sql.get(sql)
        if query is not None and isinstance(params, Mapping):
            params = parse_parameters(cast("Mapping[str, Any]", params), query.parameters)
            if any(params[name] is None for name in query.required):
                return Results([], False, ())
        settings["log_sql_errors"] = False  # the page shows it
        return await super().execute(sql, params, *args, **settings)

    async def read(self, function: Callable[[sqlite_utils.Database], Value]) -> Value:
        """Return what the function reads. Raises QueryInterrupted after the time that a query may take."""

        def read_in_time(connection: sqlite3.Connection) -> Value:
            try:
                with sqlite_timelimit(connection, self.ds.sql_time_limit_ms):
                    return function(sqlite_utils.Database(connection, recursive_triggers=False))
            except sqlite3.OperationalError as error:
                if error.args == ("interrupted",):
                    raise QueryInterrupted(error, "", {}) from error
                raise

        return cast(Value, await self.execute_fn(read_in_time))


def store_of(datasette: Datasette) -> Store:
    """Return the one store that is served. Raises LookupError if there is none."""
    for database in datasette.databases.values():
        if isinstance(database, Store):
            return database
    raise LookupError("no store is served")


def parse_value(text: str) -> int | float | str | None:
    """Return the value of a form's field: null if it is empty, a number if it reads as one."""
    return value_of(text) if text else None


def parse_parameters(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, int | float | str | None]:
    """Return the values of the named parameters; a missing field is null."""
    return {name: parse_value(str(fields[name])) if name in fields else None for name in names}


def example_parameters(db: sqlite_utils.Database, query: Query) -> str:
    """Return a query string with an example for each required parameter, and nothing for the others."""
    examples = _examples(db)
    return urlencode({name: examples.get(name, "") if name in query.required else "" for name in query.parameters})


def _examples(db: sqlite_utils.Database) -> dict[str, str]:
    """Return a value for each parameter that the store has an example of."""
    examples = dict(EXAMPLES)
    for row in rows(db, "internal/most_answered_question"):
        examples |= {name: str(value) for name, value in row.items()}
    conditions = db.execute("select id from evaluations order by id limit 2").fetchall()
    examples |= {name: str(row[0]) for name, row in zip(("one", "other"), conditions, strict=False)}
    for parameter, table in NEWEST.items():
        if row := db.execute(f"select id from {table} order by rowid desc limit 1").fetchone():
            examples[parameter] = str(row[0])
    return examples


def metadata(name: str, file: str, relations: Iterable[Relation]) -> Metadata:
    """Return datasette's metadata of the store `file`, which it knows as `name`."""
    return {
        "title": f"kard: {file}",
        "databases": {
            name: {
                "title": file,
                "description": "Tables hold the records; views and queries sum them up.",
                "tables": {
                    "_sqlite_migrations": {"hidden": True},
                    **{relation.name: _table(relation) for relation in relations},
                },
            }
        },
    }


def canned(queries: Iterable[Query]) -> Metadata:
    """Return the canned queries in datasette's form, by name."""
    return {
        q.name: {"sql": q.sql, "hide_sql": True, "description": q.meaning, "params": list(q.parameters)}
        for q in queries
    }


def _table(relation: Relation) -> Metadata:
    units = {c.name: UNITS[c.name] for c in relation.columns if c.name in UNITS and not relation.is_view}
    table: Metadata = {
        "description": relation.meaning,
        "columns": {c.name: c.meaning for c in relation.columns if c.meaning},
        "units": units,
        "facets": list(FACETS.get(relation.name, ())),
        "size": 50,
        "label_column": LABELS.get(relation.name),
    }
    return {key: value for key, value in table.items() if value}
