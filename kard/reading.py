"""Connections for statements that people write: they read one store, and their values and results are limited."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from sys import getsizeof
from typing import Any

LONGEST_VALUE = 1_000_000  # bytes. One operation cannot be interrupted: on values of this length it is short.
LONGEST_STATEMENT = 200_000  # bytes
LONGEST_PATTERN = 1_000  # bytes of a LIKE or GLOB
RESULT = 300_000_000  # bytes that the rows of one statement may take in memory

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]+)?")  # at most 18 digits: what SQLite's integers hold
_ACTIONS = {
    *(sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE),
    sqlite3.SQLITE_SAVEPOINT,  # sqlite-utils puts one around each query
}
_ABOUT_A_TABLE = {
    *("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"),
    *("foreign_key_check", "integrity_check", "quick_check"),
}
_WITHOUT_VALUE = {
    *("database_list", "schema_version", "data_version", "user_version", "page_count", "page_size", "encoding"),
    *("freelist_count", "journal_mode", "compile_options", "function_list", "module_list", "collation_list"),
}


class _Cursor(sqlite3.Cursor):
    """A cursor that counts the bytes of the rows that it gives."""

    def __init__(self, connection: Reader) -> None:
        super().__init__(connection)
        self._left = connection.result
        self.row_factory = self._counted

    def _counted(self, _: sqlite3.Cursor, row: tuple[Any, ...]) -> sqlite3.Row:
        self._left -= getsizeof(row) + sum(map(getsizeof, row))
        if self._left < 0:
            raise sqlite3.DataError("the rows take too much memory; ask for fewer with: limit")
        return sqlite3.Row(self, row)


class Reader(sqlite3.Connection):
    """A connection that only reads. The rows of one statement take at most `result` bytes."""

    result = RESULT

    def restrict(self) -> None:
        """Refuse from now on everything but reading this database, and values beyond the limits above.

        Opening a file read-only is not enough: `vacuum into` and `attach` write other files.
        """
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        self.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, LONGEST_STATEMENT)
        self.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LONGEST_PATTERN)
        self.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        self.set_authorizer(_authorize)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute with a cursor that counts."""
        return self.cursor().execute(sql, parameters)

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor that counts what it reads."""
        return (factory or _Cursor)(self)


def open_reader(path: Path, *, threads: bool = False, statements: Sequence[str] = ()) -> Reader:
    """Open the database at `path` for reading alone, after these statements.

    With `threads`, several may use the connection in turn.
    """
    connection = sqlite3.connect(address(path), uri=True, check_same_thread=not threads, factory=Reader)
    for statement in statements:
        connection.execute(statement)
    connection.restrict()
    return connection


def address(path: Path) -> str:
    """Return the address that opens the database at `path` for reading.

    In a folder that cannot be written there is no place for the files that WAL needs. If the database cannot be
    written either and no WAL lies beside it, nobody changes it: it is opened without them.
    """
    path = path.resolve()
    fixed = not writable(path) and not path.with_name(f"{path.name}-wal").exists()
    return f"{path.as_uri()}?{'immutable=1' if fixed else 'mode=ro'}"


def writable(path: Path) -> bool:
    """Return whether the database at `path` can be written, and files beside it too."""
    return os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)


def value_of(text: str) -> int | float | str:
    """Return a parameter's value as SQL compares it: a number if it is written as one, so that 007 stays a text."""
    if not _NUMBER.fullmatch(text):
        return text
    return float(text) if "." in text else int(text)


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """Say whether SQLite may do this: read tables, call functions, and look at the schema.

    A virtual table that is opened declares its columns by a change of the schema which is never made. The file,
    which is opened read-only, refuses those that people write.
    """
    allowed = action in _ACTIONS or (action, first) == (sqlite3.SQLITE_UPDATE, "sqlite_master")
    if action == sqlite3.SQLITE_FUNCTION:
        allowed = (second or "").lower() not in ("load_extension", "fts3_tokenizer")
    if action == sqlite3.SQLITE_PRAGMA:
        name = (first or "").lower()
        allowed = name in _ABOUT_A_TABLE or (name in _WITHOUT_VALUE and not second)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
