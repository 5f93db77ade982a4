"""The store: one SQLite file. The only module that reads store/ (tables, views and named queries)."""

from __future__ import annotations

import atexit
import json
import re
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kard.errors import NoStore
from kard.progress import timed
from kard.reading import Reader, address, open_reader, writable
from kard.version import __version__ as VERSION

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

BUSY_MILLISECONDS = 30_000  # how long a second writer waits for the first
_PARAMETER = re.compile(r"(?<![\w:]):([a-z_]+)")
_OPTIONAL = r"(?::{0}\s+is\s+(?:not\s+)?null|(?:coalesce|nullif|ifnull)\(\s*:{0})\b"  # a query that expects null


def _migrations() -> Migrations:
    return import_module("kard.store.migrations").migrations


def _text(name: str) -> str:
    return files("kard.store").joinpath(name).read_text(encoding="utf-8")


def open_store(path: Path, *, create: bool = True) -> Database:
    """Open the store at `path`, with every table and view of this version.

    A store of a newer version, or one that cannot be written, is opened for reading alone: whoever writes gets a
    NoStore that says why. Raises NoStore if the file is missing and `create` is false, if it is no kard store, or
    if another version of kard made tables that this one does not know.
    """
    if not create:
        _require_store(path)
    from sqlite_utils import Database  # imports numpy, which --help must not pay for

    connection: sqlite3.Connection | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        reason = _reason_not_to_write(path)
        if reason:
            connection = sqlite3.connect(address(path), uri=True, check_same_thread=False, factory=_ReadOnly)
            connection.reason = reason
        else:
            connection = sqlite3.connect(path, timeout=BUSY_MILLISECONDS / 1000, check_same_thread=False)
            _WRITTEN.add(path.resolve())
        db = Database(connection)
        _check_tables(db, path)
        db.execute(f"pragma busy_timeout = {BUSY_MILLISECONDS}")
        if reason:
            for statement in () if _views_are_current(db) else _view_statements("create temp view"):
                db.execute(statement)  # they hide the file's own
            return db
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        db.execute("pragma foreign_keys = on")
        if _migrations().pending(db) or not _views_are_current(db) or _version_of(connection) != _number(VERSION):
            # The lock comes first: of several commands that create one store at once, one does it.
            connection.execute("begin immediate")
            _migrations().apply(db)
            _renew_views(db)
            connection.execute(f"pragma user_version = {_number(VERSION)}")
            connection.commit()
    except (sqlite3.DatabaseError, OSError, NoStore) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, NoStore):
            raise
        raise NoStore(f"cannot open {path} as a store ({error}); name another with --store") from error
    return db


_WRITTEN: set[Path] = set()


@atexit.register
def _move_logs() -> None:
    """Move SQLite's log of each store that this process opened into the file, which can then be copied alone.

    The connections stay open: another thread may be using them.
    """
    for path in _WRITTEN:
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", timeout=0, uri=True)) as log,
        ):
            log.execute("pragma wal_checkpoint(truncate)")


class _ReadOnly(sqlite3.Connection):
    """A connection to a store that must not or cannot be written. Whoever writes gets a NoStore with the reason."""

    reason = ""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement that reads."""
        with self._explained():
            return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        """Refuse, since only what writes is executed many times."""
        with self._explained():
            return super().executemany(sql, parameters)

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "readonly" in str(error):
                raise NoStore(self.reason) from error
            raise


def _reason_not_to_write(path: Path) -> str:
    """Return why this store is opened for reading alone, '' if it can be written."""
    if not path.exists():
        return ""
    if not writable(path):
        return f"{path} or its folder cannot be written; copy the store to a folder of your own"
    with closing(sqlite3.connect(address(path), uri=True)) as connection:
        version = _version_of(connection)
    if version <= _number(VERSION):
        return ""
    newer = ".".join(str(version // 1000**i % 1000) for i in (2, 1, 0))
    return f"{path} was written by kard {newer}; this is kard {VERSION}, which only reads it: update kard to write"


def _version_of(connection: sqlite3.Connection) -> int:
    """Return the version of kard that wrote the store last, as a number."""
    return int(connection.execute("pragma user_version").fetchone()[0])


def _number(version: str) -> int:
    """Return a version as a number: 1002003 for 1.2.3."""
    major, minor, patch = [*re.findall(r"\d+", version), "0", "0"][:3]
    return (int(major) * 1000 + int(minor)) * 1000 + int(patch)


def read_store(path: Path, *, threads: bool = False) -> Reader:
    """Open an existing store for reading only, for queries that people write. Raises NoStore.

    Views are those of this version, whatever the file has. With `threads`, several may use it in turn.
    """
    _require_store(path)
    try:
        with closing(sqlite3.connect(address(path), uri=True)) as connection:
            current = _views_are_current(connection)
    except sqlite3.DatabaseError as error:
        raise NoStore(f"cannot open {path} as a store ({error}); name another with --store") from error
    return open_reader(path, threads=threads, statements=() if current else _view_statements("create temp view"))


def _require_store(path: Path) -> None:
    if not path.exists():
        raise NoStore(f"no store at {path}; make one with: kard load TASK FILE --store {path}")


def _check_tables(db: Database, path: Path) -> None:
    """Raise NoStore if the tables of the file are not those of this version."""
    from sqlite_utils import Database

    names = set(db.table_names())
    if names and "_sqlite_migrations" not in names:
        raise NoStore(f"{path} is a database but not a kard store; name another with --store")
    known = {migration.name for migration in _migrations().pending(Database(memory=True))}
    if {migration.name for migration in _migrations().applied(db)} - known:
        raise NoStore(
            f"{path} was made by another version of kard; write its rationales with that version: kard export TASK "
            "FILE; then load them into a new store with this one: kard load TASK QUESTIONS --rationales FILE"
        )


def _views_are_current(db: Database | sqlite3.Connection) -> bool:
    """Return whether the store's views have the text that this version gives them."""
    views = db.execute("select sql from sqlite_master where type = 'view' order by rowid")
    return [_normal(row[0]) for row in views] == [_normal(s) for s in _statements(_text("views.sql"))]


