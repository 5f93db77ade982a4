"""The SQLite side of a knowledge base: what each passage says, and which source brought it.

All statements on `passages.db` stand here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kard.errors import BadInput
from kard.progress import timed
from kard.reading import address, writable
from kard.records import Passage, digest

NAME = "passages.db"
BUSY_SECONDS = 30.0  # how long a reader waits for a `kard index` to commit
# Ids come in random order, so that their index outgrows any cache, and the system keeps its pages: a million
# passages take the same CPU seconds with 16, 64 and 256 MiB.
CACHE_KIB = 16_384

# `rowid` is what Tantivy knows a passage by; it is never given twice.
# A passage that several sources bring belongs to the first; `also` names the others.
# `leaving` holds what has been removed and the meta row `pending` the first rowid that was added, until Tantivy has
# followed: see indexing.py. Until then what was there before can be read: `show_current`. The meta row `deleted` is
# set until the postings of all that is left have been written again.
TABLES = """
create table if not exists sources (id integer primary key, name text not null unique);
create table if not exists passages (
    rowid integer primary key,
    id text not null unique,
    document text not null,
    part integer not null,
    title text not null,
    text text not null,
    source integer not null references sources (id)
);
create unique index if not exists passages_by_document on passages (document, part, source);
create table if not exists also (
    passage integer not null,
    source integer not null,
    primary key (passage, source)
) without rowid;
create table if not exists leaving (
    rowid integer primary key,
    id text not null unique,
    document text not null,
    part integer not null,
    title text not null,
    text text not null
);
create index if not exists leaving_by_document on leaving (document);
create table if not exists meta (key text primary key, value text not null) without rowid;
"""
ORIGIN = "source "  # begins the key of what is noted of a source
COLUMNS = "rowid, id, document, part, title, text"  # rowid, then the fields of a Passage
AMONG = "in (select value from json_each(?))"  # takes a list as JSON
INSERT = (
    "insert or ignore into passages (rowid, id, document, part, title, text, source) values (?, ?, ?, ?, ?, ?, ?)"
)


# --- the file and its values ----------------------------------------------------------------------


def connect(path: Path) -> sqlite3.Connection:
    """Connect to an existing file, in autocommit mode; a killed writer's traces are rolled back."""
    uri = f"{path.resolve().as_uri()}?mode=rw" if writable(path) else address(path)
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def show_current(db: sqlite3.Connection, *, before: int | None = None) -> None:
    """Make the view `current`, which reading passages reads: all passages, or those before a run was committed.

    `before` is the first rowid that the run added.
    """
    columns = f"select {COLUMNS} from"
    held = f"{columns} passages"
    if before is not None:
        held = f"{held} where rowid < {before} union all {columns} leaving"
    db.execute(f"create temp view current as {held}")


def followed(db: sqlite3.Connection, holds: Callable[[int], bool]) -> bool:
    """Return whether the postings have followed the run that is noted as pending. `holds` says what they hold."""
    (added,) = db.execute(
        "select min(rowid) from passages where rowid >= ?", (int(meta(db, "pending")),)
    ).fetchone()
    (gone,) = db.execute("select min(rowid) from leaving").fetchone()
    return holds(added) if added is not None else gone is None or not holds(gone)


def create(path: Path) -> sqlite3.Connection:
    """Connect for writing; the file and its tables are made if they are missing."""
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    db.execute(f"pragma cache_size = -{CACHE_KIB}")
    db.execute("begin immediate")
    for statement in TABLES.split(";\n"):
        if statement.strip():
            db.execute(statement)
    db.execute("commit")
    if meta(db, "id"):  # who reads what is there is not kept waiting by who writes
        db.execute("pragma journal_mode = wal")
    return db


def meta(db: sqlite3.Connection, key: str, default: str = "") -> str:
    """Return a value that describes the knowledge base as a whole."""
    row = db.execute("select value from meta where key = ?", (key,)).fetchone()
    return row[0] if row else default


def set_meta(db: sqlite3.Connection, **values: str) -> None:
    """Set values that describe the knowledge base as a whole."""
    db.executemany("insert or replace into meta (key, value) values (?, ?)", list(values.items()))


def note_origin(db: sqlite3.Connection, source: str, origin: Mapping[str, object] | None) -> None:
    """Note where a source was read, and how; with None, forget the source, which has no passage any more."""
    if origin is None:
        db.execute("delete from sources where name = ?", (source,))
        db.execute("delete from meta where key = ?", (ORIGIN + source,))
    else:
        set_meta(db, **{ORIGIN + source: json.dumps(origin)})


