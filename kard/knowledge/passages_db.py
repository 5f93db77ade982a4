"""The SQLite side of a knowledge base: what each passage says, and which source brought it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kard.db import batches, marks
from kard.records import Passage, digest

NAME = "passages.db"
BUSY_SECONDS = 30.0  # how long a reader waits for a `kard index` to commit
CACHE_KIB = 262_144  # the index over passage ids is filled in random order: keep 10^7 ids in memory

# `rowid` is what Tantivy knows a passage by; it is never given twice.
# A passage that several sources bring belongs to the first; `also` names the others.
# `removed` and the meta row `pending` say what Tantivy still has to do: see indexing.py.
TABLES = """
create table sources (id integer primary key, name text not null unique);
create table passages (
    rowid integer primary key,
    id text not null unique,
    document text not null,
    part integer not null,
    title text not null,
    text text not null,
    source integer not null references sources (id)
);
create unique index passages_by_document on passages (document, part, source);
create table also (
    passage integer not null,
    source integer not null,
    primary key (passage, source)
) without rowid;
create table removed (rowid integer primary key);
create table meta (key text primary key, value text not null) without rowid;
"""
COLUMNS = "id, document, part, title, text"


def connect(path: Path) -> sqlite3.Connection:
    """A connection to an existing file, in autocommit mode; a killed writer's traces are rolled back."""
    uri = f"{path.resolve().as_uri()}?mode=rw"  # falls back to reading where the file cannot be written
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def create(path: Path) -> sqlite3.Connection:
    """A connection for writing, to a file that is made if need be."""
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    db.execute(f"pragma cache_size = -{CACHE_KIB}")
    db.execute("begin immediate")
    if not db.execute("select 1 from sqlite_master where name = 'meta'").fetchone():
        for statement in TABLES.split(";\n"):
            if statement.strip():
                db.execute(statement)
    db.execute("commit")
    return db


def meta(db: sqlite3.Connection, key: str, default: str = "") -> str:
    """A value of the base itself."""
    row = db.execute("select value from meta where key = ?", (key,)).fetchone()
    return row[0] if row else default


def set_meta(db: sqlite3.Connection, **values: str) -> None:
    """Set values of the base itself."""
    db.executemany("insert or replace into meta (key, value) values (?, ?)", list(values.items()))


def identity(db: sqlite3.Connection, analyser: str) -> str:
    """16 hex digits of the ids of all passages, in their order, and the analyser.

    Read from the index over ids, so no sorting and no memory: a second for three million passages.
    """
    ids = db.execute("select id from passages order by id")
    parts = [analyser]
    while rows := ids.fetchmany(10_000):
        parts = [digest(*parts, *(row[0] for row in rows), length=64)]
    return digest(*parts)


def passages_where(db: sqlite3.Connection, column: str, values: Sequence[object]) -> Iterator[tuple[int, Passage]]:
    """Rowid and passage of every row whose `column` is one of the values, in the order of the rowids of a batch."""
    for some in batches(values):
        query = f"select rowid, {COLUMNS} from passages where {column} in ({marks(some)})"
        for rowid, *fields in db.execute(query, some).fetchall():
            yield rowid, Passage(*fields)


def searched_rows(db: sqlite3.Connection, start: int) -> Iterable[tuple[int, str, str]]:
    """Rowid, title and text of every passage from this rowid on."""
    return db.execute("select rowid, title, text from passages where rowid >= ? order by rowid", (start,))