def _renew_views(db: Database) -> None:
    """Drop every view and create those of this version."""
    for name in db.view_names():
        db.execute(f'drop view "{name}"')
    for statement in _view_statements("create view"):
        db.execute(statement)


def _view_statements(create: str) -> list[str]:
    statements = _statements(_text("views.sql"))
    return [re.sub(r"create view", create, statement, count=1, flags=re.I) for statement in statements]


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
    """Return the statements that create the views, with the comment above each."""
    return _text("views.sql")


def about(name: str) -> str:
    """Return the first sentence of the comment that a named query begins with."""
    lines = [line.removeprefix("--").strip() for line in takewhile(_is_comment, sql(name).splitlines())]
    end = next((i for i, line in enumerate(lines) if line.endswith((".", "?", ":"))), len(lines) - 1)
    return " ".join(lines[: end + 1])


def _is_comment(line: str) -> bool:
    return line.startswith("--")


def parameters(name: str) -> list[str]:
    """Return the parameters of a named query, in alphabetical order."""
    return sorted(set(_PARAMETER.findall(_code(sql(name)))))


def required(name: str) -> list[str]:
    """Return the parameters that need a value: those that the query neither coalesces nor compares with null."""
    code = _code(sql(name))
    return [p for p in parameters(name) if not re.search(_OPTIONAL.format(p), code)]


def _code(script: str) -> str:
    """Return the statement without comments and quoted texts, either of which may hold a colon."""
    return re.sub(r"--[^\n]*|'(?:[^']|'')*'", " ", script)


@timed("store")
def rows(db: Database, query: str, /, **parameters: object) -> list[dict[str, Any]]:
    """Return all rows of a named query.

    A list or tuple goes in as JSON, for `in (select value from json_each(:ids))`.
    """
    return list(each(db, query, **parameters))


def each(db: Database, query: str, /, **parameters: object) -> Iterator[dict[str, Any]]:
    """Yield the rows that `rows` returns as they are read."""
    yield from db.query(sql(query), _bound(parameters))


@timed("store")
def value(db: Database, query: str, /, **parameters: object) -> Any:
    """Return the first column of a named query's first row, None when there is no row."""
    row = db.execute(sql(query), _bound(parameters)).fetchone()
    return None if row is None else row[0]


def record_base(db: Database, table: Literal["students", "rerankers"], id: str, base: str) -> None:
    """Write where the base of a student or reranker is now. Its id tells the base by content, and folders move."""
    with writing(db):
        db.execute(f'update "{table}" set base = ? where id = ? and base <> ?', [base, id, base])


@timed("store")
def execute(db: Database, query: str, /, **parameters: object) -> int:
    """Run a named statement that changes the store. Return the number of changed rows."""
    return db.execute(sql(query), _bound(parameters)).rowcount


def _bound(parameters: Mapping[str, object]) -> dict[str, object]:
    return {k: json.dumps(list(v)) if isinstance(v, list | tuple) else v for k, v in parameters.items()}


def now() -> str:
    """Return the time for a `created` column: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def writing(db: Database) -> Generator[None]:
    """Open a transaction, or a savepoint in the open one. An error undoes all of it.

    The write lock is taken first, so that the transaction waits for other commands. SQLite refuses at once a
    transaction that reads before it writes if another command wrote in between.
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


@timed("store")
def insert_ignoring(db: Database, table: str, records: Sequence[Mapping[str, object]]) -> int:
    """Insert the records whose keys are new. Return their number. All records have the same columns."""
    if not records:
        return 0
    columns = list(records[0])
    names = ", ".join(f'"{c}"' for c in columns)
    with writing(db):
        # The cursor's own count: the connection's would add what triggers write into the search indexes.
        return db.conn.executemany(
            f'insert or ignore into "{table}" ({names}) values ({", ".join("?" * len(columns))})',
            ([record[c] for c in columns] for record in records),
        ).rowcount
