"""The store: one SQLite file. The only reader of store/ (migrations, views and named queries)."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kard.errors import NoStore

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

BUSY_MILLISECONDS = 30_000  # how long a second writer waits for the first
_PARAMETER = re.compile(r"(?<![\w:]):([a-z_]+)")
_OPTIONAL = r"(?::{0}\s+is\s+(?:not\s+)?null|(?:coalesce|nullif|ifnull)\(\s*:{0})\b"
IN_LIMIT = 900  # values in one `in (...)`, below every SQLite build's limit on parameters


def _migrations() -> Migrations:
    return import_module("kard.store.migrations").migrations


def _text(name: str) -> str:
    return files("kard.store").joinpath(name).read_text(encoding="utf-8")


def open_store(path: Path, *, create: bool = True) -> Database:
    """Open the store at `path`, made and brought to the newest form if need be.

    Raises NoStore when the file is missing and `create` is false, or when it is not a kard store.
    """
    if not create and not path.exists():
        raise NoStore(f"no store at {path}; make one with: kard load TASK FILE --store {path}")
    from sqlite_utils import Database  # imports numpy, which --help must not pay for

    connection: sqlite3.Connection | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_MILLISECONDS / 1000, check_same_thread=False)
        db = Database(connection)
        names = set(db.table_names())
        if names and "_sqlite_migrations" not in names:
            raise NoStore(f"{path} is a database but not a kard store; name another with --store")
        db.execute(f"pragma busy_timeout = {BUSY_MILLISECONDS}")
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        db.execute("pragma foreign_keys = on")
        if _migrations().pending(db) or not _views_are_current(db):
            # The lock comes first: of several commands that make one store at once, one makes it.
            connection.execute("begin immediate")
            _migrations().apply(db)
            _renew_views(db)
            connection.commit()
    except (sqlite3.DatabaseError, OSError) as error:
        if connection is not None:
            connection.close()
        raise NoStore(f"cannot open {path} as a store ({error}); name another with --store") from error
    return db


def read_store(path: Path) -> sqlite3.Connection:
    """A read-only connection to an existing store, for queries that people write. Raises NoStore."""
    if not path.exists():
        raise NoStore(f"no store at {path}; make one with: kard load TASK FILE --store {path}")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def _views_are_current(db: Database) -> bool:
    """Whether the store's views have the text that this version of kard gives them."""
    have = db.execute("select sql from sqlite_master where type = 'view' order by rowid")
    return [_normal(row[0]) for row in have] == [_normal(s) for s in _statements(_text("views.sql"))]


def _renew_views(db: Database) -> None:
    """Drop every view and make those of this version."""
    for name in db.view_names():
        db.execute(f'drop view "{name}"')
    for statement in _statements(_text("views.sql")):
        db.execute(statement)


def _normal(statement: str) -> str:
    return " ".join(statement.lower().split()).strip()


def _statements(script: str) -> list[str]:
    lines = [line for line in script.splitlines() if not line.lstrip().startswith("--")]
    return [s for s in "\n".join(lines).split(";") if s.strip()]


@cache
def sql(name: str) -> str:
    """Return the text of `store/queries/NAME.sql`; names that begin with `internal/` are not listed to people."""
    return _text(f"queries/{name}.sql")


def query_names() -> list[str]:
    """Return the names of the canned queries, in alphabetical order."""
    folder = files("kard.store").joinpath("queries")
    return sorted(f.name[:-4] for f in folder.iterdir() if f.name.endswith(".sql"))


def views_text() -> str:
    """The statements that make the views, with the comment above each."""
    return _text("views.sql")


def about(name: str) -> str:
    """What a named query shows: the first sentence of the comment that it begins with."""
    lines = [line.removeprefix("--").strip() for line in takewhile(_is_comment, sql(name).splitlines())]
    end = next((i for i, line in enumerate(lines) if line.endswith((".", "?", ":"))), len(lines) - 1)
    return " ".join(lines[: end + 1])


def _is_comment(line: str) -> bool:
    return line.startswith("--")


def parameters(name: str) -> list[str]:
    """The parameters of a named query, in alphabetical order."""
    return sorted(set(_PARAMETER.findall(_code(sql(name)))))


def required(name: str) -> list[str]:
    """Those of its parameters that must have a value: the query does not say what it does when they are null."""
    code = _code(sql(name))
    return [p for p in parameters(name) if not re.search(_OPTIONAL.format(p), code)]


def _code(script: str) -> str:
    """The statement without its comments and its quoted texts, either of which may hold a colon."""
    return re.sub(r"--[^\n]*|'(?:[^']|'')*'", " ", script)


def rows(db: Database, query: str, /, **parameters: object) -> list[dict[str, Any]]:
    """Return all rows of a named query. A list or tuple goes in as JSON, for `in (select value from json_each(:ids))`."""
    return list(db.query(sql(query), _bound(parameters)))


def value(db: Database, query: str, /, **parameters: object) -> Any:
    """Return the first column of a named query's first row, None when there is no row."""
    row = db.execute(sql(query), _bound(parameters)).fetchone()
    return None if row is None else row[0]


def execute(db: Database, query: str, /, **parameters: object) -> int:
    """Run a named statement that changes the store; the number of rows that it changed."""
    return db.execute(sql(query), _bound(parameters)).rowcount


def _bound(parameters: Mapping[str, object]) -> dict[str, object]:
    return {k: json.dumps(list(v)) if isinstance(v, list | tuple) else v for k, v in parameters.items()}


def batches(values: Sequence[object], size: int = IN_LIMIT) -> Iterator[Sequence[object]]:
    """Consecutive slices short enough for one `in (...)`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def marks(values: Sequence[object]) -> str:
    """As many question marks as values: `in ({marks(values)})`."""
    return ",".join("?" * len(values))


def now() -> str:
    """The time for a `created` column: UTC, ISO 8601, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def writing(db: Database) -> Generator[None]:
    """One transaction, or a part of the one that is open; an error leaves nothing of it.

    It has the write lock from its start, so that it waits for other commands. One that reads before it writes
    cannot: where another has written since, SQLite refuses it at once.
    """
    if db.conn.in_transaction:
        with db.atomic():
            yield
        return
    db.conn.execute("begin immediate")
    try:
        yield
        db.conn.commit()
    except BaseException:
        db.conn.rollback()
        raise


def insert_ignoring(db: Database, table: str, records: Sequence[Mapping[str, object]]) -> int:
    """Insert the records whose keys are new; the number that were. All records have the same columns."""
    if not records:
        return 0
    columns = list(records[0])
    names = ", ".join(f'"{c}"' for c in columns)
    with writing(db):
        # The cursor's own count: the connection's would add what triggers write into the search indexes.
        return db.conn.executemany(
            f'insert or ignore into "{table}" ({names}) values ({marks(columns)})',
            ([record[c] for c in columns] for record in records),
        ).rowcount
