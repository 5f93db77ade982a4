"""Make a damaged knowledge base whole again from what can still be read of its passages.

A passage's id is a hash of all that it says, so that each is checked and none is taken over changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from kard.errors import Missing
from kard.files import atomic
from kard.knowledge import passages_db
from kard.knowledge.indexing import BATCH, complete, language_of, rewrite
from kard.knowledge.knowledge_base import BUILD, POSTINGS
from kard.knowledge.shards import postings_writer
from kard.progress import SILENT, Progress
from kard.records import Passage
from kard.work.workers import Workers

ASIDE = ".damaged"  # ends the name that a damaged file keeps
SIDES = ("-wal", "-shm", "-journal")  # files of SQLite's beside a database
UNKNOWN = "repaired"  # the source of passages whose own cannot be read
ROW = "rowid, id, document, part, title, text, source"
INSERT = f"insert into passages ({ROW}) values (?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Repaired:
    """What is left of a knowledge base."""

    passages: int
    lost: int | None  # passages; None if nobody knows how many there were
    sources: tuple[str, ...]  # the names of those to index again where something was lost


def repair(
    folder: Path, *, language: str = "", progress: Progress = SILENT, workers: Workers | None = None
) -> Repaired:
    """Write all postings again; if passages cannot be read, put their file aside and keep the others.

    Raises Missing if there is no knowledge base or nothing of it can be read, BadInput if another process writes.
    """
    path = folder / passages_db.NAME
    if not path.exists():
        raise Missing(f"no knowledge base in {folder}; build one with: {BUILD} --knowledge {folder}")
    language = language or language_of(folder)
    postings = postings_writer(folder / POSTINGS, language, workers, empty=True)
    try:
        expected = _expected(path)
        lost: int | None = 0
        if not _is_sound(path):
            kept = _salvage(path, progress)
            lost = None if expected is None else max(0, expected - kept)
        with closing(passages_db.create(path)) as db:
            passages = passages_db.count(db)
            if not passages:
                aside = path.with_name(path.name + ASIDE)
                raise Missing(f"nothing of {aside} can be read; build it again with: {BUILD} --knowledge {folder}")
            rewrite(db, postings, 0, progress)
            complete(db, language)
            sources = tuple(name for (name,) in db.execute("select name from sources order by id"))
        return Repaired(passages, lost, sources if lost != 0 else ())
    finally:
        postings.close()


def _reader(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma writable_schema = on")  # else a file that was cut cannot be read at all
    db.text_factory = _decoded
    return db


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _expected(path: Path) -> int | None:
    with closing(_reader(path)) as db, suppress(sqlite3.DatabaseError, ValueError):
        return int(passages_db.meta(db, "count")) if passages_db.meta(db, "id") else None
    return None


def _is_sound(path: Path) -> bool:
    """Return whether the file is whole and every passage says what its id is the hash of."""
    with closing(_reader(path)) as db, suppress(sqlite3.DatabaseError, TypeError):
        if db.execute("pragma integrity_check(1)").fetchone() == ("ok",):
            return all(map(_is_true, db.execute(f"select {ROW} from passages")))
    return False


def _is_true(row: tuple[Any, ...]) -> bool:
    _, passage_id, document, part, title, text, _ = row
    return Passage.of(document, part, title, text).id == passage_id


def _salvage(path: Path, progress: Progress) -> int:
    """Write what can be read to a new file in place of the damaged one, which is put aside; return the passages."""
    with atomic(path) as part, closing(passages_db.create(part)) as new:
        new.execute("begin immediate")
        with closing(_reader(path)) as old, progress.bar("Reading what is left", None) as advance:
            for table in ("sources", "also", "meta"):
                with suppress(sqlite3.DatabaseError):
                    for row in old.execute(f"select * from {table}"):
                        values = ", ".join("?" * len(row))
                        new.execute(f"insert or ignore into {table} values ({values})", row)
            known = {number for (number,) in new.execute("select id from sources")}
            rows = _readable_rows(old, path)
            while batch := list(islice(rows, BATCH)):
                for source in {row[-1] for row in batch} - known:
                    new.execute("insert into sources (id, name) values (?, ?)", (source, f"{UNKNOWN} {source}"))
                    known.add(source)
                with suppress(sqlite3.IntegrityError):
                    new.executemany(INSERT, batch)
                advance(len(batch))
        new.execute("delete from also where passage not in (select rowid from passages)")
        (highest,) = new.execute("select coalesce(max(rowid), 0) from passages").fetchone()
        following = max(highest + 1, int(passages_db.meta(new, "next", "1")))
        passages_db.set_meta(new, next=str(following))
        kept = passages_db.count(new)
        new.execute("commit")
        new.close()
        path.rename(path.with_name(path.name + ASIDE))
        for side in SIDES:
            path.with_name(path.name + side).unlink(missing_ok=True)
    return kept


def _readable_rows(db: sqlite3.Connection, path: Path) -> Iterator[tuple[Any, ...]]:
    """Yield every passage that can be read and is what its id says. Where reading fails, it goes on a row later."""
    last = path.stat().st_size  # no row is smaller than a byte, so that so many more may have been left
    with suppress(sqlite3.DatabaseError, ValueError):
        last = int(passages_db.meta(db, "next", str(last)))
    rowid = 0
    while rowid < last:
        try:
            for row in db.execute(f"select {ROW} from passages where rowid > ? order by rowid", (rowid,)):
                rowid = row[0]
                with suppress(TypeError, ValueError, AttributeError):
                    if _is_true(row):
                        yield row
            return
        except sqlite3.DatabaseError as error:
            if "malformed" not in str(error):  # no database at all, or no such table
                return
            rowid += 1