def origins(db: sqlite3.Connection) -> list[tuple[str, int, dict[str, Any]]]:
    """Return name, number of passages and origin of every source, in the order in which they came."""
    counts = db.execute(
        "select s.name, (select count(*) from passages where source = s.id)"
        " + (select count(*) from also where source = s.id) from sources s order by s.id"
    ).fetchall()
    return [(name, passages, json.loads(meta(db, ORIGIN + name, "{}"))) for name, passages in counts]


def identity(db: sqlite3.Connection, analyser: str) -> str:
    """Return 16 hex digits of the ids of all passages, in their order, and the analyser.

    Read from the index over ids, so no sorting and no memory: a second for three million passages.
    """
    ids = db.execute("select id from passages order by id")
    parts = [analyser]
    while rows := ids.fetchmany(10_000):
        parts = [digest(*parts, *(row[0] for row in rows), length=64)]
    return digest(*parts)


def removed_rowids(db: sqlite3.Connection) -> list[int]:
    """Return the rowids that Tantivy has still to delete."""
    return [rowid for (rowid,) in db.execute("select rowid from leaving")]


def clear_pending(db: sqlite3.Connection) -> None:
    """Wipe the note of what Tantivy has still to do."""
    db.execute("begin immediate")
    db.execute("delete from leaving")
    db.execute("delete from meta where key = 'pending'")
    db.execute("commit")


# --- reading passages -----------------------------------------------------------------------------


def count(db: sqlite3.Connection, start: int = 0) -> int:
    """Return the number of passages from this rowid on."""
    return int(db.execute("select count(*) from passages where rowid >= ?", (start,)).fetchone()[0])


def passage_ids(db: sqlite3.Connection) -> list[str]:
    """Return the ids of all passages."""
    return [passage_id for (passage_id,) in db.execute("select id from current")]


def ids_where(db: sqlite3.Connection, column: str, values: Sequence[object]) -> list[tuple[int, str]]:
    """Return rowid and id of every passage whose `column` is one of the values."""
    return db.execute(f"select rowid, id from current where {column} {AMONG}", (json.dumps(values),)).fetchall()


@timed("read passages")
def rows_by_rowid(db: sqlite3.Connection, rowids: Sequence[int]) -> dict[int, tuple[Any, ...]]:
    """Return by rowid: rowid, then the fields of a Passage; one statement reads all of them."""
    found = db.execute(f"select {COLUMNS} from current where rowid {AMONG}", (json.dumps(rowids),))
    return {row[0]: row for row in found}


@timed("read passages")
def passages_where(db: sqlite3.Connection, column: str, values: Sequence[object]) -> dict[int, Passage]:
    """Return every passage whose `column` is one of the values, by rowid."""
    query = f"select {COLUMNS} from current where {column} {AMONG}"
    return {rowid: Passage(*fields) for rowid, *fields in db.execute(query, (json.dumps(values),))}


def documents_of(db: sqlite3.Connection, sources: Sequence[str]) -> list[str]:
    """Return the keys of the documents that these sources brought, each once."""
    ids = f"select id from sources where name {AMONG}"
    query = (
        f"select distinct document from passages where source in ({ids})"
        f" or rowid in (select passage from also where source in ({ids})) order by document"
    )
    return [document for (document,) in db.execute(query, (json.dumps(sources),) * 2)]


def searched_rows(db: sqlite3.Connection, start: int) -> Iterator[tuple[int, str, str]]:
    """Yield rowid, title and text of every passage from this rowid on."""
    yield from db.execute("select rowid, title, text from passages where rowid >= ? order by rowid", (start,))


# --- writing passages -----------------------------------------------------------------------------


class DocumentClash(BadInput):
    """A document that cannot be taken in; `document` is its key, from which its place can be found."""

    def __init__(self, document: str, problem: str) -> None:
        super().__init__(problem)
        self.document = document
        self.problem = problem


class SourceUpdate:
    """One run of one source, inside the caller's transaction: call `add` with batches, then `remove_missing` once.

    `added` and `unchanged` count passages; `seen` counts all that came, repetitions included.
    """

    def __init__(self, db: sqlite3.Connection, source: str) -> None:
        self._db = db
        db.execute("insert or ignore into sources (name) values (?)", (source,))
        (self._source,) = db.execute("select id from sources where name = ?", (source,)).fetchone()
        self.first = self.next = int(meta(db, "next", "1"))
        self._came = bytearray(self.first)  # by rowid: whether this run brought the passage again
        self._was_empty = db.execute("select 1 from passages limit 1").fetchone() is None
        self._replaced: list[int] = []
        self.added = self.unchanged = self.seen = 0

    @timed("write passages")
    def add(self, batch: Sequence[Passage]) -> list[tuple[int, Passage]]:
        """Write the passages that are new; return them with the rowids that they got.

        Raises DocumentClash when a document comes a second time with another text.
        """
        self.seen += len(batch)
        new = batch if self._was_empty else self._new(batch)
        numbered = list(enumerate(new, self.next))
        before = self._db.total_changes
        self._db.executemany(INSERT, (self._row(rowid, passage) for rowid, passage in numbered))
        self.next += len(numbered)
        if self._db.total_changes - before != len(numbered):
            numbered = [(rowid, passage) for rowid, passage in numbered if self._replace_older(rowid, passage)]
        self.added += len(numbered)
        return numbered

    def remove_missing(self, documents: Collection[str] | None = None) -> list[int]:
        """Remove what the source brought before and did not bring now; return the rowids that have gone.

        With `documents`, only what belongs to these is removed.
        """
        db, source, came = self._db, self._source, self._came
        of_source = "select passage from also where source = ?"
        owned = f"select rowid from passages where source = ? and rowid < {self.first}"
        values: tuple[object, ...] = (source,)
        if documents is not None:
            of_source += f" and passage in (select rowid from passages where document {AMONG})"
            owned += f" and document {AMONG}"
            values = (source, json.dumps(list(documents)))
        shared = [rowid for (rowid,) in db.execute(of_source, values) if not came[rowid]]
        db.executemany("delete from also where source = ? and passage = ?", ((source, r) for r in shared))
        missing = [rowid for (rowid,) in db.execute(owned, values) if not came[rowid]]
        gone = [rowid for rowid in missing if not self._hand_over(rowid)]
        for rowid in gone:
            self._take_out(rowid)
        return sorted([*gone, *self._replaced])

    def _row(self, rowid: int, passage: Passage) -> tuple[int, str, str, int, str, str, int]:
        p = passage
        return rowid, p.id, p.document, p.part, p.title, p.text, self._source

    def _new(self, batch: Sequence[Passage]) -> list[Passage]:
        """Return the passages whose id is not stored yet; the others are ticked off."""
        ids = json.dumps([passage.id for passage in batch])
        stored = self._db.execute(f"select id, rowid, source from passages where id {AMONG}", (ids,)).fetchall()
        for _, rowid, source in stored:
            if rowid >= self.first or self._came[rowid]:
                continue
            self._came[rowid] = 1
            self.unchanged += 1
            if source != self._source:
                self._db.execute("insert or ignore into also values (?, ?)", (rowid, self._source))
        stored_ids = {passage_id for passage_id, _, _ in stored}
        return [passage for passage in batch if passage.id not in stored_ids]

    def _replace_older(self, rowid: int, passage: Passage) -> bool:
        """Return whether the passage is stored under this rowid; it takes an older text's place here.

        Raises DocumentClash if that text came in the same run.
        """
        db = self._db
        stored = db.execute("select rowid from passages where id = ?", (passage.id,)).fetchone()
        if stored:  # under another rowid it is the same text met twice in this source
            return stored[0] == rowid
        (old,) = db.execute(
            "select rowid from passages where document = ? and part = ? and source = ?",
            (passage.document, passage.part, self._source),
        ).fetchone()
        if old >= self.first or self._came[old]:
            raise DocumentClash(
                passage.document,
                f"document {passage.document!r} comes twice with different texts; give each its own id",
            )
        if not self._hand_over(old):
            self._take_out(old)
            self._replaced.append(old)
        db.execute(INSERT, self._row(rowid, passage))
        return True

    def _take_out(self, rowid: int) -> None:
        columns = "rowid, id, document, part, title, text"
        self._db.execute(f"insert into leaving select {columns} from passages where rowid = ?", (rowid,))
        self._db.execute("delete from passages where rowid = ?", (rowid,))

    def _hand_over(self, rowid: int) -> bool:
        """Give the passage to another source that brings it too; return False if there is none."""
        db = self._db
        (heir,) = db.execute("select min(source) from also where passage = ?", (rowid,)).fetchone()
        if heir is None:
            return False
        db.execute("update passages set source = ? where rowid = ?", (heir, rowid))
        db.execute("delete from also where passage = ? and source = ?", (rowid, heir))
        return True
